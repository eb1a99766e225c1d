"""Parts of model judges: what an answer says, when a request starts, what a cache file survives."""

import asyncio
import subprocess
import sys

import pytest
from front_door import read_lines

from textgym.errors import InputError, StorageError
from textgym.reward_models.judges.answers import read_choice, read_score
from textgym.reward_models.judges.rate_limit import RateLimit
from textgym.reward_models.judges.response_cache import Reply, ResponseCache
from textgym.reward_models.judges.rubric import Rubric


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("7", 7),
        (" 7.5 \n", 7.5),
        ("Score: 7", 7),
        ("**7**", 7),
        ("It drags in the middle, 3 at most.\n\nFinal score: 4.", 4),
        ("7/10", 7),
        ("1", 1),
        ("10", 10),
        ("7/9", None),
        ("7 of 10", None),
        ("I would say 7", None),
        ("7 or 8", None),
        ("0.99", None),
        ("11", None),
        ("-7", None),
        ("nan", None),
        ("inf", None),
        ("1e1", None),
        ("7,5", None),
        ("七", None),
        ("٧", None),
        ("", None),
        ("7\nbecause it is dull", None),
    ],
)
def test_a_score_is_a_number_in_the_range_and_nothing_else(answer, score):
    assert read_score(answer, 1, 10) == score


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("A", 1),
        ("b", 0),
        ("[[B]]", 0),
        ("(A).", 1),
        ("Both are dull.\nAnswer: A", 1),
        ("tie", 0.5),
        ("A or B", None),
        ("A good text", None),
        ("C", None),
        ("", None),
    ],
)
def test_a_choice_is_one_letter_and_nothing_else(answer, choice):
    assert read_choice(answer) == choice


def test_texts_are_put_in_in_one_pass(tmp_path):
    rubric = Rubric('{prompt}|{completion}|{low} {"score": 3} {}', ["completion"])
    texts = {"prompt": "{completion}", "completion": "{low}\\1{0}", "low": "1", "other": "x"}
    assert rubric.fill(texts) == '{completion}|{low}\\1{0}|1 {"score": 3} {}'
    (tmp_path / "r.txt").write_bytes(b"\xff{completion}")
    with pytest.raises(InputError, match="not UTF-8"):
        Rubric(str(tmp_path / "r.txt"), ["completion"])


class Clock:
    """Time that passes where somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


def starts(limit, clock, count):
    async def some():
        found = []
        for _ in range(count):
            await limit.turn()
            found.append(clock.now)
        return found

    return asyncio.run(some())


def test_requests_start_evenly_spaced_and_after_pauses():
    clock = Clock()
    limit = RateLimit(30, clock=clock, sleep=clock.sleep)
    assert starts(limit, clock, 4) == [0, 2, 4, 6]
    limit.pause(10)  # from second 6 on
    limit.pause(1)
    assert starts(limit, clock, 3) == [16, 18, 20]
    clock.now = 100
    assert starts(limit, clock, 2) == [100, 102]  # what was not used is not saved up
    free = RateLimit(None, clock=clock, sleep=clock.sleep)
    assert starts(free, clock, 3) == [102, 102, 102]


def test_who_waits_for_a_turn_waits_for_a_pause_too():
    clock = Clock()

    async def sleep(seconds):
        clock.now += seconds
        if clock.now == 2:
            limit.pause(5)

    limit = RateLimit(30, clock=clock, sleep=sleep)
    assert starts(limit, clock, 3) == [0, 7, 9]


def keys(path):
    return [row["key"] for row in read_lines(path)]


def test_a_torn_line_is_mended_and_nothing_is_lost(tmp_path):
    path = tmp_path / "deep" / "cache.jsonl"
    cache = ResponseCache(path)
    cache.put("a", Reply("1", 5, 1))
    cache.put("a", Reply("2", 5, 1))  # the first stays
    cache.put("b", Reply("\u2028\ud800 很好"))
    with open(path, "ab") as file:
        file.write(b'{"key": "c", "te')  # a crash
    again = ResponseCache(path)
    assert again.get("a") == Reply("1", 5, 1) and again.get("b").text == "\u2028\ud800 很好"
    assert again.get("c") is None and len(again) == 2
    again.put("c", Reply("3"))
    assert keys(path) == ["a", "b", "c"]


def test_several_processes_share_a_file_and_double_nothing(tmp_path):
    path = tmp_path / "cache.jsonl"
    one, other = ResponseCache(path), ResponseCache(path)
    one.put("a", Reply("1"))
    other.put("a", Reply("9"))
    other.put("b", Reply("2"))
    one.put("b", Reply("9"))
    assert other.get("a") == Reply("1") and one.get("b") == Reply("2")
    assert keys(path) == ["a", "b"]
    code = (
        "import sys; from textgym.reward_models.judges.response_cache import *\n"
        "cache = ResponseCache(sys.argv[1])\n"
        "for i in range(60): cache.put(f'k{i}', Reply(sys.argv[2]))\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, str(path), str(i)]) for i in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    assert sorted(keys(path)) == sorted(["a", "b", *(f"k{i}" for i in range(60))])


def test_the_newest_half_stays_in_a_file_that_is_full(tmp_path):
    path = tmp_path / "cache.jsonl"
    cache, other = ResponseCache(path, most=6), ResponseCache(path, most=6)
    for i in range(7):
        cache.put(str(i), Reply("1"))
    assert keys(path) == ["4", "5", "6"] and len(cache) == 3
    other.put("7", Reply("1"))
    assert keys(path) == ["4", "5", "6", "7"] and other.get("6") == Reply("1")
    memory = ResponseCache(most=2)
    for i in range(3):
        memory.put(str(i), Reply("1"))
    assert memory.get("0") is None and memory.get("2") is not None and len(memory) == 2


def test_what_is_no_cache_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    with pytest.raises(InputError, match="no line of it is a cached reply"):
        ResponseCache(path)
    assert path.read_text() == "my notes\n"
    with pytest.raises(InputError, match="found a directory"):
        ResponseCache(tmp_path)
    with pytest.raises(StorageError, match="cannot be written"):
        ResponseCache(path / "cache.jsonl")
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text('{"key": "a", "text": "1"}\n[1]\n{"key": 3}\n')
    with pytest.warns(UserWarning, match="2 damaged lines left out"):
        assert ResponseCache(mixed).get("a") == Reply("1")


def test_a_file_that_cannot_be_written_any_more_is_a_warning(tmp_path):
    path = tmp_path / "cache.jsonl"
    cache = ResponseCache(path)
    path.mkdir()
    with pytest.warns(UserWarning, match="kept in memory alone") as warned:
        cache.put("a", Reply("1"))
        cache.put("b", Reply("2"))
    assert len(warned) == 1 and cache.get("a") == Reply("1") and cache.get("b") == Reply("2")
