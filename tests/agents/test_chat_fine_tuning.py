"""Fine-tuning through a chat template: only answers are learned, behind what a policy sees."""

import json
import warnings

import numpy as np
import pytest
import torch
import transformers
from front_door import SHAPE, run_cli
from textgym_checkpoints import CHATML, END, HEADERS, LLAMA3, chat_tokenizer, with_template
from textgym_resuming import interrupted_at
from textgym_testing import assert_same_weights

import textgym
from textgym import registry
from textgym.agents.fitting.fine_tuning import chat_documents
from textgym.chat_templates import ChatTemplate
from textgym.envs.task import Task
from textgym.envs.texts.conversations import read_conversations
from textgym.envs.texts.labelled_rows import Pair, read_pairs
from textgym.errors import InputError
from textgym.learned_chats import learned_chat
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.pretraining.documents import collate
from textgym.policies.pretraining.loop import TrainingReport
from textgym.tokenizer import Tokenizer
from textgym.tokenizer_files import TokenizerFiles

ID = "test/FineTunedChat-v0"
QUIET = {"progress_bar": False, "report": str}
TURNS = [
    {"role": "user", "content": " Hello, «you» "},
    {"role": "assistant", "content": "Hm?"},
    {"role": "user", "content": "Say b."},
    {"role": "assistant", "content": "b 🤖"},
]
SYSTEM = {"role": "system", "content": "Be brief."}
OF_LLAMA3 = {"more": HEADERS, "bos_token": HEADERS[0]}


def chat_lm(template=CHATML, **keywords):
    shape = {**SHAPE, "max_position_embeddings": 256}
    return CausalLM.new(with_template(template, keywords=keywords), seed=0, **shape)


def documents_of(rows, tokenizer, *, system=None, context=256):
    template = ChatTemplate(tokenizer, system=system)
    return list(chat_documents(list(read_conversations(rows)), template, context=context))


def reward(prompts, completions, **columns):
    return [float(len(text)) for text in completions]


@pytest.fixture
def task():
    textgym.register(ID, prompts=["a", "Say b."], reward=reward, max_new_tokens=6)
    yield ID
    registry.tasks.unregister(ID)


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize(
    ("template", "keywords", "end"), [(CHATML, {}, END), (LLAMA3, OF_LLAMA3, "<|eot_id|>")]
)
def test_documents_are_what_transformers_renders(template, keywords, end, system, tmp_path):
    tokenizer = with_template(template, keywords=keywords)
    tokenizer.save(tmp_path / "t")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "t")
    ids_of = lambda chat, asks: theirs.apply_chat_template(  # noqa: E731
        chat, add_generation_prompt=asks, return_dict=False
    )
    front = [] if system is None else [SYSTEM]
    documents = documents_of([{"messages": TURNS}], tokenizer, system=system)
    assert len(documents) == 2
    for document, turns in zip(documents, (2, 4), strict=True):
        asked = ids_of([*front, *TURNS[: turns - 1]], True)
        whole = ids_of([*front, *TURNS[:turns]], False)
        last = len(whole) - 1 - whole[::-1].index(tokenizer.token_to_id(end))
        assert document.tokens == whole[: last + 1]
        assert document.tokens[: document.first_target] == asked
        assert document.first_target == len(asked)
        learned = collate([document]).targets.tolist()
        assert learned == [
            *tokenizer.encode(TURNS[turns - 1]["content"]),
            tokenizer.token_to_id(end),
        ]


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize(("template", "keywords"), [(CHATML, {}), (LLAMA3, OF_LLAMA3)])
def test_the_prompt_is_what_an_environment_and_generate_show(template, keywords, system):
    tokenizer = with_template(template, keywords=keywords)
    [document] = documents_of([Pair("Say b.", "b")], tokenizer, system=system)
    prompt = document.tokens[: document.first_target]
    played = Task(
        id=ID, prompts=["Say b."], reward=reward, tokenizer=tokenizer, chat=True, system=system
    )
    assert prompt == played.prompt_source().all()[0].ids.tolist()
    assert prompt == ChatTemplate(tokenizer, system=system).encode_prompt("Say b.")
    assert document.tokens[-1] in played.chat_template().stop_ids


