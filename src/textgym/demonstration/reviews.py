"""The demos on movie reviews: a start, a reward model, RL with two values of β, the judges.

`start_model.py` has the one with the small model that comes along, `any_policy.py` that with a
language model of your own choice.
"""

import sys
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from textgym.agents.comparison.report_files import PAGE
from textgym.agents.comparison.study import Study, StudyRun
from textgym.agents.evaluation.readers import Reader
from textgym.agents.evaluation.report import EvaluationReport
from textgym.comparing import compare
from textgym.demonstration.parts import Demo, whole_study
from textgym.demonstration.record import held_out_prompts, known_words, recorded_report
from textgym.demonstration.report import (
    figures_table,
    print_next_steps,
    texts_table,
    write_texts,
)
from textgym.demonstration.reward import Crowd
from textgym.demonstration.settings import ENVIRONMENT, PolicySettings, Settings
from textgym.envs.tasks import movie_reviews
from textgym.envs.texts.prompts import written_whole
from textgym.errors import InputError
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.pretraining.documents import Document, pair_documents
from textgym.storage import read_json, write_json_atomically, write_text_atomically
from textgym.tokenizer import Tokenizer

COMPARISON = "comparison"
REWARD = "textgym.demonstration.reward:crowd_with_a_floor"
NAMES = ("after", "small_kl")  # of the runs, in the order of the comparison


@dataclass
class ReviewDemo(Demo):
    """A demo on movie reviews.

    :param settings: how much of everything.
    :param from_scratch: nothing that comes along is taken.
    :param reader: says how surprising the texts are.
    """

    parts: ClassVar[Sequence[str]] = ("start", "reward_model", COMPARISON, "policy")

    directory: Path
    settings: Settings | PolicySettings
    from_scratch: bool
    seed: int
    progress_bar: bool
    console: Console
    reader: Reader
    seconds: dict[str, float] = field(default_factory=dict)
    policy: Path | None = None  # the run with the larger β, once it is there

    @abstractmethod
    def start(self) -> LanguageModel:
        """A language model of movie reviews, which stands in `start` then."""

    @abstractmethod
    def crowd(self, start: LanguageModel) -> Crowd:
        """A model of what people preferred."""

    @abstractmethod
    def training(self) -> dict[str, Any]:
        """The keywords of `compare` that are of the algorithm."""

    @abstractmethod
    def say_what_trains(self) -> None:
        """The algorithm and its values of β."""

    @property
    def betas(self) -> list[float]:
        """Of the runs; the second is too small, and may be left out."""
        found = (self.settings.kl_coef, self.settings.small_kl_coef)
        return [beta for beta in found if beta is not None]

    @property
    def reward_name(self) -> str:
        """What is maximised, as the command line names it: with the reward model's directory."""
        return f"{REWARD},model={self.directory / 'reward_model'}"

    def run(self, split: str) -> dict[str, Any]:
        """All parts; returns the figures."""
        crowd = self.start_and_reward()
        study = self.timed("comparison", lambda: self.compare(split))
        self.console.print("\n[bold]5. The judges read held-out prompts[/bold], before and after")
        runs = [study.runs_of(cell.label)[0] for cell in study.cells]
        self.policy = runs[0].directory
        reports = self.timed("evaluation", lambda: self.read(runs))
        write_texts(self.directory / "texts.jsonl", reports)
        self.console.print(figures_table(reports))
        self.console.print(texts_table(reports))
        if self.settings == type(self.settings).quick():
            self.say_that_it_proves_nothing()
        return {
            "reader": self.reader.name,
            "reward_model": crowd,
            **{name: texts.figures() for name, texts in reports.items()},
            "seconds_of_parts": {name: round(value, 1) for name, value in self.seconds.items()},
        }

    def start_and_reward(self) -> dict[str, Any]:
        """The first two parts; nothing of them is in memory afterwards. The reward's figures."""
        start = self.timed("start", self.start)
        return self.timed("reward_model", lambda: self.reward_model(start))

    def reward_model(self, start: LanguageModel) -> dict[str, Any]:
        """The model of what people preferred stands in `reward_model` then; returns its figures."""
        place, record = self.directory / "reward_model", self.directory / "reward_model.json"
        if (place / "reward_model.json").is_file() and record.is_file():
            self.console.print("[bold]3. The reward model[/bold] is there already")
        else:
            self.console.print("[bold]3. Reward model[/bold] from people's ratings of reviews")
            crowd = self.crowd(start)
            self.console.print(f"   {crowd.report}", highlight=False)
            crowd.model.save_pretrained(place)
            write_json_atomically(record, crowd.report.figures())
        return dict(read_json(record))

    def compare(self, split: str) -> Study:
        """Training with each β: a comparison of as many cells, in a directory of its own.

        :raises InputError: where a run has failed.
        """
        settings, out = self.settings, self.directory / COMPARISON
        self.say_what_trains()
        tokenizer = Tokenizer.load(self.directory / "start")
        held_out = held_out_prompts(split, settings.prompts)
        prompts = self._prompts_file("prompts.txt", held_out, tokenizer)
        training = self.training()
        learned = movie_reviews.training_prompts()
        if len(written_whole(tokenizer, learned)) < len(learned):
            own = self._prompts_file("training_prompts.txt", learned, tokenizer)
            own_prompts = {"prompts": str(own), "heldout_prompts": str(prompts)}
            training["env_kwargs"] = {**training.get("env_kwargs", {}), **own_prompts}
        ended = compare(
            ENVIRONMENT,
            policy=self.directory / "start",
            reward=self.reward_name,
            gold=("critic", "other_raters"),
            seeds=[self.seed],
            timesteps=settings.timesteps,
            evaluations=settings.evaluations,
            prompts=prompts,
            out=out,
            n_envs=settings.rows,
            temperature=settings.temperature,
            progress_bar=self.progress_bar,
            report=lambda line: self.console.print(line, highlight=False, markup=False),
            **training,
        )
        return whole_study(ended, out)

    def _prompts_file(self, name: str, prompts: Sequence[str], tokenizer: Tokenizer) -> Path:
        """A file with the prompts that the start's tokenizer has the characters of.

        :raises InputError: if it has those of none.
        """
        known, place = written_whole(tokenizer, prompts), self.directory / name
        if not known:
            raise InputError(
                f"{self.directory / 'start'}: its tokenizer lacks characters of every prompt, such "
                f"as {prompts[0]!r}: take a model that reads English"
            )
        write_text_atomically(place, "".join(f"{prompt}\n" for prompt in known))
        return place

    def read(self, runs: Sequence[StudyRun]) -> dict[str, EvaluationReport]:
        """What stood on the held-out prompts before, and after each of the runs."""
        known = known_words()
        sides = [("before", runs[0], 0)]
        sides += [(name, run, -1) for name, run in zip(NAMES, runs, strict=False)]
        return {
            name: recorded_report(run, evaluation, vocabulary=known, reader=self.reader)
            for name, run, evaluation in sides
        }

    def say_how_to_go_on(self, seconds: float) -> None:
        """See `Demo`."""
        if self.policy is not None:
            print_next_steps(self.console, self.directory / COMPARISON / PAGE, self.policy, seconds)


