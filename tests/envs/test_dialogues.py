"""Dialogues: what a reply function is given, what it may answer, and what the turns were paid."""

import copy
import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check

import textgym
from textgym import Reply
from textgym.envs.task import Task
from textgym.envs.text_env import TextEnv
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError, RewardError
from textgym.rewards import RewardOutput
from textgym.tokenizer import Tokenizer

BYTE = Tokenizer.byte()
EOS = BYTE.eos_token_id
A, B = BYTE.encode("AB")
PROMPTS = [{"prompt": "p", "secret": 1}, {"prompt": "qq", "secret": 2}]


def length(prompts, completions):
    return [float(len(c)) for c in completions]


def echo(prompt, turns):
    return f"<{len(turns)}>" if len(turns) < 4 else None


def task(**fields):
    defaults = {"prompts": ["p"], "reward": length, "reply": echo}
    defaults |= {"max_new_tokens": 20, "max_context": 60}
    return Task(id="test/Dialogue-v0", **{**defaults, **fields})


def say(env, text):
    """A turn, token by token, a stop token at its end; the rewards of its steps, and the last."""
    paid = []
    for token in [*BYTE.encode(text), EOS]:
        step = env.step(token)
        paid.append(step[1])
        if step[2] or step[3]:
            break
    return paid, step


def begun(**fields):
    env = TextEnv(task(**fields))
    env.reset(seed=0)
    return env


# ---- what a reply function is given ----------------------------------------


def test_columns_state_and_generator_are_given_by_name():
    heard = []

    def reply(secret, turns, *, state, np_random, prompt):
        state["turns"] = state.get("turns", 0) + 1
        heard.append((prompt, secret, list(turns), dict(state), int(np_random.integers(1000))))
        return "?" if state["turns"] < 2 else None

    env = begun(prompts=PROMPTS, reply=reply)
    twin = np.random.default_rng(0)
    [first, *_] = [PROMPTS[int(twin.integers(2))]]  # the prompt is drawn from the same generator
    for turn in ("a", "b"):
        say(env, turn)
    env.reset()
    say(env, "c")
    drawn = [int(twin.integers(1000)) for _ in range(2)]
    second = PROMPTS[int(twin.integers(2))]
    drawn.append(int(twin.integers(1000)))
    assert heard == [
        (first["prompt"], first["secret"], ["a"], {"turns": 1}, drawn[0]),
        (first["prompt"], first["secret"], ["a", "?", "b"], {"turns": 2}, drawn[1]),
        (second["prompt"], second["secret"], ["c"], {"turns": 1}, drawn[2]),
    ]


@pytest.mark.parametrize(
    "reply",
    [
        lambda prompt, turns: f"[{prompt}{turns[-1]}]",
        lambda p, t: f"[{p}{t[-1]}]",
        lambda p, turns: f"[{p}{turns[-1]}]",
        lambda _, history, state: f"[p{history[-1]}]",
        lambda p, t, /: f"[{p}{t[-1]}]",
        lambda *both: f"[{both[0]}{both[1][-1]}]",
        lambda turns, more="]": f"[p{turns[-1]}{more}",
        lambda **all_of_it: f"[{all_of_it['prompt']}{all_of_it['turns'][-1]}]",
        lambda prompts, turns: [f"[{p}{t[-1]}]" for p, t in zip(prompts, turns, strict=True)],
    ],
)
def test_two_arguments_of_any_name_are_the_prompt_and_the_turns(reply):
    env = begun(reply=reply)
    assert BYTE.decode(say(env, "x")[1][0].tolist()) == "px[px]"


