"""`textgym demo --human`: the closed loop with whoever sits in front of the screen.

PPO trains the demo's start model, pairs of its texts stand on a labelling page, and what is said
there of them is the reward. Some questions are set aside: by their answers, which nothing is fitted
to, and by a blind choice between texts from before and after, it is judged. Nobody is waited for.
"""

import contextlib
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

from textgym.agents.runs.held_out import HeldOutText, read_held_out
from textgym.demonstration.human_figures import human_figures, print_human_figures
from textgym.demonstration.record import held_out_prompts
from textgym.demonstration.report import command_here
from textgym.demonstration.settings import ENVIRONMENT, MAX_NEW_TOKENS, Settings
from textgym.envs.tasks import movie_reviews
from textgym.errors import InputError
from textgym.labelling.background import ServedPage, open_in_browser, page_beside
from textgym.labelling.serving import require_extra
from textgym.reward_models.people.records import HELD_OUT, NewItem, Text
from textgym.reward_models.people.store import LabelStore
from textgym.reward_models.people.token_file import read_or_make_token
from textgym.storage import json_text, write_text_atomically
from textgym.training import train

RUN, STORE, RATER, POLICY = "demo", "labels.db", "you", "policy"
FIRST, REFITS, WAITING = 10, 12, 12  # answers to the first fit; refits at most; pairs that wait
BLIND = 20  # pairs of before and after
PATIENCE = 60.0  # seconds without an answer after which nobody is waited for at the end
GUIDELINES = """Two ways to go on with a review of a film. Choose the one that you like better, by
any taste of yours: kind or harsh, short or long, plain or odd. Stay with it: the program learns
what you like, and writes more of it. What you skip does not count."""

Person = Callable[[str], None]  # does what a person would, at the page's address; for tests


@dataclass(frozen=True)
class Answers:
    """How many answers are wanted.

    :param fitted: to learn from.
    :param held_out: to judge by.
    """

    fitted: int
    held_out: int

    @property
    def share(self) -> float:
        """Of the answers that is set aside."""
        return self.held_out / (self.fitted + self.held_out)


def with_person(
    directory: Path,
    settings: Settings,
    answers: Answers,
    *,
    seed: int,
    port: int,
    browser: bool,
    split: str,
    progress_bar: bool,
    console: Console,
    person: Person | None = None,
) -> dict[str, Any]:
    """Train on a person's answers, and see what they say of it; returns the figures.

    What is finished or begun in `directory` is gone on with.

    :param directory: with the fine-tuned model in `start`.
    :param browser: open the page in one, where there is a desktop.
    :param split: prompts to report on.
    :param person: called before each rollout and at the end with an address of the page.
    :raises InputError: without the extra, or for a port in use.
    """
    require_extra()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(
            LabelStore(directory / STORE, wait=1.0, repeats=0.0, gold=0.0, guidelines=GUIDELINES)
        )
        page = stack.enter_context(page_beside(store, read_or_make_token(store.path), port=port))
        address = page.address(RATER)
        _invite(console, page, address, browser and person is None)
        _train(directory, settings, answers, seed, split, progress_bar, console, person, address)
        before, after, prompts = _texts(directory)
        blind = _ask_blind(store, prompts, before, after, BLIND if len(prompts) > BLIND else 4)
        if store.events():
            console.print(
                f"   {len(blind)} last pairs, from before and after; after {PATIENCE:.0f} s without"
                " an answer it goes on",
                highlight=False,
            )
            _await_answers(store, blind, person, address)
        spec = _reward(directory, settings, answers, seed)
        figures = human_figures(store, RUN, spec, prompts, before, after)
    print_human_figures(console, figures, prompts, before, after)
    print_how_to_go_on(console, directory)
    return figures


def _invite(console: Console, page: ServedPage, address: str, browser: bool) -> None:
    is_open = browser and open_in_browser(address)
    console.print("[bold]3. People[/bold]: say on this page which text is better, while PPO trains")
    console.print(f"   {address}", highlight=False, soft_wrap=True)
    how = "it opens in your browser" if is_open else "open it in a browser; it opens once"
    port = page.url.rpartition(":")[2]
    console.print(
        f"   ({how}. From another machine: ssh -L {port}:127.0.0.1:{port} HOST, and the same "
        "address there.) Nobody is waited for",
        highlight=False,
    )


