"""`textgym doctor`: whether everything that textgym needs is there, and what to do if not."""

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from textgym import __version__, registry

DISTRIBUTION = "textgym"
EXTRAS = (("transformers", "to open our checkpoints there"),)
FREE_GIGABYTES = 1.0


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    :param remedy: what to do about it; "" if it is fine.
    """

    subject: str
    state: str
    remedy: str = ""


def examine() -> int:
    """Check this installation.

    :return: 0 if all is fine, else 2.
    """
    findings = [*packages(), *machine(), *registered(), *place()]
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    table = Table("subject", "state", "to do")
    for finding in findings:
        table.add_row(escape(finding.subject), escape(finding.state), escape(finding.remedy))
    console.print(table)
    todo = [finding for finding in findings if finding.remedy]
    if not todo:
        console.print("all fine")
        return 0
    for finding in todo:
        console.print(f"{finding.subject}: {finding.remedy}", markup=False)
    return 2


def packages() -> list[Finding]:
    """Python and the packages of the core, with their versions."""
    old = "" if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed"
    findings = [
        Finding("textgym", __version__),
        Finding("Python", f"{platform.python_version()} on {platform.platform()}", old),
    ]
    findings += [_package(requirement) for requirement in _requirements()]
    for name, purpose in EXTRAS:
        is_there = importlib.util.find_spec(name) is not None
        findings.append(Finding(name, "there" if is_there else f"not there (optional, {purpose})"))
    return findings


def _requirements() -> list[Requirement]:
    """What the installed distribution says that it needs, extras aside; none where it is a copy."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    wanted = [Requirement(line) for line in lines]
    return [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]


def _package(requirement: Requirement) -> Finding:
    """Whether a package is there, in a version that will do."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(requirement.name, "missing", f"pip install '{requirement}'")
    fits = requirement.specifier.contains(version, prereleases=True)
    return Finding(requirement.name, version, "" if fits else f"pip install '{requirement}'")


def machine() -> list[Finding]:
    """Threads, number formats and the GPU, as torch sees them."""
    import torch

    capability = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    bfloat = "fast" if capability or amx else "slow (leave --autocast off)"
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_name(0)
    else:
        gpu = "none that torch can use"
    return [
        Finding("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores"),
        Finding("bfloat16 on the processor", bfloat),
        Finding("GPU", gpu),
    ]


def registered() -> list[Finding]:
    """How many names there are."""
    tables = (
        ("environments", registry.tasks),
        ("reward models", registry.rewards),
        ("agents", registry.agents),
    )
    return [Finding(kind, str(len(table.names()))) for kind, table in tables]


def place() -> list[Finding]:
    """Whether runs can be written here."""
    here = os.getcwd()
    try:
        with tempfile.NamedTemporaryFile(dir=here, prefix=".textgym-"):
            writable = Finding("current directory", f"{here} can be written")
    except OSError as error:
        reason = f"{here}: {error.strerror}"
        writable = Finding("current directory", reason, "choose an --out that can be written")
    free = shutil.disk_usage(here).free / 1e9
    remedy = f"free at least {FREE_GIGABYTES:g} GB" if free < FREE_GIGABYTES else ""
    return [writable, Finding("disk space", f"{free:.1f} GB free", remedy)]
