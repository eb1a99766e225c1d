"""Bad input on the command line: one line that helps, an exit code, and nothing half-written."""

import json
import shutil
from pathlib import Path

import pytest
from front_door import ENV, byte_lm, read_lines, run_cli

import textgym
from textgym import registry
from textgym.errors import RewardError, StorageError
from textgym.storage import run_lock

QUIET = "--no-progress-bar"
SMALL = ("--n-envs", "2", "--n-steps", "16", "--batch-size", "16", "--n-epochs", "1", QUIET)


def raises_later(prompts, completions):
    """A reward that fails at its fourth batch."""
    raises_later.calls += 1
    if raises_later.calls > 3:
        raise RuntimeError("the service is gone")
    return [1.0] * len(completions)


def hangs(prompts, completions):
    """A reward that never answers."""
    import threading

    threading.Event().wait(30)


def not_a_number(prompts, completions):
    """A reward that is broken."""
    return [float("nan")] * len(completions)


@pytest.fixture(scope="module", autouse=True)
def forget_rewards():
    """The names of these rewards are for this file only."""
    before = set(registry.rewards.names())
    yield
    for name in set(registry.rewards.names()) - before:
        registry.rewards.unregister(name)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A good language model, and some that are broken in one way each."""
    here = tmp_path_factory.mktemp("models")
    byte_lm().save_pretrained(here / "lm")

    def broken(name, file, change):
        shutil.copytree(here / "lm", here / name)
        (here / name / "manifest.json").unlink()
        path = here / name / file
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    broken("pad", "tokenizer_config.json", lambda c: c.update(pad_token="<|fill|>"))
    broken("stop", "tokenizer_config.json", lambda c: c.update(eos_token="<|end|>"))
    broken("vocabulary", "config.json", lambda c: c.update(vocab_size=100))
    shutil.copytree(here / "lm", here / "damaged")
    weights = here / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    return here


TRAIN = "train ENV --out OUT --policy LM"
DPO = f"{TRAIN} --agent dpo"
# name, file's content (None: no file), command, what the line must hold
FILES = [
    ("empty corpus", "c.txt", b"", "pretrain c.txt --out OUT", "expected at least one text"),
    ("blank corpus", "c.txt", b" \n\n", "pretrain c.txt --out OUT", "expected at least one text"),
    ("no corpus", None, None, "pretrain c.txt --out OUT", "c.txt"),
    ("a folder", None, None, "pretrain . --out OUT", "."),
    ("suffix", "c.pdf", b"x", "pretrain c.pdf --out OUT", ".pdf"),
    ("not UTF-8", "c.txt", b"good\n\xff\xfe\n", "pretrain c.txt --out OUT", "c.txt, line 2"),
    ("column", "c.jsonl", b'{"txt": "a"}\n', "pretrain c.jsonl --out OUT", "c.jsonl, line 1"),
    ("not JSON", "c.jsonl", b'{"text": "a"}\n{"tex', "pretrain c.jsonl --out OUT", "line 2"),
    ("not a gzip", "c.txt.gz", b"plain", "pretrain c.txt.gz --out OUT", "c.txt.gz"),
    ("tokenizer", "c.txt", b"a", "pretrain c.txt --out OUT --tokenizer words", "tokenizer must be"),
    ("vocabulary", "c.txt", b"a", "pretrain c.txt --out OUT --vocab-size 9", "at least 259"),
    ("budget", "c.txt", b"abc", "pretrain c.txt --out OUT --batch-size 0", "--batch-size must"),
    (
        "rate",
        "c.txt",
        b"abc",
        "pretrain c.txt --out OUT --learning-rate -1",
        "--learning-rate must",
    ),
    ("device", "c.txt", b"abc", "pretrain c.txt --out OUT --device abacus", "device must be"),
    ("heldout", "c.txt", b"abc", "pretrain c.txt --out OUT --heldout 2", "--heldout must"),
    ("no pairs", "p.jsonl", b"", "sft p.jsonl --policy LM --out OUT", "p.jsonl"),
    (
        "empty prompt",
        "p.jsonl",
        b'{"prompt": "", "completion": "x"}\n',
        "sft p.jsonl --policy LM --out OUT",
        "p.jsonl, line 1",
    ),
    (
        "long pair",
        "p.jsonl",
        b'{"prompt": "' + b"a" * 200 + b'", "completion": "x"}\n',
        "sft p.jsonl --policy LM --out OUT",
        "the model's context is 96",
    ),
    ("pairs as text", "p.txt", b"a", "sft p.txt --policy LM --out OUT", "expected pairs"),
    ("no ratings", "r.jsonl", b"", "fit-reward r.jsonl --policy LM --out OUT", "r.jsonl"),
    (
        "same twice",
        "r.jsonl",
        b'{"prompt": "a", "chosen": "x", "rejected": "x"}\n',
        "fit-reward r.jsonl --policy LM --out OUT",
        "r.jsonl, line 1",
    ),
    (
        "no two ratings",
        "r.jsonl",
        b'{"text": "a", "ratings": [1]}\n',
        "fit-reward r.jsonl --policy LM --out OUT --no-progress-bar",
        "no usable pairs",
    ),
    ("no preferences", "p.jsonl", b"", f"{DPO} --preferences p.jsonl", "p.jsonl"),
    (
        "a tie",
        "p.jsonl",
        b'{"prompt": "a", "chosen": "x", "rejected": "y"}\n'
        b'{"prompt": "a", "chosen": "x", "rejected": "y", "tie": true}\n',
        f"{DPO} --preferences p.jsonl",
        "p.jsonl, pair 2: a tie (prompt 'a'), but DPO needs a better and a worse text",
    ),
    (
        "twice the same",
        "p.jsonl",
        b'{"prompt": "a", "chosen": "x", "rejected": "x"}\n',
        f"{DPO} --preferences p.jsonl",
        "p.jsonl, line 1",
    ),
    (
        "ratings for DPO",
        "p.jsonl",
        b'{"text": "a", "ratings": [1, 2]}\n',
        f"{DPO} --preferences p.jsonl",
        "p.jsonl: expected pairs (prompt, chosen, rejected), found ratings",
    ),
    (
        "a long preference",
        "p.csv",
        b"prompt,chosen,rejected\na," + b"b" * 96 + b",c\n",
        f"{DPO} --preferences p.csv",
        "p.csv, pair 1: expected a prompt, and with its completion at most 96 tokens",
    ),
    ("YAML", "c.yaml", b"steps: [", "pretrain x.txt --out OUT --config c.yaml", "c.yaml, line 1"),
    ("key", "c.yaml", b"stepz: 1", "pretrain x --out OUT --config c.yaml", "did you mean 'steps'"),
    ("value", "c.yaml", b"steps: many", "pretrain x --out OUT --config c.yaml", "steps must be"),
    ("prompts", "p.txt", b"\n", "evaluate ENV --policy LM --prompts p.txt", "no prompts"),
    ("long", "p.txt", b"a" * 90, "evaluate ENV --policy LM --prompts p.txt", "context is 96"),
]
NAMES = [
    ("generate LM --prompt", "needs|requires"),
    ("generate LM", "missing --prompt"),
    ("generate nowhere --prompt a", "nowhere: no such directory"),
    ("generate . --prompt a", "no config.json"),
    ("generate damaged --prompt a", "model.safetensors: damaged"),
    ("generate pad --prompt a", r"pad token '<\|fill\|>' is not in the tokenizer's vocabulary"),
    ("generate LM --prompt a --pad-token <|eos|>", "pad token must differ from the eos token"),
    ("generate stop --prompt a", "eos token '<\\|end\\|>' is not in the tokenizer"),
    ("generate vocabulary --prompt a", "tokenizer has 259 tokens, but the model only 100"),
    ("generate LM --prompt a --max-new-tokens 500", "exceeds the model's context of 96"),
    ("generate LM --prompt a --temperature -1", "temperature"),
    ("generate LM --prompt a --top-p 2", "--top-p must"),
    ("train ENV", "missing --out"),
    ("train Nowhere-v0 --out OUT", "unknown environment 'Nowhere-v0'"),
    ("train no.module:Id-v0 --out OUT", "no module named 'no'"),
    ("train ENV --out OUT --policy nowhere", "nowhere: no such directory"),
    ("train ENV --out OUT --reward lenght", "did you mean 'length'"),
    ("train ENV --out OUT --reward LM", "no reward_model.json"),
    ("train ENV --out OUT --reward length,targt=3", "did you mean 'target'"),
    ("train ENV --out OUT --policy LM --env-kwargs max_new_tokens=90", "model's context is 96"),
    ("train ENV --out OUT --policy LM --env-kwargs max_new_tokens=0", "max_new_tokens must"),
    ("train ENV --out OUT --policy LM --env-kwargs max-tokens=1", "did you mean"),
    ("train ENV --out OUT --policy LM --env-kwargs oops", "expected KEY=VALUE"),
    (
        "train ENV --out OUT --policy LM --timesteps 0",
        "--timesteps must be a whole number from 1 .* got 0",
    ),
    ("train ENV --out OUT --policy LM --kl-coef -1", "--kl-coef must be .* from 0 .* got -1"),
    (
        "train ENV --out OUT --policy LM --kl-coef 1 --kl-estimator k9",
        "--kl-estimator must be .* got 'k9'",
    ),
    ("train ENV --out OUT --policy LM --kl-target 3", "--kl-target needs a --kl-coef"),
    ("train ENV --out OUT --policy LM --temperature 0", "temperature must be positive"),
    ("train ENV --out OUT --policy LM --value-trunk both", "--value-trunk must be .* got 'both'"),
    ("train ENV --out OUT --kl-cof 1", "--kl-coef"),
    ("train ENV --out OUT --n-envs many", "--n-envs must be a whole number, got 'many'"),
    ("train ENV --out OUT --resume", "holds no run to resume"),
    ("train --resume", "--resume needs --out"),
    (f"{TRAIN} --agent gpro", "unknown agent 'gpro': did you mean 'grpo'"),
    (f"{TRAIN} --agent grpo --num-generation 2", "--num-generations"),
    (f"{TRAIN} --agent grpo --n-envs 4 --num-generations 3", "must be a multiple of --num-gen"),
    (f"{TRAIN} --agent grpo --num-generations 0", "--num-generations must be a whole number"),
    (f"{TRAIN} --agent rloo --num-generations 1", "--num-generations must be at least 2, got 1"),
    (f"{TRAIN} --agent grpo --n-groups 0", "--n-groups must be a whole number from 1 .* got 0"),
    (f"{TRAIN} --agent dqn --kl-coef 1", r"--kl-coef \(see textgym train --agent dqn --help\)"),
    (f"{TRAIN} --agent grpo --n-envs 0", "--n-envs must be a whole number from 1 .* got 0"),
    (f"{TRAIN} --agent grpo --loss-type dapoo", "--loss-type must be one of grpo, dapo, dr_grpo"),
    (f"{TRAIN} --agent grpo --kl-coef 1 --kl-in loss", "needs --kl-estimator .k2. or .k3."),
    (f"{TRAIN} --agent reinforce --baseline critic", "baseline must be one of batch, running"),
    (f"{TRAIN} --agent best_of_n --kl-coef 0.1", "--kl-coef"),
    (f"{TRAIN} --agent nlpo --mask-top-p 0", "--mask-top-p must be .* above 0, at most 1"),
    (
        f"{TRAIN} --agent nlpo --mask-update-interval 0",
        "--mask-update-interval must be a whole number from 1",
    ),
    (f"{DPO} --kl-coef 0", "DPO needs a reference: give --kl-coef"),
    (f"{DPO} --preferences nowhere.jsonl", "nowhere.jsonl"),
    (f"{DPO} --preferences p.txt", "p.txt"),
    (f"{DPO} --label-smoothing 0.5", "--label-smoothing must be .* from 0, below 0.5"),
    ("pretrain c.txt --out OUT --resume", "holds no run to resume"),
    ("evaluate ENV --policy LM --gold critik", "did you mean 'critic'"),
    ("evaluate ENV --policy LM --n-episodes 0", "--n-episodes must"),
    ("tensorboard nowhere", "nowhere: no such directory"),
    ("tensorboard .", "holds no TensorBoard event files"),
    ("frobnicate", "No such command"),
]


def refused(models, command, tmp_path, monkeypatch):
    """Run a command that must be refused with exit code 2, and return its line."""
    monkeypatch.chdir(tmp_path)
    for name in ("damaged", "pad", "stop", "vocabulary"):
        if f" {name} " in command:
            command = command.replace(f" {name} ", f" {models / name} ")
    words = [{"LM": str(models / "lm"), "ENV": ENV}.get(word, word) for word in command.split()]
    before = sorted(tmp_path.rglob("*"))
    code, out, error = run_cli(*words)
    assert code == 2, error
    assert error.startswith("textgym: error: ") and error.count("\n") == 1
    assert "Traceback" not in out + error and out.count("\n") <= 9
    assert sorted(tmp_path.rglob("*")) == before, "something was left behind"
    return error


@pytest.mark.parametrize("name, file, content, command, message", FILES, ids=[f[0] for f in FILES])
def test_a_bad_file_is_named(models, tmp_path, monkeypatch, name, file, content, command, message):
    if file is not None:
        (tmp_path / file).write_bytes(content)
    assert message in refused(models, command, tmp_path, monkeypatch)


@pytest.mark.parametrize("command, message", NAMES, ids=[n[0] for n in NAMES])
def test_a_bad_name_or_number_is_named(models, tmp_path, monkeypatch, command, message):
    import re

    assert re.search(message, refused(models, command, tmp_path, monkeypatch))


def test_an_unknown_character_is_bytes_to_a_character_tokenizer():
    from textgym.tokenizer import Tokenizer

    tokenizer = Tokenizer.character(["abc"])
    lm = byte_lm()
    lm = type(lm).new(tokenizer, hidden_size=16, num_hidden_layers=1, max_position_embeddings=96)
    assert tokenizer.decode(tokenizer.encode("añ漢")) == "añ漢"
    assert len(textgym.generate(lm, prompt="añ漢", max_new_tokens=3)) == 1


def trained(models, out, reward, *more):
    arguments = ("train", ENV, "--policy", models / "lm", "--reward", reward, "--out", out)
    return run_cli(*arguments, *SMALL, "--timesteps", 4000, *more)


def test_a_reward_that_raises_midway_leaves_what_was_learned(models, tmp_path, monkeypatch):
    monkeypatch.setattr(raises_later, "calls", 0, raising=False)
    textgym.register_reward("raises_later", raises_later)
    out = tmp_path / "run"
    code, _, error = trained(models, out, "raises_later", "--value-warmup-rollouts", 0)
    assert code == 2 and error.count("\n") == 1
    assert "reward model 'raises_later' raised RuntimeError: the service is gone" in error
    steps = read_lines(out / "metrics.jsonl")[-1]["step"]
    agent = textgym.load_agent(out)
    assert steps <= agent.num_timesteps <= steps + 32
    start = byte_lm().model.embed_tokens.weight
    assert not (agent.policy.lm.model.embed_tokens.weight == start).all()
    monkeypatch.setattr(raises_later, "calls", -10_000)
    goal = agent.num_timesteps + 64
    code, text, _ = run_cli("train", "--out", out, "--resume", "--timesteps", goal, QUIET)
    assert code == 0 and f"saved after {goal:,} tokens" in text


@pytest.mark.parametrize(
    "reward, message",
    [(hangs, "gave no answer within 0.2 s"), (not_a_number, "score that is not finite")],
)
def test_a_reward_that_hangs_or_is_broken_ends_the_run(models, tmp_path, reward, message):
    textgym.register_reward(reward.__name__, reward)
    timeout = ("--env-kwargs", "reward_timeout=0.2")
    code, _, error = trained(models, tmp_path / "run", reward.__name__, *timeout)
    assert code == 2 and message in error and error.count("\n") == 1
    with pytest.raises(RewardError):
        textgym.evaluate(ENV, policy=tmp_path / "run", reward=not_a_number, n_episodes=2)


def test_a_run_directory_has_one_writer(models, tmp_path):
    with run_lock(tmp_path / "run"):
        code, _, error = trained(models, tmp_path / "run", "length")
    assert code == 3 and "run: in use by another process" in error and error.count("\n") == 1
    assert list((tmp_path / "run").iterdir()) == []


def test_a_run_is_not_overwritten(models, tmp_path):
    out = tmp_path / "run"
    assert trained(models, out, "length", "--timesteps", 32)[0] == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    code, _, error = trained(models, out, "length")
    assert code == 2 and "holds a run already; choose another --out, or go on with" in error
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    code, _, error = run_cli("sft", "--out", out, "--resume")
    assert code == 2 and "holds a run of 'train', not of 'sft'" in error


def test_a_run_that_saved_nothing_may_be_started_again(models, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.yaml").write_text(f"verb: train\nenv: {ENV}\n")
    (out / "metrics.jsonl").write_text('{"step": 1}\n')
    code, _, error = run_cli("train", ENV, "--out", out, "--resume")
    assert code == 2 and "saved no checkpoint yet; start it again without --resume" in error
    assert trained(models, out, "length", "--timesteps", 32)[0] == 0
    assert [row["step"] for row in read_lines(out / "metrics.jsonl")] == [32]


def test_a_place_that_cannot_be_written(models, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, error = trained(models, tmp_path / "file", "length")
    assert code == 2 and "file: is a file; --out names a directory" in error
    code, _, error = trained(models, tmp_path / "file" / "run", "length")
    assert code == 3 and "run: cannot be written" in error and error.count("\n") == 1


def test_a_full_disk_while_saving_keeps_the_last_checkpoint(models, tmp_path, monkeypatch):
    out = tmp_path / "run"
    assert trained(models, out, "length", "--timesteps", 32)[0] == 0
    last = out / "checkpoints" / "last"
    before = {path.name: path.read_bytes() for path in last.iterdir()}

    def full(self, *args, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    code, _, error = run_cli("train", "--out", out, "--resume", "--timesteps", 64, QUIET)
    monkeypatch.undo()
    assert code == 3 and "No space left on device" in error and error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in last.iterdir()} == before
    names = {path.name for path in (out / "checkpoints").iterdir()}
    assert names == {"last", "previous"}  # nothing half-written beside them
    with pytest.raises(StorageError, match="cannot be written"), run_lock(last / "config.json"):
        pass
