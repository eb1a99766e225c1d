"""Checkpoints that somebody made up: each is one error in one line, at once, and writes nothing.

Every field of every JSON file of a language model, an agent and a reward model is replaced by
values of other types and sizes; files become FIFOs, devices, directories, and tensors of other
shapes. Many such fields are of no consequence (a model may well have another seed): what counts is
that nothing but a `TextGymError` ends the loading.
"""

import copy
import json
import os
import shutil
import signal
import struct

import pytest
import torch
from front_door import byte_lm, small_agent
from safetensors.torch import load_file, save_file

import textgym
from textgym.agents.building.checkpoint import save_agent
from textgym.agents.building.reward_checkpoint import load_reward
from textgym.errors import InputError, TextGymError
from textgym.manifest import write_manifest
from textgym.policies import TextVAE
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
from textgym.reward_models.learned.ngrams import NgramHasher, NgramRidge
from textgym.tokenizer import Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
VALUES = (None, True, -1, 10**9, 10**30, 0.5, float("nan"), "x" * 50, "../..", [], [[1]], {"a": 1})


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A whole checkpoint of each kind, and how it is loaded."""
    root = tmp_path_factory.mktemp("originals")
    byte_lm().save_pretrained(root / "lm")
    small = {"n_envs": 2, "n_steps": 8, "batch_size": 8, "n_epochs": 1}
    agent = small_agent(kl_coef=0.1, **small)
    agent.learn(16)
    save_agent(agent, root / "agent")
    eight = small_agent(optimizer="adam_8bit", value_warmup_rollouts=0, **small)
    eight.learn(16)
    save_agent(eight, root / "eight")
    shape = {"hidden_size": 16, "latent_size": 2, "max_position_embeddings": 64}
    TextVAE.new(Tokenizer.byte(), **shape).save_pretrained(root / "vae")
    latent = textgym.make_agent(
        "ppo", "textgym/Length-v0", decoder=root / "vae", n_envs=2, n_steps=4, batch_size=8
    )
    save_agent(latent, root / "latent")
    BradleyTerryRewardModel(byte_lm()).save_pretrained(root / "trunk_reward")
    NgramRidge(torch.zeros(256), hasher=NgramHasher(bits=8)).save_pretrained(root / "ngrams")
    return root


LOADERS = {
    "lm": CausalLM.from_pretrained,
    "agent": textgym.load_agent,
    "eight": textgym.load_agent,
    "latent": textgym.load_agent,
    "trunk_reward": load_reward,
    "ngrams": load_reward,
}
JSON_FILES = [
    ("lm", "config.json"),
    ("lm", "tokenizer_config.json"),
    ("agent", "trainer.json"),
    ("latent", "latent_agent.json"),
    ("trunk_reward", "reward_model.json"),
    ("ngrams", "reward_model.json"),
]


class Hangs(Exception):
    """Raised by the watchdog."""


def outcome(kind, directory, seconds=20):
    """None if it loads, or the line of its `TextGymError`; everything else is raised."""

    def alarm(*arguments):
        raise Hangs(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, alarm)
    signal.alarm(seconds)
    try:
        LOADERS[kind](directory)
    except TextGymError as error:
        assert "\n" not in str(error)
        return str(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return None


def places(content, path=()):
    """The path of every value inside a nest of tables and lists."""
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    else:
        items = ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def replaced(content, path, value):
    changed = copy.deepcopy(content)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


@pytest.mark.parametrize("kind, name", JSON_FILES)
def test_any_field_may_hold_anything(originals, tmp_path, kind, name):
    directory = shutil.copytree(originals / kind, tmp_path / kind)
    file = directory / name
    content = json.loads(file.read_text())
    every = list(places(content))
    every = every[:: max(1, len(every) // 24)]  # the trainer's nest has hundreds alike
    errors = 0
    for i, path in enumerate(every):
        for value in VALUES[i % 4 :: 4 if kind == "agent" else 2]:
            file.write_text(json.dumps(replaced(content, path, value)))
            write_manifest(directory)
            errors += outcome(kind, directory) is not None
    assert errors > len(every) / 5
    for text in ("", "[", "null", "[]", "1", '{"a": NaN}', "[" * 100_000, "\ud800", '{"a":' * 5000):
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        write_manifest(directory)
        if (kind, name) != ("lm", "tokenizer_config.json"):
            assert outcome(kind, directory), text[:20]


@pytest.mark.parametrize("kind", [kind for kind in LOADERS if kind != "eight"])
def test_no_file_may_be_something_else(originals, tmp_path, kind):
    names = [p.relative_to(originals / kind) for p in (originals / kind).rglob("*") if p.is_file()]
    for number, name in enumerate(sorted(names)):
        for what in ("fifo", "device", "directory", "loop", "empty", "noise"):
            directory = shutil.copytree(originals / kind, tmp_path / f"{number}-{what}")
            file = directory / name
            file.unlink()
            if what == "fifo":
                os.mkfifo(file)
            elif what == "device":
                file.symlink_to("/dev/zero")
            elif what == "directory":
                file.mkdir()
            elif what == "loop":
                file.symlink_to(file.name)
            else:
                file.write_bytes(b"" if what == "empty" else bytes(range(256)) * 8)
            assert outcome(kind, directory), f"{name} as {what}"
            if name.name != "manifest.json":
                write_manifest(directory)  # now nothing tells of the change but the file itself
                if outcome(kind, directory) is None:
                    # tokenizer_config.json can be missing, not wrong: its roles are looked for
                    assert name.name == "tokenizer_config.json" and what != "noise", (name, what)
            shutil.rmtree(directory)


def header(content):
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "kind, name", [("lm", "model"), ("agent", "trainer"), ("ngrams", "weights")]
)
def test_tensors_of_other_shapes_and_kinds(originals, tmp_path, kind, name):
    directory = shutil.copytree(originals / kind, tmp_path / kind)
    file = directory / f"{name}.safetensors"
    tensors = load_file(file)
    floats = [key for key, tensor in tensors.items() if tensor.is_floating_point()]
    first = max(floats, key=lambda key: tensors[key].numel())
    whole = tensors[first]
    for other in (
        whole.flatten()[:3],
        whole[None],
        whole.to(torch.int64),
        whole > 0,
        whole.to(torch.complex64),
        torch.full_like(whole, float("nan")),
        whole.new_zeros(()),
        whole.new_zeros((0, 3)),
    ):
        save_file({**tensors, first: other.contiguous()}, file)
        write_manifest(directory)
        line = outcome(kind, directory)
        assert line or (kind == "agent" and other.is_floating_point()), other.dtype
    rest = {key: tensor for key, tensor in tensors.items() if key != first}
    save_file(rest or {"other": whole}, file)
    write_manifest(directory)
    assert outcome(kind, directory)
    huge = {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}
    for content in (
        struct.pack("<Q", 2**62) + b"{}",
        header({first: huge}),
        header({first: {**huge, "shape": [2**40, 2**40]}}),
        header({first: {**huge, "data_offsets": [10, 2]}}),
        header([1]),
    ):
        file.write_bytes(content)
        write_manifest(directory)
        assert outcome(kind, directory)


def test_moments_in_8_bits_of_other_shapes_and_kinds(originals, tmp_path):
    directory = shutil.copytree(originals / "eight", tmp_path / "eight")
    file = directory / "trainer.safetensors"
    tensors = load_file(file)
    moments = {
        key.rpartition(".")[2]: key
        for key, tensor in tensors.items()
        if key.startswith(".optimizer.") and (tensor.dtype == torch.uint8 or ".absmax" in key)
    }
    assert moments.keys() == {"state1", "state2", "absmax1", "absmax2"}
    for name, key in moments.items():
        whole = tensors[key]
        others = [whole.flatten()[:3], whole[None], whole.to(torch.int8), whole.double(),
                  whole.new_zeros(()), whole.new_zeros((0, 3))]  # fmt: skip
        if whole.is_floating_point():
            others += [torch.full_like(whole, value) for value in (float("nan"), -1.0)]
        for other in others:
            save_file({**tensors, key: other.contiguous()}, file)
            write_manifest(directory)
            line = outcome("eight", directory)
            assert line and f"does not fit this agent: {name}" in line, (name, other.dtype)
    save_file(tensors, file)
    trainer = directory / "trainer.json"
    text = trainer.read_text()
    for old, new in (('"adam_8bit"', '"os.system"'), ('"adam_8bit"', '"adam"'),
                     ('"absmax1"', '"absmax9"')):  # fmt: skip
        assert old in text
        trainer.write_text(text.replace(old, new))
        write_manifest(directory)
        assert outcome("eight", directory), new
    trainer.write_text(text)
    write_manifest(directory)
    assert outcome("eight", directory) is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be"),
        ({"num_hidden_layers": 9_000}, r"calls for [\d,]+ weights \([\d,.]+ MB in memory\)"),
        ({"vocab_size": 10**8}, r"calls for 1,6[\d,]+ weights"),
        ({"intermediate_size": 10**8}, r"calls for [\d,]+ weights"),
        ({"head_dim": 10**6}, r"calls for [\d,]+ weights"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number from 1"),
        ({"num_key_value_heads": 0}, "num_key_value_heads must be a whole number from 1"),
        ({"rms_norm_eps": "1"}, "rms_norm_eps must be a finite number"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings must be True or False"),
        ({"model_type": ["llama"]}, r"model_type \['llama'\] is not supported"),
        ({"rope_parameters": [1]}, "rope_parameters: expected a table, found list"),
        ({"model_type": "mistral", "sliding_window": "x"}, "sliding_window must be a whole number"),
    ],
)
def test_sizes_are_checked_before_memory_is_taken(originals, tmp_path, changes, message):
    directory = shutil.copytree(originals / "lm", tmp_path / "lm")
    content = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**content, **changes}))
    write_manifest(directory)
    with pytest.raises(InputError, match=message):
        CausalLM.from_pretrained(directory)


def test_shards_that_are_no_names(originals, tmp_path):
    directory = shutil.copytree(originals / "lm", tmp_path / "lm")
    index = directory / "model.safetensors.index.json"
    for names in (5, [1], {"a": 5}, {"a": "../x"}, {"a": "/etc/hosts"}, {"a": "a\0b"}, {"a": ".."}):
        index.write_text(json.dumps({"weight_map": names}))
        assert outcome("lm", directory)


def test_what_makes_the_tokenizer_library_panic(originals, tmp_path):
    directory = shutil.copytree(originals / "lm", tmp_path / "lm")
    file = directory / "tokenizer.json"
    content = json.loads(file.read_text())
    every = [p for p in places(content) if "vocab" not in p or p[-1] == "vocab"][::4]
    odd = (None, -1, 10**30, "x", [], {}, [["a", "b"]], {"type": "Nothing"}, {"a": 2**32 - 1})
    for path in every:
        for value in odd:
            file.write_text(json.dumps(replaced(content, path, value)))
            write_manifest(directory)
            outcome("lm", directory)
    panics = {
        "type": "Precompiled",
        "precompiled_charsmap": "AAAA",
    }
    file.write_text(json.dumps({**content, "normalizer": panics}))
    write_manifest(directory)
    assert "not a tokenizer that can be read" in (outcome("lm", directory) or "")


def craft(originals, tmp_path, **settings):
    """An agent's checkpoint with other keywords in its state."""
    from textgym.policies.language_model.checkpoint import read_trainer_state, write_trainer_state

    directory = shutil.copytree(originals / "agent", tmp_path / "agent")
    state = read_trainer_state(directory)
    state["settings"]["keywords"] |= settings
    write_trainer_state(state, directory)
    write_manifest(directory)
    return directory


@pytest.mark.parametrize(
    "keywords",
    [
        {"tensorboard_log": "elsewhere"},
        {"policy_kwargs": {"model": "lm"}},
        {"policy_kwargs": {"optimizer_class": "os.system"}},
        {"rollout_buffer_kwargs": {"x": "y"}},
        {"learning_rate": "fast"},
        {"n_steps": [1, 2]},
        {"gamma": "inf"},
        {"unheard_of": 1},
        {"verbose": {"a": {"b": {"c": {"d": {"e": 1}}}}}},
    ],
)
def test_a_keyword_of_a_checkpoint_names_no_place_and_no_code(
    originals, tmp_path, monkeypatch, keywords
):
    directory = craft(originals, tmp_path, **keywords)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=next(iter(keywords))):
        textgym.load_agent(directory)
    assert os.listdir(tmp_path) == ["agent"]


def test_the_caller_may_say_where_to_write_himself(originals, tmp_path):
    directory = craft(originals, tmp_path, tensorboard_log="elsewhere")
    agent = textgym.load_agent(directory, tensorboard_log=str(tmp_path / "mine"))
    assert agent.tensorboard_log == str(tmp_path / "mine")
