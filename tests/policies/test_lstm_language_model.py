"""A recurrent language model does what the transformer does; only transformers cannot open it."""

import copy
import json

import pytest
import torch
from front_door import ENV, run_cli
from stable_baselines3 import A2C, PPO
from textgym_agents import CASES, naive_agent, text_agent
from textgym_oracle import BETA, ONE, QUICK_BARS, REGULARISED
from textgym_resuming import ID, SMALL, digests, register_task, unregister_task
from textgym_testing import assert_same_weights, letter_tokenizer, rollout, tiny_lm

import textgym
from textgym.agents import Oracle
from textgym.errors import InputError, UnknownNameError
from textgym.policies import CausalLM
from textgym.policies.language_model.lstm_config import LSTMConfig
from textgym.policies.language_model.lstm_trunk import LSTMTrunk
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy

pytestmark = pytest.mark.filterwarnings("ignore:all .* earned the same reward:UserWarning")


def lstm(tokenizer=None, **config):
    return tiny_lm(tokenizer, architecture="lstm", **config)


@pytest.fixture
def task():
    register_task(tokenizer=letter_tokenizer())
    yield ID
    unregister_task()


# ---- The model ---------------------------------------------------------------------------------


def test_segments_and_their_gradients_are_those_of_sequences_alone():
    lm, lengths = lstm(seed=2), [3, 6, 1, 5]
    tokens = torch.randint(3, 7, (15,), generator=torch.Generator().manual_seed(0))
    weights = torch.randn(15, 16, generator=torch.Generator().manual_seed(1))
    together = lm.packed(tokens, torch.tensor(lengths))
    alone = torch.cat(
        [lm.packed(part, torch.tensor([len(part)])) for part in tokens.split(lengths)]
    )
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    found = torch.autograd.grad((together * weights).sum(), list(lm.model.parameters()))
    expected = torch.autograd.grad((alone * weights).sum(), list(lm.model.parameters()))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_branches_of_one_prompt_begin_where_it_ends():
    lm = lstm(seed=1)
    prompt, branches = [3, 4, 5], [[6, 3], [4], [6, 6, 5]]
    rows = [prompt + branch for branch in branches]
    lengths = torch.tensor([len(row) for row in rows])
    flat = torch.tensor([token for row in rows for token in row])
    whole = lm.packed(flat, lengths).split(lengths.tolist())
    for part in whole:
        torch.testing.assert_close(part[:3], whole[0][:3], rtol=0, atol=1e-6)
    assert not torch.allclose(whole[0][3], whole[1][3], atol=1e-2)


def test_a_saved_model_comes_back_to_the_last_bit(tmp_path):
    lm = lstm(tie_word_embeddings=False, rms_norm_eps=1e-4)
    lm.save_pretrained(tmp_path / "lm")
    again = CausalLM.from_pretrained(tmp_path / "lm")
    assert isinstance(again.model, LSTMTrunk) and again.config == lm.config
    assert again.tokenizer == lm.tokenizer
    assert_same_weights(again, lm)
    # Where torch puts tensors: products of others end in other last bits on some processors.
    assert all(p.data_ptr() % 64 == 0 for p in again.parameters())
    tokens, lengths = torch.tensor([[3, 4, 5, 6], [6, 5, 0, 0]]), torch.tensor([4, 2])
    assert torch.equal(again(tokens, lengths), lm(tokens, lengths))
    content = json.loads((tmp_path / "lm" / "config.json").read_text())
    assert content["model_type"] == "textgym_lstm" and content["written_by"] == "textgym"


