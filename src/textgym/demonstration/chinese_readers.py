"""Who reads the Chinese demo's quatrains: taste, which is part of the reward, and a judge.

Nobody is known to have rated these poems, and how often one is printed follows its author and its
title. So both learn from one question that has an answer: which of two poems with the same first
line is by a poet, and which by the start model? Each reads other poets, none of whom the start
model has seen, and other texts of that model, by other features: taste is the start model's own
trunk under a Bradley-Terry head, the judge linear on n-grams of characters. The poets of `test`,
whom neither has read, say how well each tells the two apart.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from textgym.agents.building.reward_checkpoint import load_reward
from textgym.agents.evaluation.report import Interval
from textgym.agents.fitting.reward_fitting import fitting_bar
from textgym.envs.tasks.quatrains import SYLLABLES, Form, Quatrain
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.reward_models.composition import WeightedSum
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
from textgym.reward_models.learned.features import NgramHasher
from textgym.reward_models.learned.fitting import fit_reward_model
from textgym.reward_models.learned.ngrams import NgramLogistic
from textgym.reward_models.rules.quatrains import Quatrain as Rules
from textgym.reward_models.wrappers import Squash
from textgym.rewards import Reward

TASTE, JUDGE = "taste", "poet_or_start"
RULES_WEIGHT, TASTE_WEIGHT = 10.0, 0.1
NGRAMS = NgramHasher(words=0, shortest=1, longest=2)
FEWEST_AUC = 0.6  # below it a judge is not asked


@dataclass(frozen=True)
class Rivals:
    """Poems, and for each what the start model made of its first line.

    :param prompts: first lines.
    :param poets: the rest of each poem.
    :param start: the start model's.
    """

    prompts: Sequence[str]
    poets: Sequence[str]
    start: Sequence[str]

    def texts(self, side: Sequence[str]) -> list[str]:
        """Whole poems of one side."""
        return [prompt + rest for prompt, rest in zip(self.prompts, side, strict=True)]

    def preferences(self) -> list["Preference"]:
        """The poet's is the better one."""
        rows = zip(self.prompts, self.poets, self.start, strict=True)
        return [Preference(*row) for row in rows]


@dataclass(frozen=True)
class Preference:
    """Two ways to go on with a first line, the better one first."""

    prompt: str
    chosen: str
    rejected: str


def poets_apart(poems: Sequence[Quatrain]) -> tuple[list[Quatrain], list[Quatrain]]:
    """Two halves of a split, by a hash of the poet's name: for taste, and for the judge."""
    halves: tuple[list[Quatrain], list[Quatrain]] = ([], [])
    for poem in poems:
        name = poem.author.encode("utf-8")
        halves[hashlib.blake2b(name, digest_size=1, person=b"readers").digest()[0] % 2].append(poem)
    return halves


def rivals(
    start: CausalLM,
    poems: Sequence[Quatrain],
    form: Form,
    *,
    samples: int = 1,
    temperature: float,
    seed: int,
) -> Rivals:
    """Poems beside what the start model makes of their first lines.

    :param samples: of the start model on each first line, beside each of which the poem stands.
    """
    prompts = [poem.first_line for poem in poems]
    written = [
        text
        for sample in range(samples)
        for text in start.generate(
            prompts,
            max_new_tokens=3 * (SYLLABLES[form] + 1) + 1,
            temperature=temperature,
            seed=1000 * seed + sample,
        )
    ]
    rest = [poem.text[len(poem.first_line) :] for poem in poems]
    return Rivals(prompts * samples, rest * samples, written)


def fit_taste(
    start: CausalLM,
    training: Rivals,
    held: Rivals,
    *,
    epochs: float,
    learning_rate: float,
    seed: int,
    progress_bar: bool,
) -> BradleyTerryRewardModel:
    """A Bradley-Terry model on a copy of the start's trunk.

    Its unit is the standard deviation of the start's poems, 0 their mean.

    :param learning_rate: AdamW's.
    """
    taste = BradleyTerryRewardModel(start.trainable_copy(), seed=seed, name=TASTE)
    with fitting_bar(progress_bar, "fitting") as show:
        fit_reward_model(
            taste,
            training.preferences(),
            held.preferences(),
            seed=seed,
            epochs=epochs,
            optimizer="adamw",
            learning_rate=learning_rate,
            evaluations=0,  # nothing is chosen on the held-out poets
            standardise_on=training.texts(training.start),
            progress=show,
        )
    return taste


def fit_judge(training: Rivals, held: Rivals) -> NgramLogistic:
    """Logistic regression on n-grams of characters.

    Its unit is the standard deviation of the held-out poets' poems, 0 their mean.
    """
    poets, start = training.texts(training.poets), training.texts(training.start)
    labels = [True] * len(poets) + [False] * len(start)
    judge = NgramLogistic.fit(poets + start, labels, hasher=NGRAMS, name=JUDGE)
    return judge.standardise(held.texts(held.poets))


def area_under_curve(better: npt.ArrayLike, worse: npt.ArrayLike) -> Interval:
    """The chance that a better text scores higher than a worse one, ties half; .5 is a coin's.

    The interval is that of DeLong, DeLong & Clarke-Pearson 1988, "Comparing the Areas under Two or
    More Correlated Receiver Operating Characteristic Curves".

    :param better: float [m], scores; `worse` float [n].
    """
    a, b = np.asarray(better, np.float64)[:, None], np.asarray(worse, np.float64)[None, :]
    wins = (a > b) + 0.5 * (a == b)
    rows, columns = wins.mean(axis=1), wins.mean(axis=0)
    variance = rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns)
    return Interval(float(wins.mean()), float(1.96 * np.sqrt(variance)))


def rules(form: Form) -> Rules:
    """Form, rhyme and tones of prompt and completion together, in [0, 1]."""
    return Rules(SYLLABLES[form], include_prompt=True)


def rules_and_taste(taste: str, form: Form = "qijue") -> WeightedSum:
    """What is maximised, for the command line: the rules, and the taste of a directory, squashed.

    :param taste: directory of the reward model.
    :raises InputError: if it holds none.
    """
    return paid(load_reward(taste), form)


def paid(taste: Reward, form: Form) -> WeightedSum:
    """The weighted sum of the rules and of taste, squashed into ± 2."""
    parts: dict[str, tuple[Reward, float]] = {
        "rules": (rules(form), RULES_WEIGHT),
        TASTE: (Squash(taste, 2.0), TASTE_WEIGHT),
    }
    return WeightedSum(parts, name="rules and taste")


def rules_alone(form: Form = "qijue") -> WeightedSum:
    """The same without the taste, for comparison."""
    return WeightedSum({"rules": (rules(form), RULES_WEIGHT)}, name="rules alone")
