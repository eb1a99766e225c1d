"""A directory of transformers' as its own classes read it: no code of its own, pickle or network.

Needs the extra `transformers`.
"""

from pathlib import Path
from typing import Any

from textgym.errors import InputError
from textgym.extras import import_extra, without_bars


def read_model(auto: str, directory: Path, *, what: str, **keywords: Any) -> Any:
    """A model with the safetensors of a directory.

    :param auto: the class of transformers that reads it, such as "AutoModel".
    :param what: needs transformers, for the error.
    :param keywords: more of its `from_pretrained`.
    :raises InputError: without transformers, or for a directory that it cannot read.
    """
    return _read(auto, directory, what, use_safetensors=True, **keywords)


def read_tokenizer(directory: Path, *, what: str, **keywords: Any) -> Any:
    """The tokenizer of a directory; parameters and errors are those of `read_model`."""
    return _read("AutoTokenizer", directory, what, **keywords)


def _read(auto: str, directory: Path, what: str, **keywords: Any) -> Any:
    transformers = import_extra("transformers", extra="transformers", what=what)
    try:
        with without_bars(transformers):
            return getattr(transformers, auto).from_pretrained(
                str(directory), local_files_only=True, trust_remote_code=False, **keywords
            )
    except Exception as error:  # a damaged file ends in any of a dozen
        reason = " ".join(str(error).split())
        raise InputError(f"{directory}: transformers cannot open it ({reason:.200})") from None
