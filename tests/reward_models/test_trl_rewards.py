"""What a reward written for TRL is called with here, and where goes what it logs."""

import functools
from collections.abc import Mapping
from dataclasses import asdict

import pytest
from textgym_resuming import ID, SMALL, register_task, rows_of, unregister_task
from textgym_testing import letter_tokenizer, tiny_lm

import textgym
from textgym.errors import InputError, RewardError
from textgym.reward_models import Clip, WeightedSum, from_trl, to_trl
from textgym.rewards import RewardOutput, call_reward, check_arguments, check_reward
from textgym.trl_rewards import FromTRL, TrainerState, set_trainer_state

PROMPTS, TEXTS = ["One: ", "Two: "], ["a", "bbb"]


def ask(reward, columns=None, **keywords):
    return call_reward(check_reward(reward), PROMPTS, TEXTS, columns or {}, **keywords)


def chat_length(completions: list[list[dict[str, str]]], **kwargs):
    return [float(len(completion[0]["content"])) for completion in completions]


def plain_length(completions, **kwargs):
    return [float(len(completion)) for completion in completions]


class ChatObject:
    def __call__(self, prompts, completions: "list[list[dict]]", **kwargs):
        assert [prompt[-1] for prompt in prompts] == [
            {"role": "user", "content": prompt} for prompt in PROMPTS
        ]
        return [float(len(completion[-1]["content"])) for completion in completions]


async def async_chat(completions: "list[list[Mapping[str, str]]]", **kwargs):
    return [float(len(completion[0]["content"])) for completion in completions]


@pytest.mark.parametrize(
    "reward",
    [
        chat_length,
        ChatObject(),
        async_chat,
        functools.partial(chat_length, unused=1),
        from_trl(lambda completions: [len(c[0]["content"]) for c in completions], chat=True),
        plain_length,
        from_trl(plain_length),
        from_trl(chat_length),
        from_trl(lambda completion_ids, **_: [len(ids) for ids in completion_ids]),
        from_trl(lambda **kwargs: [len(ids) for ids in kwargs["completion_ids"]]),
    ],
)
def test_texts_come_in_the_shape_that_the_signature_says(reward):
    output = ask(reward, completion_ids=[[5], [5, 5, 5]])
    assert output.scores.tolist() == [1.0, 3.0]


def test_the_annotation_decides_and_the_caller_has_the_last_word():
    assert check_reward(plain_length) is plain_length
    assert isinstance(check_reward(chat_length), FromTRL)
    texts_all_the_same = from_trl(lambda completions: [len(c) for c in completions], chat=False)
    assert ask(texts_all_the_same).scores.tolist() == [1.0, 3.0]
    with pytest.raises(RewardError, match="'list' object has no attribute 'strip'"):
        ask(from_trl(lambda completions: [c.strip() for c in completions], chat=True))


def indexes_messages(completions, **kwargs):
    return [float(len(completion[0]["content"])) for completion in completions]


@pytest.mark.parametrize("text", ["bbb", ""])
def test_where_the_signature_does_not_say_it_an_error_says_what_to_do(text):
    with pytest.raises(RewardError) as caught:
        call_reward(indexes_messages, ["One: "], [text], {})
    assert "if it expects chat messages: textgym.reward_models.from_trl(reward, chat=True)" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    wrapped = from_trl(indexes_messages, chat=True)
    assert call_reward(wrapped, ["One: "], [text], {}).scores.tolist() == [float(len(text))]


def test_a_dialogue_has_a_message_for_each_turn():
    def reward(prompts, completions, **kwargs):
        assert prompts == [[{"role": "user", "content": "Q"}]]
        assert completions == [
            [
                {"role": "assistant", "content": "one"},
                {"role": "user", "content": "two"},
                {"role": "assistant", "content": "three"},
            ]
        ]
        return [1.0]

    who = ("player", "environment", "player")
    words = ("one", "two", "three")
    turns = [{"who": w, "text": t} for w, t in zip(who, words, strict=True)]
    columns = {"turns": [turns]}
    wrapped = from_trl(reward, chat=True)
    assert call_reward(wrapped, ["Q"], ["onetwothree"], columns).scores.tolist() == [1.0]


def test_what_it_asks_for_is_known_before_it_is_called():
    def reward(completions, solution, trainer_state, log_metric, **kwargs):
        return [float(text == right) for text, right in zip(completions, solution, strict=True)]

    checked = check_reward(reward)
    with pytest.raises(InputError, match="'reward' asks for 'solution', which nobody supplies"):
        check_arguments(checked, ["keyword"])
    check_arguments(checked, ["solution"])
    assert ask(reward, {"solution": ["a", "b"]}).scores.tolist() == [1.0, 0.0]
    with pytest.raises(RewardError, match="asks for 'completion_ids', which nobody supplies"):
        ask(from_trl(lambda completion_ids: [0.0]))


def test_none_and_truth_values():
    def reward(completions, log_metric):
        return [None, True]

    with pytest.raises(RewardError, match="returned None as the total of a text"):
        ask(reward)
    assert ask(from_trl(reward, none=-0.5)).scores.tolist() == [-0.5, 1.0]
    total = ask(WeightedSum({"own": (reward, 2.0), "length": (plain_length, 1.0)}))
    assert total.scores.tolist() == [1.0, 5.0]


def logging_reward(completions, log_metric, log_extra, **kwargs):
    log_metric("share", 0.25)
    log_metric("share", 0.75)
    log_extra("size", [len(text) for text in completions])
    log_extra("seen", [text.upper() for text in completions])
    return [0.0] * len(completions)


