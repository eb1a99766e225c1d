"""DPO: pairs of a file and pairs that the policy writes, against log π(y) token by token."""

import json
import math

import numpy as np
import pytest
import torch
from front_door import ENV, read_lines, run_cli
from stable_baselines3.common.callbacks import BaseCallback
from textgym_groups import (
    assert_same_gradient,
    front_door_agent,
    group_agent,
    group_env,
    naive_log_probs,
    naive_policy,
    play,
)
from textgym_testing import EOS, assert_same_weights, letter_tokenizer, set_up, tiny_lm

import textgym
from textgym.agents.algorithms.dpo import DPO, read_preferences
from textgym.agents.building.checkpoint import save_agent
from textgym.agents.rollouts.kl import KLPenalty
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.envs.texts.labelled_rows import Preference, RatedCompletion
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError

PAIRS = [Preference("a", "aab", "bc"), Preference("bcd", "dd", "abaca")]
REFERENCE = {"spread": 5.0, "seed": 8}


def dpo_agent(preferences=None, beta=0.3, **changes):
    kl = KLPenalty(tiny_lm(**REFERENCE), beta)
    return group_agent(DPO, kl=kl, preferences=preferences, **changes)


def text_log_prob(lm, prompt, completion):
    """log π(completion and stop | prompt) from one forward of the whole text."""
    encode = letter_tokenizer().encode
    start, ids = encode(prompt), [*encode(completion), EOS]
    logits = lm(torch.tensor([[*start, *ids]]))[0, len(start) - 1 : -1]
    logits = logits.index_fill(-1, torch.tensor([0, 1]), -torch.inf)  # pad and bos never come
    return logits.log_softmax(-1)[torch.arange(len(ids)), ids].sum()


def naive_loss(lm, reference, pairs, beta, kind="sigmoid", smoothing=0.0):
    total = 0.0
    for pair in pairs:
        chosen, rejected = (
            text_log_prob(lm, pair.prompt, text)
            - text_log_prob(reference, pair.prompt, text).detach()
            for text in (pair.chosen, pair.rejected)
        )
        margin = chosen - rejected
        if kind == "ipo":
            total = total + (margin - 1 / (2 * beta)) ** 2
        else:
            right, wrong = torch.sigmoid(beta * margin), torch.sigmoid(-beta * margin)
            total = total - (1 - smoothing) * right.log() - smoothing * wrong.log()
    return total / len(pairs)


