"""`mask_truncated`: a text that an outer limit cut is left out instead of counting 0."""

import numpy as np
import pytest
from textgym_groups import group_agent, group_env, play

from textgym.agents import DPO, GRPO, REINFORCE, RLOO, BestOfN

# Prompt, completion, reward, truncated: one group a row.
GROUPS = [
    [("a", -1.0, False), ("b", 0.0, True), ("c", -4.0, False), ("d", -3.0, False)],
    [("e", -2.0, False), ("f", 0.0, True), ("g", 0.0, True), ("h", 0.0, True)],
]


def scored(cls, *, mask_truncated, **keywords):
    """An agent with the episodes above as its rollout, scored; what is left to learn from."""
    agent = group_agent(
        cls, env=group_env(4, 4), num_generations=4, n_groups=2, mask_truncated=False, **keywords
    )
    if cls is BestOfN:
        agent._rollout_scored = lambda: None  # all eight, for now
    outcomes = [row for group in GROUPS for row in group]
    for episode, (text, reward, is_truncated) in zip(play(agent), outcomes, strict=True):
        episode.completion, episode.reward, episode.is_truncated = text, reward, is_truncated
    vars(agent).pop("_rollout_scored", None)
    agent.mask_truncated = mask_truncated
    agent._score()
    agent._rollout_scored()
    agent._leave_out()
    return agent, {e.completion: a for e, a in zip(agent.episodes, agent.advantages, strict=True)}


def test_a_truncated_text_beats_every_negative_score_unless_it_is_left_out():
    _, counted = scored(GRPO, mask_truncated=False)
    assert counted["b"] == pytest.approx(2.0) == max(counted.values())  # 0 - (-8 / 4)
    agent, left = scored(GRPO, mask_truncated=True)
    # The mean of -1, -4 and -3 is -8/3; the second group has one text, which tells nothing.
    assert left == pytest.approx({"a": 5 / 3, "c": -4 / 3, "d": -1 / 3, "e": 0.0})
    agent.train()


def test_the_others_by_hand():
    _, left = scored(RLOO, mask_truncated=True)  # against the mean of the group's kept others
    assert left == pytest.approx({"a": 2.5, "c": -2.0, "d": -0.5, "e": 0.0})
    _, left = scored(REINFORCE, mask_truncated=True)  # against the mean of all kept others
    assert left == pytest.approx({"a": 2.0, "c": -2.0, "d": -2 / 3, "e": 2 / 3})
    _, left = scored(REINFORCE, mask_truncated=True, normalize_advantage=True)
    deviation = np.std([2.0, -2.0, -2 / 3, 2 / 3])
    assert left["a"] == pytest.approx(2.0 / deviation, rel=1e-6)
    agent, left = scored(BestOfN, mask_truncated=True)
    assert left == {"a": 1.0}
    assert scored(BestOfN, mask_truncated=False)[1] == {"b": 1.0, "f": 1.0}
    assert agent.mask_truncated
    totals = np.array([[-1.0, np.nan, -4.0, -3.0], [-2.0, np.nan, np.nan, np.nan]])
    sides = DPO.compute_advantages(agent, totals)
    np.testing.assert_array_equal(sides, [[1.0, 0.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize("cls", [GRPO, RLOO, REINFORCE, BestOfN])
def test_a_rollout_of_truncated_texts_alone_teaches_nothing(cls):
    env = group_env(n_envs=4, num_generations=4, max_episode_steps=1)
    agent = group_agent(cls, env=env, num_generations=4, mask_truncated=True)
    without_stop = agent.policy.excluded_ids.new_tensor([0, 1, 2])
    agent.policy.excluded_ids = without_stop
    before = {k: v.clone() for k, v in agent.policy.state_dict().items()}
    agent.learn(12)
    assert all(episode.is_truncated for episode in play_all(agent))
    for name, value in agent.policy.state_dict().items():
        assert value.equal(before[name]), name


def play_all(agent):
    """The episodes of a rollout, before any is left out."""
    agent.mask_truncated = False
    return play(agent)
