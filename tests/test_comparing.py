"""`textgym compare`: one real study that is interrupted, goes on, and has a cell that fails.

What its runs leave is held against the same command lines, run elsewhere and left alone.
"""

import json
import os
import shlex
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml
from front_door import ENV, byte_lm, read_lines, run_cli
from safetensors.torch import load_file

import textgym
from textgym.agents.comparison.standing import changed_judges, changed_settings
from textgym.agents.comparison.study_files import REPLACED, check_study_place
from textgym.agents.runs.held_out import HeldOutSettings, Judge, read_held_out
from textgym.command_line.options import from_command_line
from textgym.command_line.verbs import compared_agents, verb_flags
from textgym.errors import InputError, StorageError
from textgym.planning.names import agent_choice, keyword_flags_of
from textgym.planning.plan import planned
from textgym.planning.study_runs import StudyRuns
from textgym.storage import run_lock

BROKEN = "ppo,learning_rate=1e18"
SHARED = {
    "policy": "lm",
    "reward": ["length,target=10", "length,target=20"],
    "gold": "keyword,words=a",
    "agent": "ppo",
    "seeds": 1,
    "timesteps": 2_000,
    "evaluations": 3,
    "out": "study",
    "jobs": 1,
    "n_envs": 4,
    "n_steps": 32,
    "n_epochs": 1,
    "guards": "warn",
    "env_kwargs": {"max_new_tokens": 12},
}
CLOCKS = ("time/", "system/")


