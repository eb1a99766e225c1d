"""What the verbs that fit a language model share: settings, the model, the loop in a run."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch.utils.tensorboard import SummaryWriter

from textgym.agents.runs.run import Run
from textgym.agents.runs.settings import is_json, to_json
from textgym.checks import check_device
from textgym.envs.texts.corpus import are_files
from textgym.errors import DivergenceError
from textgym.policies.language_model.adapters import LoRA, add_adapter
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.models_by_name import open_last, own_policy
from textgym.policies.language_model.published import publish
from textgym.policies.pretraining.documents import Document
from textgym.policies.pretraining.loop import TrainingReport, train_language_model
from textgym.policies.pretraining.objective import Objective
from textgym.run_files import CHECKPOINTS

# What may change where a run is gone on with.
BUDGET = ("steps", "seconds", "epochs", "patience", "evaluate_every", "checkpoint_seconds")


def recorded(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a verb as its `config.yaml` holds them."""
    left_out = {"report", "progress_bar", "resume", "force_resume"}
    kept = {k: to_json(v) for k, v in arguments.items() if k not in left_out}
    lost = {k for k, v in kept.items() if not is_json(v)}
    lost |= {k for k in ("corpus", "data") if k in arguments and not are_files(arguments[k])}
    kept = {k: v for k, v in kept.items() if k not in lost}
    return kept | ({"not_saved": sorted(lost)} if lost else {})


def loop_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of a verb's settings that are keywords of `train_language_model`."""
    known = inspect.signature(train_language_model).parameters
    chosen = {key: value for key, value in settings.items() if key in known and key != "heldout"}
    if chosen.get("muon_learning_rate") is None:
        chosen.pop("muon_learning_rate", None)
    return chosen


def pick_device(device: str) -> torch.device:
    """`"auto"` is the GPU where there is one.

    :raises InputError: for a device that is not there.
    """
    check_device(device)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def own_model(
    policy: "str | Path | LanguageModel | BaseAlgorithm",
    pad_token: str | None,
    lora: LoRA | None,
    seed: int,
    *,
    last: Path | None,
) -> LanguageModel:
    """The model that learns: a policy's own, or the one that a training goes on with.

    :param last: the checkpoint that it goes on from; an adapter goes on upon the policy itself.
    """
    if last is not None and lora is None:
        return open_last(last)
    lm = own_policy(policy, pad_token=pad_token)
    if lora is not None:
        add_adapter(lm, lora, seed=seed)
    return lm


def train_in_run(
    lm: LanguageModel | Objective,
    documents: Iterable[Document],
    heldout: Sequence[Document],
    run: Run,
    *,
    device: str,
    report: Callable[[str], None],
    prefix: str = "language_model",
    show: Callable[[SummaryWriter, int], None] = lambda writer, step: None,
    **keywords: Any,
) -> TrainingReport:
    """`train_language_model` with its figures in the run directory; a divergence is reported.

    :param prefix: of the figures' names on TensorBoard.
    :param show: called with the writer and the step at every fifth evaluation and at the end, to
        write texts.
    """
    (lm.model if isinstance(lm, Objective) else lm).to(pick_device(device))
    with SummaryWriter(str(run.tensorboard_path)) as writer:
        evaluations = 0

        def record(figures: dict[str, float]) -> None:
            nonlocal evaluations
            evaluations += 1
            run.add_metrics(figures)
            for key, value in figures.items():
                if key != "step":
                    writer.add_scalar(f"{prefix}/{key}", value, int(figures["step"]))
            publish(run.directory)
            if evaluations % 5 == 0:
                show(writer, int(figures["step"]))

        try:
            result = train_language_model(
                lm,
                documents,
                heldout=heldout,
                checkpoints=run.directory / CHECKPOINTS,
                record=record,
                **keywords,
            )
        except DivergenceError as error:  # what was recorded and saved before it is worth keeping
            run.add_metrics({"diverged": str(error)})
            report(str(error))
            result = TrainingReport(diverged=str(error))
        else:
            show(writer, result.steps)
    publish(run.directory)
    return result
