"""Prompts through a chat template: the policy sees them so, everybody else as they are."""

import copy
import dataclasses
import json
from datetime import datetime

import numpy as np
import pytest
import torch
import transformers
from front_door import SHAPE, read_lines, run_cli
from textgym_checkpoints import CHATML, END, FURTHER, chat_tokenizer, with_template
from textgym_latents import LetterDecoder
from textgym_resuming import digests, rows_of

import textgym
from textgym import registry
from textgym.chat_templates import ChatTemplate, encode_chats
from textgym.envs.episode_rows import EpisodeRows
from textgym.envs.latent_rows import LatentRows
from textgym.envs.task import Task
from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.generation import generate_tokens
from textgym.policies.language_model.sampling import Sampling

ID = "test/Chat-v0"
PROMPTS = ["a", "Say b.", f"é{END} 🤖"]
CHAT = {"chat": True}
WITH_SYSTEM = {"chat": True, "system": "Be brief."}
pytestmark = pytest.mark.filterwarnings("ignore:all .* earned the same reward:UserWarning")
seen = []


def letters_of_the_prompt(prompts, completions, **columns):
    """How many characters of a text stand in its prompt too, which is one of `PROMPTS`."""
    seen.extend(prompts)
    return [
        sum(c in PROMPTS[PROMPTS.index(p)] for c in text) / (1 + len(text))
        for p, text in zip(prompts, completions, strict=True)
    ]


@pytest.fixture
def task():
    textgym.register(ID, prompts=PROMPTS, reward=letters_of_the_prompt, max_new_tokens=6, **CHAT)
    seen.clear()
    yield ID
    registry.tasks.unregister(ID)


def chat_lm(template=CHATML, **keywords):
    shape = {**SHAPE, "max_position_embeddings": 256}
    return CausalLM.new(with_template(template, keywords=keywords), seed=0, **shape)


