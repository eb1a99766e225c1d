"""From a file of ratings or preferences to a reward model on a language model's trunk."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from textgym.agents.language_modelling import pick_device
from textgym.agents.run_directory import append_line, open_run
from textgym.checks import check_numbers
from textgym.envs.corpus import read_ratings
from textgym.errors import InputError
from textgym.policies.checkpoint import open_policy
from textgym.reward_models.bradley_terry import BradleyTerryRewardModel
from textgym.reward_models.fitting import FitProgress, FitReport, fit_bradley_terry
from textgym.storage import json_text


def fit_reward(
    ratings: str | Path,
    *,
    policy: str | Path,
    out: str | Path,
    epochs: float = 1.0,
    seconds: float | None = None,
    batch_size: int = 16,
    optimizer: str = "muon",
    learning_rate: float = 1e-3,
    muon_learning_rate: float = 0.01,
    dropout: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    pad_token: str | None = None,
    progress_bar: bool = True,
    report: Callable[[str], None] = print,
) -> FitReport:
    """Fit a Bradley-Terry reward model to people's judgements; a tenth of them is held out.

    Near-copies of a text, a block, and a prompt's preferences are never on both sides.

    :param ratings: .jsonl or .csv (also .gz) of rated texts (`text`, `ratings`, maybe `prompt` and
        `block`) or of preferences (`prompt`, `chosen`, `rejected`, maybe `tie`).
    :param policy: checkpoint or run directory of the language model whose trunk it stands on.
    :param out: run directory; as a reward model, it is named by this path.
    :param learning_rate: of AdamW, highest value.
    :param dropout: on the mean hidden state while fitting.
    :param seed: of the head, the pairs and the dropout.
    :raises InputError: for bad data, naming file and line, or where nothing can be learned.
    :raises StorageError: if `out` cannot be written or is in use.
    """
    check_numbers(locals())
    settings = {
        "verb": "fit_reward",
        "ratings": str(ratings),
        "policy": str(policy),
        "epochs": epochs,
        "seconds": seconds,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "muon_learning_rate": muon_learning_rate,
        "dropout": dropout,
        "seed": seed,
        "pad_token": pad_token,
    }
    rows = list(read_ratings(ratings))
    if not rows:
        raise InputError(f"{ratings}: expected at least one judgement, found none")
    trunk = open_policy(policy, pad_token=pad_token).to(pick_device(device))
    name = Path(out).name
    model = BradleyTerryRewardModel(trunk, dropout=dropout, seed=seed, name=name)
    with open_run(out, settings) as directory:
        with fitting_bar(progress_bar, "fitting") as show:
            result = fit_bradley_terry(
                model,
                rows,
                seed=seed,
                epochs=epochs,
                seconds=seconds,
                batch_size=batch_size,
                optimizer=optimizer,
                learning_rate=learning_rate,
                muon_learning_rate=muon_learning_rate,
                progress=show,
            )
        model.save_pretrained(directory / "checkpoints" / "best")
        append_line(directory / "metrics.jsonl", json_text(dict(vars(result))))
    for label, value in result.rows():
        report(f"{label:<32} {value}")
    for note in result.notes():
        report(note)
    return result


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
