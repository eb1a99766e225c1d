"""Dialogues in training: where a turn's pay arrives, and a constraint that holds for each turn."""

import itertools
import json
import re

import numpy as np
import pytest
import torch
from textgym_resuming import SMALL, digests, score
from textgym_testing import EOS, PAD, letter_tokenizer, rollout, set_up, tiny_lm

import textgym
from textgym import Reply, RewardOutput, constraints, registry
from textgym.constraints.token_automaton import LEFT
from textgym.envs.text_env import TextEnv
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError
from textgym.policies.language_model.packing import pack_segments
from textgym.policies.language_model.token_masks import TokenMasks
from textgym.reward_models import WeightedSum

A, B, C, D = 3, 4, 5, 6
ID = "test/Turns-v0"
TURN = "a(bc|d){0,2}"


def paying(prompt, turns):
    """A point for each letter b of a turn; the third one ends the game."""
    pay = float(turns[-1].count("b"))
    return Reply("cccd"[len(turns) % 3 :], pay, terminated=len(turns) >= 5)


def no_reward(prompts, completions):
    return [0.0] * len(completions)


def game(**fields):
    defaults = {"prompts": ["ad", "bcd"], "reward": no_reward, "reply": paying}
    return {**defaults, "max_context": 40, "max_new_tokens": 12, **fields}


def registered(**fields):
    textgym.register(ID, **game(tokenizer=letter_tokenizer(), **fields))
    return ID


@pytest.fixture(autouse=True)
def forget():
    yield
    if ID in registry.tasks:
        registry.tasks.unregister(ID)


# ---- pay -------------------------------------------------------------------


def pay_by_turns(actions):
    """A point for each b at the turn's stop token, from the tokens chosen."""
    pay, count = [], 0
    for action in actions:
        count += action == B
        pay.append(float(count) if action == EOS else 0.0)
        count = 0 if action == EOS else count
    return pay


def test_in_an_on_policy_buffer_each_turn_is_paid_at_its_last_token():
    agent = textgym.make_agent(
        "ppo", registered(), policy=tiny_lm(spread=1.0), n_envs=4, n_steps=64, seed=0
    )
    buffer = rollout(set_up(agent))
    assert buffer.rewards.sum() > 5
    for env in range(4):
        starts = np.flatnonzero(buffer.episode_starts[:, env]).tolist()
        for start, end in itertools.pairwise(starts):
            actions = buffer.actions[start:end, env, 0].tolist()
            assert buffer.rewards[start:end, env].tolist() == pay_by_turns(actions)


def test_in_a_replay_buffer_too_and_a_group_counts_the_sum():
    agent = textgym.make_agent("dqn", registered(), policy=tiny_lm(spread=1.0), n_envs=4, seed=0)
    agent.learn(512)
    assert len(agent.replay_buffer.episodes) > 20
    for episode in agent.replay_buffer.episodes:
        assert episode.rewards.tolist() == pay_by_turns(episode.actions.tolist())
    agent = textgym.make_agent(
        "grpo", ID, policy=tiny_lm(spread=1.0), n_envs=8, num_generations=4, seed=0
    )
    agent.learn(256)
    assert len({episode.reward for episode in agent.episodes}) > 2
    for episode in agent.episodes:
        assert episode.reward == sum(pay_by_turns(episode.actions.tolist()))


def test_what_turns_were_paid_is_recorded(tmp_path):
    agent = textgym.make_agent(
        "ppo", registered(), policy=tiny_lm(spread=1.0), n_envs=4, seed=0, out=tmp_path / "run"
    )
    agent.learn(256)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    row = next(row for row in map(json.loads, lines) if "reward/environment" in row)
    assert row["reward_components/turn_rewards"] == pytest.approx(row["reward/environment"])
    assert 1 <= row["text/turns"] <= 3


def pay_each_a(prompts, completions, turns):
    """Two points for each a of the player's, where it stands; the environment says c and d."""
    spans = [[(i, i + 1, 2.0) for i, c in enumerate(text) if c == "a"] for text in completions]
    for said in turns:
        assert {turn["who"] for turn in said} <= {"player", "environment"}
    return RewardOutput([2.0 * text.count("a") for text in completions], spans=spans)


