"""What all tests share: one thread, no deadlines on a machine that may be busy, no network."""

import importlib
import os
import signal
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # "runs/nowhere" might be a model of the hub
hypothesis.settings.register_profile("textgym", deadline=None)
hypothesis.settings.load_profile("textgym")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny models are slower on several threads, and results then depend on their number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def heard_interrupts():
    """A shell starts background jobs deaf to Ctrl-C, and they pass that on: hear it anyway."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)


@pytest.fixture
def load_benchmark(monkeypatch):
    """A module of `benchmarks`, by name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module
