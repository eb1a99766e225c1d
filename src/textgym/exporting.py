"""`textgym.export`: a run's best model as a directory to give away, with a card that says whose."""

import shutil
import warnings
from pathlib import Path
from typing import Any

from textgym.directories import atomic_directory
from textgym.errors import InputError
from textgym.gguf_files import is_gguf
from textgym.hub_models import cached_hub_directory, is_hub_name
from textgym.json_lines import read_metrics, read_rows
from textgym.paths import absolute, model_directory
from textgym.run_files import CONFIG, HELD_OUT, METRICS
from textgym.storage import json_text, read_json

_DTYPES = ("float32", "bfloat16", "float16")
# What a card says of a run, as its settings call it.
_SETTINGS = ("env", "agent", "reward", "kl_coef", "learning_rate", "lora_rank", "seed")


def export(
    policy: str | Path,
    *,
    out: str | Path,
    dtype: str = "float32",
    pad_token: str | None = None,
    adapter: bool = False,
) -> Path:
    """Write a run's best model as a directory that transformers opens, with a model card.

    :param policy: a run directory, or what else a policy may be (a GGUF file, for one).
    :param out: the directory.
    :param dtype: of the weights on disk: float32, bfloat16 or float16.
    :param pad_token: a token of the policy's vocabulary that no text needs, to fill up rows where
        its directory names none that can.
    :param adapter: the LoRA adapter alone, as peft has it and as a policy may be, with the name of
        its base; of a run that was trained with `lora_rank`.
    :raises InputError: as `CausalLM.from_pretrained`; if `out` is the run itself; for an adapter
        that is not there, or another `dtype` or `pad_token` beside it.
    :raises StorageError: if the directory cannot be written.
    :return: the directory.
    """
    if dtype not in _DTYPES:
        raise InputError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r:.60}")
    source, place = model_directory(policy), absolute(out)
    if place == absolute(source) or absolute(source) in place.parents:
        raise InputError(f"out must be another directory than the policy's, got {out}")
    card = model_card(source, str(policy))
    if adapter:
        if dtype != "float32" or pad_token is not None:
            raise InputError("an adapter is written as it is: leave dtype and pad_token out")
        return _export_adapter(source, place, card)
    import torch

    from textgym.policies.language_model.causal_lm import CausalLM
    from textgym.policies.language_model.checkpoint import write_model

    lm = CausalLM.from_pretrained(policy, pad_token=pad_token)
    with atomic_directory(place) as staging:
        write_model(lm, staging, dtype=getattr(torch, dtype))
        (staging / "README.md").write_text(card, encoding="utf-8")
    return place


def _export_adapter(run: Path, place: Path, card: str) -> Path:
    """The adapter of a run's best checkpoint, and whose it is."""
    from textgym.agents.runs.settings import read_config
    from textgym.policies.language_model.adapter_directories import (
        ADAPTER_CONFIG,
        BASE_NAME,
        is_adapter,
    )
    from textgym.policies.language_model.adapters import ADAPTER, ADAPTER_WEIGHTS
    from textgym.policies.language_model.checkpoint import checkpoint_directory

    best = checkpoint_directory(run)
    base = read_config(run).get("policy") if (run / CONFIG).is_file() else None
    if not (best / ADAPTER / ADAPTER_CONFIG).is_file() or not isinstance(base, str):
        raise InputError(
            f"{run}: holds no adapter: it is no run that was trained with lora_rank, so export the "
            "whole model"
        )
    directory, is_of_hub = _base_directory(base), is_hub_name(base)
    if directory is None:
        # A path such as runs/sft has the shape of a name there.
        cache = ", nor is there such a model in the hub's cache" if is_of_hub else ""
        raise InputError(
            f"{run}: began as {base}, which is not there as seen from this folder{cache}: export "
            "from the folder that it was trained in, since the adapter names its base"
        )
    if is_adapter(directory):
        raise InputError(
            f"{run}: began as {base}, an adapter itself, and an adapter names a whole model as its "
            "base: leave adapter out, and the whole model is written"
        )
    if is_gguf(directory):
        warnings.warn(
            f"{run}: began as {base}, a GGUF file, which textgym opens as an adapter's base and "
            f"peft does not: for peft, write it with `textgym export {base} --out DIR`, and DIR as "
            f"{BASE_NAME} in {ADAPTER_CONFIG}",
            stacklevel=3,
        )
    content = read_json(best / ADAPTER / ADAPTER_CONFIG)
    content[BASE_NAME] = base if is_of_hub else str(absolute(directory))
    with atomic_directory(place) as staging:
        text = json_text(content, indent=2) + "\n"
        (staging / ADAPTER_CONFIG).write_text(text, encoding="utf-8")
        shutil.copyfile(best / ADAPTER / ADAPTER_WEIGHTS, staging / ADAPTER_WEIGHTS)
        (staging / "README.md").write_text(card, encoding="utf-8")
    return place


