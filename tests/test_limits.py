"""The limits of a task hold wherever its prompts come from, and whatever is cut is said."""

import warnings

import gymnasium
import numpy as np
import pytest
from front_door import byte_lm, read_lines, run_cli, small_agent

import textgym
from textgym.agents.evaluation.play import SequentialPrompts
from textgym.envs.task import Task
from textgym.envs.text_env import TextEnv
from textgym.envs.texts.prompts import PromptSource
from textgym.errors import InputError
from textgym.tokenizer import Tokenizer

ID = "test/Limits-v0"
LONG = "0123456789"
FIELDS = {"max_prompt_tokens": 5, "truncate_prompt": True}  # the start token and four bytes


def length_of_kind(prompts, completions, kind):
    return [float(kind[k] == int(prompts[k][-1])) for k in range(len(prompts))]


def register(prompts=("ab",), reward="length", **fields):
    textgym.register(ID, prompts=list(prompts), reward=reward, max_new_tokens=4, **fields)


@pytest.fixture(autouse=True)
def forgotten():
    yield
    gymnasium.registry.pop(ID, None)


def test_evaluate_cuts_its_prompts_as_the_environment_does():
    register(**FIELDS)
    with pytest.warns(
        UserWarning, match=f"{ID}: 1 of 2 prompts are longer than 5 tokens and are cut"
    ):
        report = textgym.evaluate(ID, policy=byte_lm(), prompts=[LONG, "xyz"])
    assert [episode.prompt for episode in report.episodes] == ["6789", "xyz"]
    assert report.prompts_cut == report.figures()["prompts_cut"] == 0.5
    assert (
        report.episodes[0].info["prompt_cut"] == 6 and "prompt_cut" not in report.episodes[1].info
    )
    tokenizer = Tokenizer.byte()
    ids = [tokenizer.bos_token_id, *tokenizer.encode("6789")]
    assert report.episodes[0].tokens[:5].tolist() == ids


def test_evaluate_refuses_prompts_that_the_environment_refuses():
    register(max_prompt_tokens=5)
    with pytest.raises(InputError, match=r"prompts\[1\]: expected at most 5 tokens, .* has 11"):
        textgym.evaluate(ID, policy=byte_lm(), prompts=["ab", LONG])
    for limit in ({"max_prompt_tokens": 11}, {"truncate_prompt": True, "max_episode_steps": 2}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = textgym.evaluate(ID, policy=byte_lm(), prompts=[LONG], env_kwargs=limit)
        assert report.episodes[0].prompt == LONG[-4 if "truncate_prompt" in limit else 0 :]


def test_evaluate_keeps_budget_unfinished_score_and_outer_limit():
    register(unfinished_score=-7.0)
    report = textgym.evaluate(ID, policy=byte_lm(), prompts=["a", "b", "c"])
    scores = {e.finish_reason: e.reward for e in report.episodes}
    assert scores["length"] == -7.0
    register(max_episode_steps=2)
    report = textgym.evaluate(ID, policy=byte_lm(), prompts=["a", "b", "c"])
    assert {e.info["completion_length"] for e in report.episodes} <= {1, 2}
    assert "truncated" in report.finish


def test_columns_reach_evaluate_as_they_are():
    register(prompts=[{"prompt": "a1", "kind": 1}], reward=length_of_kind)
    prompts = [{"prompt": f"a{k}", "kind": k, "prompt_index": "mine"} for k in range(3)]
    textgym.register(ID, prompts=prompts, reward=length_of_kind, max_new_tokens=4)
    report = textgym.evaluate(ID, policy=byte_lm(), prompts=prompts, gold=length_of_kind)
    assert [e.info["columns"] for e in report.episodes] == [
        {"kind": k, "prompt_index": "mine"} for k in range(3)
    ]
    assert report.reward.mean == report.judges["length_of_kind"].mean == 1.0


def test_evaluate_draws_from_a_function():
    register(max_prompt_tokens=5)

    def digits(generator):
        return str(generator.integers(100, 999))

    report = textgym.evaluate(ID, policy=byte_lm(), prompts=digits, n_episodes=6)
    assert len(report.episodes) == 6 and all(e.prompt.isdigit() for e in report.episodes)


def test_the_command_line_says_what_was_cut(tmp_path):
    register(**FIELDS)
    byte_lm().save_pretrained(tmp_path / "lm")
    (tmp_path / "p.txt").write_text(f"{LONG}\nxyz\n", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, out, error = run_cli(
            "evaluate", ID, "--policy", tmp_path / "lm", "--prompts", tmp_path / "p.txt"
        )
    assert code == 0 and "prompts cut at their start" in out
    assert f"warning: {ID}: 1 of 2 prompts are longer than 5 tokens" in error


def test_an_environment_says_once_how_many_prompts_it_cuts():
    register(prompts=[LONG, "ab", LONG * 2], **FIELDS)
    for make in (lambda: gymnasium.make(ID), lambda: textgym.make_vec(ID, 2)):
        with pytest.warns(UserWarning, match=f"{ID}: 2 of 3 prompts are longer than 5 tokens"):
            make()


def test_the_share_of_cut_prompts_is_recorded(tmp_path):
    register(prompts=[LONG], **FIELDS)
    with pytest.warns(UserWarning, match="1 of 1 prompts"):
        agent = small_agent(env=ID, out=tmp_path / "run")
    agent.learn(128)
    assert read_lines(tmp_path / "run" / "metrics.jsonl")[-1]["text/prompts_cut"] == 1.0


def test_a_functions_first_cut_warns_and_all_are_marked():
    task = Task(id=ID, prompts=lambda generator: LONG, reward=length_of_kind, **FIELDS)
    env = TextEnv(task)
    with pytest.warns(UserWarning, match="a prompt of more than 5 tokens lost 6 at its start"):
        env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, info = env.reset(seed=1)
    assert info["prompt"] == "6789"


def test_prompts_of_another_source_stay_as_they_are():
    source = PromptSource([LONG, {"prompt": "xy"}], Tokenizer.byte(), **FIELDS)
    ordered = PromptSource(SequentialPrompts(source.all()), Tokenizer.byte(), max_prompt_tokens=5)
    drawn = [ordered.draw(np.random.default_rng(0)) for _ in range(2)]
    assert [(prompt.text, prompt.cut) for prompt in drawn] == [("6789", 6), ("xy", 0)]
    assert drawn[0] is source.all()[0]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (["a", ""], r"prompts\[1\]: empty prompt"),
        ("\ud800", r"prompts\[0\]: a lone surrogate"),
        ([], "no prompts"),
        ("x" * 90, "exceeds the model's context of 96"),
    ],
)
def test_generate_refuses_what_an_environment_refuses(prompt, message):
    with pytest.raises(InputError, match=message):
        textgym.generate(byte_lm(), prompt=prompt, max_new_tokens=10)
