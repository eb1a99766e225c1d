"""Chat judges against a real server with one of our models: scores, costs, and all that fails."""

import asyncio
import copy
import email.utils
import json
import logging
import pickle
import sys
import threading

import numpy as np
import pytest
import torch
from chat_server import chat_server
from front_door import byte_lm, read_lines

from textgym.errors import InputError, RewardFailure
from textgym.reward_models.composition import WeightedSum
from textgym.reward_models.judges.chat_judge import ChatJudge
from textgym.reward_models.judges.preferring import judged_pairs, preferences
from textgym.rewards import call_reward, check_reward
from textgym.rewards_by_name import resolve_reward

KEY = "sk-very-secret-17"
RUBRIC = "From {low} to {high}. {prompt}>{completion}"
PROMPTS = ["It", "It", "The film", "It", "So"]
TEXTS = [" was a", " was b", " is qq", " was a", " long {low} \\1 {prompt}"]


@pytest.fixture(scope="module")
def lm():
    """A small model whose likeliest digit depends on the text."""
    model = byte_lm(3, max_position_embeddings=2048)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)
    return model.eval()


@pytest.fixture
def server(lm, monkeypatch):
    with chat_server(lm, "123456789") as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield running


def judge_of(**keywords):
    return ChatJudge("ours", **{"rubric": RUBRIC, "high": 9, "wait": 0.001, **keywords})


def ask(judge, prompts=PROMPTS, texts=TEXTS, **columns):
    return call_reward(check_reward(judge), prompts, texts, columns)


def expected(server, prompts=PROMPTS, texts=TEXTS):
    """The served model's own grades."""
    filled = [f"From 1 to 9. {p}>{t}" for p, t in zip(prompts, texts, strict=True)]
    return [(int(server.answer(text)) - 1) / 8 for text in filled]


def one_line(error):
    """The text of an error that names the endpoint, and not its key."""
    text = str(error.value)
    assert "\n" not in text and KEY not in text and KEY not in repr(error.value.__context__)
    return text


def test_scores_are_the_served_models_and_every_question_is_paid_once(server, tmp_path):
    judge = judge_of(cache=tmp_path / "judge.jsonl", price_in=1e6, price_out=2e6)
    output = ask(judge)
    assert output.scores.tolist() == expected(server) and len(set(output.scores)) > 2
    assert len(server.requests) == 4 == judge.cost.calls and judge.cost.cached == 1
    sent = server.requests[0]
    assert sent["path"] == "/v1/chat/completions"
    assert sent["headers"]["Authorization"] == f"Bearer {KEY}"
    assert sent["body"]["model"] == "ours" and sent["body"]["temperature"] == 0
    by_text = {request["body"]["messages"][0]["content"] for request in server.requests}
    assert "From 1 to 9. So> long {low} \\1 {prompt}" in by_text
    words = [len(f"From 1 to 9. {p}>{t}".split()) for p, t in zip(PROMPTS, TEXTS, strict=True)]
    costs = output.components
    is_paid = costs["judge_calls"]
    assert is_paid.sum() == 4 and costs["judge_cached"].tolist() == (1 - is_paid).tolist()
    assert costs["judge_tokens_in"].tolist() == (is_paid * words).tolist()
    assert costs["judge_price"].tolist() == (is_paid * (np.array(words) + 2)).tolist()
    again = judge_of(cache=tmp_path / "judge.jsonl")
    assert ask(again).scores.tolist() == output.scores.tolist()
    assert (again.cost.calls, again.cost.cached, len(server.requests)) == (0, 5, 4)
    rows = read_lines(tmp_path / "judge.jsonl")
    assert len(rows) == 4 == len({row["key"] for row in rows})
    assert all(len(row["key"]) == 64 for row in rows)
    server.faults = [("say", "8")]
    other = judge_of(cache=tmp_path / "judge.jsonl", high=8)  # another question
    assert ask(other, ["It"], [" was a"]).scores.tolist() == [1]


def test_order_and_batch_change_nothing(server):
    judge = judge_of()
    backwards = ask(judge, PROMPTS[::-1], TEXTS[::-1]).scores.tolist()
    assert backwards[::-1] == expected(server)
    fresh = judge_of()
    assert [ask(fresh, [p], [t]).scores[0] for p, t in zip(PROMPTS, TEXTS, strict=True)] == (
        expected(server)
    )


def an_hour_ago():
    return email.utils.formatdate(0, usegmt=True)


