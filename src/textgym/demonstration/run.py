"""`textgym demo`: the whole road on real text, from a language model to a policy and its judge.

Review snippets → (tokenizer, pretraining) → fine-tuning → a reward model from people's ratings →
PPO with two KL coefficients, compared by independent judges on held-out prompts: the one that is
too small shows what over-optimisation looks like. docs/demo.md tells the story.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from textgym.agents.comparison.report_files import PAGE
from textgym.agents.comparison.study import Study, StudyRun
from textgym.agents.evaluation.readers import REVIEWS, Reader, resolve_reader
from textgym.agents.evaluation.report import EvaluationReport
from textgym.agents.runs.directory import run_for_verb
from textgym.agents.runs.resuming import resumable
from textgym.checks import check_numbers
from textgym.comparing import compare
from textgym.demonstration.chinese import ChineseDemo, ChineseSettings
from textgym.demonstration.parts import Demo, whole_study
from textgym.demonstration.record import held_out_prompts, known_words, recorded_report
from textgym.demonstration.report import (
    figures_table,
    print_next_steps,
    texts_table,
    write_texts,
)
from textgym.demonstration.reward import fit_crowd
from textgym.demonstration.settings import (
    ENVIRONMENT,
    MAX_NEW_TOKENS,
    Settings,
    seconds_of_a_step,
)
from textgym.envs.tasks import movie_reviews
from textgym.errors import InputError
from textgym.paths import START
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.pretraining.documents import pair_documents, text_documents
from textgym.policies.pretraining.loop import train_language_model
from textgym.storage import read_json, write_json_atomically, write_text_atomically
from textgym.tokenizer import Tokenizer

COMPARISON = "comparison"
# What PPO is paid, as the command line names it: with the reward model's directory.
REWARD = "textgym.demonstration.reward:crowd_with_a_floor"


@resumable(may_change=("port", "browser", "person"))
def run_demo(
    *,
    out: str | Path = "runs/demo",
    from_scratch: bool = False,
    seed: int = 0,
    quick: bool = False,
    human: bool = False,
    chinese: bool = False,
    answers: int = 60,
    held_out: int = 20,
    port: int = 0,
    browser: bool = True,
    reader: str | Path = REVIEWS,
    settings: "Settings | ChineseSettings | Mapping[str, Any] | None" = None,
    split: str = "test",
    resume: bool = False,
    progress_bar: bool = True,
    console: Console | None = None,
    person: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run the demo; everything it makes is in `out` (the next free name if that is taken).

    The same seed and thread count give the same figures on every machine of a kind.

    :param out: run directory.
    :param from_scratch: begin with raw text instead of the start model that comes along.
    :param seed: of everything that is drawn.
    :param quick: a little of everything: shows the road, not the result.
    :param human: let PPO train on what you say of its texts, on a page that opens, instead of on
        what the crowd liked; needs the extra `label`.
    :param chinese: regulated quatrains of Tang and Song (五絕, 七絕) instead of movie reviews.
    :param answers: of yours to learn from, after which no more is asked; with --human.
    :param held_out: of your answers that are set aside, to judge by; with --human.
    :param port: of the page; 0 takes a free one.
    :param browser: open the page in the browser, where there is a desktop.
    :param reader: who reads the texts: the directory of a language model such as SmolLM2, or
        "reviews", n-grams of the held-out reviews.
    :param settings: how much of everything.
    :param split: prompts to report on; `"validation"` for choosing settings.
    :param resume: go on with a demo that was stopped: parts that are finished are taken as they
        are, with the settings of then.
    :param progress_bar: show progress bars.
    :param person: for tests: called with the page's address before each rollout and at the end.
    :return: the figures of `report.json`.
    :raises InputError: if the reader is none, or for what does not go with `chinese`.
    :raises StorageError: if `out` cannot be written.
    """
    check_numbers({"seed": seed, "answers": answers, "held_out": held_out, "port": port})
    if chinese:
        _check_beside_chinese({"human": human, "from_scratch": from_scratch}, reader)
    kind = ChineseSettings if chinese else Settings
    if settings is None:
        settings = kind.quick() if quick else kind()
    elif isinstance(settings, Mapping):
        settings = kind(**settings)
    reading = None if chinese else resolve_reader(reader)
    began = time.monotonic()
    config = {
        "verb": "run_demo",
        "from_scratch": from_scratch,
        "seed": seed,
        "quick": quick,
        "human": human,
        "chinese": chinese,
        "answers": answers,
        "held_out": held_out,
        "reader": str(reader),
        "split": split,
        "settings": asdict(settings),
    }
    with run_for_verb(out, config, free_name=not resume, resume=resume) as run:
        said = console or Console()
        demo: Demo
        if isinstance(settings, ChineseSettings):
            demo = ChineseDemo(run.directory, settings, seed, progress_bar, said)
        else:
            assert reading is not None
            demo = _Demo(run.directory, settings, from_scratch, seed, progress_bar, said, reading)
        try:
            if isinstance(demo, _Demo) and human:
                figures = demo.learn_from(person, config, port, browser)
            else:
                figures = demo.run(split)
        except BaseException:
            demo.say_what_is_there()
            raise
        seconds = time.monotonic() - began
        figures = {"seed": seed, "from_scratch": from_scratch, "split": split, **figures}
        write_json_atomically(run.directory / "report.json", {**figures, "seconds": seconds})
        demo.say_how_to_go_on(seconds)
    return {**figures, "seconds": round(seconds, 1)}


