"""Masks as a function of the observation: what every algorithm gets without being told.

That each registered one obeys is in tests/agents/test_every_agent_obeys.py.
"""

import copy

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import EvalCallback
from textgym_agents import HOT, SGD, settings, text_agent
from textgym_testing import (
    EOS,
    PAD,
    MirrorBuffer,
    NaiveTokenPolicy,
    assert_same_weights,
    letter_env,
    letter_tokenizer,
    rollout,
    set_up,
    tiny_lm,
)

from textgym import constraints
from textgym.agents.rollouts.kl import KLPenalty
from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.constraints.token_automaton import TokenAutomaton
from textgym.errors import InputError
from textgym.policies.language_model.packing import PackedSegments, pack_rows, row_lengths
from textgym.policies.language_model.token_masks import TokenMasks
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy

PATTERN = "(a|bc){1,2}d?|c"
LANGUAGE = ["c"] + [
    first + second + end for first in ("a", "bc") for second in ("", "a", "bc") for end in ("", "d")
]
PROMPTS = {"a": [3], "bcd": [4, 5, 6], "cdabb": [5, 6, 3, 4, 4]}
KNOWN = tuple(PROMPTS.values())
LETTERS = "abcd"


def legal_by_hand(text):
    """The ids that may follow a completion so far, by looking through the whole language."""
    legal = {3 + i for i, c in enumerate(LETTERS) if any(w.startswith(text + c) for w in LANGUAGE)}
    return sorted(legal | ({EOS} if text in LANGUAGE else set())) or [EOS]


def split(row):
    """Prompt and completion of a row of ids."""
    text = "".join(LETTERS[i - 3] if i >= 3 else "?" for i in row if i != PAD)
    prompt = next(prompt for prompt in PROMPTS if text.startswith(prompt))
    return prompt, text[len(prompt) :]


class NaiveMaskedPolicy(NaiveTokenPolicy):
    """One pass a token, and the legal tokens of each row by brute force."""

    def one(self, row, played=None):
        legal = legal_by_hand(split(row.tolist())[1])
        self.excluded_ids = [i for i in range(7) if i not in legal]
        return super().one(row, played)


def masks_of(constraint=PATTERN, prompts=KNOWN):
    constraint = constraints.as_constraint(constraint)
    return TokenMasks(TokenAutomaton(constraint, letter_tokenizer(), prompts=prompts))


def rows_of(*rows, width=12):
    return torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])


def masked_agent(cls=PPO, **case):
    env = {**case.pop("env", {}), "constraint": PATTERN}
    return text_agent(cls, env=env, **case)


def constrained_env(n_envs=3, **fields):
    return letter_env(n_envs, constraint=PATTERN, **fields)


# ---- The object --------------------------------------------------------------------------------


def test_rows_and_packed_segments_by_hand():
    masks = masks_of()
    completions = ["", "b", "bc", "bca", "bcad", "c", "ad", "dd"]
    rows = [[*PROMPTS[p], *(LETTERS.index(c) + 3 for c in t)] for p in PROMPTS for t in completions]
    observation = rows_of(*rows)
    is_legal = masks.is_legal(observation)
    assert is_legal.dtype == torch.bool and is_legal.shape == (24, 7)
    for row, legal in zip(rows, is_legal, strict=True):
        text = split(row)[1]
        assert legal.nonzero()[:, 0].tolist() == legal_by_hand(text), text
    packed = pack_rows(observation, row_lengths(observation, PAD))
    assert torch.equal(masks.is_legal(packed), is_legal)
    # All positions of one segment at once, in any order and choice.
    whole = torch.tensor([*PROMPTS["bcd"], 4, 5, 3])
    acted = torch.tensor([5, 2, 3])
    segment = PackedSegments(whole, torch.tensor([6]), acted)
    for legal, text in zip(masks.is_legal(segment), ("bca", "", "b"), strict=True):
        assert legal.nonzero()[:, 0].tolist() == legal_by_hand(text)
    assert torch.equal(masks.is_legal(segment[::2]), masks.is_legal(segment)[::2])


def test_logits_of_illegal_tokens_are_minus_infinity_and_no_row_is_empty():
    masks = masks_of()
    logits = torch.randn(3, 9, requires_grad=True)  # a head wider than the tokenizer
    rows = rows_of([3], [3, 6], [4, 5, 6, 3, 6])  # a fresh one, one that left, one complete
    out = masks.apply(logits, rows)
    for row, text, before in zip(out, ("", "d", "ad"), logits, strict=True):
        legal = legal_by_hand(text)
        assert torch.isfinite(row).nonzero()[:, 0].tolist() == legal
        assert torch.equal(row[legal], before[legal])
    out[torch.isfinite(out)].sum().backward()
    assert torch.equal(logits.grad != 0, torch.isfinite(out))


