"""People as a reward, while they answer: the closed loop of training and labelling.

After each rollout a `HumanReward` puts pairs of the policy's own texts into a store of labels,
reads what people have answered meanwhile, and refits its reward model when enough is new. It never
waits for a person.

Every refit is noted in the store with its step and the answers it saw, before it is used. So a run
that goes on from a checkpoint makes those refits again, of the same answers at the same steps, and
ends as one that was never interrupted: to the last bit.
"""

import secrets
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from textgym.errors import InputError, StorageError
from textgym.reward_models.learned.pairs import pair_accuracy
from textgym.reward_models.people.answers import Answered, AnswerLog
from textgym.reward_models.people.asking import Questions
from textgym.reward_models.people.client import Labels
from textgym.reward_models.people.heads import Array, Heads, TextFeatures, fit_heads
from textgym.reward_models.people.lost_store import LostStore
from textgym.reward_models.people.queries import RuleName, Written, disagreement
from textgym.reward_models.people.records import Refit
from textgym.reward_models.people.store import ConflictError
from textgym.rewards import Reward, RewardOutput, call_reward
from textgym.saved_fields import SavedFields

LARGEST_SHARE = 0.9  # of what may be set aside


@dataclass(frozen=True)
class LoopFigures:
    """What a rollout's end has to tell.

    :param labels: answers that the model in use was fitted to.
    :param figures: by tag.
    :param by_labels: figures of a refit, to be drawn over `labels`, by tag.
    """

    labels: int
    figures: dict[str, float] = field(default_factory=dict)
    by_labels: dict[str, float] = field(default_factory=dict)


