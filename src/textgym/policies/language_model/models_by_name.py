"""The language model that is meant by a directory, by "start", by an agent or by itself."""

from pathlib import Path

from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.checkpoint import read_model, saved_states
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.run_checkpoints import read_first_whole


def open_model(directory: Path) -> CausalLM:
    """The model of a directory that is known to be whole.

    :raises InputError: naming the file and what is wrong with it.
    """
    return read_model(CausalLM, directory)


def open_last(directory: Path) -> CausalLM:
    """The model that a training goes on with; the one before where the last is damaged."""
    return read_first_whole(saved_states(directory), open_model, must_have_manifest=True)


def open_policy(
    policy: object, *, pad_token: str | None = None, label: str = "policy"
) -> LanguageModel:
    """The language model that is meant by a directory, by "start", by an agent or by itself.

    :param policy: an agent or a text policy gives a copy of its own; a model is not copied.
    :param pad_token: see `CausalLM.from_pretrained`.
    :param label: what it is called where it was given, for errors.
    :raises InputError: as `CausalLM.from_pretrained`; for a pad token beside a model, which has its
        own; or for an object of another kind.
    """
    if isinstance(policy, str | Path):
        return CausalLM.from_pretrained(policy, pad_token=pad_token)
    lm = policy if isinstance(policy, LanguageModel) else _model_inside(policy, label)
    if pad_token is not None:
        raise InputError(
            f"pad_token={pad_token!r} goes with a checkpoint directory as the policy: leave it "
            "out, or open the model with CausalLM.from_pretrained(directory, pad_token=...)"
        )
    return lm


def own_policy(
    policy: object, *, pad_token: str | None = None, label: str = "policy"
) -> LanguageModel:
    """As `open_policy`, and the caller's own: a given model is copied, and may be trained."""
    lm = open_policy(policy, pad_token=pad_token, label=label)
    return lm.trainable_copy() if lm is policy else lm


def _model_inside(owner: object, label: str) -> LanguageModel:
    """A copy of the language model of an agent or of a text policy."""
    lm = getattr(getattr(owner, "policy", owner), "lm", None)
    if isinstance(lm, LanguageModel):
        return lm.trainable_copy()
    name = type(owner).__name__
    if hasattr(owner, "save_pretrained"):
        raise InputError(
            f"{label} is a {name} without its tokenizer: write both into one directory, "
            f"model.save_pretrained(d) and tokenizer.save_pretrained(d), and pass {label}=d"
        )
    raise InputError(
        f"{label} must be a checkpoint directory, 'start', a CausalLM or an agent that writes "
        f"text, got {name}"
    )
