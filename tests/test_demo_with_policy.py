"""The demo with a language model of one's own, and what comes along for a base."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from front_door import byte_lm, run_cli
from rich.console import Console
from tokenizers import decoders, models

import textgym
from textgym.agents.evaluation.bundled_rewards import crowd
from textgym.demonstration import reviews, shipped
from textgym.demonstration.any_policy import PolicyDemo
from textgym.demonstration.reward import (
    BOTH,
    LAYERS,
    NAME,
    NGRAMS,
    Crowd,
    CrowdReport,
    fit_on_frozen,
)
from textgym.demonstration.run import run_demo
from textgym.demonstration.settings import PolicySettings, seconds_of_a_pass
from textgym.demonstration.shipped import Shipped, shipped_for, weights_digest, write_shipped
from textgym.envs.tasks import movie_reviews
from textgym.errors import InputError
from textgym.policies.language_model.adapters import LoRA, adapter_state, add_adapter
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.shallow import first_layers
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
from textgym.reward_models.learned.ensemble import Ensemble
from textgym.tokenizer import Tokenizer

TEXTS = ["A funny and moving film.", "A dull, stupid mess of a film.", "Film."]


@pytest.fixture(scope="module")
def base():
    """Of several layers, so that the first ones are fewer."""
    return byte_lm(num_hidden_layers=5, max_position_embeddings=512)


@pytest.fixture(scope="module")
def tuned(base):
    """The base with an adapter that changes it."""
    lm = base.trainable_copy()
    add_adapter(lm, LoRA.of(2), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in adapter_state(lm).values():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 8)
    return lm


@pytest.fixture(scope="module")
def taste(base):
    """A reward model on the base's first layers, and made-up figures of it."""
    trunk = BradleyTerryRewardModel(first_layers(base, LAYERS), seed=3, name=NAME).standardise(
        TEXTS
    )
    both = Ensemble([trunk, crowd()], name=NAME).standardise(TEXTS)
    figures = {BOTH: 0.7, "trunk": 0.6, NGRAMS: 0.65}
    return Crowd(both, CrowdReport(BOTH, figures, 0.7, figures, None))


@pytest.fixture
def folder(base, tuned, taste, tmp_path, monkeypatch):
    """All of it in a directory that the name "small" means."""
    place = tmp_path / "small"
    write_shipped(place, base, tuned, taste, "# card\n")
    monkeypatch.setattr(shipped, "FOLDERS", {"small": place})
    return place


def test_what_comes_along_is_what_was_made(folder, base, tuned, taste):
    found = shipped_for(base, "anywhere/else")  # known by its weights, whatever its name
    assert found == Shipped(folder)
    tokens = torch.tensor([[3, 70, 90, 80]])
    made, read = tuned.merged()(tokens), found.fine_tuned(base)(tokens)
    assert torch.allclose(read, made, atol=2e-3)  # the adapter is stored in float16
    assert not torch.allclose(read, base(tokens), atol=2e-2)
    assert not any("lora" in name for name in base.state_dict())
    again = found.crowd(base)
    np.testing.assert_allclose(again.model.score(TEXTS), taste.model.score(TEXTS), atol=1e-5)
    assert again.report == taste.report


def test_a_head_alone_comes_along_too(base, tuned, taste, tmp_path):
    trunk = taste.model.members[0]
    report = dataclasses.replace(taste.report, used="trunk")
    write_shipped(tmp_path / "made", base, tuned, Crowd(trunk, report), "# card\n")
    again = Shipped.open(tmp_path / "made").crowd(base)
    np.testing.assert_allclose(again.model.score(TEXTS), trunk.score(TEXTS), atol=1e-5)
    assert not isinstance(again.model, Ensemble) and again.report.used == "trunk"
    with pytest.raises(InputError, match="none of it is on the base"):
        alone = dataclasses.replace(report, used=NGRAMS)
        write_shipped(tmp_path / "none", base, tuned, Crowd(crowd(), alone), "# card\n")