def review_pairs(lm: LanguageModel, share: float) -> tuple[list[Document], list[Document]]:
    """First words and the rest of each review: to learn from, and held out.

    Reviews that are longer than the model's context are left out.

    :param share: of the reviews that are read, the first ones.
    :raises InputError: if next to none fits.
    """
    texts = movie_reviews.review_texts("reward_model") + movie_reviews.review_texts("judge")
    parts = (part_of(texts, share), part_of(movie_reviews.review_texts("validation"), share))
    context = lm.config.max_position_embeddings
    learned, held = (
        [
            document
            for document in pair_documents(map(_pair, part), lm.tokenizer, context=sys.maxsize)
            if len(document.tokens) <= context
        ]
        for part in parts
    )
    if not held or 2 * len(learned) < len(parts[0]):
        raise InputError(
            f"the model's context of {context} tokens holds {len(learned)} of {len(parts[0])} "
            "reviews, fewer than half: take one with a longer context, 512 say"
        )
    return learned, held


def part_of(texts: Sequence[str], share: float) -> Sequence[str]:
    """The first texts, a share of all, but 60 at least."""
    return texts[: max(60, round(share * len(texts)))]


def _pair(text: str) -> tuple[str, str]:
    """A review cut after its first three words; the space goes with the completion."""
    words = text.split(" ")
    prompt = " ".join(words[:3])
    return prompt, text[len(prompt) :]
