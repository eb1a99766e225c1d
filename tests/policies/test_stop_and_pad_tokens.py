"""Several stop tokens, pad tokens that end texts, and rows of the head that no token belongs to."""

import warnings

import numpy as np
import pytest
import torch
from front_door import SHAPE, byte_lm
from stable_baselines3 import PPO
from textgym_checkpoints import END, FURTHER, SPARE, START, chat_tokenizer, read, write_chat_model

from textgym import constraints
from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.constraints.token_automaton import TokenAutomaton
from textgym.envs.task import Task
from textgym.envs.text_env import TextEnv
from textgym.envs.utterance_tokens import UtteranceTokens
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.generation import generate_tokens, never_sampled
from textgym.policies.language_model.sampling import Sampling
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.tokenizer import Tokenizer

ID = chat_tokenizer().token_to_id


def count(prompts, completions):
    """A reward: characters."""
    return [float(len(text)) for text in completions]


def load(directory, **keywords):
    """A model, without the warning about its pad token."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CausalLM.from_pretrained(directory, **keywords)


def task(tokenizer, **fields):
    return Task(
        id="test/Stops-v0",
        **{"prompts": ["a"], "reward": count, "max_new_tokens": 4, "tokenizer": tokenizer} | fields,
    )


# ---- which tokens stop -------------------------------------------------------


@pytest.mark.parametrize(
    "config, generation, expected",
    [
        ([ID(END), ID(FURTHER)], None, [END, FURTHER]),
        ([ID(FURTHER), ID(END)], None, [FURTHER, END]),
        (ID(END), [ID(END), ID(FURTHER)], [END, FURTHER]),
        ([ID(END), ID(FURTHER)], ID(END), [END, FURTHER]),
        (ID(FURTHER), [5], [END, FURTHER, 5]),
        (ID(FURTHER), None, [END, FURTHER]),
        (5, None, [END]),  # a text token alone is a default that somebody left there
        ([ID(END), 5, 9999, -1], None, [END, 5]),
    ],
)
def test_all_that_the_directory_names_stop(config, generation, expected, tmp_path):
    generation = None if generation is None else {"eos_token_id": generation}
    write_chat_model(tmp_path, config={"eos_token_id": config}, generation=generation)
    tokenizer = load(tmp_path).tokenizer
    ids = tuple(ID(token) if isinstance(token, str) else token for token in expected)
    assert tokenizer.eos_token_ids == ids
    assert tokenizer.eos_token_id == ID(END)
    load(tmp_path).save_pretrained(tmp_path / "again")
    saved = read(tmp_path / "again" / "config.json")["eos_token_id"]
    assert saved == (list(ids) if len(ids) > 1 else ids[0])
    assert load(tmp_path / "again").tokenizer == tokenizer


@pytest.mark.parametrize("wrong", ["</s>", [2, "x"], {"id": 2}, True, 1.5])
def test_stop_tokens_that_are_no_ids_name_their_file(wrong, tmp_path):
    write_chat_model(tmp_path, config={"eos_token_id": wrong})
    with pytest.raises(InputError, match=r"config\.json: eos_token_id must be token ids, got"):
        load(tmp_path)


def test_the_users_stop_token_is_the_only_one(tmp_path):
    write_chat_model(tmp_path, config={"eos_token_id": [ID(END), ID(FURTHER)]})
    tokenizer = Tokenizer.load(tmp_path, eos_token=FURTHER, pad_token=SPARE)
    assert tokenizer.eos_token_ids == (ID(FURTHER),)


def stopping():
    """A tokenizer with two stop tokens."""
    return chat_tokenizer(eos_token_ids=[ID(END), ID(FURTHER)])


@pytest.mark.parametrize("stop", [END, FURTHER])
def test_every_stop_token_ends_an_episode(stop):
    env = TextEnv(task(stopping()))
    env.reset(seed=0)
    env.step(ID("b"))
    _, reward, terminated, _, info = env.step(ID(stop))
    assert (terminated, reward, info["completion"]) == (True, 1.0, "b")
    assert info["finish_reason"] == "stop" and info["completion_length"] == 2


def test_a_stop_token_that_looks_like_text_is_no_part_of_the_text():
    env = TextEnv(task(chat_tokenizer(eos_token_ids=[ID(END), ID("c")])), render_mode="ansi")
    env.reset(seed=0)
    env.step(ID("b"))
    *_, info = env.step(ID("c"))
    assert info["completion"] == "b" and env.render() == "ab"
    assert env.tokenizer.encode("c") == [ID("c")]  # it still is a letter in prompts


def test_text_actions_are_written_with_the_tokenizers_own_stop_token():
    env = TextEnv(task(stopping(), max_new_tokens=8), action="text")
    env.reset(seed=0)
    env.step("bc")
    assert env._episode.tokens[0, 1:4].tolist() == [ID("b"), ID("c"), ID(END)]
    rows = UtteranceTokens(env)
    rows.reset(seed=0)
    action = np.array([ID("b"), ID(FURTHER), *[ID("d")] * 6])
    assert rows.step(action)[4]["completion"] == "b"


def test_generation_and_masks_stop_at_each():
    lm = CausalLM.new(stopping(), seed=0, tie_word_embeddings=False, **SHAPE)
    rows = [lm.tokenizer.encode("ab")]
    for token in (END, FURTHER):
        with torch.no_grad():
            hidden = lm.model.packed(torch.tensor(rows[0]), torch.tensor([2]))[-1]
            lm.lm_head.weight.zero_()
            lm.lm_head.weight[ID(token)] = 10 * hidden
        written = generate_tokens(
            lm,
            rows,
            max_new_tokens=4,
            sampling=Sampling(temperature=0),
            generator=torch.Generator(),
        )
        assert written == [[]]
    automaton = TokenAutomaton(constraints.regex("b"), stopping())
    last = automaton.states([ID("b")])[-1]
    assert np.flatnonzero(automaton.is_legal(last)).tolist() == sorted([ID(END), ID(FURTHER)])
    assert ID(START) in never_sampled(lm) and ID(FURTHER) not in never_sampled(lm)
    start_is_stop = chat_tokenizer(eos_token_ids=[ID(END), ID(START)])
    assert ID(START) not in never_sampled(CausalLM.new(start_is_stop, seed=0, **SHAPE))


def test_no_text_writes_a_further_stop_token():
    backend = chat_tokenizer().backend
    backend.add_tokens(["<end>"])  # not called special
    tokenizer = Tokenizer(
        backend, pad_token=SPARE, eos_token=END, eos_token_ids=[backend.token_to_id("<end>")]
    )
    assert tokenizer.eos_token_ids == (ID(END), backend.token_to_id("<end>"))
    assert not set(tokenizer.eos_token_ids) & set(tokenizer.encode(f"a<end>{END}"))


# ---- the pad token -----------------------------------------------------------


def test_a_spare_token_takes_the_part_of_a_pad_token_that_ends_texts(tmp_path):
    write_chat_model(tmp_path)
    with pytest.warns(UserWarning, match=r"its pad token '<\|im_end\|>' ends texts.*endoftext"):
        lm = CausalLM.from_pretrained(tmp_path)
    assert lm.tokenizer.pad_token == SPARE
    lm.save_pretrained(tmp_path / "again")
    assert CausalLM.from_pretrained(tmp_path / "again").tokenizer.pad_token == SPARE  # no warning
    assert read(tmp_path / "again" / "tokenizer_config.json")["pad_token"] == SPARE
    assert read(tmp_path / "again" / "config.json")["pad_token_id"] == ID(SPARE)
    assert load(tmp_path, pad_token=FURTHER).tokenizer.pad_token == FURTHER


def test_a_directory_without_a_pad_token_gets_one_too(tmp_path):
    write_chat_model(tmp_path, settings={"pad_token": None})
    with pytest.warns(UserWarning, match="names no pad token, so the unused token"):
        assert CausalLM.from_pretrained(tmp_path).tokenizer.pad_token == SPARE
    write_chat_model(tmp_path, settings={"pad_token": None}, config={"pad_token_id": ID(FURTHER)})
    assert CausalLM.from_pretrained(tmp_path).tokenizer.pad_token == FURTHER


def test_spare_tokens_are_those_that_no_text_and_no_template_needs(tmp_path):
    """Pad first, then reserved ones; none that a chat template or a stop needs."""
    template = {"chat_template": f"{SPARE}{{{{ messages }}}}"}
    both = {"eos_token_id": [ID(END), ID(FURTHER)]}
    write_chat_model(tmp_path, settings=template)
    assert load(tmp_path).tokenizer.pad_token == FURTHER
    write_chat_model(tmp_path, settings=template, config=both)
    with pytest.raises(InputError, match=r"no special token is unused: pass pad_token="):
        load(tmp_path)
    backend = chat_tokenizer().backend
    backend.add_tokens(["<|reserved_3|>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path) == "<|reserved_3|>"
    backend.add_tokens(["<|fim_pad|>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path) == "<|fim_pad|>"


def load_tokenizer(directory):
    with pytest.warns(UserWarning, match="ends texts"):
        return Tokenizer.load(directory).pad_token


def test_a_pad_token_that_is_a_further_stop_token_is_replaced(tmp_path):
    stops = {"eos_token_id": [ID(END), ID(FURTHER)]}
    write_chat_model(tmp_path, settings={"pad_token": FURTHER}, config=stops)
    with pytest.warns(UserWarning, match=r"its pad token '<\|eot\|>' ends texts"):
        assert CausalLM.from_pretrained(tmp_path).tokenizer.pad_token == SPARE
    with pytest.raises(InputError, match="pad token must differ from the eos token"):
        CausalLM.from_pretrained(tmp_path, pad_token=FURTHER)


def test_an_environment_of_another_pad_token_is_refused():
    lm = CausalLM.new(chat_tokenizer(), seed=0, **SHAPE)
    other = task(chat_tokenizer(pad_token=FURTHER))
    with pytest.raises(InputError, match="fills up rows with token 262, but the model's pad"):
        PPO(
            TextActorCriticPolicy,
            TextVecEnv(TextVectorEnv(other, 2)),
            policy_kwargs={"model": lm},
            rollout_buffer_class=EpisodeRolloutBuffer,
        )


# ---- rows of the head without a token ------------------------------------------


def test_rows_past_the_vocabulary_are_never_sampled_and_kept(tmp_path):
    lm = byte_lm(vocab_size=270)
    with torch.no_grad():
        lm.lm_head.weight[259:] *= 50
    excluded_ids = never_sampled(lm).tolist()
    assert set(range(259, 270)) <= set(excluded_ids)
    ids = torch.tensor([lm.tokenizer.encode("ab", add_special_tokens=True)])
    with torch.no_grad():
        logits = lm(ids)[0, -1]
    ours = Sampling().filter(logits[None].clone(), never_sampled(lm)).log_softmax(-1)[0]
    kept = [i for i in range(270) if i not in excluded_ids]
    expected = logits[kept].double().log_softmax(-1).float()
    torch.testing.assert_close(ours[kept], expected)
    written = generate_tokens(
        lm,
        ids.tolist() * 20,
        max_new_tokens=20,
        sampling=Sampling(),
        generator=torch.Generator().manual_seed(0),
    )
    assert max(i for row in written for i in row) < 259
    lm.save_pretrained(tmp_path)
    again = CausalLM.from_pretrained(tmp_path)
    assert again.config.vocab_size == 270
    assert torch.equal(again.lm_head.weight, lm.lm_head.weight)


def test_ids_without_a_token_inside_the_vocabulary_are_never_sampled():
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models

    vocabulary = {"<p>": 0, "<e>": 1, "a": 2, "b": 6}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[]))
    backend.decoder = decoders.Fuse()
    tokenizer = Tokenizer(backend, pad_token="<p>", eos_token="<e>")
    assert (tokenizer.vocab_size, tokenizer.missing_ids) == (7, (3, 4, 5))
    lm = CausalLM.new(tokenizer, seed=0, **SHAPE)
    assert never_sampled(lm).tolist() == [0, 3, 4, 5]


def test_a_tokenizer_larger_than_its_model_is_refused(tmp_path):
    write_chat_model(tmp_path, config={"vocab_size": 260})
    with pytest.raises(InputError, match="tokenizer has 263 tokens, but the model only 260"):
        load(tmp_path)