def test_each_mask_is_worked_out_once_and_rows_are_walked_once(monkeypatch):
    masks = masks_of()
    asked, walked = [], []
    is_legal, walk = masks.automaton.is_legal, masks.automaton.row_states
    monkeypatch.setattr(masks.automaton, "is_legal", lambda s: asked.append(s) or is_legal(s))
    monkeypatch.setattr(
        masks.automaton, "row_states", lambda ids, n: walked.append(ids[n:]) or walk(ids, n)
    )
    rows = [[*PROMPTS["a"]], [*PROMPTS["bcd"]]]
    for letters in ("", "b", "c", "a", "d"):
        for row in rows:
            row += [LETTERS.index(c) + 3 for c in letters]
        for _ in range(2):
            grown = masks.is_legal(rows_of(*rows), caller="rollout")
        assert torch.equal(grown, masks_of().is_legal(rows_of(*rows)))
    assert len(asked) == len(set(asked)) == masks.states_kept == 5
    assert walked == [[], []]  # after that each row went on from where it was
    before = len(asked)
    for _ in range(3):
        masks.is_legal(rows_of([3, 4, 5], [4, 5, 6, 4]))
    assert len(asked) == before


def test_growing_rows_and_fresh_ones_agree_at_random():
    masks, rng = masks_of(), np.random.default_rng(0)
    rows = [list(PROMPTS["a"]) for _ in range(4)]
    for _ in range(200):
        for row in rows:
            if len(row) > 10 or rng.random() < 0.2:
                row[:] = PROMPTS[rng.choice(list(PROMPTS))]
            else:
                row.append(int(rng.integers(2, 7)))
        observation = rows_of(*rows)
        grown = masks.is_legal(observation, caller="rollout")
        assert torch.equal(grown, masks_of().is_legal(observation))


def test_a_prompt_that_begins_another_is_told_apart_while_both_grow():
    """The row "a" has just been seen when "ab" comes, which is a prompt and no completion."""
    masks = masks_of("[ad]{1,3}", prompts=([3], [3, 4]))
    first = masks.states(rows_of([3]), caller="rollout")
    second = masks.states(rows_of([3, 4]), caller="rollout")
    assert first == second == [masks.automaton.start]
    assert masks.states(rows_of([3, 4, 3]), caller="rollout") == masks.automaton.states([3])[-1:]


def test_an_unknown_prompt_is_one_line():
    with pytest.raises(
        InputError, match="the row 'db' begins with no prompt of the task"
    ) as caught:
        masks_of().is_legal(rows_of([6, 4]))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="an action inside the prompt"):
        segment = torch.tensor(PROMPTS["bcd"])
        masks_of().is_legal(PackedSegments(segment, torch.tensor([3]), torch.tensor([1])))


def test_a_marker_instead_of_known_prompts():
    masks = masks_of(constraints.regex("ab", after="d"), prompts=())
    legal = masks.is_legal(rows_of([4, 4, 6], [3, 6, 3], [6, 3, 4]))
    assert [row.nonzero()[:, 0].tolist() for row in legal] == [[3], [4], [EOS]]
    assert masks.knows([[4, 6], [6]]) and not masks.knows([[4, 6, 3]]) and not masks.knows([[4]])


def test_without_a_way_to_find_the_prompt_a_policy_is_refused():
    env = letter_env(prompts=lambda rng: "ab", max_prompt_tokens=2, constraint="a")
    with pytest.raises(InputError, match="only the constraint can say so: give it after="):
        PPO(TextActorCriticPolicy, env, policy_kwargs={"model": tiny_lm()}, **settings(PPO))


# ---- The policy ---------------------------------------------------------------------------------

CASES = {
    "plain": {},
    "truncated": {"env": {"max_episode_steps": 3}},
    "own value trunk": {"policy": {"value_trunk": "own"}},
    "temperature, top-k, top-p": {"policy": HOT},
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_case
@pytest.mark.parametrize("use_cache", [True, False])
def test_the_ratio_is_one_before_the_first_update(case, use_cache):
    agent = masked_agent(**{**case, "policy": {**case.get("policy", {}), "use_cache": use_cache}})
    for _ in range(3):
        buffer = rollout(agent)
        agent.policy.set_training_mode(True)
        for batch in buffer.get(8):
            _, log_prob, entropy = agent.policy.evaluate_actions(batch.observations, batch.actions)
            ratio = torch.exp(log_prob - batch.old_log_prob)
            torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-5)
            assert bool(torch.isfinite(entropy).all())


