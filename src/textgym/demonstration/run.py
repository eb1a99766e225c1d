"""`textgym demo`: the whole road on real text, from a language model to a policy and its judge.

Review snippets → (tokenizer, pretraining) → fine-tuning → a reward model from people's ratings →
RL with two KL coefficients, compared by independent judges on held-out prompts: the one that is
too small shows what over-optimisation looks like. docs/demo.md tells the story.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from textgym.agents.evaluation.readers import REVIEWS, resolve_reader
from textgym.agents.runs.directory import run_for_verb
from textgym.agents.runs.resuming import resumable
from textgym.checks import check_numbers
from textgym.demonstration.any_policy import PolicyDemo
from textgym.demonstration.chinese import ChineseDemo, ChineseSettings
from textgym.demonstration.parts import Demo
from textgym.demonstration.settings import PolicySettings, Settings
from textgym.demonstration.start_model import StartModelDemo
from textgym.errors import InputError
from textgym.paths import CHINESE_START, START
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.storage import write_json_atomically

AnySettings = Settings | PolicySettings | ChineseSettings


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
    policy: str | Path = START,
    reader: str | Path = REVIEWS,
    settings: "AnySettings | Mapping[str, Any] | None" = None,
    split: str = "test",
    resume: bool = False,
    progress_bar: bool = True,
    console: Console | None = None,
    person: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run the demo; everything it makes is in `out` (the next free name if that is taken).

    The same seed and thread count give the same figures on every machine of a kind.

    :param out: run directory.
    :param from_scratch: begin with raw text instead of the start model that comes along; with a
        policy, fine-tune it and fit its reward model here instead of taking what comes along.
    :param seed: of everything that is drawn.
    :param quick: a little of everything: shows the road, not the result.
    :param human: let PPO train on what you say of its texts, on a page that opens, instead of on
        what the crowd liked; needs the extra `label`.
    :param chinese: regulated quatrains of Tang and Song (五絕, 七絕) instead of movie reviews.
    :param answers: of yours to learn from, after which no more is asked; with --human.
    :param held_out: of your answers that are set aside, to judge by; with --human.
    :param port: of the page; 0 takes a free one.
    :param browser: open the page in the browser, where there is a desktop.
    :param policy: the language model to begin with: "start", "smollm2" (after `textgym fetch
        smollm2`), or the directory of any causal one; all but "start" need the extra `lora`.
    :param reader: who reads the texts: the directory of a language model such as SmolLM2, or
        "reviews", n-grams of the held-out reviews.
    :param settings: how much of everything.
    :param split: prompts to report on; `"validation"` for choosing settings.
    :param resume: go on with a demo that was stopped: parts that are finished are taken as they
        are, with the settings of then.
    :param progress_bar: show progress bars.
    :param person: for tests: called with the page's address before each rollout and at the end.
    :return: the figures of `report.json`.
    :raises InputError: if reader or policy is none, or for what does not go together.
    :raises StorageError: if `out` cannot be written.
    """
    check_numbers({"seed": seed, "answers": answers, "held_out": held_out, "port": port})
    is_own = str(policy) != START
    switches = {"human": human, "from_scratch": from_scratch}
    others = {"reader": str(reader) != REVIEWS, "policy": is_own}
    if chinese:
        _check_beside_chinese({**switches, **others})
    if is_own and human:
        raise InputError(
            "policy does not go with human: that demo trains the start model that comes along "
            "while you answer; leave one of the two out"
        )
    kind = ChineseSettings if chinese else PolicySettings if is_own else Settings
    if settings is None:
        settings = kind.quick() if quick else kind()
    elif isinstance(settings, Mapping):
        settings = kind(**settings)
    reading = None if chinese else resolve_reader(reader)
    base = _opened(policy) if is_own else None
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
        "policy": str(policy),
        "reader": str(reader),
        "split": split,
        "settings": asdict(settings),
    }
    with run_for_verb(out, config, free_name=not resume, resume=resume) as run:
        said = console or Console()
        demo: Demo
        shared = (seed, progress_bar, said)
        if isinstance(settings, ChineseSettings):
            demo = ChineseDemo(run.directory, settings, *shared)
        else:
            assert reading is not None
            if isinstance(settings, PolicySettings):
                assert base is not None
                own = PolicyDemo(run.directory, settings, from_scratch, *shared, reading)
                demo = own.beginning_with(base, str(policy))
            else:
                demo = StartModelDemo(run.directory, settings, from_scratch, *shared, reading)
        del base
        try:
            if isinstance(demo, StartModelDemo) and human:
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


def _check_beside_chinese(given: Mapping[str, bool]) -> None:
    """Raises for what the Chinese demo has no use for."""
    for name, is_given in given.items():
        if is_given:
            raise InputError(
                f"{name} does not go with chinese: that demo begins with its own start model and "
                f"its own judge; leave {name} out"
            )


def _opened(policy: str | Path) -> CausalLM:
    """The language model to begin with, before anything is written.

    :raises InputError: if there is none, it writes no English, or it is no causal one.
    """
    if str(policy) == CHINESE_START:
        raise InputError(f"policy: {CHINESE_START!r} writes Chinese; give --chinese instead")
    lm = CausalLM.from_pretrained(policy)
    if lm.tokenizer.ends_prompts:
        raise InputError(
            f"policy: {str(policy)!r} is an encoder with a decoder, and the demo goes on with the "
            "beginnings of reviews: take a causal model"
        )
    return lm
