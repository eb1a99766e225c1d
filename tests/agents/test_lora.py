"""Agents whose language model has an adapter: what learns, the reference, saving and going on."""

import peft
import pytest
import torch
from front_door import ENV, byte_lm, run_cli, small_agent
from textgym_resuming import interrupted_at
from transformers import AutoModelForCausalLM

import textgym
from textgym.agents.building.checkpoint import kl_penalty, save_agent
from textgym.errors import InputError
from textgym.policies.language_model.adapters import adapter_state, is_of_adapter
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.registry import agents

# What peft asks of transformers' model is going away there.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
WITHOUT_KL = ("dqn", "qrdqn", "best_of_n")
ROWS = torch.randint(0, 250, (2, 9), generator=torch.Generator().manual_seed(0))


def made(name, **keywords):
    kl = {} if name in WITHOUT_KL else {"kl_coef": 0.1}
    settings = {"policy": byte_lm(), "n_envs": 4, "seed": 0, "env_kwargs": {"max_new_tokens": 4}}
    return textgym.make_agent(name, ENV, **settings, **{"lora_rank": 2, **kl, **keywords})


@pytest.mark.parametrize("name", sorted(agents.names()))
def test_only_adapter_and_value_head_learn_and_a_checkpoint_brings_them_back(name, tmp_path):
    agent = made(name)
    assert torch.equal(agent.policy.lm(ROWS), byte_lm()(ROWS))
    learning = {id(w) for group in agent.policy.optimizer.param_groups for w in group["params"]}
    head = getattr(agent.policy, "network", agent.policy).value_net
    own = [*adapter_state(agent.policy.lm).keys()]
    named = dict(agent.policy.lm.named_parameters())
    assert learning == {*(id(named[n]) for n in own), *map(id, head.parameters())}
    agent.learn(150)
    base = agent.policy.lm.without_adapter().state_dict()
    assert all(torch.equal(weight, base[k]) for k, weight in byte_lm().state_dict().items())
    assert not torch.equal(agent.policy.lm(ROWS), byte_lm()(ROWS))
    save_agent(agent, tmp_path / "saved")
    again = textgym.load_agent(tmp_path / "saved")
    saved, loaded = agent.policy.state_dict(), again.policy.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(weight, loaded[key]) for key, weight in saved.items())
    again.learn(16, reset_num_timesteps=False)


def storages(*modules):
    weights = (w for module in modules for w in (*module.parameters(), *module.buffers()))
    return {w.untyped_storage().data_ptr() for w in weights}


@pytest.mark.parametrize("name", ["ppo", "grpo", "dpo", "nlpo"])
def test_the_reference_is_the_policys_model_with_its_adapter_off(name):
    agent = made(name)
    agent.learn(150)
    reference = kl_penalty(agent).reference(torch.device("cpu"))
    assert torch.equal(reference(ROWS), byte_lm()(ROWS))
    count = sum(weight.numel() for weight in byte_lm().parameters())
    held = {
        id(w): w for m in (agent.policy, reference) for w in m.state_dict(keep_vars=True).values()
    }
    everything = sum(w.numel() for w in held.values())
    adapters = sum(w.numel() for w in held.values()) - count
    assert everything < 2 * count and adapters < count
    of_policy = {w.untyped_storage().data_ptr() for w in agent.policy.state_dict().values()}
    assert {w.untyped_storage().data_ptr() for w in reference.parameters()} <= of_policy


