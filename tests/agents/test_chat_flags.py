"""`chat` and `system` as keywords and flags of their own: the same as fields of the task."""

import pytest
import yaml
from front_door import SHAPE, run_cli
from textgym_checkpoints import CHATML, chat_tokenizer, with_template
from textgym_resuming import digests

import textgym
from textgym import registry
from textgym.chat_templates import ChatTemplate, with_chat
from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM

ID, CHATS = "test/ChatFlag-v0", "test/ChatFlagOn-v0"
SMALL = {"n_envs": 2, "n_steps": 8, "batch_size": 16, "learning_rate": 0.01, "kl_coef": 0.0}
QUIET = {"progress_bar": False, "report": str}


def reward(prompts, completions, **columns):
    return [float(len(text)) for text in completions]


@pytest.fixture(autouse=True)
def tasks():
    fields = {"prompts": ["a", "Say b."], "reward": reward, "max_new_tokens": 6}
    textgym.register(ID, **fields)
    textgym.register(CHATS, **fields, chat=True, system="Be brief.")
    yield
    registry.tasks.unregister(ID)
    registry.tasks.unregister(CHATS)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Directories of a model with a chat template, and of one without."""
    here, shape = tmp_path_factory.mktemp("models"), {**SHAPE, "max_position_embeddings": 128}
    CausalLM.new(with_template(CHATML), seed=0, **shape).save_pretrained(here / "lm")
    CausalLM.new(chat_tokenizer(), seed=0, **shape).save_pretrained(here / "plain")
    return here


def config_of(run):
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    return {k: v for k, v in settings.items() if k != "out"}


def test_a_training_by_flags_is_that_by_fields(models, tmp_path):
    given = {"policy": models / "lm", "timesteps": 32, **SMALL, **QUIET}
    more = {"max_new_tokens": 4}
    flags = textgym.train(
        ID, out=tmp_path / "flags", chat=True, system="S", env_kwargs=more, **given
    )
    fields = {**more, "chat": True, "system": "S"}
    table = textgym.train(ID, out=tmp_path / "fields", env_kwargs=fields, **given)
    assert digests(flags) == digests(table)
    config = config_of(tmp_path / "flags")
    assert config == config_of(tmp_path / "fields") and config["env_kwargs"] == fields
    assert more == {"max_new_tokens": 4}
    # The same command again, with resume; or less of it.
    again = {"resume": True, "timesteps": 48, **QUIET}
    both = textgym.train(
        ID, out=tmp_path / "flags", chat=True, system="S", env_kwargs=more, **again
    )
    less = textgym.train(out=tmp_path / "fields", chat=True, **again)
    assert digests(both) == digests(less) != digests(flags)
    with pytest.raises(InputError, match="system is given twice, 'T' by itself and 'S' in env_kw"):
        textgym.train(out=tmp_path / "fields", system="T", **again)
    with pytest.raises(InputError, match="chat is given twice, False by itself and True in env_kw"):
        textgym.train(out=tmp_path / "fields", chat=False, **again)
    plain = tmp_path / "plain"
    textgym.train(ID, out=plain, env_kwargs=more, **given)
    with pytest.raises(InputError, match=r"the run has env_kwargs=.*but env_kwargs=.*'chat': T"):
        textgym.train(out=plain, chat=True, **again)


def test_flags_of_the_command_line(models, tmp_path):
    run = tmp_path / "run"
    words = ["train", ID, "--policy", models / "lm", "--timesteps", 16, "--out", run]
    words += ["--n-envs", 2, "--n-steps", 8, "--batch-size", 16, "--no-progress-bar"]
    code, out, error = run_cli(*words, "--chat", "--system", "Be brief.")
    assert code == 0, error
    assert config_of(run)["env_kwargs"] == {"chat": True, "system": "Be brief."}
    assert "\n  textgym evaluate test/ChatFlag-v0 --policy" in out
    assert out.count(" --chat --system 'Be brief.'\n") == 2  # evaluate and generate
    code, _, error = run_cli("train", "--out", run, "--resume", "--chat", "--no-progress-bar")
    assert code == 0, error


def test_an_evaluation_by_flags(models):
    given = {"policy": models / "lm", "n_episodes": 2, "seed": 0}
    lm = CausalLM.from_pretrained(models / "lm")
    ids = {
        system: [
            ChatTemplate(lm.tokenizer, system=system).encode_prompt(p) for p in ("a", "Say b.")
        ]
        for system in (None, "S", "Be brief.")
    }

    def prompts_of(env, **keywords):
        report = textgym.evaluate(env, **given, **keywords)
        return [e.tokens[: e.acted[0] + 1].tolist() for e in report.episodes]

    assert all(row in ids[None] for row in prompts_of(ID, chat=True))
    assert all(row in ids["S"] for row in prompts_of(ID, chat=True, system="S"))
    assert all(row in ids["Be brief."] for row in prompts_of(CHATS))
    assert all(row in ids["S"] for row in prompts_of(CHATS, system="S"))
    plain = [lm.tokenizer.encode(p, add_special_tokens=True) for p in ("a", "Say b.")]
    assert all(row in plain for row in prompts_of(ID))
    off = {"chat": False, "env_kwargs": {"system": None}}
    assert all(row in plain for row in prompts_of(CHATS, **off))


def test_a_comparison_by_flags(models, tmp_path):
    lines = []
    given = {"policy": models / "lm", "timesteps": 16, "seeds": 2, "evaluations": 2, **SMALL}
    given |= {"out": tmp_path / "cmp", "prompts": tmp_path / "held_out.txt", "jobs": 1}
    given["reward"] = ["length,target=4", "length,target=20"]
    (tmp_path / "held_out.txt").write_text("c\nSay d.\n")
    textgym.compare(
        "textgym/Length-v0", chat=True, system="S", dry_run=True, report=lines.append, **given
    )
    commands = [line for line in lines if "textgym train" in line]
    assert len(commands) == 4
    fields = """ --env-kwargs chat=true --env-kwargs 'system="S"' """
    assert all(fields in line for line in commands)


@pytest.mark.parametrize("verb", ["train", "evaluate", "compare"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--chat --env-kwargs chat=false", "chat is given twice, True by itself and False in"),
        ("--no-chat --env-kwargs chat=true", "chat is given twice, False by itself and True in"),
        ("--chat --system S --env-kwargs system=T", "system is given twice, 'S' by itself and 'T'"),
        ("--system S", "system is the message in front of a chat: give chat too"),
        ("--no-chat --system S", "system is the message in front of a chat: give chat too"),
        ("--chat --policy plain", "the policy's tokenizer has no chat template: leave chat out"),
    ],
)
def test_what_contradicts_itself_is_one_line(verb, flags, message, models, tmp_path, monkeypatch):
    monkeypatch.chdir(models)
    words = [verb, "textgym/Length-v0", *flags.split()]
    words += [] if "--policy" in words else ["--policy", "lm"]
    out = tmp_path / "run"
    if verb != "evaluate":
        words += ["--timesteps", 8, "--out", out]
    code, _, error = run_cli(*words)
    assert code == 2 and error.count("\n") == 1 and message in error, error
    assert not out.exists()


def test_latent_actions_have_no_chat(tmp_path):
    from textgym.policies import TextVAE

    shape = {"hidden_size": 16, "latent_size": 2, "max_position_embeddings": 96}
    TextVAE.new(with_template(CHATML), **shape).save_pretrained(tmp_path / "vae")
    given = {"decoder": tmp_path / "vae", "agent": "sac", "out": tmp_path / "run", **QUIET}
    with pytest.raises(InputError, match="a latent decoder writes its text from z: leave chat out"):
        textgym.train(ID, chat=True, **given)
    assert not (tmp_path / "run").exists()


def test_what_is_not_given_changes_nothing():
    assert with_chat(None, None, None) is None
    assert with_chat({"max_new_tokens": 3}, None, None) == {"max_new_tokens": 3}
    assert with_chat(None, True, None) == {"chat": True}
    assert with_chat({"chat": True}, True, "S") == {"chat": True, "system": "S"}


# Some templates take what is said only as a list of parts, each with a type; a text has none.
PARTS = CHATML.replace(
    "message['content'] | trim",
    "(message['content'] | selectattr('type') | map(attribute='text') | join)",
)
# It writes prompts, and of answers only where they end.
PROMPTS_ALONE = CHATML.replace(
    "message['content'] | trim", "('' if message['role'] == 'assistant' else message['content'])"
)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_template_that_does_not_write_what_is_said_is_refused(file, tmp_path):
    """A model would see the same prompt each time."""
    place, shape = tmp_path / "lm", {**SHAPE, "max_position_embeddings": 128}

    def write(template):
        is_own = file == "chat_template.jinja"
        tokenizer = with_template(template, templates={file: template} if is_own else {})
        CausalLM.new(tokenizer, seed=0, **shape).save_pretrained(place)

    write(PARTS)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    sft = ["sft", tmp_path / "rows.jsonl", "--policy", place, "--steps", 1, "--no-progress-bar"]
    task = ["textgym/Length-v0", "--policy", place]
    for words in (
        [*sft, "--out", tmp_path / "run"],
        ["train", *task, "--timesteps", 8, "--out", tmp_path / "run"],
        ["evaluate", *task, "--n-episodes", 2],
        ["generate", place, "--prompt", "a"],
    ):
        code, _, error = run_cli(*words, "--chat")
        assert code == 2 and error.count("\n") == 1, error
        assert f"{place / file}: the chat template writes the same whatever a user says" in error
    assert not (tmp_path / "run").exists()
    write(PROMPTS_ALONE)
    code, _, error = run_cli(*sft, "--out", tmp_path / "run", "--chat")
    assert code == 2 and f"{place / file}: the chat template leaves out what a model" in error
    assert not (tmp_path / "run").exists()
    code, _, error = run_cli("generate", place, "--prompt", "a", "--max-new-tokens", 2, "--chat")
    assert code == 0, error
