"""Objects where a name is taken: agents, models, environments, and rows given in Python."""

import gymnasium
import numpy as np
import pytest
import torch
from front_door import ENV, byte_lm, small_agent
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv
from textgym_testing import assert_same_weights, letter_tokenizer

import textgym
from textgym.agents.building.checkpoint import save_agent
from textgym.agents.rollouts.kl import KLPenalty
from textgym.agents.rollouts.vec_env import TextVecEnv, environment_seed
from textgym.envs.texts.corpus import read_texts
from textgym.envs.texts.labelled_rows import Pair, read_pairs, read_ratings
from textgym.errors import InputError
from textgym.paths import START, start_model_directory
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.models_by_name import open_policy

QUIET = {"progress_bar": False, "report": lambda line: None}
SHORT = {"max_new_tokens": 8}


class Dataset:
    """As the library `datasets` has it: rows by iteration, names of columns."""

    def __init__(self, rows):
        self.rows, self.column_names = rows, list(rows[0])

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


class TransformersModel:
    """What a model of transformers looks like from here."""

    def save_pretrained(self, directory):
        raise NotImplementedError


# ---- policies -------------------------------------------------------------------------------


def test_an_agent_stands_for_its_model_wherever_a_policy_is_taken(tmp_path):
    agent = small_agent("a2c", env_kwargs=SHORT)
    before = {name: tensor.clone() for name, tensor in agent.policy.lm.state_dict().items()}
    lm = CausalLM.from_agent(agent)
    assert textgym.generate(agent, prompt="a", seed=1) == textgym.generate(lm, prompt="a", seed=1)
    assert open_policy(agent.policy).tokenizer == lm.tokenizer
    keywords = {"n_episodes": 4, "env_kwargs": SHORT, "reference": agent}
    report = textgym.evaluate(ENV, policy=agent, **keywords)
    assert report.figures() == textgym.evaluate(ENV, policy=lm, **keywords).figures()
    assert report.kl.mean == 0.0
    other = textgym.make_agent("a2c", ENV, policy=agent, n_envs=2, env_kwargs=SHORT)
    assert_same_weights(other.policy.lm, lm)
    assert_same_weights(KLPenalty(agent, 0.1).model, lm)
    pairs = [{"prompt": f"{i}", "completion": f"{i * i}"} for i in range(12)]
    textgym.sft(pairs, policy=agent, out=tmp_path / "sft", steps=2, **QUIET)
    with pytest.raises(AssertionError):
        assert_same_weights(CausalLM.from_pretrained(tmp_path / "sft"), lm)
    assert all(torch.equal(agent.policy.lm.state_dict()[name], before[name]) for name in before)


def test_a_model_that_a_verb_trains_on_stays_as_it_was(tmp_path):
    lm = byte_lm()
    rows = [{"text": f"text {i}", "ratings": [i % 5, (i + 1) % 5]} for i in range(40)]
    textgym.fit_reward(rows, policy=lm, out=tmp_path / "rm", steps=2, **QUIET)
    textgym.pretrain(
        [{"text": f"text {i}"} for i in range(30)],
        policy=lm,
        out=tmp_path / "lm",
        steps=2,
        **QUIET,
    )
    assert_same_weights(lm, byte_lm())


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (TransformersModel(), r"policy is a TransformersModel without its tokenizer: write both"),
        (3, r"policy must be a checkpoint directory, 'start', a CausalLM or an agent .* got int"),
        (A2C("MlpPolicy", "CartPole-v1", device="cpu"), r"an agent that writes text, got A2C"),
    ],
)
def test_what_is_no_policy_is_refused_in_one_line(policy, message, tmp_path):
    for verb in (
        lambda: textgym.generate(policy, prompt="a"),
        lambda: textgym.evaluate(ENV, policy=policy),
        lambda: textgym.make_agent("ppo", ENV, policy=policy),
        lambda: textgym.sft([{"prompt": "a", "completion": "b"}], policy=policy, out=tmp_path),
    ):
        with pytest.raises(InputError, match=message):
            verb()
    with pytest.raises(InputError, match=message.replace("policy", "reference", 1)):
        textgym.make_agent("ppo", ENV, policy=byte_lm(), reference=policy, kl_coef=0.1)