def interrupt_after_rollouts(metrics, count):
    """Ctrl-C once a run has written so many rows; the thread that waits for it."""

    def wait():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if metrics.is_file() and len(metrics.read_bytes().splitlines()) >= count:
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with a study of three cells, and what was said while it ran."""
    here = tmp_path_factory.mktemp("compare")
    byte_lm().save_pretrained(here / "lm")
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        first = here / "study/cells/lm--ppo--length-target=10/seed-0"
        thread = interrupt_after_rollouts(first / "metrics.jsonl", 3)
        with pytest.raises(KeyboardInterrupt):
            textgym.compare(ENV, **SHARED, report=said.append)
        thread.join()
        interrupted = [row["step"] for row in read_lines(first / "metrics.jsonl")]
        both = {**SHARED, "agent": ["ppo", BROKEN], "reward": SHARED["reward"][:1]}
        both |= {"shadow": SHARED["reward"][1:], "jobs": 2}
        result = textgym.compare(ENV, **both, report=said.append)
    return {"here": here, "first": first, "said": said, "interrupted": interrupted,
            "result": result, "arguments": both}  # fmt: skip


def without_clocks(rows):
    return [{k: v for k, v in row.items() if not k.startswith(CLOCKS)} for row in rows]


def test_an_interrupted_run_goes_on_and_ends_as_its_command_line_ends_elsewhere(study, tmp_path):
    steps = [row["step"] for row in read_lines(study["first"] / "metrics.jsonl")]
    assert 3 <= len(study["interrupted"]) < len(steps)
    assert steps[-1] >= SHARED["timesteps"]
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study["here"])
        code, out, _ = run_cli("compare", ENV, "--config", "study/config.yaml", "--dry-run")
        assert code == 0
        line = next(line for line in out.splitlines() if line.startswith("# finished: OMP_"))
        words = shlex.split(line.removeprefix("# finished: "))
        assert words[:5] == ["OMP_NUM_THREADS=1", "python", "-m", "textgym", "train"]
        words[words.index("--out") + 1] = str(tmp_path / "alone")
        torch.set_num_threads(1)
        try:
            code, _, err = run_cli(*words[4:], "--no-progress-bar")
        finally:
            torch.set_num_threads(threads)
    assert code == 0, err
    alone, first = tmp_path / "alone", study["first"]
    for name in ("model.safetensors", "checkpoints/last/trainer.safetensors"):
        mine, theirs = load_file(alone / name), load_file(first / name)
        assert mine.keys() == theirs.keys()
        different = [key for key in mine if not torch.equal(mine[key], theirs[key])]
        assert [key for key in different if not key.endswith(".times")] == []
    for name in ("metrics.jsonl", "samples.jsonl", "held_out.jsonl", "held_out_prompts.jsonl"):
        mine, theirs = read_lines(alone / name), read_lines(first / name)
        assert without_clocks(mine) == without_clocks(theirs), name
    assert all("guards/alarms" in row for row in read_lines(first / "metrics.jsonl"))
    config = yaml.safe_load((first / "config.yaml").read_text())
    assert (
        config["guards"] == "warn"
        and config["shadow"] == ["length,target=20"]
        and config["gold"] == ["keyword,words=a"]
    )
    record = read_held_out(first)
    assert {name: judge.role for name, judge in record.settings.judges.items()} == {
        "length,target=10": "reward",
        "length,target=20": "shadow",
        "keyword": "gold",
    }
    assert all(text.scores["keyword"] is not None for text in record.texts[0])


def test_a_run_that_fails_leaves_the_others_alone_and_is_named(study):
    result = study["result"]
    assert list(result.failures) == [f"{BROKEN}, seed 0"]
    content = json.loads((study["here"] / "study/study.json").read_text())
    assert content["seeds"] == [0] and content["timesteps"] == 2_000 and content["notes"] == []
    assert [(cell["label"], cell["settings"]) for cell in content["cells"]] == [
        ("ppo", {"learning_rate": 0.0003}),
        (BROKEN, {"learning_rate": 1e18}),
    ]
    (failure,) = content["failures"]
    assert failure["name"] == "cells/lm--ppo-learning_rate=1e18--length-target=10/seed-0"
    assert "diverged" in failure["reason"] and failure["lines"][-1].endswith(failure["reason"])
    assert any(line.startswith("[1/2] ppo, seed 0: finished in ") for line in study["said"])
    assert any(f"{BROKEN}, seed 0: failed: " in line for line in study["said"])


def test_finished_runs_are_kept_and_changed_ones_named(study, monkeypatch):
    monkeypatch.chdir(study["here"])
    before = (study["first"] / "metrics.jsonl").read_bytes()

    def dry(**changes):
        lines = []
        arguments = {**study["arguments"], "agent": "ppo", **changes}
        textgym.compare(ENV, **arguments, dry_run=True, report=lines.append)
        return lines

    assert dry()[1] == "# ppo: 1 of 1 runs are finished"
    # What changes no figure of a run: more seeds, other checkpoints, another judge.
    more = dry(seeds=2, checkpoint_seconds=60.0, gold=["keyword,words=b", "repetition"])
    assert more[1] == "# ppo: 1 of 2 runs are finished" and "--seed 1" in more[3]
    changed = dry(learning_rate=0.001)
    assert changed[2] == "# seed 0 is run anew: learning_rate was 0.0003, is 0.001"
    # The model of the start was another: its folder holds something else now.
    shutil.move("lm", "old")
    byte_lm(seed=1).save_pretrained("lm")
    assert dry()[2].startswith("# seed 0 is run anew: policy lm holds something else")
    shutil.rmtree("lm")
    shutil.move("old", "lm")
    provenance = study["first"] / "provenance.json"
    text = provenance.read_text()
    provenance.write_text(text.replace(f'"textgym": "{textgym.__version__}"', '"textgym": "0.0.1"'))
    assert dry()[2].startswith("# seed 0 is run anew: textgym was 0.0.1, is ")
    provenance.write_text(text)
    assert (study["first"] / "metrics.jsonl").read_bytes() == before


def test_a_changed_run_is_put_aside_whole_and_the_study_says_so(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(study["here"] / "lm", "lm")
    shutil.copytree(study["here"] / "study", "study")
    axes = {name: [study["arguments"][name]] for name in ("policy", "gold")}
    axes |= {name: study["arguments"][name] for name in ("reward", "shadow")}
    shared = {k: SHARED[k] for k in ("timesteps", "evaluations", "n_envs", "env_kwargs")}
    plan = planned(
        ENV,
        {**axes, "agent": ["ppo"]},
        {"n_steps": 32, "n_epochs": 1, "learning_rate": 0.001},
        seeds=[0],
        shared=shared,
        prompts=None,
        out="study",
        measure=False,
    )
    runs = StudyRuns(plan, tmp_path / "study", print)
    runs.begin({"verb": "compare"})
    (job,) = runs.jobs
    first = Path("study/cells/lm--ppo--length-target=10/seed-0")
    record = (first / "held_out.jsonl").read_bytes()
    words = job.command()
    assert job.state == "waiting" and words[2:4] == ["textgym", "train"] and "--resume" not in words
    moved = Path("study") / REPLACED / first.parent.name / "seed-0-1"
    assert not first.exists() and (moved / "held_out.jsonl").read_bytes() == record
    assert moved.with_name("seed-0-1.log").is_file() and textgym.open_run("study").children()
    (note,) = json.loads(Path("study/study.json").read_text())["notes"]
    assert note == (
        "ppo, seed 0: run anew, since learning_rate was 0.0003, is 0.001 (the run before is in "
        f"{REPLACED}/{first.parent.name}/seed-0-1)"
    )


def test_a_cell_that_is_no_longer_named_stays_and_is_said_to_be_dropped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    byte_lm().save_pretrained("lm")
    axes = {"policy": ["lm"], "gold": [], "shadow": [], "reward": ["length,target=10"]}
    shared = {k: SHARED[k] for k in ("timesteps", "evaluations", "n_envs", "env_kwargs")}
    place = tmp_path / "study"

    def begun(*agents):
        plan = planned(ENV, {**axes, "agent": list(agents)}, {}, seeds=[0],
                       shared=shared, prompts=None, out="study", measure=False)  # fmt: skip
        runs = StudyRuns(plan, place, print)
        runs.begin({"verb": "compare"})
        return json.loads((place / "study.json").read_text())

    assert begun("ppo", "a2c")["dropped"] == []
    slug = "lm--a2c--length-target=10"
    assert begun("ppo")["dropped"] == []  # nothing of it was ever made
    begun("ppo", "a2c")
    (place / "cells" / slug / "seed-0").mkdir(parents=True)
    assert begun("ppo")["dropped"] == [slug]
    assert begun("ppo,gamma=0.9")["dropped"] == [slug]  # and it is remembered
    assert begun("ppo", "a2c")["dropped"] == []  # until it is named again
    (place / "study.json").write_text('{"cells": [')
    (note,) = begun("ppo")["notes"]
    assert "study.json: not valid JSON (" in note
    assert note.endswith("; what it said of earlier runs is lost")


def test_a_judge_that_joins_later_scores_what_is_stored(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(study["here"] / "lm", "lm")
    shutil.copytree(study["here"] / "study", "study")
    shutil.rmtree("study/cells/lm--ppo-learning_rate=1e18--length-target=10")
    said = []
    arguments = {**study["arguments"], "agent": "ppo", "gold": ["keyword,words=a", "repetition"]}
    result = textgym.compare(ENV, **arguments, report=said.append)
    assert said[0] == "1 of 1 runs are finished already" and not result.failures
    assert "repetition scores the stored texts of 1 finished runs" in said
    assert result.report.study.judges["repetition"] == "gold"
    record = read_held_out(Path("study/cells/lm--ppo--length-target=10/seed-0"))
    assert all(text.scores["repetition"] is not None for text in record.texts[0])


def test_judges_that_changed_their_name_or_their_part_are_named():
    settings = HeldOutSettings(
        ENV, "", 1, 0, 2, 8, judges={"length": Judge("reward", "length,target=10"),
        "critic": Judge("gold", "critic"), "old": Judge("shadow", "old")}
    )  # fmt: skip
    now = {"length,target=10": ("length,target=10", "reward"), "critic": ("critic", "reward")}
    assert changed_judges(settings, {"length,target=10": ("length", "shadow")}) == []
    assert changed_judges(settings, now) == [
        "the judge length,target=10 was called length, is called length,target=10",
        "critic was a gold judge, is a reward judge",
    ]


def test_what_is_no_study_of_these_is_refused_before_anything_is_written(study, monkeypatch):
    monkeypatch.chdir(study["here"])
    Path("prompts.txt").write_text("Another one \n")
    Path("notes").mkdir(exist_ok=True)
    Path("notes/mine.txt").write_text("x")
    cases = [
        ({"timesteps": 3_000}, "holds a study with timesteps=2000, which runs with timesteps=3000"),
        ({"prompts": "prompts.txt"}, "holds a study on other held-out prompts"),
        ({"out": "notes"}, "holds something else and no study; --out names"),
        ({"out": "prompts.txt"}, "is a file; --out names a directory"),
        ({"out": str(study["first"])}, "holds a run of 'train' and no study"),
    ]
    for changes, said in cases:
        with pytest.raises(InputError, match=said):
            textgym.compare(ENV, **{**SHARED, **changes, "reward": "length,target=10"})
    with run_lock("study"), pytest.raises(StorageError, match="in use by another process"):
        textgym.compare(ENV, **{**SHARED, "reward": "length,target=10"})
    assert sorted(os.listdir("notes")) == ["mine.txt"]
    assert not (study["here"] / "study" / REPLACED).exists()
    config = yaml.safe_load(Path("study/config.yaml").read_text())
    with pytest.raises(InputError, match="env='textgym/Length-v0', which runs with env='other"):
        check_study_place(
            Path("study"), env="other/E-v0", timesteps=config["timesteps"], prompts=[]
        )


def test_wrong_input_is_one_line_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases = [
        ({"agent": []}, "agent must name one algorithm at least"),
        ({"agent": "pppo"}, "unknown agent 'pppo': did you mean 'ppo'"),
        ({"agent": ["ppo", "sac,ent_coef=1"]}, "agent 'sac' has latent actions, .* are no cells"),
        ({"decoder": "runs/vae"}, "decoder goes with latent actions, whose runs are no cells"),
        ({"decoder": object()}, "decoder goes with latent actions, whose runs are no cells"),
        ({"agent": "ppo,kl_coeff=1"}, "keyword of agent 'ppo': 'kl_coeff': did you mean 'kl_coef'"),
        ({"agent": "ppo,n_epochs=x"}, "agent 'ppo,n_epochs=x': n_epochs must be a whole number"),
        ({"agent": "ppo,timesteps=5"}, "timesteps belongs to the study .* by itself, --timesteps$"),
        ({"agent": "ppo,seed=5"}, "seed belongs to the study .* by itself, --seeds$"),
        ({"agent": "ppo,kl_coef"}, "agent 'ppo,kl_coef': expected name=value after a comma"),
        ({"agent": ["ppo", "ppo"]}, "the cell 'ppo' is there twice"),
        ({"agent": ["ppo", "ppo,n_epochs=4"]}, "'ppo,n_epochs=4' is 'ppo' again"),
        ({"agent": ["ppo", "grpo"], "gae_lambda": 0.9}, "agent 'grpo' takes no gae_lambda"),
        ({"kl_coeff": 0.1}, "keyword of all agents: 'kl_coeff': did you mean 'kl_coef'"),
        ({"reward": "lenght"}, "unknown reward model 'lenght': did you mean 'length'"),
        ({"reward": ["length", "length"]}, "the cell 'length' is there twice"),
        ({"reward": lambda prompts, completions: [0.0]}, "reward must be .*'module:attribute'"),
        ({"policy": byte_lm()}, "policy must be a name, a directory or 'module:attribute'"),
        ({"policy": "nowhere"}, "nowhere"),
        ({"gold": "length,unit=characters,target=24"}, "gold judge .* is also what a cell trains"),
        ({"reward": "length", "gold": "length"}, "gold judge 'length' is also what a cell trains"),
        ({"shadow": "keyword,words=a", "gold": "keyword,words=a"}, "is a gold judge too"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1"),
        ({"evaluations": 1}, "evaluations must be 2 at least"),
        ({"evaluations": 0}, "evaluations must be 2 at least"),
        ({"jobs": 0}, "jobs must be a whole number from 1"),
        ({"timesteps": 0}, "timesteps must be a whole number from 1"),
        ({"prompts": "nowhere.txt"}, "nowhere.txt"),
        ({"guards": "stop"}, "unknown guards 'stop': known: off, warn"),
        ({"callback": print}, "callback must be a number or a text"),
    ]
    for changes, said in cases:
        with pytest.raises(InputError, match=said):
            textgym.compare(ENV, **{"out": "out", "seeds": 1, **changes})
    with pytest.raises(InputError, match="did you mean 'textgym/Length-v0'"):
        textgym.compare("textgym/Lenght-v0", out="out")
    code, out, err = run_cli("compare", ENV, "--out", "out", "--seeds", "none")
    assert code == 2 and out == "" and err.startswith("textgym: error: --seeds must be a whole")
    assert err.count("\n") == 1 and not Path("out").exists()
    for words in (["--agent", "ppo", "--agent", "sac"], ["--decoder", "runs/vae"]):
        code, out, err = run_cli("compare", ENV, "--out", "out", *words)
        assert code == 2 and out == "" and "latent actions, whose runs are no cells" in err
        assert err.count("\n") == 1 and not Path("out").exists()


def test_names_that_only_this_process_knows_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    textgym.register_reward("only_here", lambda prompts, completions: [0.0] * len(prompts))
    textgym.register("me/Here-v0", prompts=["a"], reward="length")
    try:
        with pytest.raises(InputError, match="reward model 'only_here' was registered by this"):
            textgym.compare(ENV, reward="only_here", out="out")
        with pytest.raises(InputError, match="write 'module:me/Here-v0'"):
            textgym.compare("me/Here-v0", out="out")
    finally:
        textgym.registry.rewards.unregister("only_here")
        textgym.registry.tasks.unregister("me/Here-v0")


def test_a_disk_without_room_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    code, _, err = run_cli("compare", ENV, "--seeds", "2", "--timesteps", "64", "--out", "out")
    assert code == 3 and "the runs need about" in err and "the disk has 10 MB free" in err


def test_keywords_of_an_agent_are_read_as_its_flags_are():
    """The same value as the command line of `train` gives, for every kind of keyword."""
    for name, flag in keyword_flags_of("ppo").items():
        text = {"integer": "7", "number": "2", "switch": "true", "text": "own"}.get(flag.kind)
        if text is None:
            continue
        given = True if flag.kind == "switch" else text
        choice = agent_choice(f"ppo,{name}={text}", {name: flag})
        assert choice.keywords == {name: from_command_line(flag, given)}
        assert type(choice.keywords[name]) is type(from_command_line(flag, given))


def test_the_flags_are_those_of_all_agents(tmp_path):
    words = ["--agent", "ppo,kl_coef=0.1", "--agent=grpo"]
    assert compared_agents(words) == ["ppo", "grpo"]
    names = [flag.name for flag in verb_flags("compare", words)]
    assert {"gae_lambda", "num_generations", "kl_coef", "seeds", "shadow"} <= {*names}
    assert len(names) == len(set(names)) and "seed" not in names
    (tmp_path / "c.yaml").write_text("agent: [dqn]\n")
    assert compared_agents(["--config", str(tmp_path / "c.yaml")]) == ["dqn"]
    assert compared_agents([]) == ["ppo"]


def test_a_path_that_is_written_otherwise_is_the_same_input(tmp_path):
    (tmp_path / "rm.txt").write_text("a model")
    from textgym.agents.runs.fingerprints import fingerprint

    recorded = {"start": {"policy": {"here/rm.txt": fingerprint(tmp_path / "rm.txt")}}}
    saved = {"policy": "here/rm.txt", "gold": [], "n_envs": 4, "out": "a"}
    now = {"policy": str(tmp_path / "rm.txt"), "n_envs": 4.0, "out": "b"}
    assert changed_settings(saved, now, recorded) == []
    (tmp_path / "rm.txt").write_text("another")
    [reason] = changed_settings(saved, now, recorded)
    whole = f'policy was "here/rm.txt", is {json.dumps(now["policy"])}'
    assert whole.startswith(reason.rstrip('"'))  # a long value is cut
    assert len(reason) >= len('policy was "here/rm.txt", is "/') + 10
    assert changed_settings({"kl_coef": 0.0}, {}, {}) == ["kl_coef was 0.0, is not given"]
