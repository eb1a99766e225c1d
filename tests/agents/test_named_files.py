"""A checkpoint reads the files that it was made with, and none that somebody else chose for us."""

import gzip
import json
import os
from pathlib import Path

import pytest
import torch
from bad_flags import watchdog
from front_door import ENV, run_cli, small_agent

import textgym
from textgym.agents.building.checkpoint import save_agent
from textgym.agents.building.environment_record import environment_record
from textgym.agents.building.named_files import named_files
from textgym.errors import InputError
from textgym.manifest import sha256, write_manifest
from textgym.policies.language_model.checkpoint import read_trainer_state, write_trainer_state
from textgym.reward_models.learned.ngrams import NgramHasher, NgramRidge
from textgym.reward_models.rules.lexicon import read_lexicon

SMALL = {"n_envs": 2, "n_steps": 8, "batch_size": 8, "n_epochs": 1}
PAIR = '{"prompt": "One ", "chosen": "two", "rejected": "six"}\n'
FILES = {
    "prompts.txt": "One \nTwo \n",
    "words.txt": "fine\t2.0\nawful\t-2.0\n",
    "pairs.jsonl": PAIR * 4,
}


def reward_model(directory, weight):
    weights = torch.full((256,), weight)
    NgramRidge(weights, hasher=NgramHasher(bits=8)).save_pretrained(directory)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a file of each kind that an agent may name."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    reward_model("judge", 0.0)
    return tmp_path


def replace_all():
    """Something else at each of the paths."""
    for name, text in FILES.items():
        Path(name).write_text(text.replace("One", "Six").replace("fine", "good"))
    reward_model("judge", 1.0)


# What an agent is made with, the path that it names, and what the caller passes to allow it.
CASES = {
    "prompts": ({"env_kwargs": {"prompts": "prompts.txt"}}, {"env_kwargs": {"prompts": ["Six "]}}),
    "reward": ({"reward": "judge"}, {"reward": "judge"}),
    "argument": ({"reward": "lexicon,path=words.txt"}, {"reward": "lexicon,path=words.txt"}),
    "preferences": (
        {"name": "dpo", "preferences": "pairs.jsonl"},
        {"preferences": "pairs.jsonl"},
    ),
}
cases = pytest.mark.parametrize("given, allowed", CASES.values(), ids=CASES)


def saved(**keywords):
    sizes = {"n_envs": 2} if "name" in keywords else SMALL
    save_agent(small_agent(**{**sizes, **keywords}), "agent")


def craft(change):
    """Change the state of the saved agent as somebody else would, its manifest with it."""
    directory = Path("agent")
    state = read_trainer_state(directory)
    change(state)
    write_trainer_state(state, directory)
    write_manifest(directory)


@cases
def test_the_files_of_the_run_are_read_wherever_they_are_the_same(here, given, allowed):
    saved(**given)
    textgym.load_agent("agent")
    for name in FILES:
        os.utime(name, (0, 0))  # its age is no part of it
    textgym.load_agent("agent")


@cases
def test_a_file_with_something_else_in_it_is_not(here, given, allowed):
    saved(**given)
    replace_all()
    with pytest.raises(InputError, match="chooses no files to read: pass") as error:
        textgym.load_agent("agent")
    assert "\n" not in str(error.value)
    textgym.load_agent("agent", **allowed)


@cases
def test_a_path_that_was_written_into_a_checkpoint_is_not(here, given, allowed):
    """Nobody who has not seen a file knows its sum."""
    saved(**given)
    craft(lambda state: state.pop("files"))
    with pytest.raises(InputError, match="chooses no files to read"):
        textgym.load_agent("agent")
    craft(lambda state: state.update(files={"prompts": {"prompts.txt": "nothing there"}}))
    with pytest.raises(InputError, match="chooses no files to read"):
        textgym.load_agent("agent")


@pytest.mark.parametrize("place", ["fifo.txt", "/dev/zero", "folder.txt", "/", "~", "a\0b"])
@pytest.mark.parametrize("setting", ["prompts", "reward", "argument"])
def test_what_is_no_regular_file_is_refused_at_once(here, place, setting):
    """Even where the checkpoint says that it was so: a FIFO is never opened, `/` never walked."""
    saved()
    os.mkfifo("fifo.txt")
    Path("folder.txt").mkdir()

    def change(state):
        name = f"lexicon,path={place}" if setting == "argument" else place
        if setting == "prompts":
            state["environment"]["env_kwargs"] = {"prompts": name}
        else:
            state["environment"]["reward"] = name
        state["files"] = {s: {place: "nothing there"} for s in ("prompts", "reward")}

    craft(change)
    with pytest.raises(InputError):
        textgym.load_agent("agent")


