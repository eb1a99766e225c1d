"""Texts that a judge of pairs compares with: a column of the prompts, or made of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from textgym.errors import InputError

Against = str | Callable[[list[str]], Sequence[str]]


def opponents(
    against: Against, prompts: Sequence[str], columns: Mapping[str, Sequence[Any]]
) -> list[str]:
    """One text for each prompt.

    :param against: the name of a column, or a function of a list of prompts (each different one is
        asked about once), such as the greedy continuations of the model that a run started from.
    :raises InputError: if there is no such column, or a text is missing.
    """
    if isinstance(against, str):
        if against not in columns:
            raise InputError(
                f"the judge compares with the column {against!r}, but the prompts have "
                f"{', '.join(map(repr, columns)) or 'no columns'}: add it, or name another"
            )
        texts = list(columns[against])
    else:
        different = list(dict.fromkeys(prompts))
        made = list(against(different))
        if len(made) != len(different):
            raise InputError(
                f"against gave {len(made)} texts for {len(different)} prompts: expected one each"
            )
        by_prompt = dict(zip(different, made, strict=True))
        texts = [by_prompt[prompt] for prompt in prompts]
    for prompt, text in zip(prompts, texts, strict=True):
        if not isinstance(text, str):
            raise InputError(
                f"the judge compares with texts, got {text!r:.60} for prompt {prompt!r:.60}"
            )
    return texts
