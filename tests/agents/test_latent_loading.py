"""`textgym.load_agent` of agents with latent actions: they act as before, and learn on."""

import json
import shutil

import numpy as np
import pytest
import torch
from textgym_latents import LetterDecoder
from torch import nn

import textgym
from textgym import registry
from textgym.agents.building.latent_checkpoint import acting_agent, read_latent_agent
from textgym.errors import InputError
from textgym.manifest import write_manifest
from textgym.policies import TextVAE
from textgym.tokenizer import Tokenizer

ID = "test/LatentLoading-v0"
PROMPTS = ["a ", "b ", "dd"]
SHAPE = {"hidden_size": 16, "latent_size": 3, "max_position_embeddings": 32}


@pytest.fixture(autouse=True)
def task():
    textgym.register(ID, prompts=["a ", "b "], reward="length,target=3", max_new_tokens=6)
    yield
    registry.tasks.unregister(ID)


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """The directory of an untrained autoencoder of bytes."""
    folder = tmp_path_factory.mktemp("vae") / "vae"
    TextVAE.new(Tokenizer.byte(), seed=1, **SHAPE).save_pretrained(folder)
    return folder


SMALL = {  # so that a few texts make a few updates
    "ppo": {"n_steps": 4, "batch_size": 8},
    "a2c": {"n_steps": 4},
    "trpo": {"n_steps": 4, "batch_size": 8},
    "ars": {"n_delta": 2, "n_top": 2},
}


def train(out, agent, decoder, **keywords):
    settings = {"n_envs": 4, "timesteps": 48, "progress_bar": False, "report": str}
    settings |= SMALL.get(agent, {"learning_starts": 16, "batch_size": 16})
    return textgym.train(ID, agent=agent, decoder=decoder, out=out, **{**settings, **keywords})


def choices(agent, vae):
    """The best z for each prompt."""
    seen = TextVAE.from_pretrained(vae).encode_prompts(PROMPTS)
    return agent.predict(seen, deterministic=True)[0]


