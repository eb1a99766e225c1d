"""A local judge by the directory of its language model: ours, or one of transformers'."""

from collections.abc import Sequence
from pathlib import Path

from textgym.errors import InputError
from textgym.paths import model_directory
from textgym.policies.language_model.models_by_name import open_policy
from textgym.policies.language_model.transformers_config import from_transformers, is_ours
from textgym.reward_models.judges.local_judge import LocalJudge
from textgym.reward_models.judges.opponents import Against
from textgym.reward_models.judges.word_models import TransformersWords, WordModel, own_words
from textgym.storage import read_json


def local_judge(
    directory: str | Path,
    rubric: str | Path | None = None,
    *,
    words: Sequence[str] | None = None,
    against: Against | None = None,
    batch_size: int = 16,
    name: str = "local_judge",
) -> LocalJudge:
    """A `LocalJudge` of a directory.

    :param directory: a checkpoint or run of ours, "start", or what transformers opens (extra
        `transformers`); one with a chat template is asked through it.
    :param rubric, words, against, name: as `LocalJudge`'s.
    :param batch_size: texts that are read at once.
    :raises InputError: if no model can be opened there, or as `LocalJudge`.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    path = model_directory(directory) if isinstance(directory, str) else directory
    model: WordModel
    if _opens_here(path):
        lm = open_policy(path, label="directory").frozen_reference()
        model = own_words(lm, batch_size=batch_size)
    else:
        model = TransformersWords(path, batch_size=batch_size)
    return LocalJudge(model, rubric, words=words, against=against, name=name)


def _opens_here(path: Path) -> bool:
    """Whether our own decoder is to open it: without a chat template, and of a family it knows."""
    config = path / "config.json"
    if not config.is_file():
        return True  # a run, or nothing, which `open_policy` says
    settings = path / "tokenizer_config.json"
    has_template = (path / "chat_template.jinja").is_file() or (
        settings.is_file() and "chat_template" in read_json(settings)
    )
    content = read_json(config)
    if has_template or not isinstance(content, dict):
        return False
    try:
        return is_ours(content) or bool(from_transformers(content, config))
    except InputError:
        return False
