"""Tiny models, tasks and agents, and a policy that is as plain as can be to compare with."""

import copy

import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import VecMonitor
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models
from torch import nn

from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.envs.task import Task
from textgym.envs.vector_env import TextVectorEnv
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.tokenizer import Tokenizer

PAD, BOS, EOS = 0, 1, 2


def letter_tokenizer(letters="abcd"):
    """pad 0, bos 1, eos 2, then one token a letter; nothing is added to a text's start."""
    vocabulary = {token: i for i, token in enumerate(("<pad>", "<bos>", "<eos>", *letters))}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[]))
    backend.decoder = decoders.Fuse()
    return Tokenizer(backend, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")


def tiny_lm(tokenizer=None, *, seed=0, spread=10.0, architecture="transformer", **config):
    """A fresh model; `spread` scales its matrices, so that its distributions are far from flat.

    Of an lstm only those that no token goes through twice: else rounding would grow with a row.
    """
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "max_position_embeddings": 64}
    if architecture == "transformer":
        shape |= {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
    lm = CausalLM.new(
        tokenizer or letter_tokenizer(), seed=seed, architecture=architecture, **shape | config
    )
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if parameter.ndim == 2 and ".lstm." not in name:
                parameter.mul_(spread)
    return lm.eval()


def count_a(prompts, completions):
    """A reward: the number of letters a."""
    return [float(text.count("a")) for text in completions]


def letter_task(tokenizer=None, **fields):
    """A task over the letters, with prompts of three lengths."""
    defaults = {"prompts": ["a", "bcd", "cdabb"], "reward": count_a, "max_new_tokens": 6}
    task_fields = {"tokenizer": tokenizer or letter_tokenizer(), **defaults, **fields}
    return Task(id="test/Letters-v0", **task_fields)


def letter_env(n_envs=3, *, max_episode_steps=None, **fields):
    """An SB3 environment over `letter_task`."""
    vector_env = TextVectorEnv(letter_task(**fields), n_envs, max_episode_steps=max_episode_steps)
    return VecMonitor(TextVecEnv(vector_env))


def set_up(agent):
    """Make an agent ready for `rollout` and `train` without `learn`."""
    agent.set_logger(Logger(folder=None, output_formats=[]))
    _, agent.env.test_callback = agent._setup_learn(1000, None)  # SB3 pickles what agents hold
    return agent


def rollout(agent):
    """Fill the agent's buffer once."""
    buffer = agent.rollout_buffer
    assert agent.collect_rollouts(agent.env, agent.env.test_callback, buffer, agent.n_steps)
    return buffer


class NaiveTokenPolicy(ActorCriticPolicy):
    """One forward pass for each token, on its own, with torch's own Categorical.

    :param source: a `TextActorCriticPolicy` whose weights and settings are copied.
    """

    def __init__(self, observation_space, action_space, lr_schedule, *, source, **keywords):
        self.holder = {"source": source}
        super().__init__(observation_space, action_space, lr_schedule, net_arch=[], **keywords)

    def _build(self, lr_schedule):
        source = self.holder.pop("source")
        self.lm = copy.deepcopy(source.lm)
        self.value_net = copy.deepcopy(source.value_net)
        self.value_decoder = copy.deepcopy(source.value_decoder)
        self.excluded_ids, self.sampling = source.excluded_ids.tolist(), source.sampling
        self.optimizer = self.optimizer_class(
            self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )

    def one(self, row, played=None):
        """Logits `[v]` of the sampled distribution, and the value `[1]`, for one row `[L]`.

        :param played: a token that once was drawn, which therefore stays in the distribution.
        """
        tokens = row[: int((row != PAD).nonzero().max()) + 1][None]
        hidden = self.lm.hidden_states(tokens)[0, -1]
        logits = self.lm.lm_head(hidden) / self.sampling.temperature
        probabilities = logits.detach().exp()
        probabilities[self.excluded_ids] = 0.0
        ranked = probabilities.argsort(descending=True)
        inside = ranked[: self.sampling.top_k or None]
        inside = inside[probabilities[inside] > 0]
        before = probabilities[inside].cumsum(0) - probabilities[inside]
        inside = inside[before < self.sampling.top_p * probabilities[inside].sum()]
        is_in = torch.zeros(len(logits), dtype=torch.bool)
        is_in[inside] = True
        if played is not None:
            is_in[played] = True
        logits = logits.masked_fill(~is_in, -torch.inf)
        if self.value_decoder is not None:
            hidden = self.value_decoder.packed(tokens[0], torch.tensor([tokens.shape[1]]))[-1]
        return logits, self.value_net(hidden)

    def evaluate_actions(self, obs, actions):
        played = actions.long().flatten()
        both = [self.one(row, token) for row, token in zip(obs, played, strict=True)]
        logits, values = zip(*both, strict=True)
        distribution = torch.distributions.Categorical(logits=torch.stack(logits))
        chosen = distribution.log_prob(played)
        return torch.stack(values), chosen, distribution.entropy()

    def predict_values(self, obs):
        return torch.stack([self.one(row)[1] for row in obs])

    def forward(self, obs, deterministic=False):
        raise NotImplementedError

    def trained(self):
        """The parameters by name, as in `TextActorCriticPolicy`."""
        return dict(self.named_parameters())


class TeeBuffer(EpisodeRolloutBuffer):
    """Fills one of SB3's own buffers beside itself, and notes what its minibatches hold."""

    def reset(self):
        super().reset()
        self.stock = RolloutBuffer(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            "cpu",
            gae_lambda=self.gae_lambda,
            gamma=self.gamma,
            n_envs=self.n_envs,
        )
        self.parts = []

    def add(self, obs, action, reward, episode_start, value, log_prob):
        super().add(obs, action, reward, episode_start, value, log_prob)
        self.stock.add(obs, action, reward, episode_start, value, log_prob)

    def compute_returns_and_advantage(self, last_values, dones):
        super().compute_returns_and_advantage(last_values, dones)
        self.stock.compute_returns_and_advantage(last_values, dones)

    def get(self, batch_size=None):
        before = len(self.parts)
        yield from super().get(batch_size)
        self.parts_per_epoch = len(self.parts) - before

    def _samples(self, part):
        self.parts.append(self._flat_index(part))
        return super()._samples(part)


class MirrorBuffer:
    """The same minibatches as a `TeeBuffer` handed out, from SB3's padded rows."""

    def __init__(self, tee):
        self.stock, self.parts = tee.stock, list(tee.parts)
        self.values, self.returns = tee.stock.values, tee.stock.returns
        self.per_epoch = tee.parts_per_epoch

    def get(self, batch_size=None):
        def take(array, index):
            return torch.as_tensor(array.reshape(-1, *array.shape[2:])[index])

        count = self.per_epoch
        now, self.parts = self.parts[:count], self.parts[count:]
        for index in now:
            yield RolloutBufferSamples(
                observations=take(self.stock.observations, index),
                actions=take(self.stock.actions, index),
                old_values=take(self.stock.values, index),
                old_log_prob=take(self.stock.log_probs, index),
                advantages=take(self.stock.advantages, index),
                returns=take(self.stock.returns, index),
            )


def assert_same_weights(first: nn.Module, second: nn.Module, tolerance=0.0):
    """Every parameter equal, to a tolerance."""
    ours, theirs = dict(first.named_parameters()), dict(second.named_parameters())
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=tolerance, msg=name)
