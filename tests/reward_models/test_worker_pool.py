"""Slow reward models: remembered, limited in time, and in processes of their own."""

import copy
import os
import pickle
import time

import pytest
import textgym_worker_rewards as theirs

from textgym.errors import InputError, RewardError, RewardFailure
from textgym.reward_models import Cached, Length, Normalize, TimeLimit, WeightedSum, WorkerPool
from textgym.reward_models.composition import score_part
from textgym.rewards import RewardOutput, asked_rewards, call_reward, check_arguments
from textgym.trl_rewards import TrainerState, set_trainer_state


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def obeying():
    with WorkerPool(theirs.obeys, workers=1) as pool:
        yield pool


def test_workers_share_a_call_and_answers_come_in_order():
    texts, bonus = ["a", "", "ccc", "dd", "e"], [10.0, 20.0, 30.0, 40.0, 50.0]
    ids = [[1], [1, 2], [1, 2, 3], [1], []]
    with WorkerPool(theirs.whole_answer, workers=2) as pool:
        part = score_part(pool, ["p"] * 5, texts, {"bonus": bonus}, ids)
        processes = part.components["process"].tolist()
        assert part.scores.tolist() == pytest.approx([11, float("nan"), 33, 41, 50], nan_ok=True)
        assert part.spans == [[(0, len(text), 0.5)] for text in texts]
        assert part.extra == {"upper": ["A", "", "CCC", "DD", "E"]}
        assert processes[:3] == processes[:1] * 3 and processes[3:] == processes[3:4] * 2
        assert len({*processes, float(os.getpid())}) == 3
        one = score_part(pool, ["p"], ["a"], {"bonus": [1.0]}, [[1, 2]])
        assert one.scores.tolist() == [3.0] and one.components["process"][0] in processes
        assert call_reward(pool, [], [], {"bonus": []}, completion_ids=[]).scores.tolist() == []
        with pytest.raises(RewardError, match="asks for 'completion_ids', which nobody supplies"):
            call_reward(pool, ["p"], ["a"], {"bonus": [1.0]})
    assert not any(is_running(int(pid)) for pid in processes)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("die", "'obeys': a worker process ended with exit code 7"),
        ("kill", r"'obeys': a worker process was killed by signal 9 \(out of memory\?\)"),
        ("raise", r"'obeys' raised ValueError: no such word \(prompt 'p'\)"),
        ("nan", r"'obeys' returned a score that is not finite \(nan\)"),
    ],
)
def test_a_worker_that_fails_is_one_clear_error_and_the_next_call_works(word, message, obeying):
    call_reward(obeying, ["p"], ["a"], {})
    before = [worker.process.pid for worker in obeying._running]
    with pytest.raises(RewardError, match=message) as caught:
        call_reward(obeying, ["p", "q"], ["a", word], {})
    assert isinstance(caught.value, RewardFailure) == (word != "nan")
    is_alive = word in ("raise", "nan")  # then no new one is needed
    assert [worker.process.pid for worker in obeying._running] == before * is_alive
    assert "\n" not in str(caught.value)
    assert call_reward(obeying, ["p", "q"], ["a", "b"], {}).scores.tolist() == [1.0, 1.0]


def test_a_worker_that_hangs_is_ended():
    with WorkerPool(theirs.obeys, workers=1) as pool:
        assert call_reward(pool, ["p"], ["a"], {}).scores.tolist() == [1.0]
        pool.timeout = 0.3
        process = pool._running[0].process.pid
        with pytest.raises(RewardFailure, match=r"'obeys' gave no answer within 0\.3 s"):
            call_reward(pool, ["p"], ["hang"], {})
        assert not is_running(process)


def test_a_task_may_ask_new_workers_again(obeying):
    with pytest.warns(UserWarning, match="asked again"), pytest.raises(RewardFailure):
        call_reward(obeying, ["p"], ["die"], {}, retries=1)


def test_a_worker_that_cannot_start_is_an_error():
    with WorkerPool(theirs.DiesAtStart(), workers=1) as pool:
        with pytest.raises(RewardFailure, match="ended with exit code 3; if it died while it sta"):
            call_reward(pool, ["p"], ["a"], {})
    with WorkerPool(lambda prompts, completions: [0.0], workers=1) as pool:
        with pytest.raises(RewardError, match=r"cannot be sent to a worker process.*at the top of"):
            call_reward(pool, ["p"], ["a"], {})
        assert pool._running == []