@every_case
@pytest.mark.parametrize("cls", [PPO, A2C])
def test_an_update_equals_that_of_a_naive_masked_policy(cls, case):
    """One pass a token, masks by brute force, torch's own Categorical, SB3's own buffer."""
    agent = masked_agent(cls, **case)
    naive = set_up(
        cls(
            NaiveMaskedPolicy,
            letter_env(),
            policy_kwargs={"source": agent.policy, **SGD},
            **settings(cls),
        )
    )
    rollout(agent)
    buffer = rollout(agent)
    before = copy.deepcopy(agent.policy)
    agent.train()
    naive.rollout_buffer = MirrorBuffer(buffer) if cls is PPO else buffer.stock
    naive.train()
    assert_same_weights(agent.policy, naive.policy, 2e-5)
    with pytest.raises(AssertionError):
        assert_same_weights(agent.policy, before, 1e-4)


def test_the_distribution_is_normalised_over_legal_tokens():
    agent = masked_agent(policy={"top_k": 2, "temperature": 1.3})
    rows = rows_of([3], [3, 4], [4, 5, 6, 3])
    distribution = agent.policy.get_distribution(rows).distribution
    naive = NaiveMaskedPolicy(
        agent.observation_space, agent.action_space, lambda _: 0.1, source=agent.policy
    )
    for row, found, entropy in zip(rows, distribution.probs, distribution.entropy(), strict=True):
        expected = naive.one(row)[0].detach().softmax(-1)
        torch.testing.assert_close(found.detach(), expected)
        assert float(entropy.detach()) == pytest.approx(
            float(-torch.special.xlogy(expected, expected).sum()), abs=1e-5
        )
        legal = legal_by_hand(split(row.tolist())[1])
        assert 1 <= int((found > 0).sum()) <= min(2, len(legal))
        assert not found[[i for i in range(7) if i not in legal]].any()


def test_predict_and_evaluations_obey_too():
    agent = masked_agent()
    evaluation = constrained_env(2)
    seen = []
    step = evaluation.step_wait

    def watch():
        result = step()
        seen.extend(info for info in result[3] if "completion" in info)
        return result

    evaluation.step_wait = watch
    callback = EvalCallback(
        evaluation, n_eval_episodes=20, eval_freq=8, deterministic=False, verbose=0
    )
    agent.learn(96, callback=callback)
    assert len(seen) > 60 and {info["completion"] for info in seen} <= set(LANGUAGE)
    agent.policy.set_training_mode(False)
    row = rows_of([3, 4], width=11)[0].numpy()
    for deterministic in (True, False):
        assert agent.predict(row, deterministic=deterministic)[0] == 5  # "b" must go on with "c"


def test_a_policy_copies_saves_and_loads_with_its_masks(tmp_path):
    agent = masked_agent()
    for other in (copy.deepcopy(agent.policy), _saved_and_loaded(agent.policy, tmp_path)):
        assert other.masks.automaton.constraint == constraints.regex(PATTERN)
        rows = rows_of([3], [3, 4], width=11)
        assert torch.equal(other.masks.is_legal(rows), agent.policy.masks.is_legal(rows))
    agent.save(tmp_path / "agent.zip")
    again = PPO.load(tmp_path / "agent.zip", env=constrained_env())
    assert again.policy.masks.automaton.constraint == constraints.regex(PATTERN)


def _saved_and_loaded(policy, tmp_path):
    policy.save(tmp_path / "policy.pt")
    return TextActorCriticPolicy.load(tmp_path / "policy.pt")


# ---- The KL term --------------------------------------------------------------------------------


def test_the_reference_of_the_kl_term_is_masked_alike():
    reference = tiny_lm(spread=5.0, seed=8)
    kl = KLPenalty(reference, 0.3)
    agent = masked_agent()
    buffer_class = type(agent.rollout_buffer)
    agent.rollout_buffer = buffer_class(
        8, agent.observation_space, agent.action_space, "cpu", n_envs=3, kl=kl
    )
    rollout(agent)
    buffer = rollout(agent)
    source = TextActorCriticPolicy(
        agent.observation_space, agent.action_space, lambda _: 0.1, model=reference
    )
    naive = NaiveMaskedPolicy(
        agent.observation_space, agent.action_space, lambda _: 0.1, source=source
    )
    for step, env in np.ndindex(8, 3):
        row = torch.as_tensor(buffer.stock.observations[step, env])
        action = int(buffer.actions[step, env, 0])
        expected = float(naive.one(row)[0].log_softmax(-1)[action].detach())
        raw = float(buffer.log_probs[step, env]) - expected
        assert buffer.kl_raw[step, env] == pytest.approx(raw, abs=1e-5)


def test_the_policy_itself_as_reference_costs_nothing():
    """Were the reference not masked, every state would cost what it wastes on illegal tokens."""
    lm = tiny_lm(spread=6.0)
    agent = PPO(
        TextActorCriticPolicy,
        constrained_env(),
        policy_kwargs={"model": lm, **SGD},
        rollout_buffer_class=EpisodeRolloutBuffer,
        rollout_buffer_kwargs={"kl": KLPenalty(lm, 1.0)},
        **settings(PPO),
    )
    buffer = rollout(set_up(agent))
    assert np.abs(buffer.kl_raw).max() < 1e-5