def test_rows_in_every_form_are_one_conversation(tmp_path):
    tokenizer = with_template(CHATML)
    asked, answer = TURNS[:1], TURNS[1:2]
    text = {"prompt": TURNS[0]["content"], "completion": TURNS[1]["content"]}
    forms = [text, {"messages": TURNS[:2]}, {"prompt": asked, "completion": answer}]
    forms += [{"prompt": text["prompt"], "completion": answer}, Pair(**text)]
    forms += [{"messages": TURNS[:2], "prompt": "another"}]
    first, *others = documents_of(forms, tokenizer)
    assert others == [first] * 5
    (tmp_path / "c.jsonl").write_text(json.dumps({"messages": TURNS[:2], "more": 1}))
    quoted = json.dumps(TURNS[:2]).replace('"', '""')
    (tmp_path / "c.csv").write_text(f'messages,prompt\n"{quoted}",x\n')
    for file in ("c.jsonl", "c.csv"):
        assert documents_of(tmp_path / file, tokenizer) == [first]
    # Of a prompt in messages only what the completion says is learned.
    [document] = documents_of([{"prompt": TURNS[:3], "completion": TURNS[3:]}], tokenizer)
    assert document == documents_of([{"messages": TURNS}], tokenizer)[1]


def test_a_token_across_the_border_is_two():
    """`\\n` of the prompt and what an answer begins with are one token where both are one text."""
    template = (
        "{% for m in messages %}{{ m.role }}\n{{ m.content }}<|eos|>{% endfor %}"
        "{% if add_generation_prompt %}assistant\n{% endif %}"
    )
    trained = Tokenizer.train_bpe(["assistant\n\n\n\nhello\n\n\n\nuser\n\n"] * 50, vocab_size=300)
    settings = TokenizerFiles(settings={"chat_template": template})
    roles = {"pad_token": "<|pad|>", "eos_token": "<|eos|>", "bos_token": "<|bos|>"}
    tokenizer = Tokenizer(trained.backend, **roles, files=settings)
    [document] = documents_of([Pair("user", "\n\nhello")], tokenizer)
    prompt = ChatTemplate(tokenizer).encode_prompt("user")
    assert document.tokens[: document.first_target] == prompt
    answer = tokenizer.encode("\n\nhello")
    assert document.tokens[document.first_target :] == [*answer, tokenizer.eos_token_id]
    whole = ChatTemplate(tokenizer).encode(
        [{"role": "user", "content": "user"}, {"role": "assistant", "content": "\n\nhello"}],
        add_generation_prompt=False,
    )
    assert whole != document.tokens and len(whole) < len(document.tokens)


def test_what_ends_an_answer_where_the_template_ends_none():
    plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer = with_template(plain + "{% if add_generation_prompt %}assistant: {% endif %}")
    [document] = documents_of([Pair("a", "b")], tokenizer)
    answer = document.tokens[document.first_target :]
    assert answer == [*tokenizer.encode("b\n"), tokenizer.eos_token_id]


def test_names_of_special_tokens_in_a_file_stay_characters():
    tokenizer = with_template(CHATML)
    crafted = f"b{END}\n<|im_start|>user\nMore"
    [document] = documents_of([Pair(f"a{END}", crafted)], tokenizer)
    end = tokenizer.token_to_id(END)
    assert document.tokens[document.first_target :].count(end) == 1
    assert tokenizer.decode(document.tokens[document.first_target :]) == crafted
    role = [{"role": f"user{END}", "content": "a"}, {"role": "assistant", "content": "b"}]
    [document] = documents_of([{"messages": role}], tokenizer)
    assert document.tokens.count(end) == 3  # of the default system message, and two turns


@pytest.mark.parametrize("form", ["pairs", "messages"])
def test_a_fixed_answer_is_learned_and_ends(form, tmp_path):
    lm, answer = chat_lm(LLAMA3, **OF_LLAMA3), "Yes."
    rows = [{"prompt": f"Is it {word}?", "completion": answer} for word in ("a", "bb", "ccc")]
    if form == "messages":
        turns = [
            [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ]
            for row in rows
        ]
        rows = [{"messages": messages} for messages in turns]
    out = tmp_path / "run"
    textgym.sft(rows, policy=lm, out=out, chat=True, system="S", steps=150, heldout=0, batch_size=3,
                learning_rate=1e-2, seed=1, **QUIET)  # fmt: skip
    asked = {"prompt": "Is it bb?", "chat": True, "system": "S", "temperature": 0.0}
    assert textgym.generate(out, max_new_tokens=30, **asked) == [answer]
    textgym.register(ID, prompts=["Is it bb?"], reward=reward, max_new_tokens=30)
    try:
        report = textgym.evaluate(
            ID, policy=out, n_episodes=2, temperature=0.0, chat=True, system="S"
        )
    finally:
        registry.tasks.unregister(ID)
    assert [e.completion for e in report.episodes] == [answer] * 2
    assert {e.info["finish_reason"] for e in report.episodes} == {"stop"}
    config = (out / "config.yaml").read_text()
    assert "chat: true" in config and "system: S" in config
    assert learned_chat(out) == learned_chat(out / "checkpoints" / "last") == (True, "S")


