"""What is given beside an environment: fields of its task, in a table and by themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgym.errors import InputError
from textgym.tokenizer import Tokenizer

if TYPE_CHECKING:
    from textgym.latent_decoders import LatentDecoder
    from textgym.policies.language_model.language_model import LanguageModel


def check_given_once(name: str, env_kwargs: Mapping[str, Any]) -> None:
    """Raises if a keyword of its own stands among the fields of the task too.

    :raises InputError: naming it.
    """
    if name in env_kwargs:
        raise InputError(f"{name} is given twice, by itself and in env_kwargs: leave one out")


def check_tokenizer(given: object, lm: "LanguageModel | LatentDecoder") -> None:
    """Raises if a tokenizer was given beside a policy that writes with another one.

    :raises InputError: saying so.
    """
    tokenizer = Tokenizer.load(given) if isinstance(given, str | Path) else given
    if tokenizer is not None and tokenizer != lm.tokenizer:
        raise InputError(
            "the tokenizer in env_kwargs is not the policy's, which writes the texts: leave it out"
        )


def task_fields(env_kwargs: object) -> dict[str, Any]:
    """A copy of `env_kwargs`; empty for None.

    :raises InputError: if it is no table.
    """
    if env_kwargs is not None and not isinstance(env_kwargs, dict):
        raise InputError(f"env_kwargs must be a table of a task's fields, got {env_kwargs!r:.60}")
    return dict(env_kwargs or {})


def check_unused(env: object, **given: object) -> None:
    """Raises if something was given that an environment has already.

    :raises InputError: naming it.
    """
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name} goes with an environment's id, but a {type(env).__name__} was given, "
                f"which has its own: leave {name} out, or pass the id"
            )