def test_a_checkpoint_has_its_own_tokenizer(here):
    saved()
    craft(lambda state: state["environment"]["env_kwargs"].update(tokenizer="/etc"))
    with pytest.raises(InputError, match="names a tokenizer, but has its own"):
        textgym.load_agent("agent")


def test_files_that_are_gone_are_named_by_who_reads_them(here):
    saved(env_kwargs={"prompts": "prompts.txt"})
    Path("prompts.txt").unlink()
    with pytest.raises(InputError, match=r"prompts\.txt: expected a text file, there is none"):
        textgym.load_agent("agent")


def test_what_is_recorded_by_hand(here):
    record = environment_record(
        ENV,
        reward="lexicon,path=words.txt",
        env_kwargs={"prompts": Path("prompts.txt"), "stop": "words.txt", "max_new_tokens": 4},
    )
    assert named_files(record, {"preferences": "pairs.jsonl", "loss_type": "ipo"}) == {
        "reward": {"words.txt": sha256(Path("words.txt"))},
        "prompts": {"prompts.txt": sha256(Path("prompts.txt"))},
        "preferences": {"pairs.jsonl": sha256(Path("pairs.jsonl"))},
    }
    record = environment_record(ENV, reward="judge", env_kwargs={"prompts": ["words.txt"]})
    assert named_files(record, {"preferences": None}) == {
        "reward": {"judge": sha256(Path("judge/manifest.json"))}
    }


def test_a_record_that_is_given_names_its_files_too(here):
    agent = small_agent(**SMALL)
    record = environment_record(ENV, env_kwargs={"prompts": "prompts.txt"})
    save_agent(agent, "agent", environment=record)
    textgym.load_agent("agent")


def test_a_run_is_resumed_with_the_paths_of_its_own_settings(here):
    """Its settings are trusted: with --force-resume other pairs are learned from."""
    run = ["train", ENV, "--agent", "dpo", "--out", "run", "--n-envs", 2, "--no-progress-bar"]
    code, _, error = run_cli(*run, "--preferences", "pairs.jsonl", "--timesteps", 16)
    assert code == 0, error
    more = ["train", "--out", "run", "--timesteps", 32, "--no-progress-bar"]
    code, _, error = run_cli(*more, "--resume")
    assert code == 0, error
    Path("pairs.jsonl").write_text(PAIR.replace("six", "ten") * 4)
    code, _, error = run_cli(*more, "--resume")
    assert code == 2 and "preferences pairs.jsonl had SHA-256" in error
    code, _, error = run_cli(*more, "--force-resume")
    assert code == 0, error


@pytest.mark.parametrize("content", ["fifo", "device", "folder", "cut", "noise"])
def test_a_word_list_that_cannot_be_read_is_one_line(tmp_path, content):
    path = tmp_path / "words.txt.gz"
    packed = gzip.compress(b"fine\t2.0\n" * 100)
    if content == "fifo":
        os.mkfifo(path)
    elif content == "device":
        path.symlink_to("/dev/zero")
    elif content == "folder":
        path.mkdir()
    else:
        path.write_bytes(packed[:-12] if content == "cut" else packed[:10] + b"\xff" * 20)
    with pytest.raises(InputError, match=r"words\.txt\.gz"), watchdog(20):
        read_lexicon(path)


def test_a_files_entry_of_another_type_is_refused(here):
    saved()
    for wrong in ([], {"prompts": []}, {"prompts": {"a": 1}}, "x"):
        craft(lambda state, wrong=wrong: state.update(files=wrong))
        with pytest.raises(InputError, match=r"trainer\.json"):
            textgym.load_agent("agent")


def test_the_record_is_json(here):
    saved(env_kwargs={"prompts": "prompts.txt"})
    state = json.loads(Path("agent/trainer.json").read_text(encoding="utf-8"))
    assert sha256(Path("prompts.txt")) in json.dumps(state)
