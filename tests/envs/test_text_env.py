"""The contract of a single environment, move by move."""

import copy
import pickle
import threading

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from hypothesis import given
from hypothesis import strategies as st

from textgym.envs.task import Task
from textgym.envs.text_env import TextEnv
from textgym.envs.text_space import TextSpace
from textgym.envs.utterance_tokens import UtteranceTokens
from textgym.errors import InputError, RewardError, UnknownNameError
from textgym.rewards import RewardOutput
from textgym.tokenizer import Tokenizer

BYTE = Tokenizer.byte()
PAD, BOS, EOS = 0, 1, 2
A, B = BYTE.encode("AB")


def count_a(prompts, completions, **columns):
    return [float(c.count("A")) for c in completions]


def task(**fields):
    defaults = {"prompts": ["p"], "reward": count_a, "max_new_tokens": 4}
    return Task(id="test/Text-v0", **{**defaults, **fields})


def play(env, tokens, seed=0):
    """All steps of one episode."""
    env.reset(seed=seed)
    return [env.step(token) for token in tokens]


def test_the_observation_is_a_padded_row_and_grows_by_the_action():
    env = TextEnv(task(prompts=["Hi"]))
    row, info = env.reset(seed=0)
    h, i = BYTE.encode("Hi")
    assert row.tolist() == [BOS, h, i, PAD, PAD, PAD, PAD] and row.dtype == np.int64
    assert info == {"prompt": "Hi", "prompt_length": 3}
    row, reward, terminated, truncated, info = env.step(np.int64(A))
    assert row.tolist() == [BOS, h, i, A, PAD, PAD, PAD]
    assert (reward, terminated, truncated, info) == (0.0, False, False, {})
    assert type(reward) is float and type(terminated) is bool and type(truncated) is bool


def test_the_observation_space_knows_its_padding_also_as_a_copy():
    space = TextEnv(task()).observation_space
    for row in (space, copy.deepcopy(space), pickle.loads(pickle.dumps(space))):  # noqa: S301
        assert isinstance(row, spaces.Box) and row.pad_token_id == PAD
        assert (row.shape, row.dtype, row.high.max()) == ((6,), np.int64, 258)
        assert row == space


def test_a_stop_token_ends_the_text_and_stays_in_the_row():
    *_, (row, reward, terminated, truncated, info) = play(TextEnv(task()), [A, A, EOS])
    assert row[2:].tolist() == [A, A, EOS, PAD]
    assert (reward, terminated, truncated) == (2.0, True, False)
    assert info == {
        "finish_reason": "stop",
        "prompt": "p",
        "prompt_length": 2,
        "completion": "AA",
        "completion_length": 3,
        "reward_components": {},
    }


def test_the_budget_terminates_and_the_text_is_scored_as_it_stands():
    *_, (row, reward, terminated, truncated, info) = play(TextEnv(task()), [A, B, A, A])
    assert row[2:].tolist() == [A, B, A, A]  # the terminal row has room
    assert (reward, terminated, truncated) == (3.0, True, False)
    assert (info["finish_reason"], info["completion"]) == ("length", "ABAA")


def test_a_stop_token_on_the_last_token_of_the_budget_is_a_stop():
    assert play(TextEnv(task()), [A, A, A, EOS])[-1][4]["finish_reason"] == "stop"


@pytest.mark.parametrize(("token", "reason"), [(A, "length"), (EOS, "stop"), (PAD, "length")])
def test_a_budget_of_one(token, reason):
    ((row, reward, terminated, truncated, info),) = play(TextEnv(task(max_new_tokens=1)), [token])
    assert row.tolist()[2:] == [token] and terminated and not truncated
    assert info["finish_reason"] == reason and reward == float(token == A)


