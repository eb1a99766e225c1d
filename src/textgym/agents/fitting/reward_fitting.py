"""From a file of ratings or preferences to a reward model on a language model's trunk."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from textgym.agents.fitting.any_trunk import is_foreign, open_any_trunk
from textgym.agents.fitting.reward_pictures import write_progress, write_report
from textgym.agents.fitting.training_in_run import pick_device
from textgym.agents.runs.directory import run_for_verb
from textgym.agents.runs.resuming import resumable
from textgym.agents.runs.settings import to_json
from textgym.checks import check_numbers
from textgym.directories import atomic_directory, holds
from textgym.envs.texts.corpus import files_of
from textgym.envs.texts.labelled_rows import Rows, read_ratings, read_steps
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
from textgym.policies.language_model.run_checkpoints import read_first_whole
from textgym.reward_models.learned.fit_report import FitReport
from textgym.reward_models.learned.fitting import fit_reward_model
from textgym.reward_models.learned.fitting_loop import FitProgress
from textgym.reward_models.learned.head_fitting import fit_heads
from textgym.reward_models.learned.learned_reward import LearnedReward
from textgym.reward_models.learned.objectives import objective_named
from textgym.reward_models.learned.pairs import all_ratings
from textgym.reward_models.learned.process import ProcessRewardModel
from textgym.reward_models.learned.process_fitting import ProcessReport, fit_process
from textgym.reward_models.learned.stacking import stack_frozen, stack_whole
from textgym.reward_models.learned.trunk_reward import TrunkRewardModel
from textgym.reward_models.lexicon_scores import LexiconScores
from textgym.run_files import BEST, PREVIOUS

BUDGET = ("steps", "epochs", "seconds", "checkpoint_seconds")
PROCESS = "process"
Report = FitReport | ProcessReport


@resumable(may_change=BUDGET)
def fit_reward(
    ratings: Rows,
    *,
    policy: "str | Path | CausalLM | BaseAlgorithm",
    out: str | Path,
    objective: str = "bradley_terry",
    freeze: bool = False,
    layers: int = 1,
    heads: int = 1,
    penalty: float | None = None,
    per_token: bool = False,
    ngrams: bool = False,
    lexicon: bool = False,
    separator: str = "\n",
    steps: int | None = None,
    epochs: float = 1.0,
    seconds: float | None = None,
    batch_size: int = 16,
    optimizer: str | None = None,
    learning_rate: float | None = None,
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
) -> Report:
    """Fit a reward model to people's judgements; a tenth of them is held out and reported on.

    Near-copies of a text, a block, and a prompt's preferences are never on both sides. Another
    tenth, on neither side, stops a whole trunk's fit early.

    :param ratings: .jsonl or .csv (also .gz), or rows given in Python (a list or dataset), of rated
        texts (`text`, `ratings`, maybe `prompt` and `block`), of preferences (`prompt`, `chosen`,
        `rejected`, maybe `tie`), or for the objective "process" of judged steps (`prompt`,
        `completions`, `labels`).
    :param policy: checkpoint or run directory of the language model whose trunk it stands on,
        "start" for the bundled one, a model or an agent (copied); or a directory of any encoder or
        causal model of transformers' (extra `transformers`), of which the run keeps a copy.
    :param out: run directory; as a reward model, it is named by this path.
    :param objective: what is learned: "bradley_terry" or "davidson" (with ties) from pairs,
        "regression", "classifier" or "ordinal" from ratings, "process" from judged steps.
    :param freeze: leave the trunk as it is and fit heads on it, in seconds.
    :param layers: last layers whose hidden states are put side by side, of transformers' models.
    :param heads: heads of a frozen trunk, each on judgements drawn anew; the score is their mean.
    :param penalty: standard deviations of the heads' scores that are taken off their mean.
    :param per_token: the reward comes with each token's share of it.
    :param ngrams: an n-gram model stands beside the trunk, weighed by judgements that neither saw.
    :param lexicon: so does the word list of the reward model `lexicon` (English), with `ngrams`.
    :param separator: what ends a step, for "process".
    :param optimizer: "muon", "adamw" or "adamw_8bit" (its moments in 8 bits, of bitsandbytes);
        default: "muon", "adamw" for transformers' models.
    :param learning_rate: of AdamW, highest value; 1e-3 unless said, 5e-5 for transformers' models.
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
    check_numbers({k: v for k, v in locals().items() if k != "separator"})
    _check_choices(objective, freeze, heads, penalty, ngrams, lexicon)
    rows: list[Any] = list(read_steps(ratings) if objective == PROCESS else read_ratings(ratings))
    trunk = open_any_trunk(policy, layers=layers, pad_token=pad_token).to(pick_device(device))
    if optimizer is None:
        optimizer = "adamw" if is_foreign(trunk) else "muon"
    settings = {
        "verb": "fit_reward",
        "ratings": to_json(files_of(ratings)),
        "policy": str(policy) if isinstance(policy, str | Path) else None,
        "objective": objective,
        "freeze": freeze,
        "layers": layers,
        "heads": heads,
        "penalty": penalty,
        "per_token": per_token,
        "ngrams": ngrams,
        "lexicon": lexicon,
        "separator": separator,
        "steps": steps,
        "epochs": epochs,
        "seconds": seconds,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate or (5e-5 if is_foreign(trunk) else 1e-3),
        "dropout": dropout,
        "seed": seed,
        "pad_token": pad_token,
        "checkpoint_seconds": checkpoint_seconds,
    }
    settings["muon_learning_rate"] = muon_rate(optimizer, muon_learning_rate, 0.01)
    lost = [name for name in ("policy", "ratings") if settings[name] is None]
    settings |= {"not_saved": lost} if lost else {}
    name = absolute(out).name
    shared: dict[str, Any] = {"dropout": dropout, "seed": seed, "name": name}
    model: TrunkRewardModel
    if objective == PROCESS:
        model = ProcessRewardModel(trunk, separator=separator, **shared)
    else:
        given = None if hasattr(rows[0], "chosen") else all_ratings(rows)
        model = TrunkRewardModel(
            trunk,
            objective=objective_named(objective).of(given),
            heads=heads,
            penalty=penalty,
            per_token=per_token,
            **shared,
        )
    inputs = {"ratings": files_of(ratings), "policy": policy}
    with run_for_verb(out, settings, inputs=inputs, resume=resume) as run:
        with (
            SummaryWriter(str(run.tensorboard_path)) as writer,
            fitting_bar(progress_bar, "fitting") as show,
            deferred_interrupt() as is_interrupted,
        ):

            def tell(at: FitProgress) -> None:
                write_progress(writer, at)
                show(at)

            fitted, result = _fit(
                model,
                rows,
                settings,
                progress=tell,
                save=_Saver(run.last, checkpoint_seconds, is_interrupted),
                state=_read_state(run.last) if resume and holds(run.last, "trainer.json") else None,
            )
            write_report(writer, result)
        fitted.save_pretrained(run.checkpoint(BEST))
        run.add_metrics(result.figures())
    for label, value in result.rows():
        report(f"{label:<32} {value}")
    for note in result.notes():
        report(note)
    return result