def test_a_reply_that_names_prompts_is_asked_once_for_all_rows_that_wait():
    asked = []

    def reply(prompts, turns, state, secret):
        asked.append((list(prompts), list(turns), [dict(s) for s in state], list(secret)))
        for own in state:
            own["n"] = own.get("n", 0) + 1
        return [f"{p}{s}" for p, s in zip(prompts, secret, strict=True)]

    env = TextVectorEnv(task(prompts=PROMPTS, reply=reply), 3, render_mode="ansi")
    env.reset(seed=0)
    prompts = list(env.render())
    secrets = [PROMPTS[prompts[i] == "qq"]["secret"] for i in range(3)]
    env.step(np.array([A, B, A]))
    env.step(np.array([EOS, B, EOS]))
    env.step(np.array([EOS, EOS, B]))
    assert asked == [
        ([prompts[0], prompts[2]], [["A"], ["A"]], [{}, {}], [secrets[0], secrets[2]]),
        (
            [prompts[0], prompts[1]],
            [["A", f"{prompts[0]}{secrets[0]}", ""], ["BB"]],
            [{"n": 1}, {}],
            [secrets[0], secrets[1]],
        ),
    ]


# ---- one game in every environment -----------------------------------------


def dealer(prompt, turns, state, np_random, secret):
    """Keeps a state, draws, pays, and ends games with and without words."""
    state.setdefault("said", []).append(turns[-1])
    draw = int(np_random.integers(6))
    if draw == 0:
        return None
    if draw == 1:
        return Reply("bye", reward=float(secret), terminated=True)
    return Reply("x" * draw, reward=0.5 * len(turns[-1])) if draw < 4 else f"<{draw}>"


def dealers(prompts, turns, state, np_random, secret):
    """The same for a batch."""
    return [dealer(*row) for row in zip(prompts, turns, state, np_random, secret, strict=True)]


def judge(prompts, completions, turns, state):
    """A number that depends on all that a dialogue tells."""
    rows = zip(completions, turns, state, strict=True)
    totals = [
        len(c) + 10.0 * len(t) + 100.0 * len(s.get("said", ())) + sum("B" in x["text"] for x in t)
        for c, t, s in rows
    ]
    return RewardOutput(totals, spans=[[(0, len(c), 1.0)] for c in completions])


MOVES = st.lists(
    st.lists(st.sampled_from([A, B, EOS, EOS]), min_size=3, max_size=3), min_size=1, max_size=30
)
FIELDS = st.fixed_dictionaries(
    {
        "max_new_tokens": st.integers(1, 8),
        "unfinished_score": st.sampled_from([None, -1.0]),
        "stop": st.sampled_from([None, "AB"]),
        "max_context": st.integers(6, 24),
    }
)


@settings(max_examples=40, deadline=None)
@given(MOVES, FIELDS, st.integers(0, 2**31))
def test_native_synchronous_and_single_environments_play_the_same_dialogues(moves, fields, seed):
    one, batch = (task(prompts=PROMPTS, reward=judge, reply=r, **fields) for r in (dealer, dealers))
    native, batched = TextVectorEnv(one, 3), TextVectorEnv(batch, 3)
    makers = [lambda: TextEnv(one)] * 3
    reference = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    singles = [TextEnv(one) for _ in range(3)]
    first = native.reset(seed=seed)
    assert data_equivalence(first, reference.reset(seed=seed), exact=True)
    batched.reset(seed=seed)
    for i, env in enumerate(singles):
        env.reset(seed=seed + i)
    for move in moves:
        ours, theirs = native.step(np.array(move)), reference.step(np.array(move))
        assert data_equivalence(ours, theirs, exact=True)
        assert data_equivalence(ours, batched.step(np.array(move)), exact=True)
        for i, env in enumerate(singles):
            row, value, terminated, truncated, info = env.step(move[i])
            assert (value, terminated, truncated) == tuple(part[i] for part in ours[1:4])
            if terminated or truncated:
                np.testing.assert_array_equal(ours[4]["final_obs"][i], row)
                final = ours[4]["final_info"]
                assert final["turns"][i] == info["turns"]
                paid = final["reward_components"]["turn_rewards"][i]
                assert paid == info["reward_components"]["turn_rewards"]
                row, _ = env.reset()
            np.testing.assert_array_equal(ours[0][i], row)


