"""What all tests share: one thread, and no deadlines on a machine that may be busy."""

import hypothesis
import pytest

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
