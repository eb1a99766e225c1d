"""Libraries that only one feature needs: imported on use, with a word if one is missing."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from textgym.errors import InputError


def import_extra(module: str, *, extra: str, what: str) -> Any:
    """A module of a library that an extra installs.

    :param module: "sacrebleu.metrics".
    :param extra: of textgym's, as pip takes it: "metrics".
    :param what: that needs it, for the error: "the bleu reward".
    :raises InputError: naming the library and the extra, if it is not installed. Other errors of
        the import pass through as they are.
    """
    library = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise  # the library is there, something that it imports is not
        raise InputError(
            f"{what} needs {library}, which is not installed: pip install 'textgym[{extra}]'"
        ) from None


@contextlib.contextmanager
def without_bars(transformers: Any) -> Iterator[None]:
    """No progress bar of transformers' while weights are read; afterwards as it was."""
    logging = transformers.utils.logging
    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if had_bars:
            logging.enable_progress_bar()