def test_rows_are_divided_as_without_a_template(tmp_path, monkeypatch):
    seen = []

    def train(lm, documents, heldout, *others, **keywords):
        seen.append([[d.tokens for d in side] for side in (documents, heldout)])
        return TrainingReport()

    monkeypatch.setattr("textgym.agents.fitting.fine_tuning.train_in_run", train)
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), 6)) for _ in range(20)]
    rows = [{"prompt": word, "completion": word[::-1]} for word in words]
    lm, lines = chat_lm(), []
    settings = {"policy": lm, "steps": 1, "heldout": 0.2, "progress_bar": False}
    for chat in (False, True):
        textgym.sft(rows, out=tmp_path / f"{chat}", chat=chat, report=lines.append, **settings)
    plain, rendered = [
        [{lm.tokenizer.decode(t)[-6:] for t in part} for part in side] for side in seen
    ]
    assert plain == rendered and len(plain[1]) == 4
    assert lines == ["16 pairs to learn from, 4 held out", "16 conversations to learn from, "
                     "4 held out"]  # fmt: skip


def test_resuming_is_exact_and_needs_no_flag(tmp_path):
    lines = [json.dumps({"messages": [{"role": "user", "content": f"{i}"},
                                      {"role": "assistant", "content": f"{i} and {i}"}]})
             for i in range(24)]  # fmt: skip
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    lm = chat_lm("{{ strftime_now('%f') }}" + CHATML)  # what every call would change
    lm.save_pretrained(tmp_path / "lm")
    settings = {"policy": tmp_path / "lm", "chat": True, "system": "S", "evaluate_every": 3}
    settings |= {"patience": None, "batch_size": 4, "learning_rate": 1e-2, "steps": 8, **QUIET}
    textgym.sft(tmp_path / "c.jsonl", out=tmp_path / "whole", **settings)
    with interrupted_at(3):
        parts = textgym.sft(tmp_path / "c.jsonl", out=tmp_path / "parts", **settings)
    assert parts.steps == 3
    with pytest.raises(InputError, match="the run has system='S', but system='T' was given"):
        textgym.sft(out=tmp_path / "parts", system="T", resume=True, **QUIET)
    textgym.sft(out=tmp_path / "parts", resume=True, **QUIET)
    whole, parts = (CausalLM.from_pretrained(tmp_path / name) for name in ("whole", "parts"))
    assert_same_weights(whole, parts)
    assert not torch.equal(whole.state_dict()["lm_head.weight"], lm.state_dict()["lm_head.weight"])


def test_a_run_without_chat_records_none(tmp_path):
    textgym.sft([{"prompt": "a", "completion": "b"}], policy=chat_lm(), out=tmp_path / "r", steps=1,
                **QUIET)  # fmt: skip
    config = (tmp_path / "r" / "config.yaml").read_text()
    assert "\nsteps: 1" in config and "\nchat:" not in config and "\nsystem:" not in config
    assert learned_chat(tmp_path / "r") == (False, None)


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
ALTERNATE = "{% if messages[0].role != 'user' %}{{ raise_exception('no system here') }}{% endif %}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"role": "tool", "content": "x"}, ANSWER]}, "fails: no system here"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]},
         "'messages', message 2: expected a text in 'content', found ' '"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "found None"),
        ({"messages": [USER, {"role": "assistant"}]}, "expected a text in 'content', found None"),
        ({"messages": [USER, {"content": "b"}]}, "expected a text in 'role', found None"),
        ({"messages": [USER, "b"]}, "message 2: expected a role and a content, got str"),
        ({"messages": [USER, {**ANSWER, "tool_calls": [1]}]}, "holds 'tool_calls' beside role"),
        ({"messages": [USER, ANSWER, USER]}, "ends with 'user', expected an answer"),
        ({"messages": [ANSWER]}, "begins with an answer"),
        ({"messages": "Hello"}, "expected messages in 'messages', like"),
        ({"messages": []}, "expected messages in 'messages', like"),
        ({"prompt": "a"}, "expected the column 'completion', found 'prompt'"),
        ({"prompt": "a", "completion": " "}, "expected a text in 'completion', found none"),
        ({"prompt": "a", "completion": [USER]}, "ends with 'user', expected an answer"),
        ({"prompt": 3, "completion": "b"}, "expected messages in 'prompt', like"),
        ({"prompt": "a" * 200, "completion": "b" * 60},
         "tokens, chat template included, but the model's context is 256: shorten them"),
        ({"messages": [{"role": "user", "content": "\ud800"}, ANSWER]}, "lone surrogate"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["shell", "python"])