def test_start_is_the_bundled_model_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lm = CausalLM.from_pretrained(START)
    assert lm.tokenizer == textgym.Tokenizer.load(START)
    assert textgym.get_task(ENV, tokenizer=START).tokenizer == lm.tokenizer
    assert KLPenalty(START, 0.1).path == str(start_model_directory())
    text = textgym.generate(START, prompt="The film", max_new_tokens=8, temperature=0)
    assert text == lm.generate(["The film"], max_new_tokens=8, temperature=0)
    agent = textgym.make_agent("a2c", ENV, policy=START, n_envs=2, env_kwargs=SHORT)
    assert_same_weights(agent.policy.lm, lm)


def test_a_directory_called_start_is_named_with_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    byte_lm().save_pretrained(tmp_path / "start")
    assert CausalLM.from_pretrained("./start").config.hidden_size == 16
    assert CausalLM.from_pretrained(tmp_path / "start").config.hidden_size == 16
    with pytest.warns(UserWarning, match=r"for the directory here write '\./start'"):
        assert CausalLM.from_pretrained("start").config.hidden_size > 16


# ---- environments ---------------------------------------------------------------------------

ENVIRONMENTS = {
    "make_vec": lambda: textgym.make_vec(ENV, 4, **SHORT),
    "gymnasium.make_vec": lambda: gymnasium.make_vec(ENV, num_envs=4, **SHORT).unwrapped,
    "gymnasium.make": lambda: gymnasium.make(ENV, **SHORT),
    "make_vec_env": lambda: make_vec_env(ENV, 2, env_kwargs=SHORT),
    "TextVecEnv": lambda: textgym.make_vec(ENV, 4, **SHORT).unwrapped,
}


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_an_agent_plays_on_an_environment_that_was_given(kind, tmp_path):
    env = ENVIRONMENTS[kind]()
    agent = textgym.make_agent("ppo", env, policy=byte_lm(), n_steps=16, seed=3)
    agent.learn(16 * agent.n_envs)
    assert agent.num_timesteps == 16 * agent.n_envs
    assert agent.n_envs == {"gymnasium.make": 1, "make_vec_env": 2}.get(kind, 4)
    save_agent(agent, tmp_path / "a", environment=agent.text_environment)
    with pytest.raises(InputError, match=r"an object as 'env'.* pass env=\.\.\. again"):
        textgym.load_agent(tmp_path / "a")
    again = textgym.load_agent(tmp_path / "a", env=ENVIRONMENTS[kind]())
    assert again.env.get_attr("task")[0].max_new_tokens == 8
    assert_same_weights(again.policy, agent.policy)
    assert again.n_envs == agent.n_envs


def test_every_environment_is_seeded_far_from_its_neighbours():
    for kind in ("make_vec", "make_vec_env"):
        agent = textgym.make_agent("ppo", ENVIRONMENTS[kind](), policy=byte_lm(), seed=3)
        base = environment_seed(3)
        assert agent.env.unwrapped._seeds == [base + row for row in range(agent.n_envs)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gymnasium.make("CartPole-v1"), "without a task of textgym"),
        (lambda: DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), "without a task of textgym"),
        (lambda: gymnasium.make(ENV, action="text"), 'make it with action="token"'),
        (
            lambda: gymnasium.make_vec(ENV, 2, vectorization_mode="sync"),
            "an agent cannot play on: pass the environment's id",
        ),
        (lambda: 7, "env must be an environment's id or an environment .* got int"),
    ],
)
def test_other_environments_are_refused_in_one_line(make, message):
    with pytest.raises(InputError, match=message):
        textgym.make_agent("ppo", make(), policy=byte_lm())


