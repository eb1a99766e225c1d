"""A run directory that opens in transformers: its checkpoint's model stands at the top too.

`AutoModelForCausalLM.from_pretrained(run)` then gives what `CausalLM.from_pretrained(run)` gives.
"""

import os
import shutil
import warnings
from pathlib import Path

from textgym.directories import atomic_directory
from textgym.errors import InputError, StorageError
from textgym.manifest import original_of, read_manifest
from textgym.run_files import BEST, CHECKPOINTS, LAST


def publish(run: Path) -> None:
    """Put a copy of the best checkpoint's model, or else the last one's, at the top of a run.

    Large files are hard links where the file system has them, so they take no room. Where the top
    cannot be written there is a warning: the checkpoint itself is safe.

    :param run: its directory; without a checkpoint nothing is done.
    """
    names = [n for n in (BEST, LAST) if (run / CHECKPOINTS / n / "config.json").is_file()]
    if not names:
        return
    source = run / CHECKPOINTS / names[0]
    original = source.relative_to(run).as_posix()
    try:
        sums = read_manifest(source)
        model = {k: v for k, v in sums.items() if "/" not in k and not k.startswith("trainer.")}
        if original_of(run) == original and read_manifest(run) == model:
            return
        with atomic_directory(run, copy_of=original) as staging:
            for name in model:
                _copy(source / name, staging / name)
    except (InputError, StorageError) as error:
        warnings.warn(
            f"{run}: transformers can open {source}, but not the run itself: {error}", stacklevel=2
        )


def _copy(file: Path, target: Path) -> None:
    """A link for weights, and a copy of what users edit."""
    if file.suffix == ".safetensors":
        try:
            os.link(file, target)
            return
        except OSError:
            pass
    shutil.copyfile(file, target)
