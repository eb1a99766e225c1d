"""The front door: registering, making, resolving names; and what two libraries' own checks say."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as sb3_check

import textgym
from textgym import registry
from textgym.environments_by_id import BUILTIN_TASKS, get_task
from textgym.envs.text_env import TextEnv
from textgym.envs.utterance_tokens import UtteranceTokens
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError, UnknownNameError
from textgym.reward_models.rules.rules import Length
from textgym.rewards_by_name import resolve_reward
from textgym.tokenizer import Tokenizer

PAD, EOS = 0, 2


def zero(prompts, completions, **columns):
    return [0.0] * len(completions)


def with_argument(factor=2.0, *, power: int = 1):
    def scaled(prompts, completions):
        return [factor * len(c) ** power for c in completions]

    return scaled


class Scorer:
    name = "scorer"

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, prompts, completions):
        return [self.weight] * len(completions)


@pytest.fixture
def moon():
    """A registered id, gone again afterwards."""
    name = "test/Moon-v0"
    textgym.register(name, prompts=["Night: ", "Sky: "], reward=zero, max_new_tokens=6)
    yield name
    registry.tasks.unregister(name)
    gymnasium.registry.pop(name, None)


# ---- the checks of Gymnasium and Stable-Baselines3, warnings as errors -------

CHECKED = [*BUILTIN_TASKS, "budget of one"]


def make_checked(name, **keywords):
    if name == "budget of one":
        return gymnasium.make("textgym/Length-v0", max_new_tokens=1, **keywords).unwrapped
    if name == "textgym/MovieReview-v0":  # its own reward takes seconds to fit
        keywords["reward"] = "lexicon"
    return gymnasium.make(name, **keywords).unwrapped


@pytest.mark.parametrize("name", CHECKED)
def test_token_actions_pass_both_checks(name):
    gymnasium_check(make_checked(name))
    sb3_check(make_checked(name))
    sb3_check(make_checked(name, render_mode="ansi"))


@pytest.mark.parametrize("name", CHECKED)
def test_text_actions_pass_both_checks(name):
    gymnasium_check(make_checked(name, action="text"))
    sb3_check(UtteranceTokens(make_checked(name, action="text")))


def test_every_registered_id_of_ours_is_checked_above():
    ours = {name for name in gymnasium.registry if name.startswith("textgym/")}
    assert ours == set(BUILTIN_TASKS)


# ---- making ------------------------------------------------------------------


def test_four_lines_make_an_environment(moon):
    env = gymnasium.make(moon)
    assert isinstance(env.unwrapped, TextEnv) and env.action_space.n == 259
    assert env.unwrapped.task.id == moon and env.unwrapped.tokenizer == Tokenizer.byte()
    row, info = env.reset(seed=0)
    assert info["prompt"] in ("Night: ", "Sky: ") and row.shape == (1 + 7 + 6,)
    assert env.spec.id == moon


def test_native_and_synchronous_vector_environments_of_an_id_agree(moon):
    native = gymnasium.make_vec(moon, num_envs=3)
    assert isinstance(native.unwrapped, TextVectorEnv) and native.num_envs == 3
    mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
    sync = gymnasium.make_vec(moon, num_envs=3, vectorization_mode="sync", vector_kwargs=mode)
    assert isinstance(sync, SyncVectorEnv)
    (a, b), (c, d) = native.reset(seed=4), sync.reset(seed=4)
    np.testing.assert_array_equal(a, c)
    assert b["prompt"].tolist() == d["prompt"].tolist()


def test_a_registered_limit_reaches_all_kinds():
    name = "test/Limited-v0"
    textgym.register(name, prompts=["a"], reward=zero, max_episode_steps=1)
    try:
        single = gymnasium.make(name)
        single.reset(seed=0)
        assert single.step(5)[2:4] == (False, True)
        for env in (gymnasium.make_vec(name, num_envs=1), textgym.make_vec(name).unwrapped):
            env.reset()
            assert env.step(np.array([5]))[2 if isinstance(env, TextVectorEnv) else 1] == [False]
        assert textgym.make_vec(name).unwrapped.vector_env._episodes.max_episode_steps == 1
    finally:
        registry.tasks.unregister(name)
        gymnasium.registry.pop(name)


def test_fields_can_be_overridden_when_an_environment_is_made(moon, tmp_path):
    reward, tokenizer = Scorer(3.0), Tokenizer.character(["Nights ky:"])
    env = gymnasium.make(moon, reward=reward, tokenizer=tokenizer, max_new_tokens=2).unwrapped
    assert env.task.reward is reward  # the object itself, not a copy
    assert env.tokenizer is tokenizer and env.task.max_new_tokens == 2
    tokenizer.save(tmp_path)
    assert gymnasium.make(moon, tokenizer=str(tmp_path)).unwrapped.tokenizer == tokenizer
    assert get_task(moon).max_new_tokens == 6


def test_registering_again_replaces(moon):
    textgym.register(moon, prompts=["x"], reward=zero, max_new_tokens=1)
    assert get_task(moon).max_new_tokens == 1
    assert gymnasium.make(moon).reset(seed=0)[1]["prompt"] == "x"


def test_an_id_may_name_the_module_that_registers_it(tmp_path, monkeypatch):
    code = "import textgym\ndef reward(prompts, completions):\n    return [0.0] * len(prompts)\n"
    code += "textgym.register('test/Plug-v0', prompts=['a'], reward=reward)\n"
    (tmp_path / "plugin_for_making_test.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert get_task("plugin_for_making_test:test/Plug-v0").id == "test/Plug-v0"
    assert textgym.make_vec("plugin_for_making_test:test/Plug-v0", n_envs=2).num_envs == 2
    assert gymnasium.make("plugin_for_making_test:test/Plug-v0").unwrapped.task.id == "test/Plug-v0"
    registry.tasks.unregister("test/Plug-v0")
    gymnasium.registry.pop("test/Plug-v0")
    with pytest.raises(InputError, match="no module named 'no_such_module_at_all'"):
        get_task("no_such_module_at_all:x/Y-v0")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": 3}, "unknown field of a task 'max_tokens': did you mean 'max_new_tokens'"),
        ({"prompts": []}, "no prompts"),
        ({"prompts": [""]}, "empty prompt"),
        ({"max_new_tokens": 0}, "max_new_tokens must be"),
        ({"tokenizer": "no/such/directory"}, "no/such/directory.*no such file"),
        ({"reward": None}, "reward must be a function or an object"),
        ({"reward": "length", "unfinished_score": "x"}, "unfinished_score must be"),
    ],
)
def test_a_bad_field_is_refused_at_once_and_nothing_is_registered(fields, message):
    with pytest.raises(InputError, match=message):
        textgym.register("test/Bad-v0", **{"prompts": ["a"], "reward": zero, **fields})
    assert "test/Bad-v0" not in registry.tasks and "test/Bad-v0" not in gymnasium.registry


def test_built_in_ids_cannot_be_taken():
    with pytest.raises(InputError, match="'textgym/Length-v0' is built in"):
        textgym.register("textgym/Length-v0", prompts=["a"], reward=zero)


def test_unknown_names_propose_the_nearest(moon):
    with pytest.raises(UnknownNameError, match="environment 'test/Mon-v0': did you mean 'test/Moo"):
        textgym.make_vec("test/Mon-v0")
    with pytest.raises(UnknownNameError, match="'rewards': did you mean 'reward'"):
        gymnasium.make(moon, rewards=zero)
    with pytest.raises(UnknownNameError, match="'max_prompt_token': did you mean"):
        textgym.make_vec(moon, max_prompt_token=3)
    with pytest.raises(UnknownNameError, match="unknown action 'tokens': did you mean 'token'"):
        gymnasium.make(moon, action="tokens")
    with pytest.raises(InputError, match='pass vectorization_mode="sync"'):
        gymnasium.make_vec(moon, action="text")


def test_an_unknown_id_of_ones_own_says_how_its_module_is_named():
    with pytest.raises(UnknownNameError, match=r"'me/Mine-v0': .*'module:me/Mine-v0'"):
        textgym.make_vec("me/Mine-v0", 1)
    for known_where in ("textgym/Lenght-v0", "textgym:me/Mine-v0"):
        with pytest.raises(UnknownNameError) as caught:
            textgym.make_vec(known_where, 1)
        assert "module:" not in str(caught.value)


def test_text_actions_can_be_vectorized_synchronously(moon):
    env = gymnasium.make_vec(moon, num_envs=2, vectorization_mode="sync", action="text")
    env.reset(seed=0)
    assert env.step(("one", "two"))[2].tolist() == [True, True]


def test_the_built_in_tasks():
    length = get_task("textgym/Length-v0")
    assert length.reward(["p"], ["x" * 24]) == [1.0] and length.max_new_tokens == 32
    env = gymnasium.make("textgym/Keyword-v0", action="text")
    _, info = env.reset(seed=0)
    assert env.step(f"the {info['keyword']} it is")[1] == 1.0
    env.reset(seed=0)
    assert env.step("nothing of it")[1] == 0.0
    review = get_task("textgym/MovieReview-v0", reward=zero)
    assert review.max_new_tokens == 40 and len(review.prompts) > 1000


# ---- names of reward models --------------------------------------------------


def test_a_reward_by_name_with_arguments():
    reward = resolve_reward("length,target=40,unit=characters")
    assert isinstance(reward, Length) and (reward.target, reward.unit) == (40, "characters")
    assert resolve_reward("length").target == 20
    assert resolve_reward(zero) is zero


def test_a_reward_from_a_module_that_is_a_function_a_class_or_a_maker(tmp_path, monkeypatch):
    code = (
        "from math import inf\n"
        "def plain(prompts, completions): return [1.0] * len(completions)\n"
        "def maker(factor=2.0, flag=False, word='x'):\n"
        "    return lambda p, c: [factor + flag + len(word)] * len(c)\n"
        "class Model:\n"
        "    name = 'model'\n"
        "    def __init__(self, weight): self.weight = weight\n"
        "    def __call__(self, prompts, completions): return [self.weight] * len(completions)\n"
        "made = Model(7.0)\n"
    )
    (tmp_path / "mine_for_test.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))

    def ask(spec):
        return resolve_reward(spec)(["p"], ["c"])

    assert ask("mine_for_test:plain") == [1.0]
    assert ask("mine_for_test:maker") == [3.0]
    assert ask("mine_for_test:maker,factor=0.5,flag=true,word=xyz") == [4.5]
    assert ask("mine_for_test:Model,weight=5") == [5]
    assert ask("mine_for_test:made") == [7.0]
    for spec, message in {
        "mine_for_test:maker,facto=1": "'facto': did you mean 'factor'",
        "mine_for_test:Model": "needs the argument 'weight': 'mine_for_test:Model,weight=...'",
        "mine_for_test:plain,x=1": "takes no arguments",
        "mine_for_test:inf": "is inf, which cannot be called",
        "mine_for_test:plan": "did you mean 'plain'",
        "length,40": "expected name=value after a comma, got '40'",
        "lenth": "unknown reward model 'lenth': did you mean 'length'",
        "runs/none": "there is no such directory",
    }.items():
        with pytest.raises(InputError, match=message):
            resolve_reward(spec)


def test_a_registered_reward_is_found_by_name(moon):
    textgym.register_reward("scorer_of_test", Scorer)
    try:
        env = gymnasium.make(moon, reward="scorer_of_test,weight=2.5").unwrapped
        env.reset(seed=0)
        assert env.step(EOS)[1] == 2.5
    finally:
        registry.rewards.unregister("scorer_of_test")


# ---- the import --------------------------------------------------------------


def test_importing_textgym_imports_no_torch_and_registers_the_ids():
    code = (
        "import textgym, gymnasium, sys\n"
        "heavy = {'torch', 'stable_baselines3', 'transformers', 'matplotlib', 'pandas'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "env = gymnasium.make('textgym/Keyword-v0')\n"
        "env.reset(seed=0); env.step(5)\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "print(textgym.__version__, *sorted(i for i in gymnasium.registry if 'textgym' in i))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr == "" and run.stdout.split() == [textgym.__version__, *sorted(BUILTIN_TASKS)]


def test_public_names():
    assert set(textgym.__all__) <= set(dir(textgym))
    assert textgym.RewardOutput is __import__("textgym.rewards", fromlist=["x"]).RewardOutput
    with pytest.raises(AttributeError, match="module 'textgym' has no attribute 'trian'"):
        _ = textgym.trian
    from textgym import agents, envs

    for package in (envs, agents):
        for name in package.__all__:
            assert getattr(package, name).__name__ == name and name in dir(package)
    assert all(callable(getattr(textgym, name)) for name in textgym.__all__)
    with pytest.raises(AttributeError, match=r"module 'textgym.envs' has no attribute 'Tasks'"):
        _ = envs.Tasks