def test_another_base_is_refused_by_name_and_else_gets_nothing(folder, base):
    other = byte_lm(seed=1, num_hidden_layers=5, max_position_embeddings=512)
    assert shipped_for(other, "anywhere/else") is None
    with pytest.raises(InputError, match=r"policy 'small': its weights are not those .*base\.json"):
        shipped_for(other, "small")
    wider = byte_lm(hidden_size=32)
    assert shipped_for(wider, "anywhere/else") is None


def test_a_damaged_file_of_it_is_refused(folder, base):
    file = folder / "head.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match=r"head\.safetensors: damaged"):
        shipped_for(base, "small")


def test_the_digest_is_of_weights_not_of_their_precision(base):
    half = base.trainable_copy().to(torch.bfloat16)
    assert weights_digest(half) == weights_digest(base)
    with torch.no_grad():
        half.model.norm.weight[0] += 1
    assert weights_digest(half) != weights_digest(base)


def test_first_layers_are_those_of_the_whole_model_with_its_norm(base):
    seen = []
    handle = base.model.layers[2].register_forward_hook(lambda *call: seen.append(call[2]))
    tokens = torch.tensor([[5, 60, 61, 62]])
    base.hidden_states(tokens)
    handle.remove()
    shallow = first_layers(base, 0.6)
    assert len(shallow.model.layers) == 3  # .6 of 5
    expected = base.model.norm(seen[0]).reshape(1, 4, -1)
    assert torch.allclose(shallow.hidden_states(tokens), expected, atol=1e-6)
    assert shallow.model.embed_tokens.weight.data_ptr() == base.model.embed_tokens.weight.data_ptr()


def test_the_estimate_grows_with_the_work_and_the_pass():
    whole, quick = PolicySettings(), PolicySettings.quick()
    known = {"has_start": True}
    assert quick.estimate(1.0, **known) < whole.estimate(1.0, **known)
    assert whole.estimate(1.0, **known) < whole.estimate(1.0, has_start=False)
    assert whole.estimate(1.0, **known) < whole.estimate(1.0, **known, reads=1e5)
    more = [whole.estimate(seconds, **known) for seconds in (1.0, 2.0, 3.0)]
    assert more[1] - more[0] == pytest.approx(more[2] - more[1])


def test_timing_a_pass_changes_nothing_and_is_of_one_thread(base):
    before, threads = weights_digest(base), torch.get_num_threads()
    assert 0 < seconds_of_a_pass(base)
    assert weights_digest(base) == before and torch.get_num_threads() == threads
    assert all(parameter.grad is None for parameter in base.parameters())


