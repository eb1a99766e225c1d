"""Going on with a run with latent actions exactly: what `train` keeps beside what was learned."""

from collections.abc import Mapping
from typing import Any

from sb3_contrib import ARS
from stable_baselines3.common.base_class import BaseAlgorithm

from textgym.agents.building.checkpoint import CUT_SHORT, NOT_THIS_STATE
from textgym.agents.building.latent_checkpoint import read_latent_agent, restore_latent_agent
from textgym.agents.building.training_state import load_training_state, training_state
from textgym.agents.evaluation.latent_held_out import LatentHeldOut
from textgym.agents.runs.fingerprints import fingerprint
from textgym.agents.runs.latent_recording import LatentRecorder
from textgym.agents.runs.run import Run
from textgym.errors import InputError
from textgym.optimization import to_arrays, to_tensors
from textgym.saved_fields import SavedFields


def latent_run_state(
    agent: BaseAlgorithm, recorder: LatentRecorder, held_out: LatentHeldOut | None
) -> dict[str, Any]:
    """A nest of tensors and JSON values that `go_on_exactly` goes on from."""
    state = {
        "is_whole": recorder.is_between,
        "training": training_state(agent),
        "recorder": recorder.state_dict(),
        "held_out": None if held_out is None else held_out.state_dict(),
    }
    tensors: dict[str, Any] = to_tensors(state)
    return tensors


def go_on_exactly(
    agent: BaseAlgorithm,
    run: Run,
    recorder: LatentRecorder,
    held_out: LatentHeldOut | None,
    *,
    exact: bool,
) -> None:
    """Give an agent and its record, made as at the run's start, the state of its checkpoint.

    :param exact: raise where going on would not be exact, before anything is written.
    :raises InputError: for a checkpoint of an earlier version, or one that does not fit.
    """
    checkpoint = read_latent_agent(run.directory)
    saved = checkpoint.saved
    state = checkpoint.training.get("run") if isinstance(checkpoint.training, Mapping) else None
    if state is None:
        raise InputError(
            f"{run.directory}: its checkpoint holds no state of a run to go on from: bring the "
            "agent back with load_agent, and train it in a run of its own"
        )
    restore_latent_agent(agent, checkpoint)
    fields = SavedFields(state, f"{run.directory}: run")
    differences = [] if fields.flag("is_whole") else [CUT_SHORT]
    if isinstance(agent, ARS):
        differences.append("ars has drawn its candidates when a rollout begins, and they are lost")
    if saved.decoder is not None and fingerprint(saved.decoder) != saved.decoder_sha256:
        differences.append(f"{saved.decoder} does not hold the decoder that it was trained with")
    try:
        differences += load_training_state(agent, to_arrays(fields.value("training")), given=())
    except NOT_THIS_STATE as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(f"{run.directory}: the checkpoint does not fit: {reason:.120}") from None
    if exact and differences:
        raise InputError(
            f"{run.directory}: going on would not be exact: {'; '.join(differences)}; go on all "
            "the same with --force-resume"
        )
    recorder.load_state_dict(fields.value("recorder"), agent.num_timesteps)
    if held_out is not None and fields.has("held_out"):
        held_out.load_state_dict(fields.value("held_out"))