def test_ppo_is_the_same_with_the_shared_reference_and_with_a_copy():
    """The copy is the same model, so every figure and weight is equal to the last bit."""
    shared, copied = (made("ppo", reference=reference) for reference in (None, byte_lm()))
    for agent in (shared, copied):
        agent.learn(300)
    pairs = zip(
        shared.policy.state_dict().values(), copied.policy.state_dict().values(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in pairs)
    assert kl_penalty(shared).is_shared and not kl_penalty(copied).is_shared


@pytest.mark.parametrize("use_dora", [False, True])
def test_the_first_ratio_is_one(use_dora):
    agent = small_agent(lora_rank=2, use_dora=use_dora, n_epochs=1, batch_size=128)
    agent.learn(128)
    agent.policy.set_training_mode(False)
    agent.collect_rollouts(
        agent.env, agent._init_callback(None), agent.rollout_buffer, n_rollout_steps=agent.n_steps
    )
    (batch,) = agent.rollout_buffer.get(128)
    with torch.no_grad():
        _, log_prob, _ = agent.policy.evaluate_actions(batch.observations, batch.actions)
    assert float(((log_prob - batch.old_log_prob).exp() - 1).abs().max()) < 1e-5


def test_a_checkpoint_opens_in_transformers_and_its_adapter_in_peft(tmp_path):
    agent = made("grpo")
    agent.learn(200)
    save_agent(agent, tmp_path / "saved")
    logits = agent.policy.lm(ROWS)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "saved" / "base")
    adapted = peft.PeftModel.from_pretrained(base, tmp_path / "saved" / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(merged(ROWS).logits, logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(adapted(ROWS).logits, logits, rtol=0, atol=1e-5)
    assert not (tmp_path / "saved" / "reference").exists()
    exported = CausalLM.from_agent(agent)
    torch.testing.assert_close(exported(ROWS), logits, rtol=0, atol=1e-5)
    assert exported.adapter is None and all(w.requires_grad for w in exported.parameters())


@pytest.mark.parametrize("name", ["ppo", "grpo"])
def test_a_run_gone_on_with_ends_as_one_that_was_not_interrupted(name, tmp_path):
    byte_lm().save_pretrained(tmp_path / "lm")
    settings = {"policy": tmp_path / "lm", "lora_rank": 2, "kl_coef": 0.1, "n_envs": 4, "seed": 0}
    settings |= {"progress_bar": False, "report": lambda line: None, "evaluations": 0}
    whole = textgym.train(ENV, agent=name, timesteps=600, out=tmp_path / "whole", **settings)
    textgym.train(ENV, agent=name, timesteps=250, out=tmp_path / "parts", **settings)
    parts = textgym.train(
        out=tmp_path / "parts", timesteps=600, resume=True, progress_bar=False, report=str
    )
    ours, theirs = whole.policy.state_dict(), parts.policy.state_dict()
    if whole.num_timesteps == parts.num_timesteps:
        assert all(torch.equal(weight, theirs[key]) for key, weight in ours.items())
    else:
        pytest.fail(f"{whole.num_timesteps} tokens against {parts.num_timesteps}")


def test_sb3_saves_and_loads_it_too(tmp_path):
    agent = small_agent(lora_rank=2, kl_coef=0.1)
    agent.learn(128)
    agent.save(tmp_path / "agent.zip")
    assert (tmp_path / "agent.zip").stat().st_size < 4e6
    again = type(agent).load(tmp_path / "agent.zip", env=agent.env)
    assert torch.equal(again.policy.lm(ROWS), agent.policy.lm(ROWS))
    again.learn(128)


def test_fine_tuning_goes_on_exactly_and_leaves_a_merged_model(tmp_path):
    pairs = [{"prompt": f"{i}", "completion": f" {i} and {i}"} for i in range(24)]
    byte_lm().save_pretrained(tmp_path / "lm")
    settings = {"policy": tmp_path / "lm", "lora_rank": 2, "evaluate_every": 3, "patience": None}
    settings |= {"progress_bar": False, "report": str, "batch_size": 4, "learning_rate": 1e-2}
    textgym.sft(pairs, out=tmp_path / "whole", steps=8, **settings)
    with interrupted_at(3):
        assert textgym.sft(pairs, out=tmp_path / "parts", steps=8, **settings).steps == 3
    textgym.sft(pairs, out=tmp_path / "parts", resume=True, progress_bar=False, report=str)
    whole, parts = (CausalLM.from_pretrained(tmp_path / name) for name in ("whole", "parts"))
    assert all(map(torch.equal, whole.state_dict().values(), parts.state_dict().values()))
    assert not torch.equal(whole(ROWS), byte_lm()(ROWS))
    embeddings = "model.embed_tokens.weight"
    assert torch.equal(whole.state_dict()[embeddings], byte_lm().state_dict()[embeddings])
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    adapter = tmp_path / "whole" / "checkpoints" / "best" / "adapter"
    with torch.no_grad():
        found = peft.PeftModel.from_pretrained(base, adapter)(ROWS).logits
    torch.testing.assert_close(found, whole(ROWS), rtol=0, atol=1e-5)


def test_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match="value_trunk='own' learns a second whole trunk"):
        made("ppo", value_trunk="own")
    with pytest.raises(InputError, match="no linear layer of the model is called 'query'"):
        made("grpo", lora_targets="query")
    with pytest.raises(InputError, match="give lora_rank too"):
        made("grpo", lora_rank=None, lora_alpha=4)
    with pytest.raises(InputError, match="lora_rank goes with policy="):
        textgym.pretrain(["a text"] * 20, out=tmp_path / "out", lora_rank=4)
    agent = made("grpo")
    save_agent(agent, tmp_path / "saved")
    with pytest.raises(InputError, match="does not fit this agent"):
        textgym.load_agent(tmp_path / "saved", lora_rank=3)
    line = ["train", ENV, "--agent", "grpo", "--lora-targets", "q_proj", "--timesteps", "8"]
    code, _, err = run_cli(*line, "--out", tmp_path / "run", "--no-progress-bar")
    assert code == 2 and len(err.strip().splitlines()) == 1 and "--lora-rank" in err


def test_no_weight_of_the_base_is_kept_twice(tmp_path):
    agent = made("nlpo")
    agent.learn(32)
    save_agent(agent, tmp_path / "saved")
    from safetensors import safe_open

    with safe_open(tmp_path / "saved" / "trainer.safetensors", framework="pt") as file:
        names = [name for name in file.keys() if "model.layers" in name]
    assert names and all(is_of_adapter(name) for name in names)