def test_a_copy_made_in_mid_dialogue_goes_on_equally():
    rng = np.random.default_rng(0)
    env = TextVectorEnv(task(prompts=PROMPTS, reward=judge, reply=dealer), 3)
    env.reset(seed=2)
    for _ in range(9):
        env.step(rng.choice([A, B, EOS], size=3))
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]  # noqa: S301
    for _ in range(100):
        actions = rng.choice([A, B, EOS], size=3)
        expected = env.step(actions)
        assert all(data_equivalence(twin.step(actions), expected, exact=True) for twin in twins)


@pytest.mark.parametrize("action", ["token", "text"])
def test_the_checks_of_gymnasium_and_sb3_pass(action):
    textgym.register("test/Dealt-v0", prompts=PROMPTS, reward=judge, reply=dealer, max_context=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make("test/Dealt-v0", action=action).unwrapped)
        if action == "token":
            sb3_check(gymnasium.make("test/Dealt-v0"))
    textgym.registry.tasks.unregister("test/Dealt-v0")
    gymnasium.registry.pop("test/Dealt-v0")


# ---- a step that fails -----------------------------------------------------


def test_a_step_that_failed_leaves_state_and_generator_and_can_be_repeated():
    answers = [[None], [2.0]]

    def reply(prompt, turns, state, np_random):
        state["n"] = state.get("n", 0) + 1
        state["drawn"] = [*state.get("drawn", ()), int(np_random.integers(10**9))]
        return "?" if state["n"] == 1 else None

    for action in ("token", "text"):
        waiting = list(answers)
        env = TextEnv(task(reply=reply, reward=lambda p, c, w=waiting: w.pop(0)), action=action)
        env.reset(seed=5)
        twin = copy.deepcopy(env.np_random)
        turns = ["a", "b"] if action == "text" else [EOS, EOS]
        env.step(turns[0])
        with pytest.raises(RewardError, match="None as the total"):
            env.step(turns[1])
        info = env.step(turns[1])[4]
        drawn = [int(twin.integers(10**9)) for _ in range(2)]
        assert info["state"] == {"n": 2, "drawn": drawn}
        assert env.np_random.bit_generator.state == twin.bit_generator.state


def test_what_a_reward_model_does_to_its_columns_stays_there():
    def reward(prompts, completions, turns, state):
        turns[0][0]["text"] = "changed"
        state[0]["n"] = 7
        return [1.0]

    info = say(begun(reply=lambda p, t, state: None, reward=reward), "a")[1][4]
    assert info["turns"] == [{"who": "player", "text": "a"}] and info["state"] == {}


# ---- what a reply may be ---------------------------------------------------


async def waits():
    return "x"


def bad_state(prompt, turns, state):
    state["when"] = (1, 2)
    return "x"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (lambda p, t: 3, r"returned 3, expected a text, a textgym.Reply or None"),
        (lambda p, t: b"x", r"returned b'x', expected a text"),
        (lambda p, t: Reply(text=None), r"returned Reply\(text=None.*expected a text"),
        (lambda p, t: Reply("x", float("nan")), r"returned the reward nan, expected a number up"),
        (lambda p, t: Reply("x", True), r"returned the reward True, expected a number up to"),
        (lambda p, t: Reply("x", "1"), r"returned the reward '1', expected a number up to"),
        (lambda p, t: Reply("x", 0.0, 3), r"returned terminated=3, expected true or false"),
        (lambda p, t: 1 / 0, r"failed with ZeroDivisionError: division by zero"),
        (lambda p, t: "\ud800", r"returned '\\ud800': "),
        (lambda p, t: waits(), r"returned a coroutine, .* write asyncio\.run\(\.\.\.\) around it"),
        (lambda prompts, turns: waits(), r"returned a coroutine, which nobody waits for"),
        (lambda prompts, turns: "xy", r"returned 'xy', expected a list of 1 replies"),
        (lambda prompts, turns: ["x", "y"], r"returned 2, expected a list of 1 replies"),
        (lambda prompts, turns: [], r"returned 0, expected a list of 1 replies"),
        (lambda prompts, turns: None, r"returned None, expected a list of 1 replies"),
        (lambda prompts, turns: [3], r"returned 3, expected a text"),
        (bad_state, r"left the state {'when': \(1, 2\)}, expected what JSON holds"),
        (lambda p, t, state: state.update(f=len), r"left the state {'f': <built-in.*JSON holds"),
        (lambda p, t, state: state.update({1: 2}), r"left the state {1: 2}, expected what JSON"),
        (lambda p, t, state: state.update(x=float("inf")), r"left the state {'x': inf}, expected"),
    ],
)
def test_what_is_no_reply_is_one_line_that_names_the_prompt(reply, message):
    env = TextEnv(task(prompts=["the prompt"], reply=reply), render_mode="ansi")
    env.reset(seed=0)
    env.step(A)
    with pytest.raises(InputError, match=message) as caught:
        env.step(EOS)
    said = str(caught.value)
    assert said.startswith("the reply function of 'test/Dialogue-v0' ") and "\n" not in said
    assert said.endswith("(prompt 'the prompt')") and env.render() == "the promptA"


