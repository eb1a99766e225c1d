"""From a file of ratings or preferences to a reward model on a language model's trunk."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from tqdm import tqdm

from textgym.agents.fitting.training_in_run import pick_device
from textgym.agents.runs.directory import run_for_verb
from textgym.agents.runs.resuming import resumable
from textgym.agents.runs.settings import to_json
from textgym.checks import check_numbers
from textgym.directories import atomic_directory, holds
from textgym.envs.texts.corpus import files_of
from textgym.envs.texts.labelled_rows import Rows, read_ratings
from textgym.errors import InputError
from textgym.interrupts import deferred_interrupt
from textgym.optimization import muon_rate
from textgym.paths import absolute
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.checkpoint import (
    read_trainer_state,
    saved_states,
    write_trainer_state,
)
from textgym.policies.language_model.models_by_name import own_policy
from textgym.policies.language_model.run_checkpoints import read_first_whole
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
from textgym.reward_models.learned.fitting import FitReport, fit_bradley_terry
from textgym.reward_models.learned.fitting_loop import FitProgress
from textgym.run_files import BEST, PREVIOUS

BUDGET = ("steps", "epochs", "seconds", "checkpoint_seconds")


@resumable(may_change=BUDGET)
def fit_reward(
    ratings: Rows,
    *,
    policy: "str | Path | CausalLM | BaseAlgorithm",
    out: str | Path,
    steps: int | None = None,
    epochs: float = 1.0,
    seconds: float | None = None,
    batch_size: int = 16,
    optimizer: str = "muon",
    learning_rate: float = 1e-3,
    muon_learning_rate: float | None = None,
    dropout: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    pad_token: str | None = None,
    checkpoint_seconds: float = 60.0,
    resume: bool = False,
    force_resume: bool = False,
    progress_bar: bool = True,
    report: Callable[[str], None] = print,
) -> FitReport:
    """Fit a Bradley-Terry reward model to people's judgements; a tenth of them is held out.

    Near-copies of a text, a block, and a prompt's preferences are never on both sides.

    :param ratings: .jsonl or .csv (also .gz), or rows given in Python (a list or dataset), of rated
        texts (`text`, `ratings`, maybe `prompt` and `block`) or of preferences (`prompt`, `chosen`,
        `rejected`, maybe `tie`).
    :param policy: checkpoint or run directory of the language model whose trunk it stands on,
        "start" for the bundled one, a model or an agent (copied).
    :param out: run directory; as a reward model, it is named by this path.
    :param learning_rate: of AdamW, highest value.
    :param muon_learning_rate: of Muon, for the block matrices; 0.01 unless said.
    :param dropout: on the mean hidden state while fitting.
    :param seed: of the head, the pairs and the dropout.
    :param checkpoint_seconds: time between two saves of the training's state, from which `resume`
        goes on; when it is saved changes nothing of what is learned.
    :param resume: go on with the run in `out`; what is not given is as it was.
    :param force_resume: resume although inputs, settings or versions are not as they were.
    :raises InputError: for bad data, naming file and line, or where nothing can be learned.
    :raises DivergenceError: if the loss is no longer finite; what was saved stays.
    :raises StorageError: if `out` cannot be written or is in use.
    """
    check_numbers(locals())
    muon_learning_rate = muon_rate(optimizer, muon_learning_rate, 0.01)
    settings = {
        "verb": "fit_reward",
        "ratings": to_json(files_of(ratings)),
        "policy": str(policy) if isinstance(policy, str | Path) else None,
        "steps": steps,
        "epochs": epochs,
        "seconds": seconds,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "muon_learning_rate": muon_learning_rate,
        "dropout": dropout,
        "seed": seed,
        "pad_token": pad_token,
        "checkpoint_seconds": checkpoint_seconds,
    }
    lost = [name for name in ("policy", "ratings") if settings[name] is None]
    settings |= {"not_saved": lost} if lost else {}
    rows = list(read_ratings(ratings))
    trunk = own_policy(policy, pad_token=pad_token).to(pick_device(device))
    name = absolute(out).name
    model = BradleyTerryRewardModel(trunk, dropout=dropout, seed=seed, name=name)
    inputs = {"ratings": files_of(ratings), "policy": policy}
    with run_for_verb(out, settings, inputs=inputs, resume=resume) as run:
        last = run.last
        state = _read_state(last) if resume and holds(last, "trainer.json") else None
        with fitting_bar(progress_bar, "fitting") as show, deferred_interrupt() as is_interrupted:
            result = fit_bradley_terry(
                model,
                rows,
                seed=seed,
                steps=steps,
                epochs=epochs,
                seconds=seconds,
                batch_size=batch_size,
                optimizer=optimizer,
                learning_rate=learning_rate,
                muon_learning_rate=muon_learning_rate or 0.01,
                progress=show,
                save=_Saver(last, checkpoint_seconds, is_interrupted),
                state=state,
            )
        model.save_pretrained(run.checkpoint(BEST))
        run.add_metrics(vars(result))
    for label, value in result.rows():
        report(f"{label:<32} {value}")
    for note in result.notes():
        report(note)
    return result


class _Saver:
    """Saves the state of a fit at its first step, then every so many seconds, and on Ctrl-C."""

    def __init__(self, directory: Path, seconds: float, is_interrupted: Callable[[], bool]) -> None:
        self.directory, self.seconds, self.is_interrupted = directory, seconds, is_interrupted
        self._last = float("-inf")

    def __call__(self, state: Callable[[], dict[str, Any]]) -> None:
        if time.monotonic() - self._last >= self.seconds or self.is_interrupted():
            with atomic_directory(self.directory, keep_old_as=PREVIOUS) as folder:
                write_trainer_state(state(), folder)
            self._last = time.monotonic()
        if self.is_interrupted():
            raise KeyboardInterrupt


def _read_state(directory: Path) -> dict[str, Any]:
    """The state that was saved last; where that is damaged, the one before, with a warning.

    :raises InputError: if there is none, or it is damaged.
    """
    places = saved_states(directory)
    state = read_first_whole(places, read_trainer_state, must_have_manifest=True)
    if not isinstance(state, dict):
        raise InputError(f"{directory}: damaged state of a fit")
    return state


@contextlib.contextmanager
def fitting_bar(enabled: bool, label: str) -> Iterator[Callable[[FitProgress], None]]:
    """A progress bar for `fit_bradley_terry`: gives its `progress` callback."""
    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed} past, {remaining} left{postfix}"
    with tqdm(total=100, desc=label, bar_format=layout, disable=not enabled) as bar:

        def show(at: FitProgress) -> None:
            accuracy = f", pair accuracy {at.accuracy:.3f}" if at.accuracy == at.accuracy else ""
            bar.set_postfix_str(f"loss {at.loss:.3f}{accuracy}", refresh=False)
            bar.update(at.done * 100 - bar.n)

        yield show
