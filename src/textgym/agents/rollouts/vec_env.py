"""Stable-Baselines3's `VecEnv` over the native vector environment."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices

from textgym.agents.rollouts.split_rewards import SplitRewards
from textgym.agents.rollouts.text_monitor import TextMonitor
from textgym.envs.rendering import check_render_mode
from textgym.envs.scoring import FinishedText, Scores
from textgym.envs.task import Task
from textgym.envs.token_row import TokenRow
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError
from textgym.saved_fields import SavedFields
from textgym.terminal import for_output

_SEEDS = 2**32  # what Stable-Baselines3 and NumPy take


def environment_seed(seed: int | None) -> int:
    """The seed of an environment's first row, from the seed of a run; row i has `+ i`.

    Rows are seeded one after the other, so runs with the seeds 0 and 1 would share all their prompt
    streams but one: runs therefore begin at places far apart, which NumPy's `SeedSequence` gives.

    :param seed: 0 to 2³² - 1, or None for one that nobody knows.
    :return: below 2⁶³, the same on every machine.
    :raises InputError: for any other seed.
    """
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> 1)
    is_whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not is_whole or not 0 <= seed < _SEEDS:
        raise InputError(f"seed must be a whole number from 0 to {_SEEDS - 1}, got {seed!r:.40}")
    state = np.random.SeedSequence(int(seed), spawn_key=(1,)).generate_state(1, np.uint64)
    return int(state[0] >> 1)


def as_vec_env(env: object) -> VecEnv:
    """What an agent plays on, of an environment of a task that was given as an object.

    :param env: a `VecEnv` stays as it is; `gymnasium.make_vec`'s native environment is monitored; a
        single environment becomes one row, monitored, as Stable-Baselines3 does it.
    :raises InputError: for what plays no text by tokens, or cannot be stepped as it is.
    """
    name = type(env).__name__
    if isinstance(env, TextVectorEnv):
        return TextMonitor(TextVecEnv(env))
    if isinstance(env, VectorEnv):
        raise InputError(
            f"env is a {name}, which an agent cannot play on: pass the environment's id, or what "
            "textgym.make_vec or gymnasium.make_vec gave, without a wrapper around it"
        )
    if not isinstance(env, gymnasium.Env | VecEnv):
        raise InputError(
            "env must be an environment's id or an environment (textgym.make_vec, gymnasium.make), "
            f"got {name}"
        )
    if not _has_task(env):
        raise InputError(f"env is a {name} without a task of textgym: make it of a registered id")
    if not isinstance(env.observation_space, TokenRow):
        raise InputError(
            f"env is a {name} whose observations are {env.observation_space!r:.60}, but agents "
            'choose tokens: make it with action="token", without wrappers that change observations'
        )
    if isinstance(env, VecEnv):
        return env
    single = env
    return DummyVecEnv([lambda: Monitor(single)])


def _has_task(env: gymnasium.Env[Any, Any] | VecEnv) -> bool:
    if isinstance(env, VecEnv):
        return env.has_attr("task") and isinstance(env.get_attr("task")[0], Task)
    return env.has_wrapper_attr("task") and isinstance(env.get_wrapper_attr("task"), Task)


def row_seed(env: VecEnv, seed: int) -> int:
    """What to seed an environment with, so that runs of different seeds share no prompt stream."""
    return seed if isinstance(env.unwrapped, TextVecEnv) else environment_seed(seed)


class TextVecEnv(VecEnv):
    """What a Stable-Baselines3 agent plays on: n rows of one task, stepped in NumPy.

    Every array it returns is the caller's own: Stable-Baselines3 keeps observations over a step,
    and adds its bootstrap into the rewards in place.

    At an episode's end `infos[i]` holds the ending of `TextEnv`, `terminal_observation` (int64
    [width]), `TimeLimit.truncated`, and `token_rewards` as a float64 array [completion_length].

    :param vector_env: the environment to play on; nobody else may step it.
    :raises InputError: for a wrapper of Gymnasium's around one, which would not be heard.
    """

    def __init__(self, vector_env: TextVectorEnv) -> None:
        if not isinstance(vector_env, TextVectorEnv):
            raise InputError(
                f"TextVecEnv plays on a TextVectorEnv itself, got {type(vector_env).__name__}: put "
                "Stable-Baselines3's wrappers around the TextVecEnv instead"
            )
        self.vector_env = vector_env
        self._actions: np.ndarray | None = None
        super().__init__(
            vector_env.num_envs, vector_env.single_observation_space, vector_env.single_action_space
        )

    @property
    def scores(self) -> Scores:
        """Where finished texts get their scores from."""
        return self.vector_env.scores

    def reset(self) -> np.ndarray:
        """Start new episodes in all rows, with the seeds of `seed` if it was called.

        From here on texts are scored at once, until somebody lets them wait again.

        :return: int64 [n, width].
        """
        self.scores.close()
        options = next((row_options for row_options in self._options if row_options), None)
        infos = self.vector_env.reset_rows(self._seeds, options)
        self.reset_infos = [infos.get(row, {}) for row in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return self.vector_env.observations()

    def state_dict(self) -> dict[str, Any]:
        """The vector environment's state, and the seeds that its next reset will give."""
        return {"vector_env": self.vector_env.state_dict(), "seeds": list(self._seeds)}

    def load_state_dict(self, state: Any) -> list[str]:
        """Go on from a state of `state_dict`.

        :return: as `TextVectorEnv.load_state_dict`.
        :raises InputError: if it is none.
        """
        fields = SavedFields(state, "state of the environment")
        seeds = fields.items("seeds", self.num_envs)
        if not all(seed is None or type(seed) is int for seed in seeds):
            raise fields.error("seeds", "whole numbers")
        differences = self.vector_env.load_state_dict(fields.value("vector_env"))
        self._seeds = seeds
        infos = self.vector_env.start_infos()
        self.reset_infos = [infos.get(row, {}) for row in range(self.num_envs)]
        return differences

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the rows, at the next reset, with `environment_seed(seed) + i`.

        Stable-Baselines3 calls it with an agent's own seed.

        :return: the seed of each row.
        :raises InputError: for a seed that is not from 0 to 2³² - 1.
        """
        first = environment_seed(seed)
        self._seeds = [first + row for row in range(self.num_envs)]
        return self._seeds

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions, int [n], of the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Write the tokens.

        :return: observations int64 [n, width], rewards float32 [n], dones bool [n], infos.
        :raises RewardError: from the reward model; nothing has changed then.
        """
        if self._actions is None:
            raise InputError("step_wait() without actions: call step_async(actions) first")
        if self.scores.is_full:
            self.scores.settle()
        observations, result, finals, reset_infos = self.vector_env.step_rows(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        splits: dict[int, np.ndarray] = {}
        for row, ending in result.endings.items():
            is_truncated = bool(result.is_truncated[row] and not result.is_terminated[row])
            infos[row] = ending
            ending["terminal_observation"] = finals[row]
            ending["TimeLimit.truncated"] = is_truncated
            if "token_rewards" in ending:
                splits[row] = ending["token_rewards"] = _as_array(ending["token_rewards"])
            elif row in result.waiting:
                result.waiting[row].listeners.append(_make_array)
            self.reset_infos[row] = reset_infos[row]
        rewards = result.rewards.astype(np.float32)
        if splits:
            rewards = SplitRewards.of(rewards, splits)
        return observations, rewards, result.is_terminated | result.is_truncated, infos

    def close(self) -> None:
        """Close the vector environment."""
        self.vector_env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Text has none."""
        return [None] * self.num_envs

    def render(self, mode: str | None = None) -> Any:
        """The text so far of every row: returned with "ansi", printed with "human", a line each.

        :param mode: the environment's own render mode unless given; None of both does nothing, and
            so does "human" where the environment prints by itself.
        :raises RenderModeError: for another mode.
        """
        check_render_mode(mode)
        if mode == "ansi":
            return self.vector_env.texts()
        if mode == "human" and self.render_mode != "human":
            for row, text in enumerate(self.vector_env.texts()):
                print(f"[{row}] {for_output(text)}", flush=True)
            return None
        return self.vector_env.render()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the rows ("tokenizer", "task", ...): they have it in common."""
        value = getattr(self.vector_env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all rows.

        :raises InputError: for some rows only, or for what an environment is built from.
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise InputError(f"{attr_name!r} is common to all rows: it can be set for all only")
        if attr_name in ("task", "tokenizer", "num_envs"):
            raise InputError(f"{attr_name!r} is fixed: make another environment with make_vec")
        setattr(self.vector_env, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of the vector environment once for each row.

        `action_masks` is answered with each row's own number.
        """
        if method_name == "action_masks":
            states = self.vector_env.action_masks()
            return [states[row] for row in self._get_indices(indices)]
        method = getattr(self.vector_env, method_name)
        return [method(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(
        self,
        wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]],
        indices: VecEnvIndices = None,
    ) -> list[bool]:
        """No row stands in a wrapper of its own."""
        return [False for _ in self._get_indices(indices)]


def _as_array(split: Sequence[float]) -> np.ndarray:
    return np.array(split, dtype=np.float64)


def _make_array(text: FinishedText) -> None:
    """As `step_wait` does for a text that is scored at once."""
    if "token_rewards" in text.ending:
        text.ending["token_rewards"] = _as_array(text.ending["token_rewards"])