def test_dense_rewards_and_pay_by_turns_stand_beside_each_other():
    def by_hand(actions):
        pay = pay_by_turns(actions)
        return [paid + 2.0 * (token == A) for paid, token in zip(pay, actions, strict=True)]

    start = {"policy": tiny_lm(spread=1.0), "n_envs": 4, "seed": 0, "learning_rate": 1e-9}
    agent = textgym.make_agent("ppo", registered(reward=pay_each_a), n_steps=64, **start)
    buffer, count = agent.learn(256).rollout_buffer, 0
    for env in range(4):
        starts = np.flatnonzero(buffer.episode_starts[:, env]).tolist()
        for begin, end in itertools.pairwise(starts):
            steps = slice(begin, end)
            actions = buffer.actions[steps, env, 0].tolist()
            assert buffer.rewards[steps, env].tolist() == by_hand(actions)
            count += len({A, B} & set(actions)) == 2
    assert count > 3
    agent = textgym.make_agent("dqn", ID, **start).learn(512)
    assert len(agent.replay_buffer.episodes) > 20
    for episode in agent.replay_buffer.episodes:
        assert episode.rewards.tolist() == by_hand(episode.actions.tolist())


# ---- going on, judging, generating -----------------------------------------


def drawing(prompt, turns, state, np_random):
    """Draws its words, remembers them, pays for turns, and ends by what it remembers."""
    state["drawn"] = [*state.get("drawn", ()), int(np_random.integers(3))]
    words = "c" * state["drawn"][-1] + "d"
    return Reply(words, turns[-1].count("b") / 4, terminated=sum(state["drawn"]) > 2)


@pytest.mark.filterwarnings("ignore:all .* earned the same reward:UserWarning")
@pytest.mark.parametrize("word", ["ppo", "grpo", "dqn"])
def test_a_stopped_run_of_dialogues_goes_on_to_the_last_bit(word, tmp_path):
    registered(**constrained(reply=drawing, reward=score))

    def new_agent(name):
        return textgym.make_agent(
            word,
            ID,
            policy=tiny_lm(spread=6.0, num_hidden_layers=1),
            n_envs=4,
            seed=0,
            out=tmp_path / name,
            **{"learning_rate": 0.01, **SMALL[word]},
        )

    def in_the_middle(names, _):
        return names["self"].num_timesteps < 150

    whole = new_agent("whole").learn(320)
    new_agent("parts").learn(320, callback=in_the_middle)
    resumed = textgym.load_agent(tmp_path / "parts", out=tmp_path / "parts", exact=True)
    assert 0 < resumed.num_timesteps <= 150
    resumed.learn(320 - resumed.num_timesteps, reset_num_timesteps=False)
    assert digests(resumed) == digests(whole) and resumed.num_timesteps == whole.num_timesteps


def test_judges_and_parts_of_a_sum_may_ask_for_turns_and_state():
    def replies_heard(prompts, completions, turns, state):
        return [
            float(len(own.get("drawn", ())) + sum(turn["who"] == "environment" for turn in said))
            for said, own in zip(turns, state, strict=True)
        ]

    parts = WeightedSum({"heard": (replies_heard, 1.0), "own": (no_reward, 0.0)})
    registered(reply=drawing, reward=parts)
    lm = tiny_lm(spread=1.0)
    report = textgym.evaluate(ID, policy=lm, n_episodes=20, gold=replies_heard, n_envs=8)
    for episode in report.episodes:
        components = episode.info["reward_components"]
        if "heard" in components:
            assert (
                components["heard"]
                == replies_heard(None, None, [episode.info["turns"]], [episode.info["state"]])[0]
            )
        spoken = "".join(turn["text"] for turn in episode.info["turns"])
        assert spoken == episode.completion
    assert report.judges["replies_heard"].mean > 1
    assert len(textgym.generate(lm, prompt=["ad", "bcd"], max_new_tokens=4, seed=0)) == 2


# ---- a constraint for each turn --------------------------------------------


def constrained(**fields):
    """Every prompt and every reply ends with "d", and holds none before."""
    return game(constraint=constraints.regex(TURN, after="d"), max_new_tokens=20, **fields)


def test_each_turn_starts_anew_and_row_and_environment_agree():
    env = TextVectorEnv(
        textgym.envs.Task(
            id=ID, tokenizer=letter_tokenizer(), **constrained(prompts=["ad", "cbd", "d"])
        ),
        3,
    )
    rows, rng = env.reset(seed=0)[0], np.random.default_rng(0)
    masks, automaton = TokenMasks(env.automaton), env.automaton
    turn = [[], [], []]
    starts = 0
    for step in range(300):
        states = [automaton.states(ids)[-1] for ids in turn]
        seen = torch.as_tensor(rows)
        if step % 3:  # not asking changes nothing
            assert env.action_masks().tolist() == states
        assert masks.states(seen, caller="played") == states
        assert TokenMasks(automaton).states(seen) == states  # from the row alone
        legal = [np.flatnonzero(automaton.is_legal(state)) for state in states]
        actions = np.array([rng.choice(ids) for ids in legal])
        if step % 7 == 0:
            actions[rng.integers(3)] = rng.choice([A, B, C])  # the environment takes any token
        rows = env.step_rows(actions).observations
        for i, action in enumerate(actions.tolist()):
            is_over = action == EOS or int((rows[i] != PAD).sum()) < int((seen[i] != PAD).sum())
            starts += action == EOS
            turn[i] = [] if is_over else [*turn[i], action]
    assert starts > 50


