"""What is learned, written and shown behind a prompt, with a tokenizer that marks text starts."""

import re

import pytest
import torch
from front_door import SHAPE, read_lines, small_agent
from textgym_tokenizers import byte_level, sentencepiece_bpe, unigram, wordpiece

import textgym
from textgym import constraints
from textgym.agents.algorithms.dpo import DPO
from textgym.agents.evaluation.play import masks_of, play
from textgym.agents.evaluation.report import evaluate_texts
from textgym.agents.rollouts.kl import KLPenalty
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.envs.task import Task
from textgym.envs.texts.labelled_rows import Preference
from textgym.envs.vector_env import TextVectorEnv
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.generation import generate_tokens
from textgym.policies.language_model.sampling import Sampling
from textgym.policies.pretraining.documents import pair_documents, text_documents
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel

TOKENIZERS = {
    "sentencepiece": sentencepiece_bpe(),
    "unigram": unigram(),
    "wordpiece": wordpiece(),
    "byte-level": byte_level(add_prefix_space=True),
}
every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)
PROMPT, GOOD = "The film", " is good"


def model(name):
    return CausalLM.new(TOKENIZERS[name], seed=0, **SHAPE)


def film_task(name, **fields):
    defaults = {"prompts": [PROMPT], "reward": lambda prompts, completions: [0.0] * len(prompts)}
    return Task(id="test/F-v0", **{**defaults, "tokenizer": TOKENIZERS[name], **fields})


@every_tokenizer
def test_fine_tuning_teaches_what_the_policy_would_write(name):
    tokenizer = TOKENIZERS[name]
    start = tokenizer.encode(PROMPT, add_special_tokens=True)
    written = tokenizer.encode_continuation(PROMPT, GOOD)
    [document] = pair_documents([(PROMPT, GOOD)], tokenizer, context=40)
    assert document.tokens == [*start, *written, tokenizer.eos_token_id]
    assert document.first_target == len(start)
    assert tokenizer.decode(document.tokens).strip() == PROMPT + GOOD
    [document] = text_documents([PROMPT], tokenizer, context=40)
    assert document.tokens == [*start, tokenizer.eos_token_id]


@every_tokenizer
def test_a_preference_is_what_the_policy_would_write(name):
    tokenizer = TOKENIZERS[name]
    env = TextVecEnv(TextVectorEnv(film_task(name, max_new_tokens=8), 2))
    lm = model(name)
    pairs = [Preference(PROMPT, GOOD, " is not")]
    agent = DPO(
        TextActorCriticPolicy,
        env,
        policy_kwargs={"model": lm},
        preferences=pairs,
        kl=KLPenalty(lm, 0.1),
    )
    [(chosen, rejected)] = agent._pairs
    stop = tokenizer.eos_token_id
    for episode, text in ((chosen, GOOD), (rejected, " is not")):
        assert episode.actions.tolist() == [*tokenizer.encode_continuation(PROMPT, text), stop]


@every_tokenizer
def test_what_is_generated_and_shown_is_the_text_behind_the_prompt(name, tmp_path):
    lm = model(name)
    start = lm.tokenizer.encode(PROMPT, add_special_tokens=True)
    [ids] = generate_tokens(
        lm, [start], max_new_tokens=8, sampling=Sampling(), generator=torch.manual_seed(3)
    )
    text = lm.generate([PROMPT], max_new_tokens=8, seed=3)[0]
    assert lm.tokenizer.decode(start) + text == lm.tokenizer.decode([*start, *ids])
    assert textgym.generate(lm, prompt=PROMPT, max_new_tokens=8, temperature=1, seed=3) == [text]


def test_samples_of_a_run_keep_their_space(tmp_path):
    """The model is made to begin with ▁good, which alone decodes to "good"."""
    lm = CausalLM.new(TOKENIZERS["sentencepiece"], seed=0, tie_word_embeddings=False, **SHAPE)
    good = lm.tokenizer.token_to_id("▁good")
    start = lm.tokenizer.encode("I would like ", add_special_tokens=True)
    with torch.no_grad():
        last = lm.model.packed(torch.tensor(start), torch.tensor([len(start)]))[-1]
        lm.lm_head.weight.zero_()
        lm.lm_head.weight[good] = 10 * last
    agent = small_agent(lm=lm, out=tmp_path)
    agent.learn(128)
    rows = [row for row in read_lines(tmp_path / "samples.jsonl") if row["step"] == 0]
    [text] = [row["completion"] for row in rows if row["prompt"] == "I would like "]
    assert text.startswith(" good")


@pytest.mark.parametrize("name", ["sentencepiece", "unigram", "byte-level"])
def test_a_constraint_speaks_of_the_completion_with_its_space(name):
    constraint = constraints.regex(" (good|boring)")
    task = film_task(name, max_new_tokens=12, constraint=constraint)
    lm = model(name)
    env = TextVecEnv(TextVectorEnv(task, 4))
    episodes = play(lm, env, 20, sampling=Sampling(), seed=0)
    report = evaluate_texts(episodes, lm=lm, sampling=Sampling(), masks=masks_of(env))
    texts = [e.completion for e in report.episodes if e.finish_reason == "stop"]
    assert len(texts) > 10 and all(re.fullmatch(constraint.pattern, text) for text in texts)


@every_tokenizer
def test_a_reward_model_reads_prompt_and_completion_as_one_text(name):
    lm = model(name)
    reward = BradleyTerryRewardModel(lm)
    whole = lm.tokenizer.encode(PROMPT + GOOD, add_special_tokens=True)
    assert reward.encode([PROMPT + GOOD]) == [whole]
    assert whole[-1] != lm.tokenizer.eos_token_id
    assert reward([PROMPT], [GOOD]) == [float(reward.score([PROMPT + GOOD])[0])]
