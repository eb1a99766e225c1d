"""Groups: one prompt after the other, each dealt to the next so many rows that start."""

import numpy as np
import pytest
from gymnasium.utils import seeding
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.envs.grouped_prompts import GroupedPrompts
from textgym.envs.task import Task
from textgym.envs.texts.prompts import Prompt
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError
from textgym.tokenizer import Tokenizer

EOS = Tokenizer.byte().eos_token_id
(A,) = Tokenizer.byte().encode("A")


class Numbered:
    """A source whose prompts are numbered in the order in which they are drawn."""

    def __init__(self):
        self.generators = []

    def draw(self, generator):
        self.generators.append(generator)
        return Prompt(str(len(self.generators) - 1), [3], {})


def task(**fields):
    prompts = [f"prompt {i}" for i in range(60)]
    defaults = {"prompts": prompts, "reward": lambda prompts, completions: [1.0] * len(prompts)}
    return Task(id="test/Groups-v0", **{**defaults, "max_new_tokens": 4, **fields})


def play(env, *steps):
    """What ended in each step: `(row, group, prompt)`; a step names the rows that stop."""
    ended = []
    for stopping in steps:
        actions = np.full(env.num_envs, A)
        actions[list(stopping)] = EOS
        result = env.step_rows(actions).result
        ended += [(row, end.get("group"), end["prompt"]) for row, end in result.endings.items()]
    return ended


# ---- dealing ---------------------------------------------------------------


def test_a_prompt_is_dealt_to_size_episodes_and_drawn_by_the_first_ones_generator():
    source, generators = Numbered(), [np.random.default_rng(i) for i in range(7)]
    groups = GroupedPrompts(source, 3)
    dealt = [groups.next_prompt(generator) for generator in generators]
    assert [group for _, group in dealt] == [0, 0, 0, 1, 1, 1, 2]
    assert [prompt.text for prompt, _ in dealt] == ["0", "0", "0", "1", "1", "1", "2"]
    assert source.generators == [generators[0], generators[3], generators[6]]


def test_a_restart_leaves_an_open_group_and_keeps_counting():
    groups, generator = GroupedPrompts(Numbered(), 3), np.random.default_rng(0)
    for _ in range(4):
        groups.next_prompt(generator)
    groups.restart()  # group 1 has one episode, and never gets another
    dealt = [groups.next_prompt(generator) for _ in range(3)]
    assert [(prompt.text, group) for prompt, group in dealt] == [("2", 2)] * 3
    groups.restart()  # nothing is open
    prompt, group = groups.next_prompt(generator)
    assert (prompt.text, group) == ("3", 3)


@pytest.mark.parametrize("size", [0, -2, 2.0, "2"])
def test_a_size_that_makes_no_sense(size):
    with pytest.raises(InputError, match=f"a whole number, at least 1, got {size!r}"):
        TextVectorEnv(task(), 4, num_generations=size)


# ---- in the vector environment ---------------------------------------------


def test_rows_take_the_groups_places_as_they_start():
    env = TextVectorEnv(task(), 4, num_generations=3)
    observations, infos = env.reset(seed=0)
    first, second = infos["prompt"][0], infos["prompt"][3]
    assert infos["prompt"].tolist() == [first, first, first, second] and first != second
    assert (observations[:3] == observations[0]).all()
    assert "group" not in infos
    # Row 1 ends first and takes place 2 of group 1, row 0 its last place.
    ended = play(env, [1], [0], [], [2, 3])
    assert ended == [(1, 0, first), (0, 0, first), (2, 0, first), (3, 1, second)]
    # Row 2 and 3 have begun group 2, and meet the budget together, after rows 1 and 0.
    ended = play(env, [], [], [], [])
    assert [(row, group) for row, group, _ in ended] == [(1, 1), (0, 1), (2, 2), (3, 2)]
    assert ended[0][2] == ended[1][2] == second
    assert ended[2][2] == ended[3][2] not in (first, second)


@settings(max_examples=30, deadline=None)
@given(
    moves=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), max_size=25),
    size=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_groups_are_numbered_in_the_order_in_which_episodes_start(moves, size, seed):
    env = TextVectorEnv(task(max_new_tokens=3), 5, num_generations=size)
    env.reset(seed=seed)
    started = {row: row for row in range(5)}  # the number of each row's episode among all
    count, prompts, members = 5, {}, {}
    for move in moves:
        for row, group, prompt in play(env, np.flatnonzero(move)):
            expected = started[row] // size
            assert group == (expected if size > 1 else None)
            assert prompts.setdefault(expected, prompt) == prompt
            members[expected] = members.get(expected, 0) + 1
            started[row], count = count, count + 1
    assert all(number <= size for number in members.values())
    still_open = {started[row] // size for row in range(5)}
    whole = [group for group in range(count // size) if group not in still_open]
    assert all(members[group] == size for group in whole)


def test_with_one_generation_every_row_draws_its_own_prompts_and_there_are_no_groups():
    played = task()
    env = TextVectorEnv(played, 3, num_generations=1)
    _, infos = env.reset(seed=7)
    generators = [seeding.np_random(7 + row)[0] for row in range(3)]
    source = played.prompt_source()
    expected = [source.draw(generator).text for generator in generators]
    assert infos["prompt"].tolist() == expected
    stops = np.random.default_rng(0).random((30, 3)) < 0.4
    seen = 0
    for row, group, prompt in play(env, *(np.flatnonzero(stop) for stop in stops)):
        assert group is None and prompt == expected[row]
        expected[row] = source.draw(generators[row]).text
        seen += 1
    assert seen > 30
    default = TextVectorEnv(played, 3)
    np.testing.assert_array_equal(default.reset(seed=7)[0], env.reset(seed=7)[0])


def test_a_whole_reset_begins_a_new_group_and_repeats_with_its_seed():
    env = TextVectorEnv(task(), 4, num_generations=3)
    before = env.reset(seed=5)[0]
    play(env, [0], [0, 1])
    again = env.reset(seed=5)[0]
    np.testing.assert_array_equal(again, before)
    groups = {row: group for row, group, _ in play(env, [0, 1, 2, 3])}
    assert groups[0] == groups[1] == groups[2] == groups[3] - 1
    assert groups[0] == 3  # seven episodes had been dealt, so group 2 had begun


def test_a_reset_of_some_rows_goes_on_with_the_open_group():
    env = TextVectorEnv(task(), 4, num_generations=3)
    _, infos = env.reset(seed=0)
    second = infos["prompt"][3]
    options = {"reset_mask": np.array([True, False, True, False])}
    _, infos = env.reset(options=options)
    assert infos["prompt"][0] == infos["prompt"][2] == second
    ended = play(env, [0, 1, 2, 3])
    assert [group for _, group, _ in ended] == [1, 0, 1, 1]


def test_a_step_that_fails_changes_no_group():
    calls = []

    def fails_once(prompts, completions):
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("not now")
        return [0.0] * len(prompts)

    env = TextVectorEnv(task(reward=fails_once), 3, num_generations=2)
    env.reset(seed=0)
    with pytest.raises(InputError, match="not now"):
        play(env, [0])
    assert [group for _, group, _ in play(env, [0, 1, 2])] == [0, 0, 1]
    assert [group for _, group, _ in play(env, [0, 1, 2])] == [1, 2, 2]