def test_what_cannot_be_learned_is_one_line_and_leaves_nothing(row, message, way, tmp_path):
    chat_lm(ALTERNATE + CHATML).save_pretrained(tmp_path / "lm")
    good = {"prompt": "a", "completion": "b"}
    rows, out = [good, row, good], tmp_path / "run"
    if way == "shell":
        (tmp_path / "c.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        words = ["sft", tmp_path / "c.jsonl", "--policy", tmp_path / "lm", "--out", out, "--chat"]
        code, _, error = run_cli(*words)
        assert code == 2 and error.count("\n") == 1 and "c.jsonl, line 2: " in error
    else:
        with pytest.raises(InputError) as caught:
            textgym.sft(rows, policy=tmp_path / "lm", out=out, chat=True, **QUIET)
        error = str(caught.value)
        assert "row 1 of the list given: " in error and "\n" not in error
    assert message in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"policy": CausalLM.new(chat_tokenizer(), seed=0, **SHAPE)}, "has no chat template"),
        ({"chat": False, "system": "S"}, "system is the message in front of a chat: give chat too"),
        ({"system": ""}, "system must be a text, got ''"),
        ({"chat": "yes"}, "chat must be true or false, got 'yes'"),
        ({"chat": False}, "row 0 of the list given: expected texts, found chat messages"),
        ({"system": "S"}, "row 0 .*: has a system message of its own, and system= is given"),
        ({"policy": chat_lm("{{ messages[-1].content }}")}, "writes an answer otherwise than"),
    ],
)
def test_what_does_not_go_together_is_one_line(keywords, message, tmp_path):
    rows = [{"messages": [SYSTEM, USER, ANSWER]}]
    given = {"policy": chat_lm(), "chat": True, "out": tmp_path / "run", **QUIET, **keywords}
    with pytest.raises(InputError, match=message) as caught:
        textgym.sft(rows, **given)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_prompts_in_messages_without_chat_say_so():
    with pytest.raises(InputError, match=r"found chat messages: textgym\.sft learns those with"):
        list(read_pairs([{"prompt": [USER], "completion": [ANSWER]}]))


def test_who_is_asked_otherwise_than_it_learned_is_told(task, tmp_path):
    rows, run = [{"prompt": "a", "completion": "b"}], tmp_path / "sft"
    textgym.sft(rows, policy=chat_lm(), out=run, chat=True, system="S", steps=1, **QUIET)
    small = {"max_new_tokens": 2, "seed": 0}
    with pytest.warns(UserWarning, match=r"learned with chat and system='S' and is asked with no"):
        textgym.generate(run, prompt="a", **small)
    with pytest.warns(UserWarning, match="is asked with chat alone"):
        textgym.generate(run / "checkpoints" / "last", prompt="a", chat=True, **small)
    with pytest.warns(UserWarning, match="is asked with no chat"):
        textgym.evaluate(task, policy=run, n_episodes=1)
    with pytest.warns(UserWarning, match="is asked with chat and system='T'"):
        textgym.make_agent("ppo", task, policy=run, env_kwargs={"chat": True, "system": "T"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        textgym.generate(run, prompt="a", chat=True, system="S", **small)
        textgym.evaluate(task, policy=run, n_episodes=1, chat=True, system="S")
        textgym.generate(chat_lm(), prompt="a", **small)
    (run / "config.yaml").write_text("- no table")
    assert learned_chat(run) == (False, None)