def test_the_states_of_a_row_by_hand():
    env = TextEnv(textgym.envs.Task(id=ID, tokenizer=letter_tokenizer(), **constrained()))
    automaton = env.automaton
    row = [C, B, D, A, B, C, EOS, C, C, D, A]
    s0, s1, s2, s3 = automaton.states([A, B, C])
    states = automaton.row_states(row, 3)
    assert states == [None, None, s0, s1, s2, s3, LEFT, None, None, s0, s1] and s0 != s1
    assert automaton.row_states(row[:9], 3)[-3:] == [LEFT, None, None]  # in the middle of the words
    assert automaton.row_states([D, B, D, EOS], 1) == [s0, LEFT, LEFT, LEFT]
    masks = TokenMasks(automaton)
    packed = pack_segments([np.array(row)], [np.array([2, 9])])
    assert masks.states(packed) == [s0, s0]
    with pytest.raises(InputError, match="an action inside the prompt or the environment's words"):
        masks.states(pack_segments([np.array(row)], [np.array([7])]))


@pytest.mark.parametrize("name", ["ppo", "maskable_ppo", "grpo", "dqn"])
def test_every_turn_obeys_and_the_ratio_is_one(name):
    agent = textgym.make_agent(
        name,
        registered(**constrained()),
        policy=tiny_lm(spread=6.0),
        n_envs=8,
        seed=0,
        kl_coef=0.0 if name == "dqn" else 0.1,
        learning_rate=0.01,
    )
    endings = []

    def collect(names, _):
        endings.extend(info for info in names["infos"] if "turns" in info)
        return True

    agent.learn(600, callback=collect)
    said = [turn["text"] for info in endings for turn in info["turns"] if turn["who"] == "player"]
    assert len(said) > 100 and len(set(said)) > 3
    whole = [text for text in said if re.fullmatch(TURN, text)]
    cut = sum(info["finish_reason"] in ("length", "context") for info in endings)
    assert len(said) - len(whole) <= cut  # only the budget stops a turn before it matches
    if name == "ppo":
        for batch in rollout(set_up(agent)).get(64):
            actions = batch.actions.flatten()
            log_prob = agent.policy.evaluate_actions(batch.observations, actions)[1]
            torch.testing.assert_close(log_prob, batch.old_log_prob, atol=1e-5, rtol=0)


def test_the_masks_leave_what_the_softmax_of_legal_tokens_leaves():
    """The ratio of the test above is one because both sides are masked, not because none is."""
    agent = textgym.make_agent(
        "ppo", registered(**constrained()), policy=tiny_lm(spread=6.0), n_envs=4, n_steps=40, seed=0
    )
    buffer = rollout(set_up(agent))
    agent.policy.masks = None
    batch = next(iter(buffer.get(160)))
    free = agent.policy.evaluate_actions(batch.observations, batch.actions.flatten())[1]
    assert (batch.old_log_prob - free).max() > 0.5 and (free <= batch.old_log_prob + 1e-5).all()


def test_the_kl_term_of_an_untrained_policy_is_zero_in_a_dialogue():
    lm = tiny_lm(spread=6.0)
    report = textgym.evaluate(
        registered(**constrained()), policy=lm, reference=lm, n_episodes=16, n_envs=8
    )
    assert report.kl.mean == pytest.approx(0.0, abs=1e-9)
    assert {len(e.info["turns"]) for e in report.episodes} != {1}
    for episode in report.episodes:
        own = [t["text"] for t in episode.info["turns"] if t["who"] == "player"]
        assert all(re.fullmatch(TURN, text) for text in own[:-1])


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (lambda p, t: "cc", r"returned 'cc', expected words that end with the constraint's after="),
        (lambda p, t: "dcd", r"returned 'dcd', expected words that end with .* only there"),
        (lambda p, t: "", r"returned '', expected words that end with the constraint's after='d'"),
    ],
)
def test_words_behind_which_no_turn_is_seen_to_begin_are_refused(reply, message):
    task = textgym.envs.Task(id=ID, tokenizer=letter_tokenizer(), **constrained(reply=reply))
    env = TextEnv(task)
    env.reset(seed=0)
    env.step(A)
    with pytest.raises(InputError, match=message):
        env.step(EOS)
