"""The native vector environment (`gymnasium.vector.VectorEnv`) with token actions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from textgym.constraints.automaton import Automaton
from textgym.envs.episode_rows import EpisodeRows
from textgym.envs.rendering import METADATA, check_render_mode
from textgym.envs.saved_rows import (
    groups_state,
    load_groups_state,
    load_rows_state,
    rows_state,
    task_summary,
)
from textgym.envs.scoring import Scores
from textgym.envs.step_result import StepResult
from textgym.envs.task import Task
from textgym.envs.text_env import token_spaces
from textgym.errors import InputError
from textgym.saved_fields import SavedFields
from textgym.states import generator_state, load_generator_state, load_state_of, state_of
from textgym.terminal import for_output
from textgym.tokenizer import Tokenizer


class SteppedRows(NamedTuple):
    """A step of all rows with the resets that it led to.

    :param observations: int64 [n, width], a copy; ended rows show their next prompt.
    :param final_observations: int64 [width] of each row that ended.
    :param reset_infos: the reset info of each row that ended.
    """

    observations: np.ndarray
    result: StepResult
    final_observations: dict[int, np.ndarray]
    reset_infos: dict[int, dict[str, Any]]


class TextVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """n rows of one task, stepped together; a row that ends starts its next prompt at once.

    It plays exactly as `SyncVectorEnv` over `TextEnv` with `autoreset_mode=SAME_STEP` does (seeds,
    prompts, rewards, infos), with one reward call for all the episodes that end together. Only
    where `max_episode_steps` truncates does its `final_info` say more than a `TimeLimit` around
    `TextEnv` can: `finish_reason` "truncated" and the text.

    :param max_episode_steps: tokens after which an episode is truncated. A truncated text is not
        scored: its reward is 0 and the value of the text so far stands for the rest.
    :param num_generations: episodes of each prompt; see `EpisodeRows`. Row after row that starts
        takes the prompt, so rows have no prompts of their own then.
    :param render_mode: "ansi": `render` returns the texts so far. "human": each text is printed
        when it is finished, with the number of its row.
    :raises InputError: see `EpisodeRows`.
    """

    def __init__(
        self,
        task: Task,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        num_generations: int = 1,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode)
        for name, value in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(f"{name} must be a whole number, at least 1, got {value!r}")
        self.task = task
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.metadata = METADATA | {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.num_generations = num_generations
        self._episodes = EpisodeRows(task, num_envs, max_episode_steps, num_generations)
        self.single_observation_space, self.single_action_space = token_spaces(
            task, self._episodes.width, self.automaton
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators: list[np.random.Generator] = []
        self._seeds: list[int] = []
        self._summary: dict[str, Any] | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The task's tokenizer."""
        return self.task.tokenizer

    @property
    def automaton(self) -> Automaton | None:
        """The task's constraint, compiled; None without one."""
        return self._episodes.automaton

    @property
    def scores(self) -> Scores:
        """Where finished texts get their scores from, at once unless somebody lets them wait."""
        return self._episodes.scores

    def action_masks(self) -> np.ndarray:
        """int64 [n]: the state of each row's completion in the constraint's automaton.

        Numbers, not masks: see `TextEnv.action_masks`.
        """
        return self._episodes.constraint_states()

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator of each row."""
        return tuple(self._own_generators())

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each row's generator."""
        self._own_generators()
        return tuple(self._seeds)

    def _own_generators(self) -> list[np.random.Generator]:
        if not self._generators:
            drawn = [seeding.np_random(None) for _ in range(self.num_envs)]
            self._generators = [generator for generator, _ in drawn]
            self._seeds = [seed for _, seed in drawn]
        return self._generators

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start new episodes in all rows, or in those of `options["reset_mask"]` (bool [n]).

        :param seed: row i gets `seed + i`, or its own of a list; None leaves the generators as they
            are.
        """
        infos: dict[str, Any] = {}
        for row, info in self.reset_rows(seed, options).items():
            infos = self._add_start(infos, info, row)
        return self.observations(), infos

    def observations(self) -> np.ndarray:
        """Int64 [n, width]: the rows as they stand, a copy."""
        return self._episodes.tokens.copy()

    def final_observations(self, result: StepResult) -> dict[int, np.ndarray]:
        """What the rows that have just ended look like, before they start anew."""
        return {row: self._episodes.tokens[row].copy() for row in result.endings}

    def advance(self, actions: np.ndarray) -> StepResult:
        """Play a step, without starting what ended anew."""
        return self._episodes.step(actions)

    def reset_rows(
        self, seed: int | Sequence[int | None] | None, options: dict[str, Any] | None
    ) -> dict[int, dict[str, Any]]:
        """As `reset`, with the info of each row by itself."""
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise InputError(f"expected {self.num_envs} seeds, one for each row, got {len(seeds)}")
        rows = self._selected(options)
        generators = self._own_generators()
        if len(rows) == self.num_envs:
            self._episodes.groups.restart()
        for row in rows:
            row_seed = None if seeds is None else seeds[row]
            if row_seed is not None:
                generators[row], self._seeds[row] = seeding.np_random(row_seed)
        infos = self._episodes.reset(rows, [generators[row] for row in rows])
        return dict(zip(rows, infos, strict=True))

    def _selected(self, options: dict[str, Any] | None) -> list[int]:
        is_reset = (options or {}).get("reset_mask")
        if is_reset is None:
            return list(range(self.num_envs))
        if not isinstance(is_reset, np.ndarray) or is_reset.dtype != np.bool_:
            raise InputError('options["reset_mask"] must be a NumPy array of bool')
        if is_reset.shape != (self.num_envs,) or not is_reset.any():
            raise InputError(
                f'options["reset_mask"] must have shape ({self.num_envs},) and one True at least, '
                f"got {is_reset}"
            )
        return [int(row) for row in np.flatnonzero(is_reset)]

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Write one token in every row.

        :param actions: int [n], token ids.
        :return: observations int64 [n, width], rewards float64 [n], terminations bool [n],
            truncations bool [n], infos with `final_obs` and `final_info` of the rows that ended.
        :raises InputError: for an id outside the vocabulary.
        :raises RewardError: from the reward model. In both cases nothing has changed.
        """
        observations, result, finals, reset_infos = self.step_rows(actions)
        infos: dict[str, Any] = {}
        for row, ending in result.endings.items():
            tables = {name: ending[name] for name in ("columns", "state") if name in ending}
            own = {key: value for key, value in ending.items() if key not in tables}
            infos = self._add_info(infos, {"final_obs": finals[row], "final_info": own}, row)
            for name, table in tables.items():
                final = infos["final_info"]
                self._add_columns(final.setdefault(name, {}), table, row)
                final.setdefault(f"_{name}", np.zeros(self.num_envs, dtype=bool))[row] = True
            infos = self._add_start(infos, reset_infos[row], row)
        return observations, result.rewards, result.is_terminated, result.is_truncated, infos

    def _add_start(self, infos: dict[str, Any], info: dict[str, Any], row: int) -> dict[str, Any]:
        """The info of a reset; Gymnasium's own way is for what is ours only."""
        ours = {key: info[key] for key in ("prompt", "prompt_length")}
        infos = self._add_info(infos, ours, row)
        self._add_columns(infos, {k: v for k, v in info.items() if k not in ours}, row)
        return infos

    def _add_columns(self, infos: dict[str, Any], columns: dict[str, Any], row: int) -> None:
        """As Gymnasium does (zero, or None, where a row says nothing), but every value as it is.

        Gymnasium would make the first row's type of all, and one dictionary of several.
        """
        for name, value in columns.items():
            mask = infos.setdefault(f"_{name}", np.zeros(self.num_envs, dtype=bool))
            array = infos.get(name)
            if array is None:
                array = _array_for(value, self.num_envs)
            elif not _holds(array, value):
                entries = array.tolist() if array.ndim == 1 else list(array)
                array = np.full(self.num_envs, None, dtype=object)
                for i in np.flatnonzero(mask):
                    array[i] = entries[i]
            array[row], mask[row], infos[name] = value, True, array

    def step_rows(self, actions: np.ndarray) -> SteppedRows:
        """As `step`, with the infos of each row by itself."""
        result = self.advance(actions)
        finals: dict[int, np.ndarray] = {}
        reset_infos: dict[int, dict[str, Any]] = {}
        is_split = ["token_rewards" in ending for ending in result.endings.values()]
        vars(self.single_observation_space)["split_rows"] = sum(is_split)
        if result.endings:
            rows = list(result.endings)
            if self.render_mode == "human":
                for row, ending in result.endings.items():
                    text = for_output(f"{ending['prompt']}{ending['completion']}")
                    print(f"[{row}] {text}", flush=True)
            finals = self.final_observations(result)
            generators = self._own_generators()
            infos = self._episodes.reset(rows, [generators[row] for row in rows])
            reset_infos = dict(zip(rows, infos, strict=True))
        return SteppedRows(self.observations(), result, finals, reset_infos)

    @property
    def summary(self) -> dict[str, Any]:
        """JSON values: what the episodes depend on beside the reward, prompts as a digest."""
        if self._summary is None:
            self._summary = task_summary(self._episodes)
        return self._summary

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from: open episodes, generators, groups, the reward's.

        :raises NoStateError: for a prompt whose columns no checkpoint can hold.
        """
        return {
            "summary": self.summary,
            "rows": rows_state(self._episodes),
            "groups": groups_state(self._episodes.groups),
            "generators": [generator_state(generator) for generator in self._generators],
            "seeds": list(self._seeds),
            **{name: state_of(thing, name) for name, thing in self._given().items()},
        }

    def load_state_dict(self, state: Any) -> list[str]:
        """Go on from a state of the same task with as many rows (`summary` says whether it is).

        :return: what has another state than it takes (a reward, a function), in words.
        :raises InputError: if it is no state of the task.
        """
        where = f"state of {self.task.id!r}"
        fields = SavedFields(state, where)
        count = len(fields.items("generators"))
        generators = [np.random.default_rng(0) for _ in range(count)]
        for generator, saved in zip(generators, fields.items("generators"), strict=True):
            load_generator_state(generator, saved, where)
        seeds = fields.items("seeds", count)
        if count not in (0, self.num_envs) or not all(type(seed) is int for seed in seeds):
            raise InputError(f"{where}: expected a generator and a seed for each row")
        load_rows_state(self._episodes, fields.value("rows"), where)
        load_groups_state(self._episodes.groups, fields.value("groups"), where)
        self._generators, self._seeds = generators, seeds
        self._episodes.generators = [*generators] or [None] * self.num_envs
        differences = []
        for name, thing in self._given().items():
            try:
                load_state_of(thing, fields.value(name), name)
            except InputError as error:
                differences.append(str(error))
        return differences

    def _given(self) -> dict[str, object]:
        """What a user gave, and may keep a state."""
        source = self._episodes.source
        return {"reward": self.task.reward, "prompts": source.function, "reply": self.task.reply}

    def start_infos(self) -> dict[int, dict[str, Any]]:
        """The reset info of each row's episode as it stands."""
        return self._episodes.start_infos()

    def render(self) -> tuple[str, ...] | None:
        """The text so far of every row with "ansi"; else None ("human" prints by itself)."""
        return self.texts() if self.render_mode == "ansi" else None

    def texts(self) -> tuple[str, ...]:
        """The text so far of every row, prompt included."""
        return tuple(self._episodes.text(row) for row in range(self.num_envs))


def _array_for(value: Any, n: int) -> np.ndarray:
    """An empty array [n] that can hold a column's value of each row."""
    if isinstance(value, np.ndarray):
        array = np.zeros((n, *value.shape), dtype=value.dtype)
    elif type(value) in (int, float, bool) or isinstance(value, np.number):
        array = np.zeros(n, dtype=type(value))
    else:
        array = np.full(n, None, dtype=object)
    return array if _holds(array, value) else np.full(n, None, dtype=object)


def _holds(array: np.ndarray, value: Any) -> bool:
    """Whether a value can stand in a row of an array and stay what it is."""
    if array.dtype == object and array.ndim == 1:
        return True
    if isinstance(value, np.ndarray):
        return bool(array.shape[1:] == value.shape and array.dtype == value.dtype)
    is_number = type(value) in (int, float, bool) or isinstance(value, np.number)
    if not is_number or array.ndim != 1 or array.dtype != np.dtype(type(value)):
        return False
    return type(value) is not int or -(2**63) <= value < 2**63