def model_card(run: Path, name: str) -> str:
    """What there is to know of a run's model, from its own record.

    :param run: its directory, or what else a policy stands in.
    :param name: what the user calls it.
    """
    from textgym import __version__
    from textgym.agents.runs.settings import read_config

    settings = read_config(run) if (run / CONFIG).is_file() else {}
    base = settings.get("policy")
    lines = [f"# {Path(name).stem or name}", "", f"Written by textgym {__version__} from `{name}`."]
    if not settings:
        return "\n".join([*lines, "", *_licence(run, name)]) + "\n"
    lines += ["", "## How it was made", "", f"- Base model: {_code(base or 'fresh weights')}"]
    lines += [
        f"- {key}: {_code(settings[key])}" for key in _SETTINGS if settings.get(key) is not None
    ]
    rows = read_metrics(run / METRICS) if (run / METRICS).is_file() else []
    if rows:
        lines.append(f"- steps: {max(int(row.get('step', 0)) for row in rows):,}")
    lines += _figures(run / HELD_OUT)
    return "\n".join([*lines, "", *_licence_of_base(base)]) + "\n"


def _figures(path: Path) -> list[str]:
    """Mean scores of the held-out texts, of the first evaluation and of the last."""
    rows = read_rows(path) if path.is_file() else []
    if not rows:
        return ["", "No held-out evaluation was made."]
    steps = [row["step"] for row in rows]
    first, last = (
        [row["scores"] for row in rows if row["step"] == step] for step in (min(steps), max(steps))
    )
    lines = ["", f"## Held-out evaluation ({len(last)} texts)", ""]
    lines += ["| mean score | at the start | at the end |", "|---|---:|---:|"]
    return lines + [f"| {name} | {_mean(first, name)} | {_mean(last, name)} |" for name in last[0]]


def _mean(scores: list[dict[str, float | None]], name: str) -> str:
    """Over the texts that a judge says something of."""
    said = [value for row in scores if (value := row.get(name)) is not None]
    return f"{sum(said) / len(said):.4g}" if said else ""


def _licence_of_base(base: Any) -> list[str]:
    """The licence note of the model that a run started from."""
    if base is None:
        return ["## Licence", "", "The weights began fresh: the licence is yours to choose."]
    return _licence(_base_directory(str(base)), str(base))


def _base_directory(base: str) -> Path | None:
    """Where the model stands that a run began as, if it does; the network is not asked."""
    try:
        place = cached_hub_directory(base) if is_hub_name(base) else model_directory(base)
    except InputError:  # a fetched one that is gone
        return None
    return place if place is not None and place.exists() else None


def _licence(place: Path | None, name: str) -> list[str]:
    """What the card beside a model says of its licence.

    :param place: of the model; None: nobody knows.
    """
    card = None if place is None else place / "README.md"
    said = []
    if card is not None and card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        said = [line.strip() for line in text.splitlines() if "licen" in line.lower()][:3]
    lines = ["## Licence", "", f"That of the base model `{name}` holds for these weights."]
    return lines + [f"> {line.lstrip('-# ')}" for line in said]


def _code(value: Any) -> str:
    return f"`{value}`"
