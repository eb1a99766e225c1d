"""`import textgym.policies` is light, and its names are what they say."""

import subprocess
import sys

import pytest

import textgym.policies
import textgym.policies.pretraining
from textgym.policies.language_model import causal_lm, decoder, sampling
from textgym.policies.sb3 import actor_critic


def test_names_are_loaded_when_they_are_used():
    assert textgym.policies.CausalLM is causal_lm.CausalLM
    assert textgym.policies.CausalLMConfig is decoder.CausalLMConfig
    assert textgym.policies.TextActorCriticPolicy is actor_critic.TextActorCriticPolicy
    assert textgym.policies.Sampling is sampling.Sampling
    assert set(textgym.policies.__all__) <= set(dir(textgym.policies))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        textgym.policies.nothing  # noqa: B018


@pytest.mark.parametrize("package", [textgym.policies, textgym.policies.pretraining])
def test_every_public_name_is_there(package):
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
        assert name in dir(package)


def test_names_that_were_public_before_stay_where_they_were():
    """`pretraining` was one module; users import from it."""
    from textgym.policies import MaskableTextPolicy, TopPMaskPolicy
    from textgym.policies.pretraining import heldout_loss, loop, objective, train_language_model

    assert heldout_loss is objective.heldout_loss
    assert train_language_model is loop.train_language_model
    assert issubclass(MaskableTextPolicy, textgym.policies.TextActorCriticPolicy)
    assert issubclass(TopPMaskPolicy, textgym.policies.TextActorCriticPolicy)


def test_the_import_alone_loads_no_torch():
    code = "import sys, textgym.policies; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"