# ---- offline ---------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"loss_type": "ipo"}, {"label_smoothing": 0.2}], ids=["dpo", "ipo", "smooth"]
)
def test_loss_and_gradient_of_two_pairs_are_the_papers(options):
    agent = dpo_agent(PAIRS, n_groups=2, **options)
    play(agent)
    naive = naive_policy(agent)
    agent.train()
    kind, smoothing = options.get("loss_type", "sigmoid"), options.get("label_smoothing", 0.0)
    loss = naive_loss(naive.lm, tiny_lm(**REFERENCE), PAIRS, 0.3, kind, smoothing)
    loss.backward()
    assert agent.logger.name_to_value["train/loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert_same_gradient(agent, naive)


def test_the_first_figures_by_hand():
    """While the policy is the reference, every margin is 0 and the loss log 2."""
    lm = tiny_lm(spread=6.0)
    agent = group_agent(DPO, lm=lm, kl=KLPenalty(lm, 0.3), preferences=PAIRS)
    play(agent)
    agent.train()
    values = agent.logger.name_to_value
    assert values["train/loss"] == pytest.approx(math.log(2), abs=1e-6)
    for name in ("preference_margin", "chosen_reward", "rejected_reward"):
        assert values[f"train/{name}"] == pytest.approx(0.0, abs=1e-5)
    play(agent)
    agent.train()
    margin = values["train/chosen_reward"] - values["train/rejected_reward"]
    assert values["train/preference_margin"] == pytest.approx(margin, abs=1e-5)
    assert margin > 0.05  # one step has widened it


def test_every_pair_is_seen_once_before_any_is_seen_again():
    letters = "abcd"
    pairs = [Preference("a", letter, letter + "a") for letter in letters] + [PAIRS[1]]
    agent = dpo_agent(pairs, n_groups=2)
    seen = []
    for _ in range(10):
        episodes = play(agent)
        assert len(episodes) == 4
        for better, worse in zip(episodes[::2], episodes[1::2], strict=True):
            assert Preference(better.prompt, better.completion, worse.completion) in pairs
            seen.append(better.completion)
    epochs = [seen[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(epoch) == [*letters, "dd"] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_minibatches_keep_pairs_together():
    agent = dpo_agent(PAIRS * 4, n_groups=8, batch_size=20, learning_rate=0.0)
    play(agent)
    batches = list(agent._batches())
    assert len(batches) > 2 and sum(len(batch.lengths) for batch in batches) == 16
    expected = {p.chosen: 0 for p in PAIRS}
    for batch in batches:
        sums = batch.episode_sums(torch.ones(len(batch.actions))).reshape(-1, 2).tolist()
        for sizes in sums:  # chosen and rejected, each with its stop token
            assert sizes in [[4, 3], [3, 6]]
            expected["aab" if sizes == [4, 3] else "dd"] += 1
    assert expected == {"aab": 4, "dd": 4}


def test_a_file_a_table_and_a_list_are_the_same(tmp_path):
    lines = '{"prompt": "a", "chosen": "aab", "rejected": "bc"}\n'
    lines += '{"prompt": "bcd", "chosen": "dd", "rejected": "abaca", "tie": false}\n'
    (tmp_path / "pairs.jsonl").write_text(lines)
    (tmp_path / "pairs.csv").write_text("prompt,chosen,rejected\na,aab,bc\nbcd,dd,abaca\n")
    assert read_preferences(tmp_path / "pairs.jsonl") == PAIRS
    assert read_preferences(str(tmp_path / "pairs.csv")) == read_preferences(PAIRS) == PAIRS


class Watch(BaseCallback):
    """Notes the tokens at each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_step(self):
        self.seen.append(self.num_timesteps)
        return len(self.seen) < 9


def test_learn_counts_the_tokens_of_the_pairs_and_heeds_callbacks():
    agent, watch = dpo_agent(PAIRS, n_groups=2), Watch()
    agent.learn(100, callback=watch)
    assert watch.seen == [16, 32, 48, 64, 80, 96, 112]  # 4 + 3 + 3 + 6 tokens a rollout
    assert agent._n_updates == 7
    agent.learn(10_000, callback=watch, reset_num_timesteps=False)
    assert agent.num_timesteps == 112 + 2 * 16


def test_metrics_of_an_offline_run(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "One ", "chosen": "two", "rejected": "six"}\n')
    agent = front_door_agent("dpo", preferences=path, out=tmp_path / "run", learning_rate=1e-2)
    agent.learn(200)
    rows = read_lines(tmp_path / "run" / "metrics.jsonl")
    steps = [row["step"] for row in rows]
    assert steps == [32 * (i + 1) for i in range(len(steps))]  # four times a pair of 4 + 4 tokens
    wanted = {"loss", "preference_accuracy", "preference_margin", "chosen_reward"}
    assert {f"train/{name}" for name in wanted} <= set(rows[1])
    assert rows[1]["train/loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[-1]["train/loss"] < rows[1]["train/loss"]
    assert rows[-1]["train/preference_accuracy"] == 1.0


def test_offline_the_number_of_environments_is_free():
    agent = front_door_agent("dpo", n_envs=7, preferences=[Preference("One ", "two", "six")])
    agent.learn(10)
    assert agent.num_timesteps == 7 * 8


def test_a_run_on_a_file_from_the_command_line(tmp_path):
    path, out = tmp_path / "pairs.jsonl", tmp_path / "run"
    path.write_text('{"prompt": "One ", "chosen": "two", "rejected": "six"}\n')
    command = ("train", ENV, "--agent", "dpo", "--preferences", path, "--out", out)
    code, _, error = run_cli(*command, "--n-envs", 2, "--timesteps", 30, "--no-progress-bar")
    assert code == 0, error
    resumed = ("train", "--out", out, "--resume", "--timesteps", 60, "--no-progress-bar")
    code, _, error = run_cli(*resumed)
    assert code == 0, error
    assert [row["step"] for row in read_lines(out / "metrics.jsonl")] == [16, 32, 48, 64]


# ---- online ----------------------------------------------------------------


def test_online_pairs_are_the_best_and_the_worst_of_a_group():
    agent = dpo_agent(env=group_env(8, 4), num_generations=4, n_groups=4)
    collected = []
    take = agent._collector.take
    agent._collector.take = lambda n: collected.extend(take(n)) or list(collected)
    play(agent)
    expected = []
    for start in range(0, len(collected), 4):
        group = sorted(collected[start : start + 4], key=lambda episode: episode.reward)
        expected.append((group[-1].reward, group[0].reward))
    pairs = zip(agent.episodes[::2], agent.episodes[1::2], strict=True)
    found = [(better.reward, worse.reward) for better, worse in pairs]
    assert found == [pair for pair in expected if pair[0] > pair[1]] and found
    naive, theirs = naive_policy(agent), naive_policy(agent, tiny_lm(**REFERENCE))
    agent.train()
    gains = [
        naive_log_probs(naive, episode).sum() - naive_log_probs(theirs, episode).detach().sum()
        for episode in agent.episodes
    ]
    margins = torch.stack(gains[::2]) - torch.stack(gains[1::2])
    (-torch.sigmoid(0.3 * margins).log().mean()).backward()
    assert_same_gradient(agent, naive)


def test_sides_of_a_group_by_hand():
    agent = dpo_agent(env=group_env(3, 3), num_generations=3)
    totals = np.array([[1.0, 3.0, 2.0], [2.0, 2.0, 2.0], [5.0, 5.0, 0.0]])
    assert agent.compute_advantages(totals).tolist() == [[-1, 1, 0], [0, 0, 0], [1, 0, -1]]


def test_ties_are_dropped_and_a_rollout_of_ties_changes_nothing():
    env = group_env(reward=lambda prompts, completions: [1.0] * len(completions))
    agent = dpo_agent(env=env)
    before = tiny_lm(spread=6.0)
    play(agent)
    assert agent.episodes == [] and list(agent._batches()) == []
    agent.train()
    assert_same_weights(agent.policy.lm, before)
    agent.learn(50)
    assert_same_weights(agent.policy.lm, before)


# ---- what cannot work ------------------------------------------------------


@pytest.mark.parametrize(
    "preferences, message",
    [
        ([Preference("a", "b", "c", is_tie=True)], "list of preferences, pair 1: a tie"),
        ([*PAIRS, Preference("a", "b", "b")], r"pair 3: a tie \(prompt 'a'\), but DPO needs"),
        ([RatedCompletion("a", (1.0, 2.0))], "found ratings: fit-reward learns from those"),
        ([], "the list given: expected preferences, found no row"),
        ([*PAIRS, Preference("a" * 62, "b", "cc")], "pair 3: .* at most 64 .* got 62 and 3"),
        ([Preference("", "b", "c")], "pair 1: empty prompt: expected"),
    ],
)
def test_pairs_that_teach_nothing_are_refused_in_one_line(preferences, message):
    with pytest.raises(InputError, match=message) as caught:
        dpo_agent(preferences)
    assert "\n" not in str(caught.value)


def test_a_pair_against_the_environments_constraint_is_named_before_anything_is_learned():
    pairs = [Preference("a", "ab", "bb"), Preference("a", "ab", "ac")]
    with pytest.raises(InputError, match="pair 2: completion 'ac' holds a token that the policy"):
        dpo_agent(pairs, env=group_env(constraint="[ab]*"))
    dpo_agent([Preference("a", "ab", "aa")], env=group_env(constraint="[ab]*")).learn(10)


def test_prompts_are_cut_or_refused_as_the_environment_does_it():
    pairs = [Preference("abcdabcd", "a", "b")]
    with pytest.warns(UserWarning, match="prompts are longer than 3 tokens and are cut"):
        env = group_env(prompts=["a", "bcd", "cdabb"], max_prompt_tokens=3, truncate_prompt=True)
    with pytest.warns(UserWarning, match="the prompts of 1 of 1 pairs are longer than the env"):
        agent = dpo_agent(pairs, env=env)
    assert [episode.prompt for episode in agent._pairs[0]] == ["bcd", "bcd"]
    assert agent._pairs[0][0].tokens.tolist() == letter_tokenizer().encode("bcda")
    with pytest.raises(InputError, match="pair 1: expected at most 3 tokens"):
        dpo_agent(pairs, env=group_env(prompts=["a"], max_prompt_tokens=3))


@pytest.mark.parametrize("is_directory", [True, False], ids=["directory", "sb3"])
def test_a_run_that_goes_on_reads_the_pairs_that_are_left(tmp_path, is_directory):
    """Eight pairs by four texts: two rollouts of two, then the other four before any twice."""
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "a", "chosen": 2 * x, "rejected": x + y} for x in "abcd" for y in "abcd"]
    rows = [row for row in rows if row["chosen"] != row["rejected"]][:8]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def read(agent) -> list[tuple[str, str]]:
        if not hasattr(agent.env, "test_callback"):
            set_up(agent)
        play(agent)
        texts = [episode.completion for episode in agent.episodes]
        return list(zip(texts[::2], texts[1::2], strict=True))

    agent = front_door_agent("dpo", preferences=str(path), n_groups=2, seed=1)
    before = read(agent) + read(agent)
    if is_directory:
        save_agent(agent, tmp_path / "saved", environment=agent.text_environment)
        again = textgym.load_agent(tmp_path / "saved")
    else:
        agent.save(tmp_path / "saved.zip")
        vector_env = TextVectorEnv(agent.env.get_attr("task")[0], 4, num_generations=2)
        env = TextVecEnv(vector_env)
        again = DPO.load(tmp_path / "saved.zip", env=env)
    after = read(again) + read(again)
    expected = read(agent) + read(agent)
    assert after == expected
    assert len({*before, *after}) == 8
    if is_directory:  # SB3's load seeds all generators anew
        assert read(again) == read(agent)


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"loss_type": "hinge"}, "loss_type must be sigmoid or ipo, got 'hinge'"),
        ({"label_smoothing": 0.5}, "label_smoothing must be .* from 0, below 0.5 .* got 0.5"),
        ({"num_generations": 1}, "num_generations must be at least 2, got 1"),
        ({"kl": None}, "DPO needs a reference: give kl_coef"),
        ({"beta": 0.0}, "DPO needs a reference: give kl_coef"),
    ],
)
def test_keywords_that_make_no_sense(keywords, message):
    with pytest.raises(InputError, match=message):
        if "kl" in keywords:
            group_agent(DPO, **keywords)
        else:
            dpo_agent(env=group_env(), **keywords)