def test_what_an_environment_has_already_is_not_given_again():
    env = ENVIRONMENTS["make_vec"]()
    for keywords in ({"reward": "length"}, {"env_kwargs": SHORT}):
        with pytest.raises(InputError, match="goes with an environment's id"):
            textgym.make_agent("ppo", env, policy=byte_lm(), **keywords)
    with pytest.raises(InputError, match="has 4 rows, not n_envs=8"):
        textgym.make_agent("ppo", env, policy=byte_lm(), n_envs=8)
    letters = textgym.make_vec(ENV, 2, tokenizer=letter_tokenizer(), prompts=["a"])
    with pytest.raises(InputError, match="another tokenizer than the policy"):
        textgym.make_agent("ppo", letters, policy=byte_lm())


def test_where_an_id_is_needed_an_environment_is_refused_in_one_line():
    env = gymnasium.make(ENV)
    for verb in (
        lambda: textgym.make_vec(env),
        lambda: textgym.get_task(env),
        lambda: textgym.evaluate(env, policy=byte_lm()),
    ):
        with pytest.raises(InputError, match="expected an environment's id"):
            verb()
    assert isinstance(textgym.make_vec(ENV).unwrapped, TextVecEnv)


# ---- rows -----------------------------------------------------------------------------------

PAIRS = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
PREFERENCES = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
RATINGS = [{"text": "a", "ratings": (1, 2)}, {"text": "b", "ratings": [3, 4], "block": 1}]


@pytest.mark.parametrize("made", [list, tuple, Dataset, iter])
def test_rows_are_read_as_those_of_a_file(made, tmp_path):
    assert list(read_pairs(made(PAIRS))) == [Pair("a", "b"), Pair("c", "d")]
    assert [r.ratings for r in read_ratings(made(RATINGS))] == [(1.0, 2.0), (3.0, 4.0)]
    assert [r.chosen for r in read_ratings(made(PREFERENCES))] == ["b"]
    texts = read_texts(made([{"text": "x"}, {"text": " "}, {"text": "y"}]))
    assert list(texts) == list(texts) == ["x", "y"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the list given: expected pairs, found no row"),
        ([{"prompt": "a"}], "row 0 of the list given: expected the column 'completion', found"),
        ([PAIRS[0], "text"], "row 1 of the list given: expected a mapping of columns, got str"),
        ({"train": PAIRS}, r"got a dict with 'train': pass one of its splits \(dataset\['train'"),
        (5, "pairs: expected a file, a list of rows or a dataset, got int"),
        (None, "pairs: expected a file, a list of rows or a dataset, got NoneType"),
    ],
)
def test_bad_rows_are_named(rows, message):
    with pytest.raises(InputError, match=message):
        list(read_pairs(rows))