@pytest.mark.parametrize(
    "fault",
    [
        500,
        503,
        (429, {"Retry-After": "0.01"}),
        (429, {"Retry-After": an_hour_ago()}),
        (529, {"Retry-After": "soon"}),
        "half",
        "drop",
        "not json",
        "stall",
        "drip",
    ],
    ids=str,
)
def test_what_passes_is_tried_again(server, tmp_path, fault):
    server.faults = [fault, None, fault, fault]
    judge = judge_of(
        cache=tmp_path / "judge.jsonl", timeout=0.3 if fault in ("stall", "drip") else 9
    )
    output = ask(judge)
    assert output.scores.tolist() == expected(server)
    assert output.components["judge_calls"].sum() == len(server.requests) == 7
    assert len(read_lines(tmp_path / "judge.jsonl")) == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (500, r"HTTP 500 \(no: Bearer \*\*\*\), after 2 tries"),
        (429, r"HTTP 429 \(no: Bearer \*\*\*\), after 2 tries"),
        ("half", r"no answer \(peer closed connection"),
        ("drop", r"no answer \("),
        ("stall", r"no answer within 0\.2 s \(timeout\), after 2 tries"),
        ("not json", r"not the answer of a chat endpoint, after 2 tries"),
        (401, r"HTTP 401 \(no: Bearer \*\*\*\): is OPENAI_API_KEY set, and the right key\?"),
        (404, r"HTTP 404"),
        (302, r"HTTP 302"),
    ],
)
def test_what_does_not_pass_is_one_line_without_the_key(server, tmp_path, fault, said, caplog):
    caplog.set_level(logging.DEBUG)
    server.faults = [fault] * 20
    cache = tmp_path / "judge.jsonl"
    judge = judge_of(cache=cache, retries=1, timeout=0.2 if fault == "stall" else 9)
    with pytest.raises(RewardFailure, match=rf"^judge 'ours' at {server.url}: {said}") as error:
        ask(judge)
    one_line(error)
    assert KEY not in caplog.text and KEY not in repr(vars(judge))
    assert KEY.encode() not in pickle.dumps(judge)
    assert not cache.exists() or KEY not in cache.read_text()


def test_nobody_listens(server, tmp_path):
    server.stop()
    with pytest.raises(
        RewardFailure, match=rf"at {server.url}: no answer .*, after 3 tries$"
    ) as no:
        ask(judge_of(retries=2))
    assert no.value.__cause__ is None  # so that nobody halves the batch to find the text at fault
    one_line(no)


def test_the_whole_call_has_a_time_limit_and_keeps_what_came(server, tmp_path):
    server.faults = [None, "stall", "stall"]
    judge = judge_of(cache=tmp_path / "judge.jsonl", total_timeout=1.0, concurrency=1)
    with pytest.raises(RewardFailure, match=r"1 of 3 questions were answered within 1 s \(total"):
        ask(judge, ["It"] * 3, ["a", "b", "c"])
    assert len(read_lines(tmp_path / "judge.jsonl")) == 1
    server.faults, before = [], len(server.requests)
    ask(judge, ["It"] * 3, ["a", "b", "c"])
    assert len(server.requests) == before + 2
    server.faults = [(429, {"Retry-After": "3600"})]
    with pytest.raises(RewardFailure, match=r"HTTP 429 .*, after 1 try$"):
        ask(judge_of(total_timeout=50.0), ["It"], ["d"])


def test_an_answer_that_is_none_is_asked_for_once_more(server):
    judge = judge_of()
    server.faults = [("say", "I liked it, 7 of 9")]
    assert ask(judge, ["It"], ["a"]).components["judge_calls"].tolist() == [2]
    roles = [message["role"] for message in server.requests[1]["body"]["messages"]]
    assert roles == ["user", "assistant", "user"]
    reminder = server.requests[1]["body"]["messages"][2]["content"]
    assert "one number from 1 to 9, and nothing else" in reminder
    server.faults = [("say", "12"), ("say", "nan")]
    with pytest.raises(
        RewardFailure, match=r"answered 'nan' where .* one number from 1 to 9, twice"
    ):
        ask(judge, ["It"], ["b"])
    server.faults = [("say", ""), ("say", "no idea")]
    mild = judge_of(nonsense="none")
    output = ask(
        WeightedSum([(check_reward(mild), 1.0), (lambda p, c: [0.25] * len(c), 1.0)]), ["It"], ["b"]
    )
    assert output.scores.tolist() == [0.25] and mild.cost.calls == 2 and len(mild.cache) == 0


def test_no_more_requests_at_a_time_than_asked_for(server):
    server.meeting = threading.Barrier(2)
    ask(judge_of(concurrency=2), ["It"] * 12, [f" {i}" for i in range(12)])
    assert server.most_at_once == 2


