"""Memory that ran out in training, on any device: one line that says what to lower."""

import traceback

from textgym.errors import OutOfMemoryError

_IN_ROLLOUT = "lower n_envs, the prompts' length or max_new_tokens"
_IN_UPDATE = (
    "give micro_batch_tokens=512 or gradient_checkpointing=True (docs/memory.md), or lower "
    "batch_size (or begin anew with lora_rank=16)"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Python's own error, torch's of a GPU, and what torch says of the CPU's memory.

    By name and text, since the command line asks without torch.
    """
    is_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or is_torch


def explained(error: BaseException, *, in_update: bool) -> BaseException:
    """One of ours for memory that ran out, its tensors let go; any other error as it is.

    :param in_update: it ran out while learning, else while texts were written and scored.
    """
    if not is_out_of_memory(error) or isinstance(error, OutOfMemoryError):
        return error
    traceback.clear_frames(error.__traceback__)  # which hold what was being computed
    where, advice = ("update", _IN_UPDATE) if in_update else ("rollout", _IN_ROLLOUT)
    return OutOfMemoryError(
        f"out of memory in the {where}: {advice}; go on with that and --resume --force-resume"
    )