def test_transformers_has_no_class_for_it_and_that_is_said_in_one_line(tmp_path):
    pytest.importorskip("transformers")
    from textgym.reward_models.learned.transformers_trunk import TransformersTrunk
    from textgym.reward_models.rules.transformers_reader import TransformersReader

    lstm(textgym.Tokenizer.byte()).save_pretrained(tmp_path / "lm")
    for opener in (TransformersTrunk.open, TransformersReader):
        with pytest.raises(
            InputError, match=r"transformers cannot open .*`textgym_lstm`"
        ) as caught:
            opener(tmp_path / "lm")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings"),
        ({"max_position_embeddings": 1}, "max_position_embeddings must be"),
        ({"vocab_size": 5}, "tokenizer has 7 tokens, but the model only 5"),
        ({"hidden_size": 17}, r"'[a-z_.]+' has shape .*, but its configuration calls for"),
        (
            {"num_hidden_layers": 3},
            r"weights lack 'model\.layers\.2\.[a-z_.0]+', which its configuration",
        ),
        ({"num_hidden_layers": 10**4, "hidden_size": 10**5}, "calls for .* weights"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_in_one_line(tmp_path, changes, message):
    lstm().save_pretrained(tmp_path / "lm")
    (tmp_path / "lm" / "manifest.json").unlink()
    path = tmp_path / "lm" / "config.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    with pytest.raises(InputError, match=message) as caught:
        CausalLM.from_pretrained(tmp_path / "lm")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_what_cannot_be_made_is_refused():
    tokenizer = letter_tokenizer()
    with pytest.raises(UnknownNameError, match=r"architecture 'ltsm'.*did you mean 'lstm'"):
        CausalLM.new(tokenizer, architecture="ltsm")
    with pytest.raises(InputError, match="heads is no field of an lstm, which has vocab_size, hid"):
        CausalLM.new(tokenizer, architecture="lstm", num_attention_heads=2)
    with pytest.raises(InputError, match="hidden_size must be a whole number from 1"):
        CausalLM.new(tokenizer, architecture="lstm", hidden_size=0)
    with pytest.raises(InputError, match="tie_word_embeddings must be True or False, got 'no'"):
        LSTMConfig(7, tie_word_embeddings="no")
    with pytest.raises(InputError, match="an lstm with vocab_size=7, hidden_size=1000000000"):
        CausalLM.new(tokenizer, architecture="lstm", hidden_size=10**9)


def test_fresh_weights_follow_the_seed_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    first, same, other = (lstm(seed=seed, tie_word_embeddings=False) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_weights(first, same)
    for name, weight in first.named_parameters():
        is_drawn = not name.endswith(("norm.weight", "bias"))
        assert torch.equal(weight, dict(other.named_parameters())[name]) != is_drawn, name


# ---- Under Stable-Baselines3 -------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("cls", [PPO, A2C])
def test_an_update_equals_that_of_one_pass_for_each_token(cls, case):
    still = {"learning_rate": 0.0, "max_grad_norm": 1e9, "n_steps": 8}
    if cls is PPO:
        still |= {"batch_size": 24, "n_epochs": 1}
    agent = text_agent(cls, lm=lstm(spread=6.0), **case, **still)
    naive = naive_agent(agent, **still)
    rollout(agent)
    naive.rollout_buffer = rollout(agent).stock  # the second one begins in mid-episode
    agent.train()
    naive.train()
    ours, theirs = dict(agent.policy.named_parameters()), naive.policy.trained()
    for name, weight in ours.items():
        torch.testing.assert_close(weight.grad, theirs[name].grad, rtol=1e-4, atol=1e-5)
    assert max(float(weight.grad.abs().max()) for weight in ours.values()) > 1e-3


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_ratio_is_one_before_the_first_update(case, use_cache):
    policy = {**case.get("policy", {}), "use_cache": use_cache}
    agent = text_agent(lm=lstm(spread=6.0), **{**case, "policy": policy})
    for _ in range(3):
        buffer = rollout(agent)
        agent.policy.set_training_mode(True)
        for batch in buffer.get(8):
            values, log_prob, _ = agent.policy.evaluate_actions(batch.observations, batch.actions)
            ratio = torch.exp(log_prob - batch.old_log_prob)
            torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-5)
            torch.testing.assert_close(values[:, 0], batch.old_values, rtol=0, atol=1e-5)


# The others share their rollouts and their losses with one of these.
WORDS = ("ppo", "a2c", "trpo", "maskable_ppo", "dqn", "qrdqn", "grpo")


@pytest.mark.parametrize("word", WORDS)
def test_it_is_trained_and_goes_on_to_the_last_bit(word, task, tmp_path):
    def made(out):
        settings = {"learning_rate": 0.01, **SMALL[word]}
        lm = lstm(spread=6.0, num_hidden_layers=1)
        return textgym.make_agent(word, ID, policy=lm, n_envs=4, seed=0, out=out, **settings)

    def learn(agent, tokens, **keywords):
        is_new = agent.num_timesteps == 0 and agent._last_obs is None
        log = None if word in ("dqn", "qrdqn") else 1
        left = tokens - agent.num_timesteps
        return agent.learn(left, reset_num_timesteps=is_new, log_interval=log, **keywords)

    start = made(tmp_path / "whole")
    before = copy.deepcopy(start.policy.lm)
    whole = learn(start, 120)
    with pytest.raises(AssertionError):
        assert_same_weights(whole.policy.lm, before, 1e-4)
    learn(
        made(tmp_path / "parts"), 200, callback=lambda names, _: names["self"].num_timesteps < 115
    )
    resumed = textgym.load_agent(tmp_path / "parts", out=tmp_path / "parts", exact=True)
    assert isinstance(resumed.policy.lm.model, LSTMTrunk) and resumed.num_timesteps < 120
    assert digests(learn(resumed, 120)) == digests(whole)
    opened = CausalLM.from_pretrained(tmp_path / "parts")
    assert isinstance(opened.model, LSTMTrunk)
    assert isinstance(CausalLM.from_agent(whole), CausalLM)


def test_sb3_saves_and_loads_it_and_a_configuration_makes_a_fresh_one(tmp_path):
    agent = text_agent(lm=lstm(spread=6.0))
    agent.policy.save(tmp_path / "policy.pth")
    again = TextActorCriticPolicy.load(tmp_path / "policy.pth", device="cpu")
    assert_same_weights(again, agent.policy)
    fresh = text_agent(lm=(LSTMConfig(7, 16), letter_tokenizer()))
    assert isinstance(fresh.policy.lm.model, LSTMTrunk)


def test_the_reference_of_the_kl_term_is_the_start_and_a_reward_model_reads_it(tmp_path):
    lm = lstm(textgym.Tokenizer.byte(), num_hidden_layers=1, max_position_embeddings=96)
    agent = textgym.make_agent("ppo", ENV, policy=lm, n_envs=4, seed=0, n_steps=16, kl_coef=0.1)
    agent.learn(64)
    assert_same_weights(agent.rollout_buffer.kl.model, lm)
    assert abs(agent.rollout_buffer.kl_raw).max() < 1e-4
    lm.save_pretrained(tmp_path / "lm")
    rows = [{"prompt": f"a{i}", "chosen": "good", "rejected": "bad"} for i in range(12)]
    keywords = {"steps": 2, "batch_size": 4, "progress_bar": False, "report": lambda line: None}
    textgym.fit_reward(rows, policy=tmp_path / "lm", out=tmp_path / "rm", **keywords)
    reward = textgym.resolve_reward(str(tmp_path / "rm"))
    assert len(set(reward(["a1", "a1"], ["good", "bad"]))) == 2


def test_ppo_comes_to_the_exact_optimum():
    setting = REGULARISED["ppo"][ONE]
    game = textgym.get_task(ONE)

    def start():
        return lstm(game.tokenizer, spread=8.0, num_hidden_layers=1, hidden_size=32)

    oracle = Oracle(game, start(), BETA)
    assert oracle.distance(start()) > 0.4
    agent = textgym.make_agent(
        "ppo", ONE, policy=start(), seed=0, device="cpu", kl_coef=BETA, **setting.keywords
    )
    agent.learn(6_144)
    assert oracle.distance(CausalLM.from_agent(agent)) < QUICK_BARS[ONE]


# ---- The front door ----------------------------------------------------------------------------


def test_it_is_pretrained_continued_and_written_with_from_the_command_line(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"the cat number {i}\n" for i in range(40)))
    out = tmp_path / "lm"
    words = "--tokenizer byte --hidden-size 16 --context 48 --no-progress-bar".split()
    code, text, err = run_cli(
        "pretrain", corpus, "--out", out, "--architecture", "lstm", "--steps", 4, *words
    )
    assert code == 0, err
    assert f"it is an lstm, which only textgym opens: CausalLM.from_pretrained('{out}')" in text
    assert "transformers" not in text
    lm = CausalLM.from_pretrained(out)
    assert lm.config == LSTMConfig(259, 16, 2, 48)
    code, text, err = run_cli(
        "pretrain", "--out", out, "--steps", 6, "--resume", corpus, *words[-1:]
    )
    assert code == 0, err
    code, text, err = run_cli("generate", out, "--prompt", "the", "--max-new-tokens", 3)
    assert code == 0 and text.startswith("the"), err
    rest = ("--steps", 1, "--no-progress-bar")
    for flags, message in (
        (["--architecture", "gru", "--tokenizer", "byte"], "architecture 'gru'"),
        (
            ["--architecture", "lstm", "--policy", out],
            "architecture is of a fresh model, but polic",
        ),
    ):
        code, _, err = run_cli("pretrain", corpus, "--out", tmp_path / "no", *flags, *rest)
        assert code == 2 and message in err, err
        assert not (tmp_path / "no").exists()