def rendered(tokenizer, prompt, directory, system=None):
    """The ids that transformers gives a user's message, of which no name of a token is special."""
    tokenizer.save(directory)
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    front = [] if system is None else [{"role": "system", "content": system}]
    plain, there = "\ue123", [*front, {"role": "user", "content": "\ue123"}]
    ids = theirs.apply_chat_template(there, add_generation_prompt=True, return_dict=False)
    own = theirs(plain, add_special_tokens=False)["input_ids"]
    at = next(i for i in range(len(ids)) if ids[i : i + len(own)] == own)
    inside = theirs(prompt, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [*ids[:at], *inside, *ids[at + len(own) :]]


@pytest.mark.parametrize("fields", [CHAT, WITH_SYSTEM])
def test_the_policy_sees_what_transformers_renders_and_the_reward_the_prompt(fields, tmp_path):
    lm = chat_lm()
    made = Task(
        id=ID,
        prompts=PROMPTS,
        reward=letters_of_the_prompt,
        tokenizer=lm.tokenizer,
        max_new_tokens=4,
        **fields,
    )
    seen.clear()
    source = made.prompt_source()
    for prompt, text in zip(source.all(), PROMPTS, strict=True):
        ids = rendered(lm.tokenizer, text, tmp_path / "t", fields.get("system"))
        assert prompt.text == text and prompt.ids.tolist() == ids
    again = copy.copy(made.chat_template())
    assert [again.encode_prompt(p.text) for p in source.all()] == [
        p.ids.tolist() for p in source.all()
    ]
    rows = EpisodeRows(made, 1)
    (info,) = rows.reset([0], [np.random.default_rng(0)])
    assert info["prompt"] in PROMPTS
    *_, ending = [rows.step(np.array([i])) for i in lm.tokenizer.encode("b") * 4]
    assert ending.endings[0]["prompt"] == info["prompt"] and seen == [info["prompt"]]
    assert ending.endings[0]["prompt_length"] == len(source.all()[PROMPTS.index(seen[0])].ids)


def test_a_text_ends_with_the_templates_turn(tmp_path):
    """Though the tokenizer's own stop token is another one."""
    lm = chat_lm(eos_token=FURTHER)
    end = lm.tokenizer.token_to_id(END)
    assert end not in lm.tokenizer.eos_token_ids
    for chat, reason in ((True, "stop"), (False, "")):
        rows = EpisodeRows(
            Task(
                id=ID,
                prompts=["a"],
                reward=letters_of_the_prompt,
                tokenizer=lm.tokenizer,
                chat=chat,
            ),
            1,
        )
        rows.reset([0], [np.random.default_rng(0)])
        result = rows.step(np.array([lm.tokenizer.encode("b")[0]]))
        result = rows.step(np.array([end]))
        assert result.is_terminated[0] == chat
        assert (result.endings.get(0) or {}).get("finish_reason", "") == reason
    assert result.endings == {}
    template = ChatTemplate(lm.tokenizer)
    assert template.stop_ids == [end]
    assert ChatTemplate(with_template("{{ messages[0].content }}")).stop_ids == []
    greedy = {"max_new_tokens": 20, "sampling": Sampling(temperature=0), "generator": None}
    row = template.encode_prompt("a")
    (written,) = generate_tokens(lm, [row], **greedy)
    (cut,) = generate_tokens(lm, [row], **greedy, stop_ids=[written[0]])
    assert written and cut == []


@pytest.mark.parametrize("word", ["ppo", "grpo"])
def test_training_evaluating_and_resuming(word, task, tmp_path):
    lm = chat_lm()
    lm.save_pretrained(tmp_path / "lm")
    small = {"n_steps": 12, "batch_size": 24} if word == "ppo" else {"num_generations": 2}
    settings = {
        "agent": word,
        "policy": tmp_path / "lm",
        "n_envs": 4,
        "learning_rate": 0.01,
        "env_kwargs": {"system": "Be brief."},
        "progress_bar": False,
        "report": lambda text: None,
        **small,
    }
    whole = textgym.train(task, timesteps=200, out=tmp_path / "whole", **settings)
    assert set(seen) == set(PROMPTS)
    textgym.train(task, timesteps=100, out=tmp_path / "parts", **settings)
    resumed = textgym.train(task, timesteps=200, out=tmp_path / "parts", resume=True, **settings)
    assert digests(resumed) == digests(whole)
    assert (
        rows_of(tmp_path / "parts/metrics.jsonl")[-1]
        == rows_of(tmp_path / "whole/metrics.jsonl")[-1]
    )
    config = (tmp_path / "whole/config.yaml").read_text()
    assert "system: Be brief." in config
    loaded = textgym.load_agent(tmp_path / "whole")
    assert loaded.env.get_attr("task")[0].system == "Be brief."
    # What the record shows was written behind the rendered prompt.
    first = [row for row in read_lines(tmp_path / "whole/samples.jsonl") if row["step"] == 0]
    template = ChatTemplate(lm.tokenizer, system="Be brief.")
    rows = [template.encode_prompt(row["prompt"]) for row in first]
    tokens = generate_tokens(
        lm,
        rows,
        max_new_tokens=6,
        sampling=Sampling(),
        generator=torch.Generator().manual_seed(0),
    )
    assert {row["prompt"] for row in first} == set(PROMPTS)
    assert [row["completion"] for row in first] == lm.tokenizer.decode_continuations(rows, tokens)


@torch.no_grad()
def assert_own_log_probs(episode, lm):
    """What was drawn has the log-probabilities of the model, whose row the episode is."""
    logits = lm(torch.tensor(episode.tokens)[None])[0]
    logits[:, [lm.tokenizer.pad_token_id, lm.tokenizer.bos_token_id]] = -torch.inf
    expected = logits.log_softmax(-1)[episode.acted, episode.tokens[episode.acted + 1]]
    torch.testing.assert_close(torch.tensor(episode.log_probs), expected, rtol=0, atol=1e-4)


def test_an_evaluation_plays_the_rendered_prompts(task, tmp_path):
    lm = chat_lm()
    report = textgym.evaluate(task, policy=lm, prompts=PROMPTS, reference=lm, seed=3)
    for episode, prompt in zip(report.episodes, PROMPTS, strict=True):
        ids = rendered(lm.tokenizer, prompt, tmp_path / "t")
        assert episode.prompt == prompt and episode.tokens[: len(ids)].tolist() == ids
        assert episode.acted[0] == len(ids) - 1
        assert_own_log_probs(episode, lm)
    assert report.kl.mean == pytest.approx(0.0, abs=1e-5)
    plain = textgym.evaluate(task, policy=lm, prompts=PROMPTS, seed=3, env_kwargs={"chat": False})
    assert plain.episodes[0].acted[0] == 0


def test_generation_has_a_system_message_too(tmp_path):
    lm = chat_lm()
    rows = [ChatTemplate(lm.tokenizer, system="Be brief.").encode_prompt("a")]
    greedy = {"max_new_tokens": 5, "temperature": 0.0}
    tokens = generate_tokens(
        lm, rows, max_new_tokens=5, sampling=Sampling(temperature=0), generator=None
    )
    expected = lm.tokenizer.decode_continuations(rows, tokens)
    assert lm.generate("a", chat=True, system="Be brief.", **greedy) == expected
    with pytest.raises(InputError, match="system is the message in front of a chat"):
        lm.generate("a", system="Be brief.", **greedy)
    lm.save_pretrained(tmp_path / "lm")
    words = ["generate", tmp_path / "lm", "--prompt", "a", "--max-new-tokens", 5]
    code, out, error = run_cli(*words, "--temperature", 0, "--chat", "--system", "Be brief.")
    assert code == 0 and expected[0].splitlines()[0] in out, error


def test_only_the_message_is_cut():
    tokenizer = chat_lm().tokenizer
    template = ChatTemplate(tokenizer)
    around = len(template.encode_prompt("x")) - 1
    made = Task(
        id=ID,
        prompts=["abcdefgh", "xyz"],
        reward=letters_of_the_prompt,
        tokenizer=tokenizer,
        max_prompt_tokens=around + 3,
        truncate_prompt=True,
        chat=True,
    )
    long, short = made.prompt_source().all()
    assert (long.text, long.cut, short.text, short.cut) == ("fgh", 5, "xyz", 0)
    assert long.ids.tolist() == template.encode_prompt("fgh")
    refused = dataclasses.replace(made, truncate_prompt=False)
    with pytest.raises(InputError, match=rf"has {around + 8}, chat template included: shorten"):
        refused.prompt_source()
    narrow = dataclasses.replace(made, max_prompt_tokens=around)
    with pytest.raises(InputError, match=r"prompts\[0\]: .*leaves no room for the prompt"):
        narrow.prompt_source()


def test_the_day_in_a_template_is_always_the_same():
    dated = with_template("{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}")
    made = Task(id=ID, prompts=["a"], reward=letters_of_the_prompt, tokenizer=dated, chat=True)
    (prompt,) = made.prompt_source().all()
    assert dated.decode(prompt.ids.tolist()) == "26 Jul 2024a"
    written = ChatTemplate(dated).encode_prompt("a")
    assert written == prompt.ids.tolist() == encode_chats(dated, [[{"content": "a"}]])[0]
    lm = CausalLM.new(dated, seed=0, **SHAPE)
    asked = lm.tokenizer.decode(prompt.ids.tolist())
    greedy = {"max_new_tokens": 5, "temperature": 0.0}
    assert lm.generate("a", chat=True, **greedy) == lm.generate(asked, **greedy)
    told = ChatTemplate(dated, today=datetime(2030, 1, 2))
    assert dated.decode(told.encode_prompt("a")) == "02 Jan 2030a"


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"tokenizer": chat_tokenizer()}, "the policy's tokenizer has no chat template"),
        (
            {
                "tokenizer": with_template(
                    "{{ raise_exception('no é') if 'é' in messages[0].content }}"
                    "{{ messages[0].content }}"
                )
            },
            r"^prompts\[2\]: the chat template of the policy's tokenizer fails: no é$",
        ),
        ({"tokenizer": with_template("{% for")}, "^the chat template .* fails: "),
        ({"chat": "yes"}, "chat must be true or false, got 'yes'"),
        ({"system": 3}, "system must be a text, got 3"),
        ({"system": ""}, "system must be a text, got ''"),
        ({"chat": False, "system": "S"}, "system is the message in front of a chat"),
    ],
)
def test_what_cannot_be_is_one_line(fields, message):
    made = {
        "id": ID,
        "prompts": PROMPTS,
        "reward": letters_of_the_prompt,
        "tokenizer": with_template(CHATML),
        "chat": True,
        **fields,
    }
    with pytest.raises(InputError, match=message) as caught:
        Task(**made).prompt_source()
    assert "\n" not in str(caught.value)