def test_a_reply_that_asks_for_what_nobody_supplies_is_refused_before_the_game():
    message = r"asks for 'answer', which nobody supplies: expected prompt, turns, state, np_random"
    with pytest.raises(InputError, match=message):
        TextEnv(task(prompts=PROMPTS, reply=lambda prompt, turns, answer: None))
    with pytest.raises(InputError, match=r"reward model 'judge' asks for 'turns', 'state'"):
        TextEnv(Task(id="test/Plain-v0", prompts=["p"], reward=judge))


def test_numbers_of_numpys_in_a_state_become_plain_ones():
    def reply(prompt, turns, state):
        state["n"] = np.int64(3)

    state = say(begun(reply=reply), "a")[1][4]["state"]
    assert state == {"n": 3} and type(state["n"]) is int


# ---- turns and pay ---------------------------------------------------------


def paying(prompt, turns):
    """Half a point for each letter; the third turn wins."""
    reward = 0.5 * len(turns[-1])
    return Reply("no ", reward) if len(turns) < 5 else Reply("yes!", reward, terminated=True)


def test_a_turn_is_paid_when_it_ends_and_the_last_words_join_the_text():
    seen = []

    def reward(prompts, completions, turns):
        seen.extend([list(completions), turns[0]])
        return RewardOutput([10.0], spans=[[(0, 1, 2.0)]])

    env = begun(reply=paying, reward=reward)
    assert say(env, "ab")[0] == [0.0, 0.0, 1.0]
    assert say(env, "")[0] == [0.0]
    paid, (row, _, terminated, truncated, info) = say(env, "cde")
    assert paid == [0.0, 0.0, 0.0, 11.5] and terminated and not truncated
    assert info["completion"] == "abno no cdeyes!" and info["finish_reason"] == "stop"
    assert BYTE.decode(row.tolist()) == "pabno no cdeyes!"
    expected = ["ab", "no ", "", "no ", "cde", "yes!"]
    assert [turn["text"] for turn in info["turns"]] == expected
    assert [turn["who"] for turn in info["turns"]] == ["player", "environment"] * 3
    assert seen == [["abno no cdeyes!"], info["turns"]]
    assert info["reward_components"] == {"turn_rewards": 2.5}
    # The split is of what the last step pays: the score, and the last turn.
    assert info["token_rewards"] == [2.0, 0, 0, 0, 0, 0, 0, 9.5]
    assert info["completion_length"] == 8


def test_the_budgets_last_token_may_win_or_leave_the_dialogue_unfinished():
    env = begun(reply=paying, max_new_tokens=5, unfinished_score=-1.0)
    for turn in ("a", ""):
        say(env, turn)
    paid, (*_, info) = say(env, "b")  # the fifth token, and the third turn
    assert paid == [0.0, 0.5 + len("ano no byes!")] and info["finish_reason"] == "stop"
    env.reset()
    say(env, "aa")
    paid, (*_, info) = say(env, "b")
    assert paid == [0.0, 0.5 - 1.0] and info["finish_reason"] == "length"
    assert info["completion"] == "aano bno "