def _check_beside_chinese(switches: Mapping[str, bool], reader: str | Path) -> None:
    """Raises for what the Chinese demo has no use for."""
    given = [name for name, is_on in switches.items() if is_on]
    given += [] if str(reader) == REVIEWS else ["reader"]
    if given:
        raise InputError(
            f"{given[0]} does not go with chinese: that demo begins with its own start model and "
            f"its own judge; leave {given[0]} out"
        )


@dataclass
class _Demo(Demo):
    """The demo on movie reviews."""

    parts: ClassVar[Sequence[str]] = ("start", "reward_model", COMPARISON, "policy")

    directory: Path
    settings: Settings
    from_scratch: bool
    seed: int
    progress_bar: bool
    console: Console
    reader: Reader
    seconds: dict[str, float] = field(default_factory=dict)
    policy: Path | None = None  # the run with the larger β, once it is there

    def run(self, split: str) -> dict[str, Any]:
        """All parts; returns the figures."""
        start = self.timed("start", self.start)
        crowd = self.timed("reward_model", lambda: self.reward_model(start))
        study = self.timed("comparison", lambda: self.compare(split))
        self.console.print("\n[bold]5. The judges read held-out prompts[/bold], before and after")
        chosen, small = (study.runs_of(cell.label)[0] for cell in study.cells)
        self.policy = chosen.directory
        reports = self.timed("evaluation", lambda: self.read(chosen, small))
        write_texts(self.directory / "texts.jsonl", reports)
        self.console.print(figures_table(reports))
        self.console.print(texts_table(reports))
        if self.settings == Settings.quick():
            self.say_that_it_proves_nothing()
        return {
            "reader": self.reader.name,
            "reward_model": crowd,
            **{name: texts.figures() for name, texts in reports.items()},
            "seconds_of_parts": {name: round(value, 1) for name, value in self.seconds.items()},
        }

    def learn_from(
        self,
        person: Callable[[str], None] | None,
        config: Mapping[str, Any],
        port: int,
        browser: bool,
    ) -> dict[str, Any]:
        """The start model, then PPO on a person's answers; returns the figures."""
        from textgym.demonstration.human import Answers, with_person

        self.timed("start", self.start)
        return with_person(
            self.directory,
            self.settings,
            Answers(config["answers"], config["held_out"]),
            seed=self.seed,
            port=port,
            browser=browser,
            split=config["split"],
            progress_bar=self.progress_bar,
            console=self.console,
            person=person,
        )

    def start(self) -> CausalLM:
        """A language model of movie reviews, fine-tuned to continue their first words."""
        place, say = self.directory / "start", self.console.print
        if (place / "config.json").is_file():
            say("[bold]1, 2. The fine-tuned start model[/bold] is there already")
            lm = CausalLM.from_pretrained(place)
            self._say_how_long(lm)
            return lm
        if self.from_scratch:
            lm = self._pretrain()
        else:
            say("[bold]1. The start model[/bold] that comes along (trained on plain English)")
            lm = CausalLM.from_pretrained(START)
            self._say_how_long(lm)
        say("[bold]2. Fine-tuning[/bold] on first words → rest of a movie review")
        texts = movie_reviews.review_texts("reward_model") + movie_reviews.review_texts("judge")
        context = lm.config.max_position_embeddings
        documents, held = (
            list(pair_documents(map(_pair, part), lm.tokenizer, context=context))
            for part in (self._share(texts), self._share(movie_reviews.review_texts("validation")))
        )
        result = train_language_model(
            lm,
            documents,
            heldout=held,
            steps=self.settings.sft_steps,
            batch_size=32,
            optimizer="adamw",
            learning_rate=1e-4,
            evaluate_every=max(1, self.settings.sft_steps // 2),
            seed=self.seed,
            progress_bar=self.progress_bar,
        )
        say(f"   held-out perplexity {result.perplexity:.1f} per completion token")
        lm.save_pretrained(place)
        return lm

    def _pretrain(self) -> CausalLM:
        """A tokenizer and a model from raw text."""
        texts = list(movie_reviews.corpus_for_pretraining())
        self.console.print(f"[bold]1. Tokenizer and pretraining[/bold] on {len(texts):,} reviews")
        lm = CausalLM.new(Tokenizer.train_bpe(texts, vocab_size=2048), seed=self.seed)
        self._say_how_long(lm)
        held = self._share(movie_reviews.review_texts("validation"))
        result = train_language_model(
            lm,
            list(text_documents(texts, lm.tokenizer, context=256)),
            heldout=list(text_documents(held, lm.tokenizer, context=256)),
            steps=self.settings.pretrain_steps,
            evaluate_every=300,
            seed=self.seed,
            progress_bar=self.progress_bar,
        )
        self.console.print(
            f"   {result.steps:,} steps, {result.tokens:,} tokens, held-out perplexity "
            f"{result.perplexity:.1f} per token"
        )
        return lm

    def _say_how_long(self, lm: CausalLM) -> None:
        """The time that it will take here; a shorter form where that is long."""
        step = seconds_of_a_step(lm)
        needed = self.settings.estimate(step, from_scratch=self.from_scratch)
        quick = Settings.quick().estimate(step, from_scratch=self.from_scratch)
        self.say_how_long(step, needed, quick)

    def _share(self, texts: Sequence[str]) -> Sequence[str]:
        return texts[: max(60, round(self.settings.share * len(texts)))]

    def reward_model(self, start: CausalLM) -> dict[str, Any]:
        """Fit a model of what people preferred; returns its figures."""
        place, record = self.directory / "reward_model", self.directory / "reward_model.json"
        if (place / "reward_model.json").is_file() and record.is_file():
            self.console.print("[bold]3. The reward model[/bold] is there already")
            return dict(read_json(record))
        self.console.print("[bold]3. Reward model[/bold] from people's ratings of reviews")
        model, report = fit_crowd(
            start,
            steps=self.settings.reward_steps,
            learning_rate=self.settings.reward_learning_rate,
            share=self.settings.share,
            seed=self.seed,
            progress_bar=self.progress_bar,
        )
        self.console.print(f"   {report}", highlight=False)
        write_json_atomically(record, report.figures())
        model.save_pretrained(place)
        return dict(read_json(record))

    def read(self, chosen: StudyRun, small: StudyRun) -> dict[str, EvaluationReport]:
        """What stood on the held-out prompts before, and after each of the two runs."""
        known = known_words()
        return {
            name: recorded_report(run, evaluation, vocabulary=known, reader=self.reader)
            for name, run, evaluation in (
                ("before", chosen, 0),
                ("after", chosen, -1),
                ("small_kl", small, -1),
            )
        }

    def compare(self, split: str) -> Study:
        """PPO with two values of β: a comparison of two cells, in a directory of its own.

        :raises InputError: where a run has failed.
        """
        settings, out = self.settings, self.directory / COMPARISON
        self.console.print(
            f"[bold]4. PPO[/bold], Stable-Baselines3's own, with β = {settings.kl_coef}, and with "
            f"{settings.small_kl_coef}, which is too small: `textgym compare`",
            highlight=False,
        )
        prompts = self.directory / "prompts.txt"
        write_text_atomically(
            prompts, "".join(f"{p}\n" for p in held_out_prompts(split, settings.prompts))
        )
        rate = settings.scratch_learning_rate if self.from_scratch else settings.learning_rate
        ended = compare(
            ENVIRONMENT,
            policy=self.directory / "start",
            agent=[f"ppo,kl_coef={beta}" for beta in (settings.kl_coef, settings.small_kl_coef)],
            reward=f"{REWARD},model={self.directory / 'reward_model'}",
            gold=("critic", "other_raters"),
            seeds=[self.seed],
            timesteps=settings.timesteps,
            evaluations=settings.evaluations,
            prompts=prompts,
            out=out,
            n_envs=settings.rows,
            env_kwargs={"max_new_tokens": MAX_NEW_TOKENS},
            temperature=settings.temperature,
            learning_rate=rate,
            final_learning_rate=rate / 10,
            n_steps=MAX_NEW_TOKENS,
            batch_size=settings.rows * MAX_NEW_TOKENS // 2,
            value_warmup_rollouts=3,
            progress_bar=self.progress_bar,
            report=lambda line: self.console.print(line, highlight=False, markup=False),
        )
        return whole_study(ended, out)

    def say_how_to_go_on(self, seconds: float) -> None:
        """See `Demo`."""
        if self.policy is not None:
            print_next_steps(self.console, self.directory / COMPARISON / PAGE, self.policy, seconds)


def _pair(text: str) -> tuple[str, str]:
    """A review cut after its first three words; the space goes with the completion."""
    words = text.split(" ")
    prompt = " ".join(words[:3])
    return prompt, text[len(prompt) :]
