"""The command line: the whole road, flags that are the functions' own, and errors of one line."""

import inspect
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml
from front_door import ENV, byte_lm, read_lines, run_cli

import textgym
from textgym import registry
from textgym.command_line.options import from_command_line, kind_of
from textgym.command_line.verbs import VERBS, verb_flags
from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.signatures import parameter_texts

WORDS = ("sun", "rain", "tea", "cat", "dog", "moon")
QUIET = "--no-progress-bar"


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """A directory where every verb has run once, and what each printed."""
    here = tmp_path_factory.mktemp("road")
    texts = [f"the {a} likes the {b} and number {i}" for i, a in enumerate(WORDS) for b in WORDS]
    corpus = here / "corpus.txt"
    corpus.write_text("\n".join(texts), encoding="utf-8")
    pairs = [{"prompt": f"the {a}", "completion": f" likes {b}"} for a in WORDS for b in WORDS]
    prefers = [
        {"prompt": f"the {a}", "chosen": f" likes {b}", "rejected": " no"}
        for a in WORDS
        for b in WORDS
    ]
    write_rows(here / "pairs.jsonl", pairs)
    write_rows(here / "ratings.jsonl", prefers)
    config = here / "small.yaml"
    config.write_text("hidden-size: 16\nnum_hidden_layers: 1\ncontext: 96\ntokenizer: byte\n")
    lm, tuned, judge, agent = here / "lm", here / "sft", here / "rm", here / "ppo"
    small = f"--n-steps 24 --batch-size 48 --n-envs 4 --n-epochs 1 --timesteps 192 {QUIET}"
    rl = ["--kl-coef", 0.05, "--env-kwargs", "max_new_tokens=12", *small.split()]
    judges = ["--gold", "lexicon", "--gold", "length", "--reference", tuned]
    steps = {
        "pretrain": [corpus, "--out", lm, "--steps", 8, "--config", config, QUIET],
        "sft": [here / "pairs.jsonl", "--policy", lm, "--out", tuned, "--steps", 6, QUIET],
        "fit-reward": [here / "ratings.jsonl", "--policy", lm, "--out", judge, QUIET],
        "train": [ENV, "--policy", tuned, "--reward", judge, "--out", agent, *rl],
        "evaluate": [ENV, "--policy", agent, *judges, "--n-episodes", 6],
        "generate": [
            agent,
            "--prompt",
            "the cat",
            "--prompt",
            "the sun",
            "--max-new-tokens",
            5,
            "--seed",
            0,
        ],
    }
    printed = {verb: run_cli(verb, *arguments) for verb, arguments in steps.items()}
    return here, printed


def test_every_verb_of_the_road_succeeds(road):
    for verb, (code, _, error) in road[1].items():
        assert (code, error) == (0, ""), verb


def test_the_verbs_say_what_they_did_and_what_is_next(road):
    here, printed = road
    assert "held-out perplexity" in printed["pretrain"][1]
    assert "pairs to learn from" in printed["sft"][1]
    assert "held-out pair accuracy" in printed["fit-reward"][1]
    assert "saved after 192 tokens" in printed["train"][1]
    for command in (f"tensorboard {here}/ppo", f"evaluate {ENV} --policy {here}/ppo", "generate"):
        assert command in printed["train"][1]


def test_the_run_directories_hold_what_was_resolved(road):
    here, _ = road
    config = yaml.safe_load((here / "lm" / "config.yaml").read_text())
    assert config["hidden_size"] == 16 and config["steps"] == 8 and config["tokenizer"] == "byte"
    config = yaml.safe_load((here / "ppo" / "config.yaml").read_text())
    assert config["kl_coef"] == 0.05 and config["env_kwargs"] == {"max_new_tokens": 12}
    assert config["reward"] == str(here / "rm")
    assert [row["step"] for row in read_lines(here / "ppo" / "metrics.jsonl")] == [96, 192]
    agent = textgym.load_agent(here / "ppo")
    assert agent.n_steps == 24 and agent.rollout_buffer.kl.coefficient == 0.05


def test_evaluate_prints_a_table_or_json(road):
    here, printed = road
    table = printed["evaluate"][1]
    for label in ("6 texts", "judge lexicon", "judge length", "perplexity under the reference"):
        assert label in table
    common = ("evaluate", ENV, "--policy", here / "ppo", "--n-episodes", 6)
    code, out, _ = run_cli(*common, "--json")
    report = textgym.evaluate(ENV, policy=here / "ppo", n_episodes=6)
    assert code == 0 and json.loads(out) == report.figures()


def test_generate_prints_prompt_and_continuation(road):
    here, printed = road
    texts = textgym.generate(here / "ppo", prompt=["the cat", "the sun"], max_new_tokens=5, seed=0)
    assert printed["generate"][1] == f"the cat{texts[0]}\nthe sun{texts[1]}\n"