def equal(one, other):
    """Whether two nests of tensors and numbers are the same."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("agent", registry.latent_agents.names())
def test_a_run_acts_and_learns_on(tmp_path, vae, agent):
    trained = train(tmp_path, agent, vae, env_kwargs={"prior_coef": 0.1})
    loaded = textgym.load_agent(tmp_path)
    assert type(loaded) is type(trained)
    assert np.array_equal(choices(loaded, vae), choices(trained, vae))
    assert equal(loaded.get_parameters(), trained.get_parameters())  # optimizers too
    assert loaded._n_updates == trained._n_updates > 0
    inside = loaded.env.unwrapped.vector_env._latents
    assert inside.prior_coef == 0.1 and loaded.env.num_envs == 4
    before, done = choices(loaded, vae), trained.num_timesteps
    loaded.learn(48, reset_num_timesteps=False)
    assert loaded.num_timesteps >= done + 48
    assert not np.array_equal(choices(loaded, vae), before)


@pytest.mark.parametrize("agent", ["sac", "ppo"])
def test_a_run_with_state_dependent_noise_acts_as_it_did(tmp_path, vae, agent):
    trained = train(tmp_path, agent, vae, use_sde=True)
    env = textgym.make_vec(ID, 1, decoder=vae)
    acting = acting_agent(read_latent_agent(tmp_path), env)
    assert acting.use_sde and not trained.policy.state_dict().keys() ^ acting.policy.state_dict()
    assert np.array_equal(choices(acting, vae), choices(trained, vae))
    assert len(textgym.evaluate(ID, policy=tmp_path, prompts=PROMPTS).episodes) == len(PROMPTS)


@pytest.mark.parametrize("agent", ["ppo", "td3"])
def test_the_next_updates_are_those_of_the_agent_that_was_saved(tmp_path, vae, agent):
    trained = train(tmp_path, agent, vae)
    loaded = textgym.load_agent(tmp_path)
    for one in (trained, loaded):  # the same prompts and noise; what is replayed came back
        one.set_env(textgym.make_vec(ID, 4, seed=7, decoder=vae))
        one.set_random_seed(7)
        one._last_obs = None
        one.learn(48, reset_num_timesteps=False)
    assert equal(loaded.get_parameters(), trained.get_parameters())


@pytest.mark.parametrize("is_full", [False, True], ids=["partly filled", "gone round"])
def test_the_replay_buffer_comes_back(tmp_path, vae, is_full):
    size = 40 if is_full else 400  # of which 4 rows have a fourth each
    trained = train(tmp_path, "sac", vae, buffer_size=size, env_kwargs={"prior_coef": 0.1})
    before, after = trained.replay_buffer, textgym.load_agent(tmp_path).replay_buffer
    assert (after.pos, after.full) == (before.pos, before.full) == (2 if is_full else 12, is_full)
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        assert np.array_equal(getattr(after, name), getattr(before, name)), name
    assert before.rewards.any() and before.actions.any()
    for keywords in ({"n_envs": 2}, {"buffer_size": 80}):  # another shape begins empty
        other = textgym.load_agent(tmp_path, **keywords).replay_buffer
        assert (other.pos, other.full) == (0, False) and not other.rewards.any()


def test_an_entropy_coefficient_goes_on_where_it_was(tmp_path, vae):
    trained = train(tmp_path, "sac", vae, ent_coef="auto_0.1")
    found = trained.log_ent_coef.item()
    loaded = textgym.load_agent(tmp_path)
    assert loaded.log_ent_coef.item() == found != np.float32(np.log(0.1))
    assert loaded.ent_coef_optimizer.state_dict()["state"]
    fixed = textgym.load_agent(tmp_path, ent_coef=0.5)
    assert fixed.ent_coef_tensor.item() == 0.5


def test_an_agent_without_a_run(tmp_path, vae):
    agent = textgym.make_agent(
        "td3", ID, decoder=vae, n_envs=3, seed=5, train_freq=(2, "step"), policy_delay=3,
        tensorboard_log=str(tmp_path / "log"), policy_kwargs={"net_arch": [8, 8]},
    )  # fmt: skip
    agent.learn(30)
    textgym.save_agent(agent, tmp_path / "agent")
    loaded = textgym.load_agent(tmp_path / "agent")
    assert np.array_equal(choices(loaded, vae), choices(agent, vae))
    assert (loaded.policy_delay, loaded.seed, loaded.train_freq) == (3, 5, agent.train_freq)
    assert loaded.tensorboard_log is None  # a checkpoint says nowhere to write to
    again = textgym.load_agent(tmp_path / "agent", n_envs=2, policy_delay=4)
    assert (again.env.num_envs, again.policy_delay) == (2, 4)
    env = textgym.make_vec(ID, 5, seed=0, decoder=vae)
    assert textgym.load_agent(tmp_path / "agent", env=env).env.num_envs == 5


def test_an_activation_of_torch_is_kept_by_its_name(tmp_path, vae):
    def activation_after(word, **keywords):
        agent = textgym.make_agent(word, ID, decoder=vae, n_envs=2, **keywords)
        textgym.save_agent(agent, tmp_path)
        return type(textgym.load_agent(tmp_path).actor.mu[1])

    assert activation_after("td3") is nn.SiLU
    assert activation_after("td3", policy_kwargs={"activation_fn": nn.ELU}) is nn.ELU
    # Of an earlier version, whose default was the library's own: ReLU.
    assert activation_after("td3", policy_kwargs={}) is nn.ReLU


def test_objects_are_asked_for_again(tmp_path):
    def reward(prompts, completions):
        return [float(len(text)) for text in completions]

    class OfMine(nn.ELU):
        """An activation that torch does not have."""

    decoder, kwargs = LetterDecoder(), {"activation_fn": OfMine}
    fields = {"prompts": ["a", "b"]}
    agent = textgym.make_agent(
        "sac", ID, decoder=decoder, reward=reward, policy_kwargs=kwargs, env_kwargs=fields, n_envs=2
    )
    textgym.save_agent(agent, tmp_path)
    again = {"decoder": decoder, "reward": reward, "policy_kwargs": kwargs}
    messages = {
        "decoder": "was trained with an object as its decoder: give decoder too",
        "reward": "made with an object as 'reward'.* pass reward=... again",
        "policy_kwargs": "made with an object as 'policy_kwargs'.* pass policy_kwargs=... again",
    }
    for name, message in messages.items():
        with pytest.raises(InputError, match=message):
            textgym.load_agent(tmp_path, **{k: v for k, v in again.items() if k != name})
    loaded = textgym.load_agent(tmp_path, **again)
    seen = decoder.encode_prompts(["a", "bb"])
    expected = agent.predict(seen, deterministic=True)[0]
    assert np.array_equal(loaded.predict(seen, deterministic=True)[0], expected)
    with pytest.raises(InputError, match="an object among its policy_kwargs"):
        textgym.evaluate(ID, policy=tmp_path, decoder=decoder, env_kwargs=fields, n_episodes=2)


def test_the_decoder_is_the_one_that_it_was_trained_with(tmp_path, vae):
    own, run = tmp_path / "vae", tmp_path / "run"
    shutil.copytree(vae, own)
    trained = train(run, "sac", own)
    own.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"its decoder is not at .*vae any more: put it back, or"):
        textgym.load_agent(run)
    loaded = textgym.load_agent(run, decoder=tmp_path / "moved")
    assert np.array_equal(choices(loaded, vae), choices(trained, vae))
    textgym.save_agent(loaded, tmp_path / "again")
    assert textgym.load_agent(tmp_path / "again").num_timesteps == trained.num_timesteps
    TextVAE.new(Tokenizer.byte(), seed=2, **SHAPE).save_pretrained(own)
    with pytest.raises(InputError, match="does not hold the decoder that it was trained with"):
        textgym.load_agent(run)
    wide = TextVAE.new(Tokenizer.byte(), **{**SHAPE, "latent_size": 5})
    with pytest.raises(InputError, match="its decoder has latent_size 3, the one given 5"):
        textgym.load_agent(run, decoder=wide)


def rewritten(directory, **fields):
    """A checkpoint that somebody changed."""
    file = directory / "latent_agent.json"
    content = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    write_manifest(directory)


def test_a_checkpoint_names_no_code_no_files_and_no_words(tmp_path, vae):
    textgym.save_agent(textgym.make_agent("sac", ID, decoder=vae, n_envs=2), tmp_path / "agent")
    record = json.loads((tmp_path / "agent" / "latent_agent.json").read_text())
    secret = tmp_path / "secret.txt"
    secret.write_text("a\n")

    def refused(message, **fields):
        copy = shutil.copytree(tmp_path / "agent", tmp_path / "copy", dirs_exist_ok=True)
        rewritten(copy, **fields)
        with pytest.raises(InputError, match=message) as caught:
            textgym.load_agent(copy)
        assert "\n" not in str(caught.value)

    environment = record["environment"]
    refused("a checkpoint imports no code", environment={**environment, "reward": "os:getcwd"})
    refused("a checkpoint imports no code", environment={**environment, "id": "my_tasks:me/A-v0"})
    named = {**environment, "env_kwargs": {"prompts": str(secret)}}
    refused("a checkpoint chooses no files to read", environment=named)
    refused("'batch_size' must be a number here", keywords={"batch_size": "many"})
    refused("'tensorboard_log' must be a number here", keywords={"tensorboard_log": "x"})
    refused("'kl_coef'", keywords={"kl_coef": 1})
    for activation in ("os:getcwd", "Module", 5):
        refused("activation_fn must be", policy_kwargs={"activation_fn": activation})
    refused("net_arch must be numbers", policy_kwargs={"net_arch": "many"})
    refused("critic.optimizer does not fit", training=broken(record["training"]))
    refused("damaged state of the training", training=3)
    far = json.loads(
        json.dumps(record["training"]).replace(
            '"position", {"value": 0}', '"position", {"value": 9}'
        )
    )
    refused("float32 of 9 or 50,000 rows", training=far)


def broken(nest):
    """The nest of a training whose critic's optimizer has no groups of parameters."""
    content = json.loads(json.dumps(nest))
    optimizers = next(value for _, name, value in content["dict"] if name == "optimizers")
    for _, name, state in optimizers["dict"]:
        if name == "critic.optimizer":
            state["dict"] = [item for item in state["dict"] if item[1] != "param_groups"]
    return content


