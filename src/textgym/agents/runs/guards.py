"""Guards of a training: a callback that raises an alarm where the reward model is being gamed.

Everything that it decides by stands in the run's record, so that a run that is gone on with raises
the alarms of one that never stopped. Where there is no run directory, it remembers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from textgym.agents.runs.alarms import (
    Alarm,
    Limits,
    Texts,
    gold_fell,
    gold_rose_surely,
    means_of,
    overlap_rose,
    signs,
    text_figures,
)
from textgym.agents.runs.exploits import exploit_of
from textgym.agents.runs.held_out import HeldOutText, read_held_out
from textgym.agents.runs.recording import Recorder, recorder_of
from textgym.agents.runs.run import Run
from textgym.errors import unknown_name
from textgym.json_lines import append_line, cut_rows, read_rows
from textgym.run_files import ALARMS, BEST_GOLD
from textgym.storage import json_text

GOLD = "reward up, gold down"
PROMPT = "words of the prompt"


class Guards(BaseCallback):
    """Watches rollouts and held-out evaluations; each kind of alarm is raised once a run.

    :param stop: end `learn` at the first alarm.
    :param limits: when an alarm is raised.
    :param say: shows a line of text.
    """

    def __init__(
        self,
        *,
        stop: bool = False,
        limits: Limits | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        super().__init__()
        self.stop, self.limits, self.say = stop, limits or Limits(), say
        self.alarms: list[Alarm] = []
        self.rows: list[Mapping[str, float]] = []
        self.evaluations: dict[int, Sequence[HeldOutText]] = {}
        self.judges: dict[str, str] = {}  # role by name
        self._first: Texts | None = None
        self._recorder: Recorder | None = None

    @property
    def run(self) -> Run | None:
        """The run that is recorded, if there is one."""
        return None if self._recorder is None else self._recorder.run

    def _on_training_start(self) -> None:
        self._recorder = recorder_of(self.model)
        if self._recorder is None:
            return
        self._recorder.listeners.append(self.rollout_done)
        if self.run is not None:
            self._read_record(self.run, self.run.step_offset + self.model.num_timesteps)

    def _on_training_end(self) -> None:
        if self._recorder is not None and self.rollout_done in self._recorder.listeners:
            self._recorder.listeners.remove(self.rollout_done)

    def _on_step(self) -> bool:
        return not (self.stop and self.alarms)

    def _read_record(self, run: Run, step: int) -> None:
        """What an earlier part of the run recorded."""
        path = run.directory / ALARMS
        if path.is_file():
            cut_rows(path, step)
            self.alarms = [Alarm(**row) for row in read_rows(path)]
        self.rows = [row for row in run.metrics() if row["step"] <= step]
        record = read_held_out(run.directory)
        if record is not None:
            self.judges = {name: judge.role for name, judge in record.settings.judges.items()}
            self.evaluations = {s: t for s, t in record.texts.items() if s <= step}

    def rollout_done(self, figures: Mapping[str, float], episodes: Sequence[Mapping[str, Any]]) -> None:  # fmt: skip # noqa: E501
        """Look at a rollout; called by the recorder before its row is written.

        :param figures: of the rollout, by tag.
        :param episodes: infos of the last steps of those that ended in it.
        """
        assert self._recorder is not None
        texts = texts_of(episodes)
        own = text_figures(texts)
        for tag, value in own.items():
            self.logger.record(tag, value)
        self.rows.append({**figures, **own})
        if self._first is None and len(texts.completions) and not self.evaluations:
            self._first = texts
        found = signs(
            self.rows,
            self.limits,
            gold_is_well=self.gold_is_well(),
            gold_rose=self.gold_rose_surely(),
        )
        for kind, says in found.items():
            self._raise(kind, says, self._before(), texts)
        self.logger.record("guards/alarms", len(self.alarms))

    def evaluated(self, texts: Sequence[HeldOutText]) -> None:
        """Look at a held-out evaluation; its callback calls this when it is written."""
        step = texts[0].step
        if self.run is not None and not self.judges:
            record = read_held_out(self.run.directory)
            assert record is not None
            self.judges = {name: judge.role for name, judge in record.settings.judges.items()}
        earlier = {s: t for s, t in self.evaluations.items() if s < step}
        self.evaluations[step] = texts
        kl = sum(text.kl for text in texts) / max(sum(text.length for text in texts), 1)
        reward = next((name for name, role in self.judges.items() if role == "reward"), "")
        gold = [name for name, role in self.judges.items() if role == "gold"]
        now = self._texts(texts, reward)
        if kl > self.limits.kl and not self.gold_rose_surely():
            says = f"{kl:.2f} nats per token from the start, over {self.limits.kl:g}"
            self._raise("KL", says, self._before(), now)
        for name in gold:
            best = max(earlier, key=lambda s: np.nanmean(means_of(earlier[s], name)), default=None)
            if best is None:
                continue
            unit = float(np.nanstd(means_of(self.evaluations[min(earlier)], name))) or 1.0
            says = gold_fell(
                earlier[best], texts, reward=reward, gold=name, unit=unit, limits=self.limits
            )
            if says:
                self._raise(GOLD, says, self._before(), now)
        if earlier and not self.gold_rose_surely():  # then it vouches for the copies
            start = self.evaluations[min(earlier)]
            says = overlap_rose(now.prompts, start, texts, reward=reward, limits=self.limits)
            if says:
                self._raise(PROMPT, says, self._before(), now)
        if gold:
            self._keep_best(gold[0], texts, earlier)

    def gold_is_well(self) -> bool:
        """Whether every gold judge scores the last held-out texts no lower than the first.

        And not far below its best evaluation, by as much as a fall must be for its own alarm, sure
        or not.
        """

        def holds(name: str) -> bool:
            means = [float(np.nanmean(means_of(self.evaluations[s], name))) for s in self._steps()]
            unit = float(np.nanstd(means_of(self.evaluations[self._steps()[0]], name))) or 1.0
            return means[-1] >= means[0] and means[-1] > max(means) - self.limits.gold_fall * unit

        return self._of_gold(holds)

    def gold_rose_surely(self) -> bool:
        """Whether every gold judge scores the last held-out texts higher, beyond chance."""

        def holds(name: str) -> bool:
            first, last = (self.evaluations[self._steps()[place]] for place in (0, -1))
            return gold_rose_surely(first, last, gold=name, limits=self.limits)

        return self._of_gold(holds)

    def _steps(self) -> list[int]:
        return sorted(self.evaluations)

    def _of_gold(self, holds: Callable[[str], bool]) -> bool:
        """Whether something holds of every gold judge, which says something twice at least."""
        gold = [name for name, role in self.judges.items() if role == "gold"]
        return bool(gold) and len(self.evaluations) > 1 and all(map(holds, gold))

    def _keep_best(
        self,
        gold: str,
        texts: Sequence[HeldOutText],
        earlier: Mapping[int, Sequence[HeldOutText]],
    ) -> None:
        """Keep the model where the gold judge likes its texts best."""
        now = np.nanmean(means_of(texts, gold))
        if self.run is None or any(np.nanmean(means_of(t, gold)) >= now for t in earlier.values()):
            return
        policy: Any = self.model.policy
        policy.lm.save_pretrained(self.run.checkpoint(BEST_GOLD))

    def _before(self) -> Texts | None:
        """The texts of the start."""
        if self.evaluations and self.judges:
            reward = next(name for name, role in self.judges.items() if role == "reward")
            return self._texts(self.evaluations[min(self.evaluations)], reward)
        return self._first

    def _texts(self, texts: Sequence[HeldOutText], reward: str) -> Texts:
        prompts: Sequence[Any] = [""] * len(texts)
        if self.run is not None:
            record = read_held_out(self.run.directory)
            if record is not None:
                prompts = [record.prompts[text.prompt]["prompt"] for text in texts]
        scores = np.nan_to_num(means_of(texts, reward))
        return Texts(prompts, [text.completion for text in texts], scores)

    def _raise(self, kind: str, says: str, before: Texts | None, now: Texts) -> None:
        if any(alarm.kind == kind for alarm in self.alarms) or not len(now.completions):
            return
        exploit, place = exploit_of(before, now)
        offset = 0 if self.run is None else self.run.step_offset
        alarm = Alarm(
            offset + self.model.num_timesteps,
            kind,
            says,
            exploit,
            now.prompts[place],
            now.completions[place],
            float(now.rewards[place]),
        )
        self.alarms.append(alarm)
        self.say(alarm.line())
        if self.run is not None:
            append_line(self.run.directory / ALARMS, json_text(alarm.to_json()), sync=True)


def texts_of(episodes: Sequence[Mapping[str, Any]]) -> Texts:
    """The texts that ended in a rollout, with what the environment paid."""
    whole = [info for info in episodes if "completion" in info and "episode" in info]
    return Texts(
        [str(info.get("prompt", "")) for info in whole],
        [info["completion"] for info in whole],
        np.array([float(info["episode"]["r"]) for info in whole], np.float64),
    )


def guards_of(guards: str | Guards, say: Callable[[str], None] = print) -> Guards | None:
    """The guards that a word stands for: "warn", "stop", or "off" for none.

    :raises InputError: for another word.
    """
    if isinstance(guards, Guards):
        return guards
    if guards not in ("off", "warn", "stop"):
        raise unknown_name("guards", str(guards), ("off", "warn", "stop"))
    return None if guards == "off" else Guards(stop=guards == "stop", say=say)