def test_texts_or_files(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert list(read_texts([tmp_path / "a.txt"])) == ["one", "two"]
    assert list(read_texts([str(tmp_path / "a.txt")])) == ["one", "two"]
    assert list(read_texts(["a text", "another one"])) == ["a text", "another one"]
    with pytest.raises(InputError, match="a text: expected a file ending in"):
        read_texts(["a text", "b.txt"])
    with pytest.raises(InputError, match=r"corpus\.text: expected a file ending in"):
        read_texts(["corpus.text", "other"])


def test_preferences_as_rows():
    agent = textgym.make_agent(
        "dpo", ENV, policy=byte_lm(), n_envs=2, preferences=Dataset(PREFERENCES), kl_coef=0.1
    )
    [(better, worse)] = agent._pairs
    assert (better.completion, worse.completion) == ("b", "c")
    with pytest.raises(InputError, match="row 0 of the list given: expected the column 'rejected'"):
        textgym.make_agent(
            "dpo", ENV, policy=byte_lm(), n_envs=2, preferences=[{"prompt": "a", "chosen": "b"}]
        )


def test_prompts_of_a_dataset():
    prompts = Dataset([{"prompt": "a", "label": 1}, {"prompt": "b", "label": 2}])
    report = textgym.evaluate(ENV, policy=byte_lm(), prompts=prompts, env_kwargs=SHORT)
    assert [(e.prompt, e.info["columns"]["label"]) for e in report.episodes] == [("a", 1), ("b", 2)]
    textgym.register("test/Dataset-v0", prompts=prompts, reward="length", **SHORT)
    _, info = gymnasium.make("test/Dataset-v0").reset(seed=0)
    assert info["prompt"] in "ab"
    for wrong, hint in (({"train": prompts}, r"dataset\['train'\]"), (np.zeros(2), "got ndarray")):
        with pytest.raises(InputError, match=hint):
            textgym.register("test/Dataset-v0", prompts=wrong, reward="length")


def test_a_run_on_rows_goes_on_with_them(tmp_path):
    rows = [{"prompt": f"{i}", "completion": "b"} for i in range(12)]
    keywords = {"policy": byte_lm(), "out": tmp_path / "run", **QUIET}
    textgym.sft(rows, steps=2, **keywords)
    assert "completion" not in (tmp_path / "run" / "config.yaml").read_text()
    report = textgym.sft(rows, steps=4, resume=True, **keywords)
    assert report.steps == 4


# ---- what is no name, no text and no judge --------------------------------------------------


class TensorModel(torch.nn.Module):
    """As those of transformers: it takes token ids."""

    def forward(self, input_ids=None, **keywords):
        raise NotImplementedError


class TextModule(torch.nn.Module):
    """A reward model that is a module, too."""

    def forward(self, prompts, completions):
        return [float(len(text)) for text in completions]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lm: textgym.make_agent(A2C, ENV, policy=lm), "one of the names of agents .*, A2C"),
        (lambda lm: textgym.generate(lm, prompt=3), "prompt must be a text or several, got int"),
        (lambda lm: textgym.generate(lm, prompt=b"a"), "a text or several, got bytes"),
        (lambda lm: textgym.evaluate(ENV, policy=lm, gold=3), "reward must be a function .* got 3"),
        (lambda lm: textgym.load_agent(lm), "a path must be a text or a Path, got CausalLM"),
        (lambda lm: CausalLM.from_pretrained(TensorModel()), "or a Path, got TensorModel"),
        (lambda lm: CausalLM.from_agent(lm), "a text policy, got CausalLM"),
        (
            lambda lm: textgym.make_agent("a2c", ENV, policy=lm, reward=TensorModel()),
            "reward is a TensorModel, which takes tensors: write a function",
        ),
        (lambda lm: textgym.evaluate(ENV, policy=lm, gold=lm), "CausalLM, which takes tensors"),
    ],
)
def test_other_objects_are_refused_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as raised:
        call(byte_lm())
    assert "\n" not in str(raised.value)


def test_a_torch_module_that_takes_texts_is_a_reward():
    env = gymnasium.make(ENV, action="text", reward=TextModule(), **SHORT)
    env.reset(seed=0)
    assert env.step("abc")[1] == 3


def test_prompts_to_continue_are_texts_and_rows():
    lm, settings = byte_lm(), {"max_new_tokens": 6, "seed": 1}
    expected = textgym.generate(lm, prompt="ab", **settings)
    rows = [{"prompt": "ab"}]
    for prompt in (rows[0], rows, Dataset(rows), iter(["ab"])):
        assert textgym.generate(lm, prompt=prompt, **settings) == expected
    assert lm.generate("ab", **settings) == expected


def test_a_judge_is_named_by_a_path(tmp_path):
    rows = [{"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(20)]
    textgym.fit_reward(rows, policy=byte_lm(), out=tmp_path / "rm", steps=1, **QUIET)
    report = textgym.evaluate(ENV, policy=byte_lm(), gold=tmp_path / "rm", n_episodes=2)
    assert len(report.judges) == 1