def test_a_reward_of_trls_kind_hears_the_trainers_state_there():
    with WorkerPool(theirs.says_step, workers=1) as pool:
        set_trainer_state(WeightedSum({"pool": (pool, 1.0)}), TrainerState(global_step=5))
        assert call_reward(pool, ["p"], ["a"], {}).scores.tolist() == [5.0]


def test_what_a_pool_refuses():
    with pytest.raises(InputError, match="keeps a state, which workers do not share"):
        WorkerPool(WeightedSum([Normalize(Length(), running=True)]))
    for workers in (0, 1.5, True):
        with pytest.raises(InputError, match="workers must be a whole number from 1 to 1024"):
            WorkerPool(Length(), workers=workers)
    with pytest.raises(InputError, match="timeout must be a number of seconds above 0, got 0"):
        WorkerPool(Length(), timeout=0)


def test_what_a_part_inside_asks_for_is_known_before_it_is_called():
    with WorkerPool(theirs.whole_answer) as pool:
        total = WeightedSum({"slow": (TimeLimit(pool, 5.0), 1.0), "length": (Length(), 1.0)})
        assert asked_rewards(total)[0] is theirs.whole_answer
        with pytest.raises(InputError, match="asks for 'bonus'"):
            check_arguments(asked_rewards(total)[0], [])
        assert copy.deepcopy(pool)._running == [] and pickle.loads(pickle.dumps(pool)).workers == 2  # noqa: S301


def test_a_part_has_a_time_limit_of_its_own():
    def slow(prompts, completions, **columns):
        time.sleep(5 if completions[0] == "slow" else 0)
        return [1.0]

    patient = WeightedSum({"slow": (TimeLimit(slow, 60.0), 2.0)})
    assert call_reward(patient, ["p"], ["fast"], {}).scores.tolist() == [2.0]
    total = WeightedSum({"slow": (TimeLimit(slow, 0.2), 2.0)})
    with pytest.raises(RewardFailure, match=r"'slow' gave no answer within 0.2 s"):
        call_reward(total, ["p"], ["slow"], {})
    with pytest.raises(InputError, match="seconds must be a number of seconds above 0"):
        TimeLimit(slow, -1)


class Counting:
    name = "counting"

    def __init__(self):
        self.asked = []

    def __call__(self, prompts, completions, *, bonus):
        self.asked += zip(prompts, completions, bonus, strict=True)
        scores = [float(len(t)) if t else None for t in completions]
        parts = {"long": [n or 0.0 for n in scores]}
        return RewardOutput(scores, parts, [[(0, 0, 1.0)]] * len(scores), {"t": completions})


def test_a_cache_asks_once_about_a_text():
    counting = Counting()
    cached = Cached(counting, size=3)
    answers = []
    for texts, bonus in (("aab", "xxx"), ("ab", "yx"), (["", "cc"], [["l"], object()])):
        prompts, columns = ["p"] * len(texts), {"bonus": list(bonus), "unused": list(texts)}
        answers.append(score_part(cached, prompts, list(texts), columns))
    by_text = [(text, bonus) for _, text, bonus in counting.asked]
    assert by_text[:4] == [("a", "x"), ("b", "x"), ("a", "y"), ("", ["l"])] and len(by_text) == 5
    assert (cached.asked, cached.found) == (5, 2)
    assert answers[0].scores.tolist() == [1.0, 1.0, 1.0]
    assert answers[2].scores.tolist() == pytest.approx([float("nan"), 2.0], nan_ok=True)
    assert answers[2].components["long"].tolist() == [0.0, 2.0]
    assert answers[2].spans == [[(0, 0, 1.0)]] * 2 and answers[2].extra == {"t": ["", "cc"]}
    score_part(cached, ["p"], ["a"], {"bonus": ["x"]})  # used longest ago: it went
    assert len(counting.asked) == 6
    score_part(cached, ["p"], ["a"], {"bonus": ["x"]})
    assert len(counting.asked) == 6


def test_a_cache_refuses_what_changes_its_mind():
    with pytest.raises(InputError, match="keeps a state, so that its answers change"):
        Cached(Normalize(Length(), running=True))
    assert Cached(WeightedSum([Length()])).name == "weighted_sum"
    with pytest.raises(InputError, match="size must be a whole number, at least 1, got 0"):
        Cached(Length(), size=0)