def test_a_checkpoint_of_before_asks_for_its_environment(tmp_path, vae):
    agent = textgym.make_agent("sac", ID, decoder=vae, n_envs=2)
    textgym.save_agent(agent, tmp_path)
    later = ("environment", "n_envs", "seed", "keywords", "not_saved", "files", "training")
    rewritten(tmp_path, **dict.fromkeys(later))
    (tmp_path / "training.safetensors").unlink()
    write_manifest(tmp_path)
    with pytest.raises(InputError, match=r"kept no environment: pass env=textgym.make_vec\(ID"):
        textgym.load_agent(tmp_path)
    loaded = textgym.load_agent(tmp_path, env=textgym.make_vec(ID, 2, decoder=vae))
    assert np.array_equal(choices(loaded, vae), choices(agent, vae))


@pytest.mark.parametrize(
    "keywords",
    [
        {"out": "runs/x"},
        {"reference": "start"},
        {"shadow": ["length"]},
        {"keep": 3},
        {"exact": True},
    ],
    ids=lambda keywords: next(iter(keywords)),
)
def test_what_goes_with_token_actions_is_refused(tmp_path, vae, keywords):
    textgym.save_agent(textgym.make_agent("ppo", ID, decoder=vae, n_envs=2), tmp_path)
    with pytest.raises(InputError, match=f"{next(iter(keywords))} goes with token actions"):
        textgym.load_agent(tmp_path, **keywords)


def test_a_decoder_goes_with_latent_actions(tmp_path):
    with pytest.raises(InputError, match="holds no agent with latent actions"):
        textgym.load_agent(tmp_path, decoder="runs/vae")