def test_an_unfinished_text_gets_its_score_and_the_reward_model_is_not_asked():
    asked = []

    def reward(prompts, completions):
        asked.extend(completions)
        return count_a(prompts, completions)

    env = TextEnv(task(reward=reward, unfinished_score=-1.5))
    assert play(env, [A] * 4)[-1][1] == -1.5 and asked == []
    assert play(env, [A, EOS])[-1][1] == 1.0 and asked == ["A"]


def test_pad_and_start_tokens_are_ordinary_empty_tokens():
    steps = play(TextEnv(task()), [PAD, A, BOS, EOS])
    assert [step[0][2:].tolist() for step in steps[:2]] == [[PAD] * 4, [PAD, A, PAD, PAD]]
    assert steps[-1][4]["completion"] == "A" and steps[-1][4]["completion_length"] == 4


def test_bytes_that_the_budget_cuts_decode_to_a_replacement_character():
    first = BYTE.encode("é")[0]
    *_, (row, _, _, _, info) = play(TextEnv(task(max_new_tokens=2)), [A, first])
    assert info["completion"] == "A\ufffd" and row[-1] == first


@pytest.mark.parametrize("wrong", [-1, 259, 1.5, "A", None, [A, A]])
def test_an_action_that_is_no_token_is_refused_and_changes_nothing(wrong):
    env = TextEnv(task())
    before, _ = env.reset(seed=0)
    with pytest.raises((InputError, ValueError), match=r"expected|reshape"):
        env.step(wrong)
    np.testing.assert_array_equal(env.step(A)[0][:2], before[:2])


def test_a_step_outside_an_episode_is_refused():
    env = TextEnv(task())
    with pytest.raises(InputError, match=r"call reset\(\) before step"):
        env.step(A)
    play(env, [EOS])
    with pytest.raises(InputError, match=r"call reset\(\) before step"):
        env.step(A)


def test_an_outer_limit_truncates_without_a_score():
    *_, (_, reward, terminated, truncated, info) = play(TimeLimit(TextEnv(task()), 2), [A, A])
    assert (reward, terminated, truncated, info) == (0.0, False, True, {})


def test_a_full_context_truncates_without_a_score():
    *_, (row, reward, terminated, truncated, info) = play(TextEnv(task(max_context=4)), [A, A])
    assert row.tolist()[2:] == [A, A] and (reward, terminated, truncated) == (0.0, False, True)
    assert info["finish_reason"] == "context" and info["completion"] == "AA"


def test_columns_reach_the_reward_and_the_infos():
    def reward(prompts, completions, label):
        return [float(x) for x in label]

    env = TextEnv(task(prompts=[{"prompt": "p", "label": 7, "tags": ["x"]}], reward=reward))
    _, info = env.reset(seed=0)
    assert (info["label"], info["tags"]) == (7, ["x"])
    info["tags"].append("changed by the reader")
    _, reward_, _, _, info = env.step(EOS)
    assert reward_ == 7.0 and info["columns"] == {"label": 7, "tags": ["x"]}


def test_components_come_with_the_ending():
    def reward(prompts, completions):
        return RewardOutput([3.0], {"style": [2.0], "absent": [None]})

    info = play(TextEnv(task(reward=reward)), [EOS])[-1][4]
    assert info["reward_components"] == {"style": 2.0}


BAD = [None, [None], [float("nan")], [float("inf")], [-float("inf")], "1", ["1"], 1.0, [], [1, 2]]
BAD += [[1j], [True], {"a": 1.0}, {1.0}, np.ones((1, 1)), [[1.0]], (x for x in [1.0])]


@pytest.mark.parametrize("bad", BAD, ids=lambda value: f"{value!r:.20}")
def test_a_bad_reward_leaves_the_episode_as_it_was(bad):
    answers = [bad, [1.25]]
    env = TextEnv(task(reward=lambda p, c: answers.pop(0)), render_mode="ansi")
    env.reset(seed=0)
    env.step(A)
    before, state = env.render(), copy.deepcopy(env.np_random.bit_generator.state)
    with pytest.raises(RewardError, match=r"reward model '<lambda>' .*\(prompt 'p'\) at step 1"):
        env.step(EOS)
    assert env.render() == before == "pA"
    assert env.np_random.bit_generator.state == state
    row, reward, terminated, _, _ = env.step(EOS)
    assert row[2:].tolist() == [A, EOS, PAD, PAD] and (reward, terminated) == (1.25, True)