def test_what_is_no_language_model_alone_is_refused(task, tmp_path):
    backend = with_template(CHATML)
    state = {**backend.__getstate__(), "ends_prompts": True}
    backend.__setstate__(state)
    made = Task(id=ID, prompts=["a"], reward=letters_of_the_prompt, tokenizer=backend, chat=True)
    with pytest.raises(InputError, match="an encoder with a decoder, which reads one prompt"):
        made.prompt_source()
    decoder = LetterDecoder()
    decoder.tokenizer = with_template(CHATML)
    rows = EpisodeRows(dataclasses.replace(made, tokenizer=decoder.tokenizer), 1)
    with pytest.raises(InputError, match="a latent decoder writes its text from z"):
        LatentRows(rows, decoder)
    CausalLM.new(chat_tokenizer(), seed=0, **SHAPE).save_pretrained(tmp_path / "m")
    words = ["train", "textgym/Length-v0", "--policy", tmp_path / "m", "--timesteps", 8]
    words += ["--out", tmp_path / "run", "--env-kwargs", "chat=true"]
    code, _, error = run_cli(*words)
    assert code == 2 and error.count("\n") == 1, error
    assert "the policy's tokenizer has no chat template" in error
    assert not (tmp_path / "run").exists()
    chat_lm().save_pretrained(tmp_path / "lm")
    words = ["evaluate", "textgym/Length-v0", "--policy", tmp_path / "lm", "--n-episodes", 2]
    words += ["--env-kwargs", "chat=true", "--env-kwargs", 'system="Be brief."', "--json"]
    code, out, error = run_cli(*words)
    assert code == 0 and json.loads(out), error