class HumanReward:
    """A reward model that learns from people's answers while a policy trains on it.

    Until it is fitted for the first time it gives the score of `prior`. Without one it gives 0 and
    `only_collects`: nothing is to be learned from such a rollout. From then on it gives the mean of
    its members' standardised scores, minus `caution` times their standard deviation. Outside of
    training it is fitted once to all that the store holds.

    Whoever collects rollouts calls `begin_rollout` and `end_rollout`; textgym's recorder does.

    :param labels: an open store, or a client of its server.
    :param features: of texts; they stay as they are.
    :param prior: the reward model to train on until there are answers.
    :param queries: how pairs are picked: "disagreement", or "random" as the control. Before the
        first fit nothing can disagree, and they are drawn at random.
    :param waiting: pairs of this run that wait for an answer at most.
    :param first: answers that the first fit needs.
    :param every: new answers that a further fit needs.
    :param members: of the ensemble.
    :param caution: k of mean - k·std.
    :param held_out: share of the answers that is set aside: pairs of that share of the prompts, at
        random, to which nothing is fitted; `waiting` and `most` count the others.
    :param most: answers to fit after which nothing more is asked; None for no end.
    :param run: this run's name in the store. A run of a name that the store has refits of makes
        those again, at their steps, before any of its own. None: a name that nobody has.
    :param seed: of the draws.
    :raises InputError: for a number out of range, or a rule that does not exist.
    """

    def __init__(
        self,
        labels: Labels,
        features: TextFeatures,
        *,
        prior: Reward | None = None,
        queries: RuleName = "disagreement",
        waiting: int = 24,
        first: int = 20,
        every: int = 10,
        members: int = 5,
        caution: float = 0.0,
        held_out: float = 0.0,
        most: int | None = None,
        run: str | None = None,
        seed: int = 0,
        name: str = "human",
    ) -> None:
        numbers = {"waiting": waiting, "first": first, "every": every, "members": members}
        for key, value in numbers.items():
            if value < 1:
                raise InputError(f"{name}: {key} must be at least 1, got {value}")
        if not 0 <= caution < float("inf"):
            raise InputError(f"{name}: caution must be from 0, got {caution}")
        if not 0 <= held_out <= LARGEST_SHARE:
            raise InputError(f"{name}: held_out must be from 0 to {LARGEST_SHARE}, got {held_out}")
        if most is not None and most < first:
            raise InputError(f"{name}: most must be at least first={first}, got {most}")
        self.features, self.prior, self.name = features, prior, name
        self.queries, self.waiting = queries, waiting
        self.first, self.every, self.members = first, every, members
        self.caution, self.seed = float(caution), seed
        self.run = run or f"run-{secrets.token_hex(4)}"
        self.heads: Heads | None = None
        self.fitted: list[int] = []  # ids of the answers that the heads saw
        self.fitted_at = -1
        self._log = AnswerLog(labels)
        self._questions = Questions(
            self._log, features, queries, waiting, seed, held_out=held_out, most=most
        )
        self._has_begun = self._has_read = self._is_playing = self._has_said = False
        self._elsewhere: Heads | None = None
        self._recorded: list[Refit] = []
        self._texts: list[Written] = []
        self._lost = LostStore()

    # The reward

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> RewardOutput:
        """:returns: a score per text; the component `disagreement` is the members' std.

        :raises InputError: if the features are not those that the heads were fitted on.
        """
        if self._is_playing:
            self._texts += zip(prompts, completions, strict=True)
        heads = self.heads if self._has_begun else self._fitted_elsewhere()
        if heads is None:
            return self._prior(prompts, completions, columns)
        texts = [prompt + text for prompt, text in zip(prompts, completions, strict=True)]
        scores = self._member_scores(heads, texts)
        spread = scores.std(axis=0)
        total = scores.mean(axis=0) - self.caution * spread
        return RewardOutput(total.tolist(), {"disagreement": spread.tolist()})

    def _prior(
        self, prompts: Sequence[str], completions: Sequence[str], columns: dict[str, Any]
    ) -> RewardOutput:
        if self.prior is None:
            return RewardOutput([0.0] * len(completions))
        return call_reward(self.prior, prompts, completions, columns)

    def _member_scores(self, heads: Heads, texts: Sequence[str]) -> Array:
        features = self.features(texts)
        if features.shape[1] != heads.weights.shape[1]:
            raise InputError(
                f"{self.name}: has weights for {heads.weights.shape[1]} features, got "
                f"{features.shape[1]} ({self.features.name}): use the features it was fitted on"
            )
        return heads.scores(features)

    def _fitted_elsewhere(self) -> Heads | None:
        """Outside of training: fitted once to what the store holds; noted nowhere."""
        if self._elsewhere is None:
            self._read()
            ids = self._log.counted()
            is_decided = self._log.answered(ids).pairs.is_decided
            if len(ids) >= self.first and is_decided.any():
                self._elsewhere = self.fit(self._log.answered(ids))
        return self._elsewhere

    def close(self) -> None:
        """Let go of the store."""
        self._log.labels.close()

    @property
    def only_collects(self) -> bool:
        """Whether its scores mean nothing: it is in training, without a model and a prior."""
        return self._has_begun and self.heads is None and self.prior is None

    # The loop

    def begin_rollout(self, step: int) -> None:
        """A rollout begins; what is scored from here to its end is the policy's.

        :param step: completion tokens that were played so far, through all of the run.
        :raises StorageError: if the store cannot be reached when a run starts or goes on.
        :raises InputError: if it refuses, or lacks answers that this run was fitted to.
        """
        if not (self._has_read and self._has_begun):
            self._read()
        if not self._has_begun:
            self._has_begun = True
            if not self._refit_again(step):
                self._refit_if_due(step)
        if self.only_collects and not self._has_said:
            self._has_said = True
            warnings.warn(
                f"reward model {self.name!r} only collects: without a prior the policy stays as it "
                f"is until {self.first} answers are in ({len(self._log.counted())} so far)",
                stacklevel=2,
            )
        self._texts, self._is_playing = [], True

    def end_rollout(self, step: int) -> LoopFigures:
        """Ask about the rollout's texts, look for answers, and refit if enough are new.

        A store that cannot be reached is a warning: the run goes on with the model it has, and
        tries again after one rollout, two, four, ...

        :param step: completion tokens that were played so far, through all of the run.
        :raises InputError: if the store holds another refit of this run and step.
        """
        texts, self._texts = self._texts, []
        self._is_playing = False
        self._questions.rollout(texts)
        by_labels = self._refit_again(step)
        if not self._lost.is_pausing():
            try:
                self._log.read()
                by_labels = by_labels or self._refit_if_due(step)
                self._questions.ask(self.run, step, len(texts), self.heads)
                self._lost.reached(self.name)
            except ConflictError:
                raise
            except (StorageError, InputError) as error:
                self._lost.lost(error, self.name, len(self.fitted))
        figures = {
            "human/labels": float(len(self.fitted)),
            "human/answers": float(len(self._log.counted())),
            "human/waiting": float(self._questions.waiting),
        }
        figures |= {f"human/{key}": value for key, value in by_labels.items()}
        return LoopFigures(len(self.fitted), figures, by_labels)

    def _read(self) -> None:
        """What the store holds, at the start of a process."""
        self._log.read()
        self._recorded = sorted(self._log.labels.refits(self.run), key=lambda refit: refit.step)
        self._questions.find(self.run)
        self._has_read = True

    # Refits

    def _refit_if_due(self, step: int) -> dict[str, float]:
        """A refit to the answers that count now, if enough of them are new.

        Never before the last refit that the store has of this run.

        :returns: figures of the refit; nothing without one.
        """
        if self._recorded and step <= self._recorded[-1].step:
            return {}
        ids = self._log.counted()
        new = set(ids).difference(self.fitted)
        least = self.first if self.heads is None else self.every
        if len(new) < least or not self._log.answered(ids).pairs.is_decided.any():
            return {}
        return self._take(step, ids, is_new=True)

    def _refit_again(self, step: int) -> dict[str, float]:
        due = [refit for refit in self._recorded if self.fitted_at < refit.step <= step]
        return self._take(due[-1].step, list(due[-1].answers), is_new=False) if due else {}

    def _take(self, step: int, ids: list[int], *, is_new: bool) -> dict[str, float]:
        """Fit to these answers, note it in the store, then use it."""
        figures = self._agreement(sorted(set(ids) - set(self.fitted)))
        heads = self.fit(self._log.answered(ids))
        answered = self._log.answered(ids)
        scores = self._member_scores(heads, answered.texts).mean(axis=0)
        figures["fit"] = pair_accuracy(scores, answered.pairs)
        aside = self._log.answered(self._log.held_out())
        if aside.pairs.is_decided.any():
            scores = self._member_scores(heads, aside.texts).mean(axis=0)
            figures["held_out_accuracy"] = pair_accuracy(scores, aside.pairs)
        if is_new:
            details = {"labels": len(ids), "features": self.features.name, **figures}
            self._log.labels.add_refit(self.run, step, ids, details)
        self.heads, self.fitted, self.fitted_at = heads, ids, step
        return figures

    def fit(self, answered: Answered) -> Heads:
        """An ensemble as this reward model fits them, to these answers; noted nowhere.

        :raises InputError: if none of them decides a pair.
        """
        features = self.features(answered.texts)
        return fit_heads(features, answered.pairs, members=self.members, seed=self.seed)

    def _agreement(self, new: Sequence[int]) -> dict[str, float]:
        """How often the reward in use sides with answers that it has not seen; ties left out.

        With the members' disagreement about those pairs. Nothing where all tie, or where there is
        neither a model nor a prior.
        """
        answered = self._log.answered(new)
        texts, pairs = answered.texts, answered.pairs
        if not pairs.is_decided.any():
            return {}
        if self.heads is not None:
            features = self.features(texts)
            spread = disagreement(
                self.heads.preferences(features[pairs.first], features[pairs.second])
            )
            scores = self.heads.scores(features).mean(axis=0)
            figures = {"disagreement": float(spread.mean())}
            return {"agreement": pair_accuracy(scores, pairs), **figures}
        if self.prior is not None:
            answer = call_reward(self.prior, [""] * len(texts), texts, {})
            return {"agreement": pair_accuracy(np.asarray(answer.scores), pairs)}
        return {}

    # State

    def state_dict(self) -> dict[str, Any]:
        """The run's name and the model in use, with the answers that it saw."""
        heads = self.heads
        return {
            "run": self.run,
            "has_begun": self._has_begun,
            "fitted": np.array(self.fitted, np.int64),
            "fitted_at": self.fitted_at,
            "features": self.features.name,
            "heads": None if heads is None else heads.state_dict(),
        }

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none, or was made with other features.
        """
        fields = SavedFields(state, f"state of {self.name}")
        run, has_begun = fields.text("run"), fields.flag("has_begun")
        fitted = fields.array("fitted", "int64", (None,))
        fitted_at = fields.whole("fitted_at", -1)
        if fields.text("features") != self.features.name:
            raise fields.error("features", repr(self.features.name))
        heads = None
        if fields.has("heads"):
            heads = Heads.of_state(fields.table("heads"), self.features.size)
        if run != self.run:
            self._has_read = False  # what was read is another run's
        self._has_begun, self.run = has_begun, run
        self.heads, self.fitted, self.fitted_at = heads, fitted.tolist(), fitted_at
        self._texts, self._is_playing = [], False