def _reward(directory: Path, settings: Settings, answers: Answers, seed: int) -> str:
    first = min(FIRST, max(answers.fitted // 2, 1))
    every = max(answers.fitted // REFITS, 1)
    return (
        f"human,store={directory / STORE},prior=crowd,run={RUN},seed={seed},first={first},"
        f"every={every},waiting={WAITING},most={answers.fitted},held_out={answers.share:.4f}"
    )


def _train(
    directory: Path,
    settings: Settings,
    answers: Answers,
    seed: int,
    split: str,
    progress_bar: bool,
    console: Console,
    person: Person | None,
    address: str,
) -> None:
    """PPO on the answers; what is there of it is gone on with."""
    out = directory / POLICY
    rng = np.random.default_rng([seed, 2])
    # Few prompts, so that there are several texts of one to choose from.
    own = movie_reviews.training_prompts()
    chosen = rng.choice(len(own), size=2 * settings.rows, replace=False)
    held = directory / "prompts.txt"
    written = held_out_prompts(split, max(settings.prompts // 2, 8))
    write_text_atomically(held, "".join(f"{prompt}\n" for prompt in written))
    console.print(
        f"[bold]4. PPO[/bold] with β = {settings.kl_coef}: the crowd's taste until there are "
        "answers, then yours",
        highlight=False,
    )
    train(
        ENVIRONMENT,
        agent="ppo",
        policy=directory / "start",
        reward=_reward(directory, settings, answers, seed),
        timesteps=2 * settings.timesteps,
        out=out,
        n_envs=settings.rows,
        seed=seed,
        env_kwargs={
            "max_new_tokens": MAX_NEW_TOKENS,
            "prompts": [own[place] for place in sorted(chosen)],
        },
        evaluations=2,
        prompts=held,
        temperature=settings.temperature,
        kl_coef=settings.kl_coef,
        learning_rate=settings.learning_rate,
        final_learning_rate=settings.learning_rate / 10,
        n_steps=MAX_NEW_TOKENS,
        batch_size=settings.rows * MAX_NEW_TOKENS // 2,
        value_warmup_rollouts=3,
        resume=out.is_dir(),
        progress_bar=progress_bar,
        callback=None if person is None else _Visits(person, address),
        report=lambda line: None,
    )


class _Visits(BaseCallback):
    """Lets a person answer before each rollout."""

    def __init__(self, person: Person, address: str) -> None:
        super().__init__()
        self.person, self.address = person, address

    def _on_rollout_start(self) -> None:
        self.person(self.address)

    def _on_step(self) -> bool:
        return True


def _texts(directory: Path) -> tuple[Sequence[HeldOutText], Sequence[HeldOutText], list[str]]:
    """What stood on the held-out prompts before and after; written down side by side too."""
    record = read_held_out(directory / POLICY)
    if record is None or len(record.steps) < 2:
        raise InputError(f"{directory / POLICY}: has no texts from before and after training")
    before, after = record.texts[record.steps[0]], record.texts[record.steps[-1]]
    prompts = [str(record.prompts[text.prompt]["prompt"]) for text in before]
    rows = [
        {"prompt": prompt, "before": one.completion, "after": other.completion}
        for prompt, one, other in zip(prompts, before, after, strict=True)
    ]
    write_text_atomically(directory / "texts.jsonl", "".join(json_text(r) + "\n" for r in rows))
    return before, after, prompts


def _ask_blind(
    store: LabelStore,
    prompts: Sequence[str],
    before: Sequence[HeldOutText],
    after: Sequence[HeldOutText],
    count: int,
) -> list[int]:
    """Put pairs from before (first) and after (second) in front; returns their ids.

    What is left of the other questions is closed: nothing is learned any more.
    """
    rows = zip(prompts, before, after, strict=True)
    differing = [(p, b, a) for p, b, a in rows if b.completion.split() != a.completion.split()]
    store.close_items([item.id for item in store.items() if item.key and "blind" not in item.key])
    return store.add_items(
        [
            NewItem(
                prompt,
                (
                    Text(one.completion, {"run": RUN, "which": "before"}),
                    Text(other.completion, {"run": RUN, "which": "after"}),
                ),
                key=f"{RUN}/blind/{number}",
                query=HELD_OUT,
            )
            for number, (prompt, one, other) in enumerate(differing[:count])
        ]
    )


def _await_answers(
    store: LabelStore, items: Sequence[int], person: Person | None, address: str
) -> None:
    """Until all are answered, or nothing was for a while."""
    if person is not None:
        person(address)
        return
    count, last = len(store.events()), time.monotonic()
    while time.monotonic() < last + PATIENCE:
        events = store.events()
        if set(items) <= {event.item for event in events}:
            return
        if len(events) != count:
            count, last = len(events), time.monotonic()
        time.sleep(0.5)


def print_how_to_go_on(console: Console, directory: Path) -> None:
    """Where the answers are, and the commands to go on with."""
    command, place = command_here(), shlex.quote(str(directory))
    run = shlex.quote(str(directory / POLICY))
    console.print(f"\nAnswers are kept in {directory / STORE}. Go on with:", highlight=False)
    for line in (
        f"{command} label {shlex.quote(str(directory / STORE))}   # the page again; then",
        f"{command} demo --out {place} --resume   # the figures with what was answered since",
        f"{command} tensorboard {run}",
        f'{command} generate {run} --prompt "The film" --max-new-tokens 40',
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
