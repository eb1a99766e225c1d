"""`import textgym.policies` is light, and its names are what they say."""

import subprocess
import sys

import pytest

import textgym.policies
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


def test_the_import_alone_loads_no_torch():
    code = "import sys, textgym.policies; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"
