"""Stop strings, dialogues and dense rewards, against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from textgym.envs.dense_rewards import character_ends, token_rewards
from textgym.envs.task import Task
from textgym.envs.text_env import TextEnv
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError, RewardError
from textgym.rewards import RewardOutput
from textgym.tokenizer import Tokenizer

BYTE = Tokenizer.byte()
EOS = BYTE.eos_token_id


def length(prompts, completions):
    return [float(len(c)) for c in completions]


def task(**fields):
    defaults = {"prompts": ["p"], "reward": length, "max_new_tokens": 12}
    return Task(id="test/Endings-v0", **{**defaults, **fields})


def write(env, text):
    """Token by token, up to the end; the last step."""
    for token in BYTE.encode(text):
        step = env.step(token)
        if step[2] or step[3]:
            break
    return step


# ---- stop strings ----------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "text", "completion"),
    [
        ("\n", "ab\ncd", "ab"),
        (["##", "\n"], "a#b##c", "a#b"),
        ("é", "caféx", "caf"),
        ("aab", "aaab", "a"),
        ("🙂", "🙁🙂", "🙁"),
    ],
)
def test_a_stop_string_ends_the_text_before_it(stop, text, completion):
    env = TextEnv(task(stop=stop))
    env.reset(seed=0)
    _, reward, terminated, truncated, info = write(env, text)
    assert (terminated, truncated, info["finish_reason"]) == (True, False, "stop")
    assert info["completion"] == completion and reward == len(completion)


def test_a_stop_string_in_the_prompt_or_half_written_does_not_count():
    env = TextEnv(task(prompts=["p#"], stop="##"))
    env.reset(seed=0)
    assert write(env, "#a#b#")[2] is False
    assert write(env, "#")[4]["completion"] == "#a#b"


def test_a_stop_string_may_end_inside_a_token():
    tokens = ["a", "b", ".", "p", "b.", "b.a", "<pad>", "<eos>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    backend = Backend(models.BPE(vocabulary, [("b", "."), ("b.", "a")]))
    backend.decoder = decoders.Fuse()
    tokenizer = Tokenizer(backend, pad_token="<pad>", eos_token="<eos>")
    env = TextEnv(task(tokenizer=tokenizer, stop="."))
    env.reset(seed=0)
    env.step(vocabulary["a"])
    row, _, terminated, _, info = env.step(vocabulary["b.a"])
    assert terminated and info["completion"] == "ab" and row[2] == vocabulary["b.a"]


def test_a_stop_string_that_is_a_special_token_ends_the_text_as_that_token():
    env = TextEnv(task(stop="<|pad|>"))
    env.reset(seed=0)
    write(env, "ab")
    assert env.step(BYTE.pad_token_id)[4]["completion"] == "ab"


def test_a_stop_token_that_the_tokenizer_lacks_is_refused():
    with pytest.raises(InputError, match=r"stop '<\|im_end\|>' is not a special token"):
        TextEnv(task(stop="<|im_end|>"))


@given(st.lists(st.text(alphabet="a#\né", max_size=6), min_size=3, max_size=3))
def test_rows_of_a_batch_stop_one_by_one_where_a_search_of_the_whole_text_says(texts):
    env = TextVectorEnv(task(stop=["##", "\n"], max_new_tokens=40), 3)
    env.reset(seed=0)
    rows = [[*BYTE.encode(text), EOS] for text in texts]
    ended = {}
    for i in range(max(map(len, rows))):
        actions = np.array([row[i] if i < len(row) else EOS for row in rows])
        *_, infos = env.step(actions)
        for row in range(3):
            if row not in ended and infos.get("_final_info", [False] * 3)[row]:
                ended[row] = infos["final_info"]["completion"][row]
    for row, text in enumerate(texts):
        found = [(text.find(stop) + len(stop), text.find(stop)) for stop in ("##", "\n")]
        found = [ends for ends in found if ends[1] >= 0]
        first = min(found)[1] if found else len(text)  # the one complete first ends the text
        assert ended[row] == text[:first]


# ---- dialogues -------------------------------------------------------------


def teacher(prompt, turns):
    """Asks twice for more, then ends."""
    return f"<{len(turns)}>" if len(turns) < 4 else None


def dialogue(**fields):
    return task(**{"reply": teacher, "max_context": 40, "max_new_tokens": 20, **fields})


def test_the_environments_words_join_the_context():
    seen = []

    def reply(prompt, turns):
        seen.append((prompt, list(turns)))
        return teacher(prompt, turns)

    env = TextEnv(dialogue(reply=reply))
    env.reset(seed=0)
    write(env, "ab")
    row, reward, terminated, truncated, info = env.step(EOS)
    assert (reward, terminated, truncated, info) == (0.0, False, False, {})
    assert row.tolist()[1:9] == [*BYTE.encode("pab"), EOS, *BYTE.encode("<1>"), 0]
    write(env, "c")
    env.step(EOS)
    *_, info = env.step(EOS)
    assert info["finish_reason"] == "stop" and info["completion"] == "ab<1>c<3>"
    assert info["completion_length"] == 6  # the player's own tokens, stops counted
    assert seen == [
        ("p", ["ab"]),
        ("p", ["ab", "<1>", "c"]),
        ("p", ["ab", "<1>", "c", "<3>", ""]),
    ]


def test_the_budget_counts_the_players_tokens_of_all_turns():
    env = TextEnv(dialogue(max_new_tokens=5))
    env.reset(seed=0)
    write(env, "ab")
    env.step(EOS)
    _, reward, terminated, _, info = write(env, "cd")
    assert terminated and info["finish_reason"] == "length"
    assert info["completion"] == "ab<1>cd" and reward == 7.0


def test_a_reply_that_does_not_fit_the_context_truncates():
    env = TextEnv(dialogue(max_context=8))
    env.reset(seed=0)
    write(env, "ab")
    row, reward, terminated, truncated, info = env.step(EOS)  # 5 of 8, and the reply has 3
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["finish_reason"] == "context" and info["completion"] == "ab"
    assert row.tolist()[4:] == [EOS, 0, 0, 0]


def test_stop_strings_and_text_actions_in_a_dialogue():
    env = TextEnv(dialogue(stop="\n"), action="text")
    env.reset(seed=0)
    text, *_, info = env.step("ab\nnever said")
    assert text == "pab<1>" and info == {}
    env.step("c")
    text, reward, terminated, _, info = env.step("d")
    assert terminated and info["completion"] == "ab<1>c<3>d" and text == "pab<1>c<3>d"
    assert reward == 10.0


@pytest.mark.parametrize("answer", [3, "\ud800", ZeroDivisionError("x"), SystemExit(0)])
def test_a_reply_function_that_fails_is_one_line_and_loses_nothing(answer):
    def reply(prompt, turns):
        if isinstance(answer, BaseException):
            raise answer
        return answer

    env = TextEnv(dialogue(reply=reply), render_mode="ansi")
    env.reset(seed=0)
    write(env, "ab")
    with pytest.raises(
        InputError, match=r"the reply function of 'test/Endings-v0' (failed|returned)"
    ):
        env.step(EOS)
    assert env.render() == "pab"


def test_a_reward_error_at_the_end_of_a_dialogue_loses_nothing():
    env = TextEnv(dialogue(reward=lambda p, c: [None]), render_mode="ansi")
    env.reset(seed=0)
    env.step(EOS)
    env.step(EOS)
    for _ in range(2):
        with pytest.raises(RewardError, match="None as the total"):
            env.step(EOS)
        assert env.render() == "p<1><3>"


# ---- dense rewards ---------------------------------------------------------


def test_spans_are_split_by_characters_and_the_rest_goes_to_the_last_token():
    ids = [*BYTE.encode("abcd"), EOS]
    spans = [(0, 2, 1.0), (1, 4, 3.0), (3, 3, 0.5)]
    rewards = token_rewards(10.0, spans, [("abcd", ids)], BYTE)
    assert rewards == [0.5, 1.5, 1.0, 1.5, 5.5]


def test_a_character_of_several_tokens_counts_for_the_last_of_them():
    assert character_ends(BYTE.encode("aé🙂"), BYTE).tolist() == [1, 1, 2, 2, 2, 2, 3]
    rewards = token_rewards(2.0, [(1, 2, 2.0)], [("aé", BYTE.encode("aé"))], BYTE)
    assert rewards == [0.0, 0.0, 2.0]
    assert character_ends([], BYTE).tolist() == []


def test_what_the_environment_said_is_not_the_players():
    turns = [("ab", [*BYTE.encode("ab"), EOS]), ("<1>", None), ("c", BYTE.encode("c"))]
    spans = [(0, 1, 1.0), (2, 5, 4.0), (5, 6, 2.0)]
    assert token_rewards(7.0, spans, turns, BYTE) == [1.0, 0.0, 0.0, 6.0]


def test_the_info_of_an_environment_carries_the_split():
    def reward(prompts, completions):
        return RewardOutput([1.0 for _ in completions], spans=[[(0, 1, 0.25)] for _ in completions])

    env = TextEnv(task(reward=reward))
    env.reset(seed=0)
    write(env, "ab")
    _, total, _, _, info = env.step(EOS)
    assert total == 1.0 and info["token_rewards"] == [0.25, 0.0, 0.75]


@given(
    st.text(min_size=1, max_size=10, alphabet=st.characters(codec="utf-8")),
    st.data(),
)
def test_a_split_always_sums_to_the_total(text, data):
    places = st.integers(0, len(text))
    amounts = st.floats(-10, 10)
    drawn = data.draw(st.lists(st.tuples(places, places, amounts), max_size=4))
    spans = [(min(a, b), max(a, b), amount) for a, b, amount in drawn]
    ids = [*BYTE.encode(text), EOS]
    rewards = token_rewards(2.5, spans, [(text, ids)], BYTE)
    assert len(rewards) == len(ids) and sum(rewards) == pytest.approx(2.5)
