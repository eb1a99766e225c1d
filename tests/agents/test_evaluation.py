"""Playing and judging: every prompt once, and figures that a naive computation gives too."""

import math

import numpy as np
import pytest
import torch
from textgym_testing import letter_env, letter_tokenizer, tiny_lm

from textgym.agents.evaluation.play import SequentialPrompts, play
from textgym.agents.evaluation.report import Interval, episode_log_probs, evaluate_texts
from textgym.policies.language_model.sampling import Sampling

PROMPTS = ["a", "bcd", "cdabb", "dd", "abab", "c", "ba"]


@pytest.fixture(scope="module")
def lm():
    return tiny_lm(letter_tokenizer(), spread=6.0)


def letters(lm, n_envs, prompts=PROMPTS, **fields):
    return letter_env(
        n_envs,
        tokenizer=lm.tokenizer,
        prompts=SequentialPrompts(prompts),
        max_prompt_tokens=6,
        **fields,
    )


@pytest.mark.parametrize("n_envs", [1, 3, 7])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_prompt_is_played_once_in_order(lm, n_envs, temperature):
    sampling = Sampling(temperature=temperature)
    episodes = play(lm, letters(lm, n_envs), len(PROMPTS), sampling=sampling)
    assert [episode.prompt for episode in episodes] == PROMPTS
    for episode in episodes:
        ids = lm.tokenizer.encode(episode.prompt, add_special_tokens=True)
        assert episode.tokens[: len(ids)].tolist() == ids
        assert episode.acted.tolist() == list(range(len(ids) - 1, len(episode.tokens) - 1))
        written = episode.tokens[len(ids) :].tolist()
        assert lm.tokenizer.decode(written) == episode.completion
        assert episode.reward == episode.completion.count("a")
        assert (written[-1] == lm.tokenizer.eos_token_id) == (episode.finish_reason == "stop")


def test_greedy_play_does_not_depend_on_the_rows(lm):
    texts = [
        [e.completion for e in play(lm, letters(lm, n), 7, sampling=Sampling(temperature=0.0))]
        for n in (1, 4)
    ]
    assert texts[0] == texts[1]


def naive_log_probs(lm, episode, temperature):
    """One softmax a token, pad and start token left out by hand."""
    values = []
    for position in episode.acted.tolist():
        logits = lm(torch.as_tensor(episode.tokens[: position + 1])[None])[0, -1] / temperature
        logits[[lm.tokenizer.pad_token_id, lm.tokenizer.bos_token_id]] = -math.inf
        values.append(float(logits.double().log_softmax(-1)[episode.tokens[position + 1]]))
    return values


@torch.no_grad()
def test_log_probs_perplexity_and_kl_equal_a_naive_computation(lm):
    sampling = Sampling(temperature=0.8)
    other = tiny_lm(lm.tokenizer, seed=3, spread=6.0)
    episodes = play(lm, letters(lm, 3), len(PROMPTS), sampling=sampling)
    own = [naive_log_probs(lm, e, 0.8) for e in episodes]
    theirs = [naive_log_probs(other, e, 0.8) for e in episodes]
    for fast, slow in zip(
        episode_log_probs(lm, episodes, sampling, batch_size=3), own, strict=True
    ):
        np.testing.assert_allclose(fast, slow, atol=1e-4)
    report = evaluate_texts(episodes, lm=lm, sampling=sampling, reference=other)
    plain = np.concatenate([naive_log_probs(other, e, 1.0) for e in episodes])
    assert report.perplexity == pytest.approx(math.exp(-plain.mean()), rel=1e-4)
    per_text = [sum(a) - sum(b) for a, b in zip(own, theirs, strict=True)]
    assert report.kl.mean == pytest.approx(np.mean(per_text), abs=1e-3)
    spread = np.std(per_text, ddof=1)
    assert report.kl.half_width == pytest.approx(1.96 * spread / math.sqrt(7), rel=1e-3)


def test_a_policy_is_at_distance_zero_from_itself(lm):
    sampling = Sampling(temperature=0.9, top_k=3)
    episodes = play(lm, letters(lm, 2), len(PROMPTS), sampling=sampling)
    report = evaluate_texts(episodes, lm=lm, sampling=sampling, reference=lm)
    assert (report.kl.mean, report.kl.half_width) == (0.0, 0.0)


def test_judges_and_figures_by_hand(lm):
    def brevity(prompts, completions):
        assert list(prompts) == PROMPTS
        return [-float(len(text)) for text in completions]

    episodes = play(lm, letters(lm, 3), len(PROMPTS), sampling=Sampling())
    report = evaluate_texts(
        episodes,
        lm=lm,
        sampling=Sampling(),
        judges=[brevity],
        vocabulary=frozenset({"a"}),
    )
    lengths = [len(e.completion) for e in episodes]
    assert report.judges["brevity"].mean == pytest.approx(-np.mean(lengths))
    stops = [e.finish_reason == "stop" for e in episodes]
    assert report.length.mean == pytest.approx(np.mean(np.add(lengths, stops)))
    assert report.reward.mean == pytest.approx(np.mean([e.completion.count("a") for e in episodes]))
    assert sum(report.finish.values()) == pytest.approx(1.0)
    figures = report.figures()
    assert figures["perplexity"] is None and figures["kl"] is None and figures["episodes"] == 7


def test_intervals_by_hand():
    interval = Interval.of([1.0, 2.0, 3.0, 6.0])
    assert interval.mean == 3.0
    assert interval.half_width == pytest.approx(1.96 * math.sqrt(14 / 3) / 2)
    assert str(Interval(1.0, 0.25)) == "1.000 ± 0.250"
    assert math.isnan(Interval.of([1.0]).half_width)


def test_columns_reach_the_reward_through_the_prompts(lm):
    seen = []

    def reward(prompts, completions, label):
        seen.extend(label)
        return [0.0] * len(completions)

    rows = [{"prompt": "a", "label": 1}, {"prompt": "b", "label": 2}]
    play(lm, letters(lm, 2, rows, reward=reward), 2, sampling=Sampling())
    assert set(seen) == {1, 2}


def test_judges_get_columns_and_token_ids_of_their_own_whatever_the_names(lm):
    kinds = {1: int, 2: float}

    def judge(prompts, completion_ids, prompt_index, words):
        return [
            float(i + len(words.pop()) + isinstance(i, kinds[round(i)]) + len(ids) / 100)
            for ids, i, words in zip(completion_ids, prompt_index, words, strict=True)
        ]

    rows = [
        {"prompt": "a", "prompt_index": 1, "words": ["x"]},
        {"prompt": "b", "prompt_index": 2.0, "words": ["yy"]},
    ]
    env = letters(lm, 2, rows, reward=lambda p, c: [0.0] * len(c))
    episodes = play(lm, env, 2, sampling=Sampling())
    report = evaluate_texts(episodes, lm=lm, sampling=Sampling(), judges=[judge, judge])
    length = np.mean([episode.info["completion_length"] for episode in episodes])
    expected = np.mean([1 + 1 + 1, 2 + 2 + 1]) + length / 100
    assert list(report.judges) == ["judge", "judge_2"]
    assert [score.mean for score in report.judges.values()] == pytest.approx([expected] * 2)