def test_a_reward_that_hangs_is_an_error_within_its_time():
    gate = threading.Event()
    env = TextEnv(task(reward=lambda p, c: [float(gate.wait(20))], reward_timeout=0.05))
    env.reset(seed=0)
    with pytest.raises(RewardError, match=r"no answer within 0\.05 s"):
        env.step(EOS)
    gate.set()
    assert env.step(EOS)[1] == 1.0


@pytest.mark.parametrize("action", ["token", "text"])
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])  # noqa: S301
def test_a_copy_made_in_mid_episode_goes_on_equally(action, copier):
    generator = np.random.default_rng(3)
    original = TextEnv(task(prompts=["p", "qq", "rrr"], max_new_tokens=6), action=action)
    original.reset(seed=11)
    twin = None
    for i in range(200):
        if i in (3, 100):
            twin = copier(original)
        move = int(generator.choice([A, B, PAD, EOS], p=[0.4, 0.3, 0.2, 0.1]))
        if action == "text":
            move = BYTE.decode([move] * int(generator.integers(4)))
        mine = original.step(move)
        theirs = twin.step(move) if twin else mine
        ends = mine[2] or mine[3]
        for env, steps in ((original, mine), (twin, theirs)):
            if env is not None and ends:
                steps += env.reset()
        assert str(mine) == str(theirs)


def test_the_same_seed_gives_the_same_prompts():
    env = TextEnv(task(prompts=[f"prompt {i}" for i in range(50)]))

    def prompts(seed):
        return [env.reset(seed=seed)[1]["prompt"]] + [env.reset()[1]["prompt"] for _ in range(5)]

    assert prompts(4) == prompts(4) != prompts(5)


def test_rendering():
    env = TextEnv(task(), render_mode="ansi")
    play(env, [A, B])
    assert env.render() == "pAB" and env.metadata["render_fps"] > 0
    assert TextEnv(task()).render() is None


@pytest.mark.parametrize("error", [UnknownNameError, TypeError])  # SB3 asks again after the second
def test_an_unknown_render_mode_names_those_there_are(error):
    with pytest.raises(error, match="unknown render mode 'rgb_array': known: ansi, human"):
        TextEnv(task(), render_mode="rgb_array")
    with pytest.raises(error, match="unknown render mode 'ascii': did you mean 'ansi'"):
        TextEnv(task(), render_mode="ascii")


def test_a_human_reads_the_text_as_it_is_written(capsys):
    env = TextEnv(task(max_new_tokens=5), render_mode="human")
    env.reset(seed=0)
    assert capsys.readouterr().out == "p"
    shown = []
    for token in [A, *BYTE.encode("é"), B, EOS]:
        env.step(token)
        shown.append(capsys.readouterr().out)
    assert shown == ["A", "", "é", "B", "\n"]  # half a letter is not shown
    assert env.render() is None
    env.reset()
    env.step(A)
    env.reset()
    assert capsys.readouterr().out == "pA\np"


def test_a_human_reads_bytes_that_stay_broken_and_no_stop_string_twice(capsys):
    env = TextEnv(task(stop="AB"), render_mode="human")
    play(env, [B, A, B])
    assert capsys.readouterr().out == "pBA\n"
    first = BYTE.encode("é")[0]
    play(env, [first, first, A, EOS])
    assert capsys.readouterr().out == "p\ufffd\ufffdA\n"


def test_a_human_reads_utterances(capsys):
    env = TextEnv(task(), action="text", render_mode="human")
    play(env, ["AB"])
    assert capsys.readouterr().out == "pAB\n"