def test_pairs_of_preferences_are_rendered(task):
    lm = chat_lm()
    pairs = [{"prompt": "Say b.", "chosen": "b", "rejected": "c"}]
    agent = textgym.make_agent("dpo", task, policy=lm, preferences=pairs, kl_coef=0.1)
    ids = ChatTemplate(lm.tokenizer).encode_prompt("Say b.")
    for episode, text in zip(agent._pairs[0], "bc", strict=True):
        assert episode.tokens.tolist() == ids + lm.tokenizer.encode(text)
        assert episode.actions.tolist()[-1] == lm.tokenizer.eos_token_id


@pytest.mark.parametrize("ending", [END, FURTHER, "!"])
def test_a_dialogue_is_rendered_as_transformers_renders_it(ending, tmp_path):
    """However a turn ends: by the template's token, by another stop token, by a stop string."""
    tokenizer = with_template(CHATML, keywords={"eos_token_ids": [259 + 3]})
    assert tokenizer.eos_token_ids == tuple(map(tokenizer.token_to_id, (END, FURTHER)))
    tokenizer.save(tmp_path / "t")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "t")
    told = []

    def reply(prompt, turns):
        told.append((prompt, list(turns)))
        return f"r{len(turns)}"

    rows = EpisodeRows(
        Task(
            id=ID,
            prompts=["a"],
            reward=lambda prompts, completions: [float(len(c)) for c in completions],
            tokenizer=tokenizer,
            reply=reply,
            max_context=200,
            stop="!",
            **WITH_SYSTEM,
        ),
        1,
    )
    rows.reset([0], [np.random.default_rng(0)])
    for text in ("bc", "d"):
        ids = tokenizer.encode(text) + tokenizer.encode_marked(ending)
        for token_id in ids:
            result = rows.step(np.array([token_id]))
    assert told == [("a", ["bc"]), ("a", ["bc", "r1", "d"])] and not result.endings
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "bc!" if ending == "!" else "bc"},
        {"role": "user", "content": "r1"},
        {"role": "assistant", "content": "d!" if ending == "!" else "d"},
        {"role": "user", "content": "r3"},
    ]
    expected = theirs.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    found = rows.tokens[0, : rows.lengths[0]].tolist()
    if ending == FURTHER:
        end, further = tokenizer.eos_token_ids
        at = [i for i, token_id in enumerate(found) if token_id == further]
        assert len(at) == 2
        found = [end if token_id == further else token_id for token_id in found]
    assert found == expected
    assert rows.text(0) == "abcr1dr3"
    silent = ChatTemplate(with_template("{{ messages[0].content }}"))
    with pytest.raises(InputError, match="leaves an answer out"):
        silent.encode_reply(["a", "b", "c"], is_stopped=True)


def test_a_policy_plays_a_dialogue_through_the_template(task):
    lm = chat_lm()
    fields = {
        "reply": lambda prompt, turns: "more" if len(turns) < 4 else None,
        "max_context": 200,
        "max_new_tokens": 60,
        "stop": list("abcdefghij"),
        "reward": lambda prompts, completions: [0.0] * len(completions),
    }
    report = textgym.evaluate(task, policy=lm, n_episodes=4, seed=0, env_kwargs=fields)
    user = ChatTemplate(lm.tokenizer).encode_reply(["a", "b", "more"], is_stopped=True)
    for episode in report.episodes:
        assert_own_log_probs(episode, lm)
        tokens = episode.tokens.tolist()
        replies = sum(turn["who"] == "environment" for turn in episode.info["turns"])
        starts = [i for i in range(len(tokens)) if tokens[i : i + len(user)] == user]
        assert len(starts) == replies > 0
        written = {i for start in starts for i in range(start - 1, start - 1 + len(user))}
        assert written.isdisjoint(episode.acted.tolist())
