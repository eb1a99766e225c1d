"""The adversarial reward: how much like a corpus a text reads, to one who has read the policy.

A discriminator between the texts of a corpus and the policy's own is fitted further every few
rollouts, on a replay of both (SeqGAN, Yu et al. 2017; the replay after Shrivastava et al. 2017).
Its score, the log-odds that a text is the corpus's, is the reward. The policy and its judge learn
against one another, so the reward's own curve says little: look at the accuracy, and at a metric
that neither has seen.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.reward_models.adversarial.discriminator import Array, Discriminator
from textgym.reward_models.people.heads import TextFeatures
from textgym.reward_models.people.human_reward import LoopFigures
from textgym.rewards import RewardOutput
from textgym.saved_fields import SavedFields

HELD_OUT = 5  # every fifth text of the corpus is for the accuracy alone
FEWEST = 20  # texts of a corpus
LIMIT = 4.0  # of the log-odds that are paid: beyond it a text is as good as decided
WON, LOST, STREAK = 0.95, 0.55, 3  # accuracies, and how many refits in a row say it
NEIGHBOURS = 32  # texts of the corpus of about a length, among which one is drawn


class AdversarialReward:
    """Pays the log-odds that a text is the corpus's and not the policy's, in [-4, 4].

    Until the policy has written anything it pays 0. Both kinds of text are read whole, prompt and
    completion, so a corpus should hold what a prompt and a good completion make together. For each
    of the policy's texts one of about the same length is drawn from the corpus: otherwise the
    length limit of a task would give every text of the policy away.

    Whoever collects rollouts calls `begin_rollout` and `end_rollout`; textgym's recorder does.

    :param corpus: texts, at least 20.
    :param features: of texts; they stay as they are.
    :param every: rollouts between two refits.
    :param replay: latest texts of either kind that a refit draws from, half of a batch from the
        last rollout's and half from all of them.
    :param steps: of each refit.
    :param learning_rate: Adam's.
    :param lipschitz, smoothing: the discriminator's.
    :param seed: of the draws.
    :raises InputError: for a number out of range, or a corpus of fewer texts.
    """

    def __init__(
        self,
        corpus: Sequence[str],
        features: TextFeatures,
        *,
        every: int = 1,
        replay: int = 1024,
        steps: int = 20,
        learning_rate: float = 0.003,
        lipschitz: float = 16.0,
        smoothing: float = 0.1,
        seed: int = 0,
        name: str = "adversarial",
    ) -> None:
        for key, value in {"every": every, "replay": replay, "steps": steps}.items():
            if value < 1:
                raise InputError(f"{name}: {key} must be at least 1, got {value}")
        for key, rate, is_right, wanted in (
            ("learning_rate", learning_rate, 0 < learning_rate <= 1, "in (0, 1]"),
            ("smoothing", smoothing, 0 <= smoothing < 0.5, "in [0, .5)"),
            ("lipschitz", lipschitz, 0 < lipschitz < math.inf, "a finite number above 0"),
        ):
            if not is_right:
                raise InputError(f"{name}: {key} must be {wanted}, got {rate}")
        texts = sorted(
            {text for text in corpus if text.strip()}, key=lambda text: (len(text), text)
        )
        if len(texts) < FEWEST:
            raise InputError(f"{name}: a corpus needs {FEWEST} different texts, got {len(texts)}")
        self.features, self.name = features, name
        self.every, self.replay, self.steps = every, replay, steps
        self.learning_rate, self.smoothing, self.seed = learning_rate, smoothing, seed
        self.held_out = texts[HELD_OUT // 2 :: HELD_OUT]
        self.corpus = [t for i, t in enumerate(texts) if i % HELD_OUT != HELD_OUT // 2]
        self.discriminator = Discriminator(features.size, lipschitz=lipschitz, seed=seed)
        self.refits = 0
        self.real = np.zeros((0, features.size), np.float32)  # features of the latest, oldest first
        self.written = self.real.copy()
        self._accuracies: list[float] = []  # of the last refits
        self._texts: list[str] = []
        self._rollouts = 0
        self._is_playing = self._is_told = self._is_new_told = False

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> RewardOutput:
        """:returns: a score per text; the component `is_real` is the corpus's probability."""
        texts = [prompt + text for prompt, text in zip(prompts, completions, strict=True)]
        if self._is_playing:
            self._texts += texts
        if not self.refits:
            self._say_that_it_knows_nothing()
            return RewardOutput([0.0] * len(texts), {"is_real": [0.5] * len(texts)})
        scores = self.discriminator.scores(self.features(texts))
        is_real = 1 / (1 + np.exp(-scores))
        return RewardOutput(np.clip(scores, -LIMIT, LIMIT).tolist(), {"is_real": is_real.tolist()})

    def _say_that_it_knows_nothing(self) -> None:
        """One warning where a text is judged before any was learned from, outside a rollout."""
        if self._is_playing or self._is_new_told:
            return
        self._is_new_told = True
        warnings.warn(
            f"reward model {self.name!r} has read no text of a policy yet, so every text earns 0: "
            "it learns only while a policy is trained on it",
            stacklevel=3,
        )

    def begin_rollout(self, step: int) -> None:
        """A rollout begins; what is scored from here to its end is the policy's."""
        self._texts, self._is_playing = [], True

    def end_rollout(self, step: int) -> LoopFigures:
        """Take the rollout's texts into the replay, and refit if it is time.

        :param step: completion tokens that were played so far; the draws of a refit depend on it.
        """
        texts, self._texts = [text for text in self._texts if text.strip()], []
        self._is_playing = False
        self._rollouts += 1
        if not texts:
            return LoopFigures(0)
        rng = np.random.default_rng([self.seed, step])
        is_due = not self.refits or self._rollouts % self.every == 0
        new = self.features(texts).astype(np.float32)
        figures = {}
        if is_due and self.refits:
            unseen = self.features(_alike(self.held_out, texts, rng))
            figures = self._figures(self.discriminator.scores(unseen), new)
        real = self.features(_alike(self.corpus, texts, rng)).astype(np.float32)
        self.real = np.concatenate([self.real, real])[-self.replay :]
        self.written = np.concatenate([self.written, new])[-self.replay :]
        if is_due:
            figures["loss"] = self._refit(len(texts), rng)
        return LoopFigures(0, {f"adversarial/{key}": value for key, value in figures.items()})

    def _refit(self, recent: int, rng: np.random.Generator) -> float:
        self.refits += 1
        return self.discriminator.fit(
            self.real,
            self.written,
            rng,
            recent=recent,
            steps=self.steps,
            learning_rate=self.learning_rate,
            smoothing=self.smoothing,
        )

    def _figures(self, real: npt.NDArray[np.float64], new: Array) -> dict[str, float]:
        """Accuracy over both kinds, and the mean gap of their scores."""
        written = self.discriminator.scores(new)
        right = [float(np.mean(s > 0) + 0.5 * np.mean(s == 0)) for s in (real, -written)]
        accuracy = sum(right) / 2
        self._accuracies = [*self._accuracies, accuracy][-STREAK:]
        self._say()
        return {
            "accuracy": accuracy,
            "accuracy_on_corpus": right[0],
            "accuracy_on_policy": right[1],
            "gap": float(real.mean() - written.mean()),
        }

    def _say(self) -> None:
        """One warning when the discriminator has won, or has lost; again only after a change."""
        low, high = min(self._accuracies), max(self._accuracies)
        has_won, has_lost = low >= WON, high <= LOST
        if len(self._accuracies) < STREAK or not (has_won or has_lost):
            self._is_told = False
            return
        if self._is_told:
            return
        self._is_told = True
        what = (
            f"the discriminator has won: it tells {low:.0%} of unseen texts apart, {STREAK} refits "
            "in a row, and its score hardly says which text is nearer; lower lipschitz or steps, "
            "or raise every"
            if has_won
            else f"the discriminator has lost: it tells at most {high:.0%} of unseen texts apart, "
            f"{STREAK} refits in a row; to it the policy writes like the corpus, and its reward is "
            "noise: stop, or give it better features"
        )
        warnings.warn(f"reward model {self.name!r}: {what}", stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """The discriminator, the replay, and where the refits stand."""
        return {
            "features": self.features.name,
            "discriminator": self.discriminator.state_dict(),
            "real": self.real,
            "written": self.written,
            "accuracies": np.array(self._accuracies, np.float64),
            "refits": self.refits,
            "rollouts": self._rollouts,
            "is_told": self._is_told,
        }

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none, or was made with other features.
        """
        fields = SavedFields(state, f"state of {self.name}")
        if fields.text("features") != self.features.name:
            raise fields.error("features", repr(self.features.name))
        accuracies = fields.array("accuracies", "float64", (None,), low=0, high=1)
        size, is_told = self.features.size, fields.flag("is_told")
        real, written = (fields.array(k, "float32", (None, size)) for k in ("real", "written"))
        if not (np.isfinite(real).all() and np.isfinite(written).all()):
            raise fields.error("written", "finite numbers")
        refits, rollouts = fields.whole("refits"), fields.whole("rollouts")
        self.discriminator.load_state_dict(fields.table("discriminator"))
        self.real, self.written = real.copy(), written.copy()
        self._accuracies = accuracies.tolist()
        self.refits, self._rollouts, self._is_told = refits, rollouts, is_told
        self._texts, self._is_playing = [], False


def _alike(sorted_texts: Sequence[str], like: Sequence[str], rng: np.random.Generator) -> list[str]:
    """For each text one of a corpus of about its length, drawn among its neighbours in length.

    :param sorted_texts: by length in characters.
    """
    lengths = np.array([len(text) for text in sorted_texts])
    width = min(NEIGHBOURS, len(lengths))
    places = np.searchsorted(lengths, [len(text) for text in like])
    first = np.clip(places - width // 2, 0, len(lengths) - width)
    return [sorted_texts[i] for i in first + rng.integers(width, size=len(like))]
