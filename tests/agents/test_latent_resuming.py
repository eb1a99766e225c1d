"""A run with latent actions that was stopped or killed goes on to the last bit."""

import os
import shutil
import signal

import numpy as np
import pytest
import torch
from front_door import read_lines, run_cli
from stable_baselines3.common.callbacks import BaseCallback
from textgym_latents import LetterDecoder

import textgym
from textgym import registry
from textgym.errors import InputError, RewardError
from textgym.policies import TextVAE
from textgym.tokenizer import Tokenizer

ID, VAE_ID = "test/LatentResuming-v0", "test/LatentResumingVae-v0"
SMALL = {  # so that a few hundred texts are several rollouts and updates
    "ppo": {"n_steps": 10, "batch_size": 8},
    "a2c": {"n_steps": 10},
    "trpo": {"n_steps": 10, "batch_size": 8},
    "ars": {"n_delta": 2, "n_top": 2},
    "crossq": {"learning_starts": 40, "batch_size": 16, "policy_kwargs": {"net_arch": [32, 32]}},
}
OFF_POLICY = {"learning_starts": 40, "batch_size": 16, "buffer_size": 200}  # it goes round
TEXTS = 320


def score(prompts, completions):
    return [text.count("c") + 0.1 * len(text) for text in completions]


def judge(prompts, completions):
    return [float(len(text)) for text in completions]


@pytest.fixture(autouse=True)
def task():
    fields = {"reward": score, "max_new_tokens": 6}
    letters = LetterDecoder().tokenizer
    textgym.register(
        ID, prompts=["a", "b", "aa"], heldout_prompts=["ab", "bb"], tokenizer=letters, **fields
    )
    textgym.register(VAE_ID, prompts=["a ", "b "], **{**fields, "reward": "length,target=3"})
    yield
    registry.tasks.unregister(ID)
    registry.tasks.unregister(VAE_ID)


def train(out, agent, **keywords):
    settings = {"decoder": LetterDecoder(), "n_envs": 4, "timesteps": TEXTS, "evaluations": 3}
    settings |= {"progress_bar": False, "report": str, "gold": [judge], "reward": score}
    settings |= {"env_kwargs": {"decoding": "sampled", "prior_coef": 0.1}, "n_envs": 4}
    settings |= SMALL.get(agent, OFF_POLICY)
    return textgym.train(ID, agent=agent, out=out, **{**settings, **keywords})


def go_on(out, **keywords):
    objects = {"decoder": LetterDecoder(), "reward": score, "gold": [judge], "callback": []}
    return textgym.train(
        ID, out=out, resume=True, progress_bar=False, report=str, **objects, **keywords
    )


class Interrupts(BaseCallback):
    """Ctrl-C at one step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def _on_step(self):
        if self.n_calls == self.step:
            os.kill(os.getpid(), signal.SIGINT)
        return True


class Copies(BaseCallback):
    """Copies the run as it stands at one step, as a crash there would leave it."""

    def __init__(self, run, to, step):
        super().__init__()
        self.run, self.to, self.step = run, to, step

    def _on_step(self):
        if self.n_calls == self.step:
            shutil.copytree(self.run, self.to, ignore=shutil.ignore_patterns(".lock*", "*.lock"))
        return True


def nest_of(agent):
    """Everything that the next update depends on."""
    found = {"parameters": agent.get_parameters(), "last": agent._last_obs}
    buffer = getattr(agent, "replay_buffer", None)
    if buffer is not None:
        found["replay"] = {k: v for k, v in vars(buffer).items() if isinstance(v, np.ndarray)}
        found["at"] = (buffer.pos, buffer.full)
    found["torch"], found["numpy"] = torch.get_rng_state(), np.random.get_state()[1]
    return found


def differing(one, other, path=""):
    """The places where two nests are not the same."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return [p for key in one for p in differing(one[key], other[key], f"{path}.{key}")]
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        pairs = enumerate(zip(one, other, strict=True))
        return [p for i, (a, b) in pairs for p in differing(a, b, f"{path}.{i}")]
    same = np.array_equal(one, other) if hasattr(one, "shape") else one == other
    return [] if same else [path]