def test_resume_goes_on_with_what_the_run_had(road, tmp_path):
    here, _ = road
    out = tmp_path / "run"
    first = ("--policy", here / "lm", "--n-envs", 4, "--n-steps", 16, "--batch-size", 32)
    assert run_cli("train", ENV, *first, "--out", out, "--timesteps", 64, QUIET)[0] == 0
    code, text, error = run_cli("train", "--out", out, "--resume", "--timesteps", 128, QUIET)
    assert (code, error) == (0, "") and "saved after 128 tokens" in text
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert (config["timesteps"], config["n_steps"], config["env"]) == (128, 16, ENV)
    assert [row["step"] for row in read_lines(out / "metrics.jsonl")] == [64, 128]
    for flags, name in (
        (("--agent", "a2c"), "agent='ppo'"),
        (("--policy", here / "sft"), "policy="),
        (("--n-steps", 8), "--n-steps=16"),
        (("--kl-coef", 0.5), "--kl-coef=0.0"),
    ):
        code, _, error = run_cli("train", "--out", out, "--resume", *flags)
        assert code == 2 and f"the run has {name}" in error


def test_pretraining_goes_on_where_it_stopped(road, tmp_path):
    here, _ = road
    small = ("--config", here / "small.yaml", "--evaluate-every", 2, QUIET)
    out = tmp_path / "run"
    first = ("pretrain", here / "corpus.txt", "--out", out, "--steps", 4, *small)
    assert run_cli(*first)[0] == 0
    code, _, error = run_cli("pretrain", "--out", out, "--resume", "--steps", 8, QUIET)
    assert (code, error) == (0, "")
    rows = read_lines(out / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert [row["tokens"] for row in rows] == sorted({row["tokens"] for row in rows})
    assert yaml.safe_load((out / "config.yaml").read_text())["hidden_size"] == 16


def test_flags_beside_a_configuration_file_win(road, tmp_path):
    here, _ = road
    config = tmp_path / "g.yaml"
    config.write_text(f"policy: {here / 'ppo'}\nprompt: [the cat]\nmax-new-tokens: 3\nseed: 1\n")
    expected = textgym.generate(here / "ppo", prompt="the cat", max_new_tokens=2, seed=1)
    out = run_cli("generate", "--config", config, "--max-new-tokens", 2)[1]
    assert out == f"the cat{expected[0]}\n"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_flags_are_the_functions_own_and_explained(verb):
    function = VERBS[verb].function
    own = {
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if kind_of(parameter) and parameter.name not in VERBS[verb].hidden
    }
    flags = verb_flags(verb, [])
    extra = {flag.name for flag in VERBS[verb].extra} | {"config"}
    names = {flag.name for flag in flags}
    has_more = verb in ("train", "compare")  # those of the agents
    assert own | extra < names if has_more else own | extra == names
    assert [flag.name for flag in flags if not flag.help] == []
    code, out, _ = run_cli(verb, "--help")
    assert code == 0 and all(flag.option in out for flag in flags)


def test_a_run_is_repeated_from_its_own_configuration(road, tmp_path):
    here, _ = road
    out = tmp_path / "again"
    code, _, error = run_cli("train", "--config", here / "ppo" / "config.yaml", "--out", out, QUIET)
    assert (code, error) == (0, "")
    first, second = (CausalLM.from_pretrained(run).state_dict() for run in (here / "ppo", out))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_the_page_names_only_flags_that_exist():
    page = Path(__file__).parents[1] / "docs" / "command-line.md"
    named = set(re.findall(r"--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
    flags = {flag.option for verb in VERBS for flag in verb_flags(verb, [])}
    flags |= {flag.option for flag in verb_flags("train", ["--agent", "sac"])}  # of latent actions
    assert named - flags == {"--help", "--host"}


def test_train_has_the_flags_of_the_chosen_algorithm(tmp_path):
    ppo = {flag.name for flag in verb_flags("train", [])}
    a2c = {flag.name for flag in verb_flags("train", ["--agent=a2c"])}
    assert {"n_steps", "clip_range", "ent_coef", "kl_coef", "temperature", "device"} <= ppo
    assert ppo - a2c >= {"clip_range", "n_epochs", "batch_size"}
    assert a2c - ppo >= {"rms_prop_eps", "use_rms_prop"}
    config = tmp_path / "c.yaml"
    config.write_text("agent: a2c\n")
    assert {flag.name for flag in verb_flags("train", ["--config", str(config)])} == a2c


def test_parameter_lines_are_read_across_lines_and_names():
    text = "Title.\n\n:param a, b: one\n    two `three`.\n:param c: four\n:raises X: no\n\nMore."
    assert parameter_texts(text) == {"a": "one two three.", "b": "one two three.", "c": "four"}


def test_tables_are_given_as_key_and_value():
    flag = next(flag for flag in verb_flags("train", []) if flag.name == "env_kwargs")
    given = ["max-new-tokens=12", "stop=.", 'prompts=["a", "b"]']
    assert from_command_line(flag, given) == {
        "max_new_tokens": 12,
        "stop": ".",
        "prompts": ["a", "b"],
    }


def test_an_entry_of_a_table_has_the_type_of_the_tasks_field():
    flag = next(flag for flag in verb_flags("evaluate", []) if flag.name == "env_kwargs")
    given = ["system=3", "chat=True", "stop=7", "max-new-tokens=12", "unfinished-score=-1"]
    fields = from_command_line(flag, [*given, "reward-timeout=none", "latent-limit=2"])
    assert fields == {
        "system": "3",
        "chat": True,
        "stop": "7",
        "max_new_tokens": 12,
        "unfinished_score": -1.0,
        "reward_timeout": None,
        "latent_limit": 2,  # no field of a task, so nothing says what it is
    }
    assert isinstance(fields["unfinished_score"], float)
    assert from_command_line(flag, ['system="3"', 'stop="\\n"']) == {"system": "3", "stop": "\n"}
    with pytest.raises(InputError, match="max_new_tokens must be a whole number, got 'many'"):
        from_command_line(flag, ["max-new-tokens=many"])


def test_listings_name_everything_that_is_registered():
    for verb, table in (
        ("envs", registry.tasks),
        ("rewards", registry.rewards),
        ("agents", registry.agents),
    ):
        code, out, _ = run_cli(verb)
        assert code == 0 and all(name in out for name in table.names())


def test_the_listing_of_reward_models_has_their_facts_in_a_line():
    _, out, _ = run_cli("rewards")
    assert "[0, 1] · 1,000+ texts/s · Apache-2.0 (sacrebleu) · extra: metrics" in out
    assert max(map(len, out.splitlines())) <= 140


def test_version_and_doctor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_cli("--version") == (0, f"textgym {textgym.__version__}\n", "")
    code, out, _ = run_cli("doctor")
    assert code == 0 and out.endswith("all fine\n")
    assert metadata.version("torch") in out and not list(tmp_path.iterdir())
    wanted = ["gymnasium>=99.0", "no-such>=1", "numpy<1000,>=1", 'other>=1; extra == "more"']
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    code, out, _ = run_cli("doctor")
    assert code == 2 and "gymnasium: pip install 'gymnasium>=99.0'" in out
    assert "no-such: pip install 'no-such>=1'" in out
    assert "pip install 'numpy" not in out and "other" not in out


def test_tensorboard_is_started_for_this_machine_only(road, monkeypatch):
    """With all that was written: its own limits show a random choice."""
    here, _ = road
    commands = []
    monkeypatch.setattr(subprocess, "call", lambda command: commands.append(command) or 0)
    assert run_cli("tensorboard", here, "--port", 0) == (0, "", "")
    [[*start, port, option, limits]] = commands
    place = ["--logdir", str(here), "--host", "127.0.0.1", "--port"]
    assert start == [sys.executable, "-m", "tensorboard.main", *place]
    assert int(port) > 0 and option == "--samples_per_plugin"
    assert limits == "scalars=1000000,images=10000,text=10000"


def test_a_broken_plugin_is_a_warning(monkeypatch):
    class Plugin:
        name, value = "mine", "mine.textgym"

        def load(self):
            raise ImportError("no\nsuch thing")

    monkeypatch.setattr(metadata, "entry_points", lambda group: [Plugin()])
    code, out, error = run_cli("agents")
    assert code == 0 and "ppo" in out
    expected = "warning: plugin 'mine' (mine.textgym) failed: ImportError: no such thing"
    assert error == f"textgym: {expected}\n"


def test_an_internal_error_is_one_line_unless_asked_for(monkeypatch, tmp_path):
    def broken(policy: str, *, prompt: "str | list[str]"):
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("textgym.evaluating.generate", broken)
    code, _, error = run_cli("generate", tmp_path, "--prompt", "a")
    assert code == 1 and error.count("\n") == 1
    assert "internal error, ZeroDivisionError: oh no (set TEXTGYM_TRACEBACK=1" in error
    monkeypatch.setenv("TEXTGYM_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        run_cli("generate", tmp_path, "--prompt", "a")


def test_help_is_fast_because_it_imports_no_torch():
    code = (
        "import sys, textgym.command_line.cli as cli; cli.main(['--help']); "
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.endswith("False\n")
    for verb in VERBS:
        assert f"  {verb} " in result.stdout


def test_the_module_is_the_program_too(tmp_path):
    byte_lm().save_pretrained(tmp_path / "lm")
    command = [sys.executable, "-m", "textgym", "generate", str(tmp_path / "lm"), "--prompt"]
    result = subprocess.run([*command, ""], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("textgym: error: prompts[0]: empty prompt")