def test_a_frozen_trunk_is_fitted_and_the_best_is_taken(base):
    before = weights_digest(base)
    made = fit_on_frozen(base, share=0.02, seed=0, progress_bar=False)
    figures = made.report
    assert figures.used == max(figures.chosen_on, key=figures.chosen_on.get)
    assert figures.accuracies.keys() == {BOTH, "trunk", NGRAMS} and figures.fit is not None
    assert weights_digest(base) == before


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A quick demo of a model in a directory."""
    here = tmp_path_factory.mktemp("demo")
    byte_lm(max_position_embeddings=512).save_pretrained(here / "lm")
    console = Console(file=io.StringIO(), width=200)
    settings = {**vars(PolicySettings.quick()), "small_kl_coef": None}
    run_demo(
        out=here / "run",
        policy=here / "lm",
        settings=settings,
        progress_bar=False,
        console=console,
    )
    report = json.loads((here / "run" / "report.json").read_text(encoding="utf-8"))
    return here, report, console.file.getvalue()


def test_any_directory_is_fine_tuned_and_trained_through_an_adapter(demo):
    here, report, printed = demo
    assert "on this machine as busy as it is now (a pass over 320 tokens takes" in printed
    assert "Fine-tuning" in printed and "Used, as the best on other movies: n-grams" in printed
    start, base = (CausalLM.from_pretrained(here / place) for place in ("run/start", "lm"))
    assert weights_digest(start) != weights_digest(base)
    (run,) = textgym.open_run(here / "run" / "comparison").children()
    assert run.config["lora_rank"] == 8 and run.config["agent"] == "grpo"
    trained = CausalLM.from_pretrained(run.directory)
    assert weights_digest(trained) != weights_digest(start)
    assert report["before"]["kl"][0] == pytest.approx(0.0, abs=1e-4)
    assert report["before"]["episodes"] == report["after"]["episodes"] == 16
    assert report["reward_model"]["accuracies"].keys() == {NGRAMS}
    assert "small_kl" not in report


@pytest.mark.parametrize(
    "words, said",
    [
        (
            ["--policy", "smollm2"],
            "the model 'smollm2' is not here yet; run: textgym fetch smollm2",
        ),
        (["--policy", "nowhere"], "nowhere: "),
        (["--policy", "chinese-start"], "writes Chinese; give --chinese"),
        (["--policy", "lm", "--chinese"], "policy does not go with chinese"),
        (["--policy", "lm", "--human"], "policy does not go with human"),
    ],
)
def test_what_does_not_go_is_one_line_and_leaves_nothing(words, said, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    code, _, error = run_cli("demo", *words, "--quick", "--no-progress-bar")
    assert code == 2 and said in error and len(error.strip().splitlines()) == 1
    assert list(Path(tmp_path).iterdir()) == []


def test_what_comes_along_for_smollm2_is_whole_and_small():
    place = shipped.FOLDERS["smollm2"]
    assert len(Shipped.open(place).base) == 64
    assert sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) <= 10_000_000


def tokenizer_of(characters):
    """A token each, and an unknown one for all others."""
    names = ("<|pad|>", "<|bos|>", "<|eos|>", "<unk>")
    vocabulary = {token: i for i, token in enumerate((*names, *sorted(characters)))}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token=names[3]))
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(list(names))
    return Tokenizer(backend, pad_token=names[0], bos_token=names[1], eos_token=names[2])


def test_a_tokenizer_without_all_characters_leaves_out_prompts(tmp_path, monkeypatch):
    """Those of the task and of the report, instead of ending the demo at the first of them."""
    every = movie_reviews.training_prompts()
    plain = [prompt for prompt in every if prompt.isascii()]
    tokenizer_of(set("".join(plain))).save(tmp_path / "start")
    given = {}
    monkeypatch.setattr(reviews, "compare", lambda *_, **keywords: given.update(keywords))
    monkeypatch.setattr(reviews, "whole_study", lambda *_: None)
    settings, console = PolicySettings.quick(), Console(file=io.StringIO())
    demo = PolicyDemo(tmp_path, settings, False, 0, False, console, None)
    demo.compare("test")
    own = given["env_kwargs"]
    assert Path(own["prompts"]).read_text(encoding="utf-8").splitlines() == plain
    assert len(plain) < len(every) and own["heldout_prompts"] == str(given["prompts"])
    assert own["max_new_tokens"] == settings.max_new_tokens
    tokenizer_of("Ω").save(tmp_path / "start")
    with pytest.raises(InputError, match="its tokenizer lacks characters of every prompt, such as"):
        demo.compare("test")


def test_what_the_demo_cannot_take_is_one_line_before_anything_is_trained(tmp_path, monkeypatch):
    byte_lm(max_position_embeddings=32).save_pretrained(tmp_path / "short")
    demo = {"out": tmp_path / "run", "settings": PolicySettings.quick(), "progress_bar": False}
    demo["console"] = Console(file=io.StringIO())
    with pytest.raises(InputError, match=r"context of 32 tokens holds \d+ of \d+ reviews"):
        run_demo(policy=tmp_path / "short", **demo)
    lm = byte_lm()
    lm.tokenizer.ends_prompts = True
    monkeypatch.setattr(CausalLM, "from_pretrained", lambda *_, **__: lm)
    with pytest.raises(InputError, match="is an encoder with a decoder, and the demo"):
        run_demo(policy=tmp_path / "pair", **demo)
