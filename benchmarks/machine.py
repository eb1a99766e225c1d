"""Where a figure comes from: command, commit, date, machine, versions."""

import datetime
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "stable-baselines3", "gymnasium", "numpy", "tokenizers")


def where(threads: int) -> list[str]:
    """Lines of Markdown."""
    git = ["git", "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=False, cwd=_here())
        commit = found.stdout.strip() if found.returncode == 0 else "uncommitted"
        git = ["git", "status", "--porcelain", "--untracked-files=no"]
        found = subprocess.run(git, capture_output=True, text=True, check=False, cwd=_here())
        if commit != "uncommitted" and found.stdout.strip():
            commit += " with changes"
    except OSError:
        commit = "unknown (no git)"
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    arguments = " ".join(sys.argv[1:])
    command = f"python benchmarks/{Path(sys.argv[0]).name} {arguments}".strip()
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        f"- command: `{command}`",
        f"- commit: {commit}; date: {now}",
        f"- machine: {cpu_model()}, {os.cpu_count()} cores, {threads} of them used, "
        f"load before the start {os.getloadavg()[0]:.1f}",
        f"- Python {platform.python_version()}, {packages}",
    ]


def cpu_model() -> str:
    """As the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _here() -> Path:
    return Path(__file__).resolve().parent