def record(out):
    """What a run's files say, but for the time that it took."""
    metrics = [
        {k: v for k, v in row.items() if not k.startswith("time/") or k == "time/total_timesteps"}
        for row in read_lines(out / "metrics.jsonl")
    ]
    others = [(out / name).read_text() for name in ("samples.jsonl", "latent_held_out.jsonl")]
    return metrics, *others


@pytest.mark.parametrize("agent", [n for n in registry.latent_agents.names() if n != "ars"])
def test_a_run_that_was_interrupted_goes_on_to_the_last_bit(tmp_path, agent):
    whole = nest_of(train(tmp_path / "whole", agent))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", agent, callback=Interrupts(33))
    saved = textgym.load_agent(
        tmp_path / "parts", decoder=LetterDecoder(), reward=score
    ).num_timesteps
    assert 33 * 4 <= saved < TEXTS
    parts = nest_of(go_on(tmp_path / "parts"))
    assert differing(whole, parts) == []
    assert record(tmp_path / "parts") == record(tmp_path / "whole")


@pytest.mark.parametrize("agent", ["sac", "ppo"])
def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(tmp_path, agent):
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    callback = Copies(whole, copy, 37)
    expected = nest_of(train(whole, agent, checkpoint_seconds=0, callback=callback))
    assert differing(expected, nest_of(go_on(copy))) == []
    assert record(copy) == record(whole)


def test_ars_goes_on_by_force_only(tmp_path):
    train(tmp_path, "ars")
    with pytest.raises(InputError, match="ars has drawn its candidates when a rollout begins"):
        go_on(tmp_path, timesteps=2 * TEXTS)
    assert go_on(tmp_path, timesteps=2 * TEXTS, force_resume=True).num_timesteps >= 2 * TEXTS


def test_more_texts_than_were_ordered(tmp_path):
    short = train(tmp_path, "sac", timesteps=160)
    assert short.num_timesteps == 160
    again = go_on(tmp_path, timesteps=160)
    assert again.num_timesteps == 160  # there is nothing left to do
    assert go_on(tmp_path, timesteps=240).num_timesteps == 240


def test_a_rollout_that_was_cut_short_is_gone_on_with_by_force_only(tmp_path):
    def breaks(prompts, completions):
        breaks.calls += 1
        if breaks.calls > 25:  # in the middle of the second rollout
            raise ValueError("no more")
        return score(prompts, completions)

    breaks.calls = 0
    with pytest.raises(RewardError, match="no more"):
        train(tmp_path, "ppo", reward=breaks, evaluations=0, gold=())
    objects = {"decoder": LetterDecoder(), "progress_bar": False, "report": str}
    with pytest.raises(InputError, match="going on would not be exact: its last update was cut"):
        textgym.train(ID, out=tmp_path, resume=True, reward=score, **objects)
    done = textgym.train(ID, out=tmp_path, force_resume=True, reward=score, **objects)
    assert done.num_timesteps >= TEXTS


def test_what_is_not_as_it_was_is_one_line(tmp_path):
    own, out = tmp_path / "vae", tmp_path / "run"
    shape = {"hidden_size": 16, "latent_size": 3, "max_position_embeddings": 32}
    TextVAE.new(Tokenizer.byte(), seed=1, **shape).save_pretrained(own)
    words = f"train {VAE_ID} --decoder {own} --agent sac --timesteps 32 --n-envs 4".split()
    code, _, error = run_cli(*words, "--out", str(out), "--no-progress-bar")
    assert (code, error) == (0, "")
    again = ["train", "--out", str(out), "--resume", "--no-progress-bar"]
    code, said, error = run_cli(*again, "--timesteps", "48")
    assert (code, error) == (0, "") and "saved after 48 texts" in said
    code, _, error = run_cli(*again, "--learning-rate", "0.5")
    assert code == 2 and "but learning_rate=0.5 was given" in error.replace(
        "--learning-rate", "learning_rate"
    )
    TextVAE.new(Tokenizer.byte(), seed=2, **shape).save_pretrained(own)
    code, _, error = run_cli(*again, "--timesteps", "64")
    assert code == 2 and "does not hold the decoder that it was trained with" in error
    assert error.count("\n") == 1