def test_an_unknown_action_proposes_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown action 'tokens': did you mean 'token'"):
        TextEnv(task(), action="tokens")


# ---- text actions ----------------------------------------------------------


def test_one_utterance_is_one_step():
    env = TextEnv(task(max_new_tokens=8), action="text")
    assert env.reset(seed=0)[0] == "p"
    text, reward, terminated, truncated, info = env.step("AAB")
    assert (text, reward, terminated, truncated) == ("pAAB", 2.0, True, False)
    assert info["finish_reason"] == "stop" and info["completion_length"] == 4


@pytest.mark.parametrize(
    ("utterance", "completion", "reason"),
    [
        ("AAA", "AAA", "stop"),
        ("AAAA", "AAAA", "length"),
        ("AAAAA", "AAAA", "length"),
        ("", "", "stop"),
    ],
)
def test_an_utterance_is_cut_at_the_budget(utterance, completion, reason):
    env = TextEnv(task(), action="text")
    env.reset(seed=0)
    _, reward, _, _, info = env.step(utterance)
    assert (info["completion"], info["finish_reason"]) == (completion, reason)
    assert reward == len(completion)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=12), st.integers(1, 12))
def test_the_same_words_earn_the_same_either_way(words, budget):
    fields = {"max_new_tokens": budget, "reward": lambda p, c: [sum(map(ord, c[0])) / 7]}
    by_text, by_token = TextEnv(task(**fields), action="text"), TextEnv(task(**fields))
    by_text.reset(seed=0)
    _, reward, terminated, truncated, info = by_text.step(words)
    *_, last = play(by_token, [*BYTE.encode(words), EOS][:budget])
    assert (reward, terminated, truncated, info) == last[1:]


def test_a_reward_error_takes_the_whole_utterance_back():
    answers = [["no"], [1.0]]
    env = TextEnv(task(reward=lambda p, c: answers.pop(0)), action="text")
    start, _ = env.reset(seed=0)
    with pytest.raises(RewardError, match="type str"):
        env.step("AB")
    assert env._observation() == start == "p"
    assert env.step("AB")[0] == "pAB"


def test_an_utterance_must_be_a_text_that_can_be_encoded():
    env = TextEnv(task(), action="text")
    env.reset(seed=0)
    with pytest.raises(InputError, match="expected a text as the action, got int"):
        env.step(3)
    with pytest.raises(InputError, match="lone surrogate"):
        env.step("\ud800")


def test_the_space_of_texts():
    space = TextSpace(20, sample_length=5, seed=0)
    for text in ("", "a b", "é漢字🙂\n\x00", "x" * 20):
        assert text in space
    for wrong in ("x" * 21, "\udc80", b"x", 3, None):
        assert wrong not in space
    samples = {space.sample() for _ in range(200)}
    assert max(map(len, samples)) == 5 and all(sample in space for sample in samples)
    assert space == TextSpace(20) and hash(space) == hash(TextSpace(20)) and space != TextSpace(21)
    assert space.sample(mask=(3, None)) in space and repr(space) == "TextSpace(20)"


def test_utterances_as_rows_of_ids():
    env = UtteranceTokens(TextEnv(task(max_new_tokens=5), action="text"))
    row, _ = env.reset(seed=0)
    assert row.tolist() == [BOS, *BYTE.encode("p"), *[PAD] * 5]
    row, reward, terminated, _, info = env.step(np.array([A, B, EOS, A, A]))
    assert (reward, terminated, info["completion"]) == (1.0, True, "AB")
    assert row[2:].tolist() == [A, B, PAD, PAD, PAD]
    env.reset()
    assert env.step(np.array([A] * 5))[4]["finish_reason"] == "length"
    with pytest.raises(InputError, match='made with action="text"'):
        UtteranceTokens(TextEnv(task()))
