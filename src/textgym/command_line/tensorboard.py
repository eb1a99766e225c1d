"""The verb that opens runs and studies in TensorBoard, with everything that they wrote."""

import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.paths import expand

# TensorBoard shows a random choice of 10 texts and 1,000 points a tag unless told otherwise. Its 0
# ("all") reads back nothing in 2.21.
SAMPLES = "scalars=1000000,images=10000,text=10000"
STUDY_EVENTS = "events.out.tfevents.*.study"
_EVERYWHERE = ("0.0.0.0", "::")


def show_tensorboard(
    runs: str | Path | Sequence[str | Path], port: int = 6006, host: str = "127.0.0.1"
) -> int:
    """Show runs and studies in TensorBoard, for this machine only unless told otherwise.

    :param runs: run directories, or directories of them, such as a study's.
    :param port: of the page; 0 takes a free one.
    :param host: the address to listen on.
    :raises InputError: if there is no event file.
    """
    check_numbers({"port": port})
    directories = [expand(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    for directory in directories:
        if not directory.is_dir():
            raise InputError(f"{directory}: no such directory; expected a run directory")
        if not any(directory.rglob("events.out.tfevents.*")):
            raise InputError(
                f"{directory}: holds no TensorBoard event files; train with --out {directory} first"
            )
    port = _free_port(host, port)
    with _one_directory(directories) as (logdir, names):
        page = f"http://{'localhost' if host in _EVERYWHERE else host}:{port}/"
        studies = [
            name
            for directory, prefix in zip(directories, names, strict=True)
            for name in _studies(directory, prefix)
        ]
        for name in studies:
            print("\n".join([f"study {name}", *study_links(page, name)]), flush=True)
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir)]
        command += ["--host", host, "--port", str(port), "--samples_per_plugin", SAMPLES]
        return subprocess.call(command)


def study_links(page: str, name: str) -> list[str]:
    """Addresses of a study's pages, each with what it shows.

    They choose the runs too: where there are more than 40, most pages of TensorBoard begin with
    none of them chosen.

    :param page: TensorBoard's address, ending in /.
    :param name: the study's own run in TensorBoard.
    """
    own = re.escape(name)
    cell = r"[^/.]+[^/]*" if name == "." else rf"{own}/[^/]+"
    below = "" if name == "." else f"{own}/"
    curves = f"?smoothing=0&runFilter={quote(f'^{below}')}#timeseries"
    bands = f"#custom_scalars&_smoothingWeight=0&regexInput={quote(f'^{cell}$')}"
    alone = f"&regexInput={quote(f'^{own}$')}"
    pages = {
        "curves": curves,
        "bands": bands,
        "table": "#hparams",
        "pictures": f"#images{alone}",
        "texts": f"#text{alone}",
    }
    return [f"  {label:9} {page}{address}" for label, address in pages.items()]


def _studies(directory: Path, prefix: str) -> list[str]:
    """TensorBoard's names of the studies' own runs: the outermost folders of study events."""
    folders = {path.parent for path in directory.rglob(STUDY_EVENTS)}
    outermost = [folder for folder in folders if not folders & set(folder.parents)]
    relative = sorted(folder.relative_to(directory).as_posix() for folder in outermost)
    return [name if not prefix else f"{prefix}/{name}".removesuffix("/.") for name in relative]


@contextmanager
def _one_directory(directories: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    """One directory for TensorBoard, and what the given ones are called in it ("" for itself).

    Several become links in a temporary one: TensorBoard's own way to take several paths
    (`--logdir_spec`) reads slowly, and no path with a comma or a colon.
    """
    if len(directories) == 1:
        yield directories[0], [""]
        return
    with tempfile.TemporaryDirectory(prefix="textgym-tensorboard-") as folder:
        names: list[str] = []
        for directory in directories:
            base, n = directory.resolve().name or "runs", 1
            while (name := base if n == 1 else f"{base} ({n})") in names:
                n += 1
            names.append(name)
            (Path(folder) / name).symlink_to(directory.resolve(), target_is_directory=True)
        yield Path(folder), names


def _free_port(host: str, port: int) -> int:
    """The port to listen on: the given one, or a free one for 0.

    :raises InputError: naming what is wrong, unless this machine can listen there.
    """
    try:
        if not host.strip():
            raise ValueError
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = places[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            return int(listener.getsockname()[1])
    except (socket.gaierror, UnicodeError, ValueError):
        raise InputError(f"host must be a name or an address, got {host!r:.60}") from None
    except OSError as error:
        raise InputError(
            f"cannot listen on port {port} of {host!r:.60} ({error.strerror}): take another port "
            "(0: a free one)"
        ) from None
