"""Another project's checkpoint, all the way: pad token of one's own, templates kept, stops kept."""

import copy
import json

import pytest
from front_door import ENV, SHAPE, run_cli, small_agent
from textgym_checkpoints import (
    END,
    FURTHER,
    SPARE,
    TEMPLATE,
    chat_tokenizer,
    read,
    write_chat_model,
)

import textgym
from textgym.agents.building.checkpoint import save_agent
from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM

ID = chat_tokenizer().token_to_id
GENERATION = {
    "eos_token_id": [ID(END), ID(FURTHER)],
    "pad_token_id": ID(END),
    "temperature": 0.7,
    "_from_model_config": True,
}
SETTINGS = {
    "model_max_length": 10**30,
    "clean_up_tokenization_spaces": True,
    "chat_template": TEMPLATE,
    "tokenizer_class": "GPT2TokenizerFast",
    "added_tokens_decoder": {str(ID(SPARE)): {"content": SPARE, "special": False}},
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A directory with all that such a directory may hold."""
    directory = write_chat_model(
        tmp_path_factory.mktemp("published"),
        config={"eos_token_id": [ID(END), ID(FURTHER)]},
        settings=SETTINGS,
        generation=GENERATION,
    )
    (directory / "chat_template.jinja").write_bytes(TEMPLATE.encode() + b"\r\n{# caf\xc3\xa9 #}")
    (directory / "additional_chat_templates").mkdir()
    (directory / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")
    specials = {"eos_token": {"content": END, "lstrip": False}, "pad_token": END, "extra": ["x"]}
    (directory / "special_tokens_map.json").write_text(json.dumps(specials))
    return directory


def open_published(directory):
    with pytest.warns(UserWarning, match="ends texts"):
        return CausalLM.from_pretrained(directory)


def assert_kept(directory, original):
    """What the original says stands in the directory, but for the pad token."""
    settings = {**read(original / "tokenizer_config.json"), "pad_token": SPARE}
    settings["added_tokens_decoder"] = {str(ID(SPARE)): {"content": SPARE, "special": True}}
    assert read(directory / "tokenizer_config.json") == settings
    generation = {**GENERATION, "pad_token_id": ID(SPARE)}
    assert read(directory / "generation_config.json") == generation
    specials = {**read(original / "special_tokens_map.json"), "pad_token": SPARE}
    kept = read(directory / "special_tokens_map.json")
    assert {key: kept[key] for key in specials} == specials
    for name in ("chat_template.jinja", "additional_chat_templates/tool_use.jinja"):
        assert (directory / name).read_bytes() == (original / name).read_bytes()
    assert read(directory / "config.json")["eos_token_id"] == [ID(END), ID(FURTHER)]


def test_what_stands_beside_a_tokenizer_survives_every_road(published, tmp_path):
    lm = open_published(published)
    lm.save_pretrained(tmp_path / "model")
    assert_kept(tmp_path / "model", published)
    copy.deepcopy(CausalLM.from_pretrained(tmp_path / "model")).save_pretrained(tmp_path / "again")
    assert_kept(tmp_path / "again", published)

    agent = small_agent(lm=lm, kl_coef=0.1, out=tmp_path / "run")
    save_agent(agent, tmp_path / "agent", environment=agent.text_environment)
    assert_kept(tmp_path / "agent", published)
    assert_kept(tmp_path / "agent" / "reference", published)
    loaded = textgym.load_agent(tmp_path / "agent")
    CausalLM.from_agent(loaded).save_pretrained(tmp_path / "from_agent")
    assert_kept(tmp_path / "from_agent", published)
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "completion": " b"}\n' * 4)
    with pytest.warns(UserWarning, match="ends texts"):
        textgym.sft(
            tmp_path / "pairs.jsonl",
            policy=published,
            out=tmp_path / "sft",
            steps=1,
            progress_bar=False,
            report=lambda line: None,
        )
    assert_kept(tmp_path / "sft" / "checkpoints" / "last", published)


def test_transformers_reads_the_template_of_what_was_saved_again(published, tmp_path):
    transformers = pytest.importorskip("transformers")
    open_published(published).save_pretrained(tmp_path / "again")
    messages = [{"role": "user", "content": "hi"}]
    before, after = (
        transformers.AutoTokenizer.from_pretrained(path) for path in (published, tmp_path / "again")
    )
    text = before.apply_chat_template(messages, tokenize=False)
    assert text == after.apply_chat_template(messages, tokenize=False) and "hi<|im_end|>" in text
    assert after.pad_token == SPARE and after.eos_token == END
    generation = transformers.GenerationConfig.from_pretrained(tmp_path / "again")
    assert generation.eos_token_id == [ID(END), ID(FURTHER)]


@pytest.mark.parametrize(
    "template", ["{{ messages }}", [{"name": "default", "template": "{{ messages }}"}]]
)
def test_a_template_in_the_settings_stays_as_it_is(template, tmp_path):
    write_chat_model(tmp_path / "m", settings={"chat_template": template})
    open_published(tmp_path / "m").save_pretrained(tmp_path / "again")
    assert read(tmp_path / "again" / "tokenizer_config.json")["chat_template"] == template


def test_code_that_settings_name_is_not_kept(tmp_path):
    code = {"auto_map": {"AutoTokenizer": ["code.Mine", None]}, "tokenizer_class": "Mine"}
    write_chat_model(tmp_path / "m", settings=code)
    open_published(tmp_path / "m").save_pretrained(tmp_path / "again")
    settings = read(tmp_path / "again" / "tokenizer_config.json")
    assert "auto_map" not in settings
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("generation_config.json", "{", "not valid JSON"),
        ("generation_config.json", "[]", "expected a JSON object"),
        ("special_tokens_map.json", "3", "expected a JSON object"),
        ("chat_template.jinja", b"\xff\xfe", "not a text that can be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, content, message, tmp_path):
    write_chat_model(tmp_path)
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name}.*{message}"):
        CausalLM.from_pretrained(tmp_path)


# ---- pad_token=, wherever a policy is named ------------------------------------


def test_every_verb_takes_a_pad_token_and_keeps_it(tmp_path):
    """The directory's template needs every special token, so that none is spare."""
    chat = {"chat_template": f"{SPARE}{FURTHER}"}
    policy = write_chat_model(tmp_path / "m", settings=chat)
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "completion": " b"}\n' * 4)
    (tmp_path / "texts.txt").write_text("ab\nba\n" * 8)
    rows = [f'{{"text": "{"ab" * i}", "ratings": [{i}, {i}]}}\n' for i in range(1, 9)]
    (tmp_path / "ratings.jsonl").write_text("".join(rows))
    small = ["--no-progress-bar"]
    verbs = [
        ["generate", policy, "--prompt", "a", "--max-new-tokens", 2],
        ["evaluate", ENV, "--policy", policy, "--reference", policy, "--n-episodes", 2],
        ["sft", tmp_path / "pairs.jsonl", "--policy", policy, "--steps", 1, *small],
        ["pretrain", tmp_path / "texts.txt", "--policy", policy, "--steps", 1, *small],
        ["fit-reward", tmp_path / "ratings.jsonl", "--policy", policy, *small],
        ["train", ENV, "--policy", policy, "--timesteps", 8, "--n-envs", 2, "--n-steps", 4, *small],
    ]
    for verb in verbs:
        where = ["--out", tmp_path / verb[0]] if "--no-progress-bar" in verb else []
        code, _, error = run_cli(*verb, *where)
        assert code == 2 and "no special token is unused: pass --pad-token=... with" in error
        code, _, error = run_cli(*verb, *where, "--pad-token", FURTHER)
        assert code == 0, error
    for trained in ("sft", "pretrain", "train"):
        saved = CausalLM.from_pretrained(tmp_path / trained)
        assert saved.tokenizer.pad_token == FURTHER
    trunk = tmp_path / "fit-reward" / "checkpoints" / "best" / "trunk"
    assert read(trunk / "tokenizer_config.json")["pad_token"] == FURTHER
    agent = textgym.load_agent(tmp_path / "train")
    assert agent.policy.lm.tokenizer.pad_token == FURTHER
    for verb in ("sft", "train"):
        resume = [verb, "--out", tmp_path / verb, "--resume", *small]
        budget = ["--steps", 2] if verb == "sft" else ["--timesteps", 16]
        code, _, error = run_cli(*resume, *budget)
        assert code == 0, error


def test_a_pad_token_beside_a_model_is_refused():
    lm = CausalLM.new(chat_tokenizer(), seed=0, **SHAPE)
    with pytest.raises(InputError, match="goes with a checkpoint directory as the policy"):
        textgym.make_agent("ppo", ENV, policy=lm, pad_token=SPARE)
    with pytest.raises(InputError, match="goes with policy="):
        textgym.make_agent("ppo", ENV, pad_token=SPARE)
    with pytest.raises(InputError, match="goes with a checkpoint directory as the policy"):
        textgym.generate(lm, prompt="a", pad_token=SPARE)
