"""What the benchmarks play: a toy world of words, 4,096 unless said, and agents of a given length.

The prompt is 16 words, the reward trivial. The environment ends a text at its own stop word, which
the policy never samples (the model's tokenizer calls that word its start token), so every text
meets its budget; `RandomBudgets` ends texts earlier, at lengths that the environment draws.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers
from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecMonitor

from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.envs.task import Task
from textgym.envs.vector_env import TextVectorEnv
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.tokenizer import Tokenizer

VOCABULARY = 4096
PROMPT, COMPLETION, ENVS = 16, 48, 32
EPOCHS, MINIBATCH = 4, 512
CONTEXT = 192


@dataclasses.dataclass(frozen=True)
class Shape:
    """The size of a model.

    :param key_heads: heads of keys and values; None: as many as `heads`.
    :param is_tied: the embeddings are the head.
    """

    layers: int = 4
    hidden: int = 256
    heads: int = 8
    intermediate: int = 688
    vocabulary: int = VOCABULARY
    context: int = CONTEXT
    key_heads: int | None = None
    is_tied: bool = False

    def __str__(self) -> str:
        heads = f"{self.heads} heads"
        if self.key_heads:
            heads += f" ({self.key_heads} of keys)"
        head = f"{'tied' if self.is_tied else 'untied'} head of {self.vocabulary:,} words"
        return f"{self.layers} layers × {self.hidden}, {heads}, SwiGLU {self.intermediate}, {head}"


SHAPES = {
    "small": Shape(),
    "smollm2": Shape(30, 576, 9, 1536, 49_152, key_heads=3, is_tied=True),
    "tiny": Shape(2, 64, 2, 160),
}


def make_tokenizer(
    *, stop: str, start: str | None = None, vocabulary: int = VOCABULARY
) -> Tokenizer:
    """So many words; `stop` ends a text, `start` is never sampled."""
    words = ["<pad>", "<stop>", "<end>", *(f"w{i}" for i in range(vocabulary - 3))]
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "w0")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return Tokenizer(backend, pad_token="<pad>", eos_token=stop, bos_token=start)


def make_model(shape: Shape, seed: int = 0) -> CausalLM:
    """Random weights."""
    return CausalLM.new(
        make_tokenizer(stop="<end>", start="<stop>", vocabulary=shape.vocabulary),
        seed=seed,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads or shape.heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=shape.context,
        tie_word_embeddings=shape.is_tied,
    )


def length_of_text(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """A trivial reward that differs from text to text, as advantages of zero would time zeros."""
    return [len(text) % 17 / 17 for text in completions]


def make_task(completion: int, vocabulary: int = VOCABULARY) -> Task:
    """Prompts of 16 words, a budget of `completion`."""
    generator = np.random.default_rng(0)
    words = generator.integers(vocabulary - 3, size=(256, PROMPT))
    return Task(
        id="bench/Words-v0",
        prompts=[" ".join(f"w{i}" for i in row) for row in words],
        reward=length_of_text,
        tokenizer=make_tokenizer(stop="<stop>", vocabulary=vocabulary),
        max_new_tokens=completion,
    )


def make_env(
    completion: int = COMPLETION,
    *,
    shortest: int | None = None,
    rows: int = ENVS,
    vocabulary: int = VOCABULARY,
) -> VecEnv:
    """Environments; with `shortest`, lengths are uniform from it to `completion`."""
    env: VecEnv = TextVecEnv(TextVectorEnv(make_task(completion, vocabulary), rows))
    if shortest is not None:
        env = RandomBudgets(env, shortest, completion)
    return VecMonitor(env)


class RandomBudgets(VecEnvWrapper):
    """Ends each text at a length of its own, uniform in `shortest..longest`.

    The last token of a text is replaced by the stop word. No observation that the policy acts on
    ever shows that token, so what is learned from is what was sampled.
    """

    def __init__(self, venv: VecEnv, shortest: int, longest: int) -> None:
        super().__init__(venv)
        self._stop = venv.get_attr("tokenizer")[0].eos_token_id
        self._generator = np.random.default_rng(1)
        self._range = shortest, longest + 1
        self._left = np.zeros(venv.num_envs, dtype=np.int64)

    def reset(self) -> Any:
        """As the environment's, with a new budget for every row."""
        self._left = self._generator.integers(*self._range, size=self.num_envs)
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Hand the tokens on; the stop word where a budget is met."""
        self._left -= 1
        self.venv.step_async(np.where(self._left == 0, self._stop, actions))

    def step_wait(self) -> Any:
        """As the environment's; ended rows draw their next budget."""
        result = self.venv.step_wait()
        ended = np.flatnonzero(result[2])
        self._left[ended] = self._generator.integers(*self._range, size=len(ended))
        return result


def make_ppo(
    shape: Shape,
    env: VecEnv,
    n_steps: int,
    *,
    policy: type[Any] = TextActorCriticPolicy,
    buffer: type[Any] = EpisodeRolloutBuffer,
    n_epochs: int = EPOCHS,
    batch_size: int = MINIBATCH,
    optimizer_kwargs: dict[str, Any] | None = None,
    **policy_kwargs: Any,
) -> PPO:
    """`stable_baselines3.PPO` as it is, with SB3's own defaults (Adam, 3e-4, clipping at 0.5)."""
    kwargs: dict[str, Any] = {"model": make_model(shape), **policy_kwargs}
    if optimizer_kwargs is not None:
        kwargs["optimizer_kwargs"] = optimizer_kwargs
    agent = PPO(
        policy,
        env,
        policy_kwargs=kwargs,
        n_steps=n_steps,
        batch_size=batch_size,
        n_epochs=n_epochs,
        rollout_buffer_class=buffer,
        rollout_buffer_kwargs={"pad_token_id": 0} if buffer is EpisodeRolloutBuffer else None,
        device="cpu",
        seed=0,
    )
    agent.set_logger(configure(None, []))
    return agent
