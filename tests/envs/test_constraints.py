"""Constraints in the environments: which tokens are legal, told as numbers; any token is taken."""

import copy
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from textgym_testing import EOS, letter_env, letter_task, letter_tokenizer

import textgym
from textgym import constraints, registry
from textgym.constraints import Constraint
from textgym.constraints.token_automaton import LEFT
from textgym.envs.task import Task
from textgym.envs.text_env import TextEnv
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError

A, B, C, D = 3, 4, 5, 6
PATTERN = "ab(cd)?|c"


def test_states_follow_the_completions_through_resets():
    env = TextVectorEnv(letter_task(constraint=PATTERN), 3)
    env.reset(seed=0)
    automaton = env.automaton
    rng = np.random.default_rng(0)
    written = [[], [], []]
    for step in range(60):
        states = env.action_masks() if step % 3 else None  # not asking changes nothing
        actions = rng.choice([A, B, C, D, EOS], size=3, p=[0.3, 0.3, 0.2, 0.1, 0.1])
        if states is not None:
            assert states.dtype == np.int64
            assert states.tolist() == [automaton.states(ids)[-1] for ids in written]
        ended = env.step_rows(actions).final_observations
        for row, ids in enumerate(written):
            written[row] = [] if row in ended else [*ids, int(actions[row])]


def test_a_single_environment_tells_the_same():
    env = TextEnv(letter_task(constraint=PATTERN))
    env.reset(seed=0)
    automaton = env.automaton
    for token_id in (A, B, C):
        state = env.action_masks()
        assert automaton.is_legal(int(state))[token_id]
        env.step(token_id)
    assert np.flatnonzero(automaton.is_legal(int(env.action_masks()))).tolist() == [D]
    env.step(A)
    assert env.action_masks() == LEFT


def test_through_the_vec_env_each_row_has_its_own_number():
    env = letter_env(3, constraint=PATTERN)
    env.seed(0)
    env.reset()
    start = env.get_attr("automaton")[0].start
    assert env.has_attr("action_masks") and env.env_method("action_masks") == [start] * 3
    env.step(np.array([A, C, D]))
    states = np.stack(env.env_method("action_masks"))
    assert states.shape == (3,) and len(set(states.tolist())) == 3 and states[2] == LEFT
    assert env.env_method("action_masks", indices=[1]) == [states[1]]


def test_without_a_constraint_the_number_is_zero():
    env = letter_env(2)
    env.reset()
    assert env.get_attr("automaton") == [None, None]
    assert np.stack(env.env_method("action_masks")).tolist() == [0, 0]
    assert env.observation_space.automaton is None


def test_the_space_carries_the_automaton():
    env = TextVectorEnv(letter_task(constraint=PATTERN), 2)
    space = env.single_observation_space
    assert space.automaton is env.automaton and copy.deepcopy(space).automaton is env.automaton
    again = pickle.loads(pickle.dumps(space))  # noqa: S301
    assert again == space and again.automaton.constraint == constraints.regex(PATTERN)


def test_the_environment_takes_any_token_and_passes_the_checks(recwarn):
    textgym.register(
        "test/Checked-v0",
        prompts=["a", "bcd"],
        reward=lambda prompts, completions: [0.0] * len(completions),
        tokenizer=letter_tokenizer(),
        max_new_tokens=4,
        constraint=constraints.words(["ab", "d"]),
    )
    env = gymnasium.make("test/Checked-v0")
    check_env(env.unwrapped)
    assert env.get_wrapper_attr("action_masks")() >= 0
    assert [str(w.message) for w in recwarn] == []
    text = gymnasium.make("test/Checked-v0", action="text")
    text.reset(seed=0)
    assert text.step("ab")[4]["completion"] == "ab"
    assert text.unwrapped.automaton is not None
    registry.tasks.unregister("test/Checked-v0")
    gymnasium.registry.pop("test/Checked-v0")


def test_a_text_action_that_fails_leaves_the_state():
    def reward(prompts, completions):
        raise ValueError("no")

    env = TextEnv(letter_task(constraint=PATTERN, reward=reward), action="text")
    env.reset(seed=0)
    before = env.action_masks()
    with pytest.raises(InputError):
        env.step("ab")
    assert env.action_masks() == before


def test_the_budget_may_cut_a_text_and_says_so():
    env = TextEnv(letter_task(constraint="(ab)+", max_new_tokens=3, unfinished_score=-2.0))
    env.reset(seed=0)
    env.step(A)
    env.step(B)
    _, reward, terminated, truncated, info = env.step(A)
    assert (reward, terminated, truncated, info["finish_reason"]) == (-2.0, True, False, "length")


def test_a_stop_that_is_a_special_token_ends_a_match_too():
    env = TextEnv(letter_task(constraint="a", stop="<bos>"))
    assert env.automaton.stop_token_ids.tolist() == [1, 2]


def test_prompts_of_a_function_need_the_marker():
    def prompts(rng):
        return "ab" + "cd"[int(rng.integers(2))]

    fields = {"prompts": prompts, "max_prompt_tokens": 4, "constraint": constraints.regex("a")}
    env = TextEnv(letter_task(**fields))
    env.reset(seed=0)  # the environment knows its prompts
    assert env.action_masks() == env.automaton.start and env.automaton.ends is None
    marked = TextEnv(letter_task(**{**fields, "constraint": constraints.regex("a", after="c")}))
    with pytest.raises(InputError, match="after='c' must end every prompt and occur only there"):
        for _ in range(20):
            marked.reset()


def test_what_a_task_takes_for_a_constraint():
    def made(value):
        return letter_task(constraint=value).constraint

    assert made("ab") == made(constraints.regex("ab")) == made({"pattern": "ab"})
    assert made(None) is None and isinstance(made("ab"), Constraint)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"constraint": "("}, "not a regular expression"),
        ({"constraint": 3}, "constraint must come from textgym.constraints"),
        ({"constraint": "x"}, "no text that this tokenizer can write satisfies"),
        ({"constraint": "a", "stop": "bc"}, "so leave stop=.* out: write that ending into the"),
        ({"constraint": "ba", "prompts": ["a", "ab"]}, "a row could have two prompts: 'a' is one"),
        ({"constraint": constraints.regex("a", after="d")}, "after='d' must end every prompt"),
        (
            {"constraint": "a", "reply": lambda prompt, turns: None, "max_context": 20},
            "in a dialogue a constraint holds for each turn .* give the constraint after=",
        ),
    ],
    ids=lambda value: str(value).partition("<function")[0],  # whose address differs by process
)
def test_bad_input_is_one_line(fields, message):
    with pytest.raises(InputError, match=message) as caught:
        TextEnv(letter_task(**fields))
    assert "\n" not in str(caught.value)


def test_the_task_says_so_in_its_fields():
    assert "constraint" in Task.__dataclass_fields__