def test_last_words_may_have_too_little_room_and_are_said_all_the_same():
    env = begun(reply=lambda p, t: Reply("goodbye", 1.0, True), max_context=8)
    row, reward, terminated, truncated, info = say(env, "ab")[1]
    assert (reward, terminated, truncated) == (10.0, True, False)
    assert info["completion"] == "abgoodbye"
    assert row.tolist() == [*BYTE.encode("pab", add_special_tokens=True), EOS, *BYTE.encode("goo")]


def test_a_turn_that_is_cut_by_the_context_keeps_its_pay():
    env = begun(reply=paying, max_context=6)
    _, reward, terminated, truncated, info = say(env, "ab")[1]
    assert (reward, terminated, truncated) == (1.0, False, True)
    assert info["finish_reason"] == "context" and info["reward_components"] == {"turn_rewards": 1.0}


def test_a_state_in_json_goes_on_in_another_environment():
    """State, pay, turns and generators of open dialogues come back from a checkpoint's parts."""
    rng = np.random.default_rng(0)
    played = task(prompts=PROMPTS, reward=judge, reply=dealer)
    env, other = TextVectorEnv(played, 3), TextVectorEnv(played, 3)
    env.reset(seed=2)
    for _ in range(23):
        env.step(rng.choice([A, B, EOS], size=3))
    assert any(env.state_dict()["rows"]["game_states"])
    assert env.state_dict()["rows"]["turn_rewards"].any()
    other.load_state_dict(copy.deepcopy(env.state_dict()))
    for _ in range(60):
        actions = rng.choice([A, B, EOS], size=3)
        assert data_equivalence(other.step(actions), env.step(actions), exact=True)
    broken = env.state_dict()
    broken["rows"]["game_states"][1] = [1]
    with pytest.raises(InputError, match="game_states"):
        other.load_state_dict(broken)


@pytest.mark.parametrize("name", ["turns", "state", "np_random"])
def test_a_column_with_the_name_of_a_dialogues_own_is_refused(name):
    def drawn(generator):
        return {"prompt": "p", name: 5}

    message = f"{name!r} cannot be the name of a column in a dialogue, .*: rename the column"
    with pytest.raises(InputError, match=r"^prompts\[0\]: " + message):
        TextEnv(task(prompts=[{"prompt": "p", name: 5}]))
    with pytest.raises(InputError, match="^prompt function: " + message):
        begun(prompts=drawn, max_prompt_tokens=4)


@pytest.mark.parametrize("name", ["turns", "state", "np_random"])
def test_without_a_reply_it_is_a_column_as_any_other(name):
    def reward(prompts, completions, **columns):
        return [float(columns[name][0])]

    env = begun(prompts=[{"prompt": "p", name: 5}], reply=None, max_context=None, reward=reward)
    _, value, terminated, _, info = env.step(EOS)
    assert terminated and value == 5.0 and info["columns"] == {name: 5}


def test_a_function_of_prompts_may_lack_what_a_reply_asks_for():
    def prompts(np_random):
        return {"prompt": "p", "secret": 1}

    env = begun(prompts=prompts, max_prompt_tokens=4, reply=lambda turns, answer, p: None)
    with pytest.raises(InputError, match=r"asks for 'p', which nobody supplies: .* \('secret'\)"):
        say(env, "a")


class Counting:
    """A reply function with a state of its own, beside the episodes'."""

    def __init__(self):
        self.count = 0

    def __call__(self, prompt, turns):
        self.count += 1
        return f"<{self.count}>" if len(turns) < 5 else None

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_what_a_reply_object_keeps_is_part_of_the_state():
    env = TextVectorEnv(task(reply=Counting()), 2)
    env.reset(seed=0)
    for _ in range(2):
        env.step(np.array([EOS, EOS]))
    other = TextVectorEnv(task(reply=Counting()), 2)
    other.load_state_dict(env.state_dict())
    other.step(np.array([EOS, A]))
    assert other.task.reply.count == 5