def test_what_it_logs_is_a_component_or_a_column():
    output = ask(logging_reward)
    assert {name: list(values) for name, values in output.components.items()} == {
        "share": [0.5, 0.5],
        "size": [1.0, 3.0],
    }
    assert output.extra == {"seen": ["A", "BBB"]}
    nested = ask(WeightedSum({"part": (Clip(logging_reward), 1.0)}))
    assert nested.components["part/share"].tolist() == [0.5, 0.5]
    assert nested.extra == {"part/seen": ["A", "BBB"]}


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (("log_extra", "seen", ["A"]), "log_extra.'seen'. with 1 values for 2 texts"),
        (("log_metric", "share", float("nan")), "expected a name and a finite number"),
        (("log_metric", "share", "much"), "expected a name and a finite number"),
        (("log_metric", 3, 1.0), "expected a name and a finite number"),
    ],
)
def test_a_bad_log_is_refused_by_name(log, message):
    def bad_log(completions, **kwargs):
        kwargs[log[0]](*log[1:])
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match=f"'bad_log'.*{message}"):
        ask(from_trl(bad_log))


@pytest.mark.parametrize(
    ("extra", "message"),
    [({"seen": ["A"]}, "1 values of seen for 2 texts"), (["A", "B"], "no mapping")],
)
def test_extra_columns_have_a_value_for_each_text(extra, message):
    with pytest.raises(RewardError, match=message):
        ask(lambda prompts, completions: RewardOutput([0.0, 0.0], extra=extra))


def test_the_state_reaches_every_part():
    one, other = from_trl(plain_length), from_trl(chat_length)
    state = TrainerState(global_step=3)
    set_trainer_state(WeightedSum({"one": (Clip(one), 1.0), "other": (other, 0.0)}), state)
    assert one.trainer_state is state and other.trainer_state is state


@pytest.fixture
def task():
    register_task(tokenizer=letter_tokenizer())
    yield ID
    unregister_task()


def train(word, out, reward, tokens, *, until=None):
    settings = {"learning_rate": 0.01, **SMALL[word]}
    lm = tiny_lm(spread=6.0, num_hidden_layers=1)
    agent = textgym.make_agent(
        word, ID, policy=lm, n_envs=4, seed=0, out=out, reward=reward, **settings
    )
    agent.learn(tokens, callback=until)
    return agent


def curriculum(seen):
    def reward(completions, trainer_state, log_extra, log_metric, **kwargs):
        if asdict(trainer_state) not in seen:
            seen.append(asdict(trainer_state))
        log_metric("progress", trainer_state.global_step / trainer_state.max_steps)
        log_extra("letters", [" ".join(text) for text in completions])
        share = 1 - trainer_state.global_step / trainer_state.max_steps
        return [share * text.count("a") + text.count("b") for text in completions]

    return reward


def test_training_says_how_far_it_is_and_keeps_what_is_logged(task, tmp_path):
    seen = []
    train("ppo", tmp_path / "run", curriculum(seen), 160)
    states = [(s["global_step"], s["max_steps"], s["num_input_tokens_seen"]) for s in seen]
    assert states == [(0, 4, 0), (1, 4, 40), (2, 4, 80), (3, 4, 120)]
    rows = rows_of(tmp_path / "run/metrics.jsonl")
    progress = [row["reward_components/progress"] for row in rows]
    assert progress == pytest.approx([0.0, 0.25, 0.5, 0.75])
    texts = rows_of(tmp_path / "run/reward_extra.jsonl")
    assert {row["step"] for row in texts} == {40, 80, 120, 160}
    for row in texts:
        share = 1 - (row["step"] / 40 - 1) / 4
        count = row["completion"].count
        assert row["reward"] == pytest.approx(share * count("a") + count("b"))
        assert row["extra"] == {"letters": " ".join(row["completion"])}


@pytest.mark.parametrize("word", ["ppo", "grpo"])
def test_a_resumed_run_ends_the_same(word, task, tmp_path):
    train(word, tmp_path / "whole", curriculum([]), 320)
    train(
        word,
        tmp_path / "parts",
        curriculum([]),
        320,
        until=lambda names, _: names["self"].num_timesteps < 215,
    )
    again = textgym.load_agent(
        tmp_path / "parts", out=tmp_path / "parts", reward=curriculum([]), exact=True
    )
    again.learn(320 - again.num_timesteps, reset_num_timesteps=False)
    for record in ("metrics.jsonl", "reward_extra.jsonl"):
        assert rows_of(tmp_path / "parts" / record) == rows_of(tmp_path / "whole" / record)


def test_ours_as_one_of_trls_takes_texts_and_messages():
    def scored(prompts, completions, **columns):
        numbers = [float(len(p) + len(c)) for p, c in zip(prompts, completions, strict=True)]
        return RewardOutput(numbers, {"half": [numbers[0] / 2, float("nan")]})

    logged = []
    keywords = {
        "trainer_state": None,
        "log_extra": None,
        "log_metric": lambda *log: logged.append(log),
        "completion_ids": [[1], [2]],
    }
    reward = to_trl(scored)
    assert reward.__name__ == "scored"
    assert reward(prompts=PROMPTS, completions=TEXTS, **keywords) == [6.0, 8.0]
    assert logged == [("scored/half", 3.0)]
    chat = {
        "prompts": [[{"role": "user", "content": prompt}] for prompt in PROMPTS],
        "completions": [[{"role": "assistant", "content": text}] for text in TEXTS],
    }
    assert reward(**chat, **keywords) == [6.0, 8.0]
