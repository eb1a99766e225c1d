"""Raters who answer while the label server is killed: nothing is lost, nothing doubled."""

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "label_server.py"


def test_what_was_acknowledged_survives_kills(tmp_path):
    """The small form of `benchmarks/label_server.py`, which has 16 raters × 200 and 30 kills."""
    words = ["--raters", "4", "--answers", "12", "--kills", "3", "--pause", "0.4", "--slow", "0"]
    command = [sys.executable, str(BENCHMARK), *words, "--out", str(tmp_path / "page.md")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| lost | 0 | 0 | pass |" in done.stdout
    assert "| kills | 0 |" not in done.stdout