def test_pairs_are_asked_in_both_orders(lm, monkeypatch):
    rubric = "{prompt}: 1 {first} 2 {second}"
    first = ["warm", "cold", "same", "fine", "bleak", "odd"]
    second = ["bleak", "fine", "same", "x", "yy", "zzz"]
    with chat_server(lm, "AB") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        judge = ChatJudge("ours", rubric, against="reference")
        output = ask(judge, ["It"] * 6, first, reference=second)
        wins = [
            (server.answer(f"It: 1 {a} 2 {b}") == "A", server.answer(f"It: 1 {b} 2 {a}") == "B")
            for a, b in zip(first, second, strict=True)
        ]
        verdicts = [
            float(np.mean(pair)) if a != b else 0.5
            for pair, a, b in zip(wins, first, second, strict=True)
        ]
        assert output.scores.tolist() == verdicts and len(set(verdicts)) > 1
        turned = [
            float(one != other) if a != b else 0
            for (one, other), a, b in zip(wins, first, second, strict=True)
        ]
        assert output.components["judge_disagreed"].tolist() == turned
        assert len(server.requests) == 10 and "Authorization" not in server.requests[0]["headers"]
        assert preferences(judge, ["It"] * 6, second, first) == [1 - v for v in verdicts]
        rows = judged_pairs(judge, [("It", a, b) for a, b in zip(first, second, strict=True)])
        assert [row["is_tie"] for row in rows] == [v == 0.5 for v in verdicts]
        assert [row["chosen"] for row in rows] == [
            a if v >= 0.5 else b for a, b, v in zip(first, second, verdicts, strict=True)
        ]
        made = ChatJudge("ours", rubric, against=lambda prompts: ["bleak" for _ in prompts])
        assert ask(made, ["It"], ["warm"]).scores.tolist() == verdicts[:1]
        with pytest.raises(
            RewardFailure, match="column 'reference', but the prompts have no columns"
        ):
            ask(judge, ["It"], ["warm"])
    with pytest.raises(InputError, match="compares no texts"):
        preferences(lambda p, c: c, ["It"], ["a"], ["b"])


def test_by_name_as_a_copy_and_in_a_loop_of_ones_own(server, tmp_path):
    (tmp_path / "rubric.txt").write_text(RUBRIC, encoding="utf-8")
    named = resolve_reward(
        f"chat_judge,model=ours,rubric={tmp_path}/rubric.txt,high=9,requests_per_minute=60000"
    )
    assert call_reward(named, PROMPTS, TEXTS, {}).scores.tolist() == expected(server)
    judge = judge_of(concurrency=1)
    for _ in range(2):  # a loop each
        output = asyncio.run(judge(PROMPTS, TEXTS))
    assert list(output.scores) == expected(server)
    assert ask(copy.deepcopy(judge)).scores.tolist() == expected(server)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OPENAI_BASE_URL": ""}, "expected OPENAI_BASE_URL, such as http"),
        ({"OPENAI_BASE_URL": "ftp://a/v1"}, "http or https URL .* got 'ftp://a/v1'"),
        ({"OPENAI_BASE_URL": "http://h:port/v1"}, "no URL with a valid host and port"),
        ({"OPENAI_BASE_URL": f"http://me:{KEY}@h/v1"}, "must hold no user, password"),
        ({"OPENAI_BASE_URL": f"http://h/v1?key={KEY}"}, "must hold no user, password"),
        ({"OPENAI_API_KEY": f"{KEY}\nX: y"}, "OPENAI_API_KEY holds spaces, line ends"),
    ],
)
def test_the_environment_is_checked_before_anything_is_asked(server, monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said) as error:
        judge_of()
    one_line(error)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"low": 9}, "low < high"),
        ({"nonsense": "maybe"}, "'error' or 'none'"),
        ({"rubric": "{prompt}"}, "needs the place {completion}"),
        ({"rubric": "no-such-file.txt"}, "no-such-file.txt: cannot be read"),
        ({"against": "reference"}, "needs the place {first}"),
        ({"timeout": 0}, "timeout must be above 0"),
        ({"retries": -1}, "retries must be at least 0"),
        ({"requests_per_minute": 0}, "requests_per_minute must be above 0"),
        ({"cache_entries": 1}, "at least 2 replies"),
    ],
)
def test_bad_arguments_are_said(server, keywords, said):
    with pytest.raises(InputError, match=said):
        judge_of(**keywords)


def test_without_httpx_the_extra_is_named(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(InputError, match=r"pip install 'textgym\[judge\]'"):
        judge_of()


def test_a_place_without_a_text_is_said(server):
    judge = judge_of(rubric="{completion} for {audience}")
    with pytest.raises(RewardFailure, match=r"place \{audience\}, but there is no such text"):
        ask(judge, ["It"], ["a"])
    ask(judge, ["It"], ["a"], audience=["children"])
    assert server.requests[0]["body"]["messages"][0]["content"] == "a for children"
    assert json.dumps(server.requests[0]["body"])