def _check_choices(
    objective: str, freeze: bool, heads: int, penalty: float | None, ngrams: bool, lexicon: bool
) -> None:
    """Raises for settings that do not go together.

    :raises InputError: naming them.
    """
    if objective != PROCESS:
        objective_named(objective)
    elif freeze or ngrams or heads > 1:
        raise InputError("objective='process' takes no freeze, heads or ngrams: leave them out")
    if heads > 1 and not freeze:
        raise InputError(f"heads={heads} need freeze=True: a whole trunk is fitted with one head")
    if penalty is not None and heads < 2:
        raise InputError("penalty goes with heads of 2 or more, whose disagreement it counts")
    if ngrams and objective not in ("bradley_terry", "davidson"):
        raise InputError(f"ngrams=True learns from pairs, as objective={objective!r} does not")
    if lexicon and not ngrams:
        raise InputError("lexicon=True goes with ngrams=True")


def _fit(
    model: TrunkRewardModel,
    rows: list[Any],
    settings: dict[str, Any],
    *,
    progress: Callable[[FitProgress], None],
    save: "_Saver",
    state: dict[str, Any] | None,
) -> tuple[LearnedReward, Report]:
    """The fit that the settings name, and the reward model that came out of it."""
    seed = settings["seed"]
    others = [LexiconScores()] if settings["lexicon"] else []
    if settings["freeze"] and settings["ngrams"]:
        return stack_frozen(model, rows, others=others, seed=seed, progress=progress)
    if settings["freeze"]:
        return model, fit_heads(model, rows, seed=seed, progress=progress)
    names = ("steps", "epochs", "batch_size", "optimizer", "learning_rate")
    keywords: dict[str, Any] = {
        **{name: settings[name] for name in names},
        "muon_learning_rate": settings["muon_learning_rate"] or 0.01,
        "seed": seed,
        "progress": progress,
        "save": save,
        "state": state,
    }
    if isinstance(model, ProcessRewardModel):
        return model, fit_process(model, rows, **keywords)
    keywords["seconds"] = settings["seconds"]
    if is_foreign(model.trunk) and state is None:
        # The head first: a random one would pull the trunk's features apart (Kumar et al. 2022).
        fit_heads(model, rows, seed=seed, learning_curve=False)
    if settings["ngrams"]:
        return stack_whole(model, rows, others=others, **keywords)
    return model, fit_reward_model(model, rows, **keywords)


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
    """A progress bar for fits of reward models: gives its `progress` callback."""
    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed} past, {remaining} left{postfix}"
    with tqdm(total=100, desc=label, bar_format=layout, disable=not enabled) as bar:

        def show(at: FitProgress) -> None:
            accuracy = f", pair accuracy {at.accuracy:.3f}" if at.accuracy == at.accuracy else ""
            bar.set_postfix_str(f"loss {at.loss:.3f}{accuracy}", refresh=False)
            bar.update(at.done * 100 - bar.n)

        yield show
