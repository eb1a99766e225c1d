"""DQN and QR-DQN under test: agents on the letters, and what their buffer was told."""

import torch
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from textgym_testing import letter_env, set_up, tiny_lm

from textgym.agents.rollouts.replay_buffer import EpisodeReplayBuffer
from textgym.policies.sb3.q_policy import TextQPolicy
from textgym.policies.sb3.quantile_network import TextQuantilePolicy

POLICIES = {DQN: TextQPolicy, QRDQN: TextQuantilePolicy}
SGD = {"optimizer_class": torch.optim.SGD}
NO_EPSILON = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}


class LoggingBuffer(EpisodeReplayBuffer):
    """Notes each episode as SB3 told it, step by step with whole rows, and what is drawn."""

    def reset(self):
        super().reset()
        self.told, self.drawn = [], []
        self.open = [[] for _ in range(self.n_envs)]

    def add(self, obs, next_obs, action, reward, done, infos):
        for env in range(self.n_envs):
            cut = bool(done[env]) and infos[env].get("TimeLimit.truncated", False)
            row, after = obs[env].copy(), next_obs[env].copy()
            self.open[env].append((row, int(action[env]), float(reward[env]), after, cut))
            if done[env]:
                self.told.append(self.open[env])
                self.open[env] = []
        super().add(obs, next_obs, action, reward, done, infos)

    def _samples(self, drawn, env):
        samples = super()._samples(drawn, env)  # it puts them into the order of the samples
        numbers = {id(episode): i for i, episode in enumerate(self.episodes)}
        self.drawn = [(numbers[id(episode)], int(t)) for episode, steps in drawn for t in steps]
        return samples


def q_agent(cls=DQN, *, lm=None, env=None, policy=None, buffer=None, noise=0.3, **changes):
    """An agent whose Q-values, target and prior are three different things.

    :param noise: by how much the learner's weights are moved from the prior's; the target network
        stands half-way.
    """
    keywords = {
        "learning_starts": 0,
        "buffer_size": 10_000,
        "batch_size": 16,
        "train_freq": 8,
        "learning_rate": 0.1,
        "target_update_interval": 24,
        "seed": 3,
        "device": "cpu",
        **NO_EPSILON,
        **changes,
    }
    agent = cls(
        POLICIES[cls],
        letter_env(**(env or {})),
        policy_kwargs={"model": lm or tiny_lm(spread=6.0), "q_temperature": 0.5, **SGD}
        | (policy or {}),
        replay_buffer_class=LoggingBuffer,
        replay_buffer_kwargs=buffer,
        **keywords,
    )
    network, target = networks(agent)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for ours, theirs in zip(network.parameters(), target.parameters(), strict=True):
            scale = noise * (ours.std() if ours.ndim == 2 and ours.std() > 0 else 1.0)
            ours.add_(scale * torch.randn(ours.shape, generator=generator))
            theirs.lerp_(ours, 0.5)
    return set_up(agent)


def networks(agent):
    """The learner and the target network."""
    policy = agent.policy
    return policy.network, getattr(policy, f"{policy.network_name}_target")


def collect(agent, steps=8, callback=None):
    """Play; the buffer."""
    frequency = agent.train_freq._replace(frequency=steps)
    callback = callback or agent.env.test_callback
    callback.init_callback(agent)
    starts, buffer = agent.learning_starts, agent.replay_buffer
    agent.collect_rollouts(agent.env, callback, frequency, buffer, learning_starts=starts)
    return buffer
