"""The front door's functions: what `make_agent` builds, and what `load_agent` brings back."""

import numpy as np
import pytest
import stable_baselines3
import torch
from front_door import ENV, byte_lm, read_lines, small_agent
from stable_baselines3.common.callbacks import CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import obs_as_tensor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import textgym
from textgym.agents.building.checkpoint import save_agent
from textgym.agents.runs.markdown import escape_markdown
from textgym.errors import InputError, UnknownNameError
from textgym.policies.language_model.causal_lm import CausalLM


def save(agent, directory):
    save_agent(agent, directory, environment=agent.text_environment)
    return directory


def observations(agent):
    return torch.as_tensor(agent.env.reset())


@pytest.mark.parametrize("name, cls", [("ppo", "PPO"), ("a2c", "A2C")])
def test_agents_are_stable_baselines3s_own(name, cls):
    agent = small_agent(name)
    assert type(agent) is getattr(stable_baselines3, cls)
    agent.learn(200)
    assert agent.num_timesteps >= 200


def test_keywords_of_the_algorithm_pass_through():
    agent = small_agent(
        n_steps=16, batch_size=32, clip_range=0.1, ent_coef=0.5, verbose=0, device="cpu"
    )
    assert (agent.n_steps, agent.batch_size, agent.ent_coef) == (16, 32, 0.5)
    assert agent.clip_range(1.0) == 0.1
    assert agent.device == torch.device("cpu")


@pytest.mark.parametrize("n_steps", [24, 50, 53])
def test_the_default_batch_size_divides_the_rollout(n_steps):
    agent = textgym.make_agent("ppo", ENV, policy=byte_lm(), n_envs=4, n_steps=n_steps)
    assert 4 * n_steps % agent.batch_size == 0


@pytest.mark.parametrize(
    "keyword, nearest",
    [("n_step", "n_steps"), ("kl_coeff", "kl_coef"), ("final_lr", "final_learning_rate")],
)
def test_an_unknown_keyword_names_the_nearest(keyword, nearest):
    with pytest.raises(UnknownNameError, match=f"{keyword}.*did you mean '{nearest}'"):
        small_agent(**{keyword: 1})


@pytest.mark.parametrize(
    "agent, env, reward, message",
    [
        ("pop", ENV, None, "unknown agent 'pop': did you mean 'ppo'"),
        ("ppo", "textgym/Lenght-v0", None, "did you mean 'textgym/Length-v0'"),
        ("ppo", ENV, "lenght", "unknown reward model 'lenght': did you mean 'length'"),
        ("ppo", ENV, "runs/nowhere", "no such directory"),
    ],
)
def test_unknown_names_are_refused(agent, env, reward, message):
    with pytest.raises(InputError, match=message):
        textgym.make_agent(agent, env, policy=byte_lm(), reward=reward)


def test_a_context_that_is_too_short_is_refused():
    with pytest.raises(InputError, match=r"take 51 tokens, but the model's context is 32"):
        small_agent(lm=byte_lm(max_position_embeddings=32))


def test_the_same_seed_gives_the_same_weights():
    results = []
    for _ in range(2):
        agent = small_agent(kl_coef=0.1)
        agent.learn(256)
        results.append({k: v.clone() for k, v in agent.policy.state_dict().items()})
    for name, tensor in results[0].items():
        assert torch.equal(tensor, results[1][name]), name
    other = small_agent(kl_coef=0.1, seed=1)
    other.learn(256)
    changed = other.policy.state_dict()
    assert any(not torch.equal(tensor, changed[name]) for name, tensor in results[0].items())


def test_without_kl_there_is_no_reference_pass(monkeypatch):
    agent = small_agent(kl_coef=0.0)
    assert agent.rollout_buffer.kl is None
    calls = []
    packed = CausalLM.from_agent(agent).model.__class__.packed
    monkeypatch.setattr(
        "textgym.policies.language_model.decoder.Decoder.packed",
        lambda self, *a: calls.append(self) or packed(self, *a),
    )
    agent.learn(128)
    assert {id(decoder) for decoder in calls} == {id(agent.policy.lm.model)}


def test_load_agent_brings_everything_back(tmp_path):
    agent = small_agent(
        kl_coef=0.2, kl_target=0.5, learning_rate=1e-2, final_learning_rate=1e-3, temperature=0.7
    )
    agent.learn(300)
    assert agent.rollout_buffer.kl.coefficient != 0.2
    again = textgym.load_agent(save(agent, tmp_path / "agent"))
    assert type(again) is stable_baselines3.PPO
    assert again.num_timesteps == agent.num_timesteps
    assert again._n_updates == agent._n_updates
    assert again.n_steps == agent.n_steps
    assert again.lr_schedule(1.0) == agent.lr_schedule(1.0) == pytest.approx(1e-2)
    assert again.rollout_buffer.kl.coefficient == agent.rollout_buffer.kl.coefficient
    assert again.policy.sampling == agent.policy.sampling
    rows = observations(agent)
    for policy in (agent.policy, again.policy):
        policy.set_training_mode(False)
    with torch.no_grad():
        ours, theirs = agent.policy.get_distribution(rows), again.policy.get_distribution(rows)
        assert torch.equal(ours.distribution.logits, theirs.distribution.logits)
        assert torch.equal(agent.policy.predict_values(rows), again.policy.predict_values(rows))
    reference = agent.rollout_buffer.kl.model.state_dict()
    for name, tensor in again.rollout_buffer.kl.model.state_dict().items():
        assert torch.equal(tensor, reference[name]), name
    moments = agent.policy.optimizer.state_dict()["state"]
    for index, state in again.policy.optimizer.state_dict()["state"].items():
        assert torch.equal(state["exp_avg"], moments[index]["exp_avg"])


def test_a_loaded_agent_learns_on(tmp_path):
    agent = small_agent(kl_coef=0.1)
    agent.learn(128)
    again = textgym.load_agent(save(agent, tmp_path / "agent"), kl_coef=0.4)
    assert again.rollout_buffer.kl.coefficient == 0.4
    before = again.policy.value_net.weight.clone()
    again.learn(128, reset_num_timesteps=False)
    assert again.num_timesteps == 256
    assert not torch.equal(before, again.policy.value_net.weight)


def test_what_a_checkpoint_cannot_hold_must_be_given_again(tmp_path):
    def constant(prompts, completions):
        return [1.0] * len(completions)

    agent = small_agent(reward=constant, learning_rate=lambda left: 1e-3 * left)
    directory = save(agent, tmp_path / "agent")
    with pytest.raises(InputError, match=r"an object as 'reward'.*pass reward=\.\.\. again"):
        textgym.load_agent(directory)
    with pytest.raises(InputError, match="an object as 'learning_rate'"):
        textgym.load_agent(directory, reward=constant)
    again = textgym.load_agent(directory, reward=constant, learning_rate=5e-4)
    assert again.env.get_attr("task")[0].reward is constant
    assert again.lr_schedule(1.0) == 5e-4


def test_the_task_comes_back_with_its_changes(tmp_path):
    fields = {"prompts": ["One ", "Two "], "max_new_tokens": 5, "stop": ["."]}
    agent = small_agent(env_kwargs=fields, reward="length,target=3")
    task = textgym.load_agent(save(agent, tmp_path / "agent")).env.get_attr("task")[0]
    assert (task.prompts, task.max_new_tokens, task.stop) == (["One ", "Two "], 5, ["."])
    assert task.reward.target == 3


@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
def test_sb3s_callbacks_evaluation_and_progress_bar(tmp_path):
    lm = byte_lm()
    agent = small_agent(lm=lm)
    env = textgym.make_vec(ENV, 2, tokenizer=lm.tokenizer, seed=9)
    evaluation = EvalCallback(
        env, eval_freq=32, n_eval_episodes=2, log_path=str(tmp_path / "evaluations"), verbose=0
    )
    checkpoints = CheckpointCallback(32, str(tmp_path / "zips"))
    agent.learn(256, callback=CallbackList([evaluation, checkpoints]), progress_bar=True)
    assert len(evaluation.evaluations_results) == 2
    assert sorted(p.name for p in (tmp_path / "zips").iterdir()) == [
        "rl_model_128_steps.zip",
        "rl_model_256_steps.zip",
    ]
    mean, spread = evaluate_policy(agent, env, n_eval_episodes=4)
    assert mean == pytest.approx(evaluate_policy(agent, env, n_eval_episodes=4)[0])
    assert 0 <= mean <= 1 and spread >= 0


def test_metrics_and_samples_are_the_same_record_as_tensorboard(tmp_path):
    agent = small_agent(kl_coef=0.1, out=tmp_path)
    agent.learn(512, tb_log_name="ppo")
    rows = read_lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [128, 256, 384, 512]
    events = EventAccumulator(str(tmp_path / "tensorboard" / "ppo_1"), {"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    # Four that SB3 keeps from TensorBoard, as they only count.
    counts = {"time/iterations", "time/total_timesteps", "time/time_elapsed", "train/n_updates"}
    assert {key for row in rows for key in row} - {"step"} == set(tags) | counts
    for tag in tags:
        seen = {event.step: event.value for event in events.Scalars(tag)}
        written = {row["step"]: row[tag] for row in rows if row.get(tag) is not None}
        assert {step: v for step, v in seen.items() if np.isfinite(v)}.keys() == written.keys()
        for step, value in written.items():
            assert seen[step] == pytest.approx(value, rel=1e-6), tag
    samples = read_lines(tmp_path / "samples.jsonl")
    shown = events.Tensors("samples/continuations/text_summary")
    assert [event.step for event in shown] == [0, 256, 512]
    for event in shown:
        rows = [row for row in samples if row["step"] == event.step]
        assert len({row["prompt"] for row in rows}) == len(rows) == 4
        table = event.tensor_proto.string_val[0].decode()
        assert all(escape_markdown(row["prompt"]) in table for row in rows)


@pytest.mark.parametrize("seconds, expected", [(0.0, [0, 64, 128, 192]), (300.0, [0, 192])])
def test_checkpoints_are_saved_between_updates(tmp_path, monkeypatch, seconds, expected):
    lm, saved = byte_lm(), []
    lm.save_pretrained(tmp_path / "lm")

    def save(agent, directory, **keywords):
        saved.append(agent.num_timesteps)
        return textgym.save_agent(agent, directory, **keywords)

    monkeypatch.setattr("textgym.agents.building.learning.save_agent", save)
    textgym.train(
        ENV,
        policy=tmp_path / "lm",
        out=tmp_path / "run",
        timesteps=192,
        n_envs=4,
        n_steps=16,
        batch_size=32,
        checkpoint_seconds=seconds,
        progress_bar=False,
        report=lambda line: None,
    )
    assert saved == expected


def test_evaluate_takes_a_file_of_prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("One \n\nTwo \n", encoding="utf-8")
    report = textgym.evaluate(ENV, policy=byte_lm(), prompts=path, gold="lexicon")
    assert [episode.prompt for episode in report.episodes] == ["One ", "Two "]
    assert list(report.judges) == ["lexicon"]


def test_two_judges_of_one_name_are_both_reported():
    gold = ["length,target=5", "length,target=50", "lexicon"]
    report = textgym.evaluate(ENV, policy=byte_lm(), n_episodes=4, gold=gold)
    assert list(report.judges) == gold
    assert report.judges[gold[0]].mean > report.judges[gold[1]].mean


def test_two_objects_of_one_name_are_both_reported():
    def judge(value):
        def same(prompts, completions):
            return [value] * len(completions)

        return same

    gold = [judge(1.0), judge(2.0), judge(3.0)]
    report = textgym.evaluate(ENV, policy=byte_lm(), n_episodes=4, gold=gold)
    means = {name: interval.mean for name, interval in report.judges.items()}
    assert means == {"same": 1.0, "same_2": 2.0, "same_3": 3.0}


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"prompts": [{"text": "a"}]}, r"prompts\[0\]: expected the key 'prompt'"),
        ({"prompts": [""]}, r"prompts\[0\]: empty prompt"),
        ({"prompts": []}, "no prompts"),
        ({"n_episodes": 0}, "n_episodes must be a whole number from 1"),
        ({"prompts": ["a" * 80]}, "take 113 tokens, but the model's context is 96"),
        ({"gold": "critik"}, "did you mean 'critic'"),
    ],
)
def test_evaluate_refuses_bad_input(keywords, message):
    with pytest.raises(InputError, match=message):
        textgym.evaluate(ENV, policy=byte_lm(), **keywords)


def test_generate_continues_one_prompt_or_several():
    lm = byte_lm()
    one = textgym.generate(lm, prompt="Hello", max_new_tokens=5, temperature=0)
    both = textgym.generate(lm, prompt=["Hello", "World"], max_new_tokens=5, temperature=0)
    assert one == both[:1] and len(both) == 2
    with pytest.raises(InputError, match="empty prompt"):
        textgym.generate(lm, prompt="")


def test_an_agents_observation_is_what_predict_takes():
    agent = small_agent()
    rows = agent.env.reset()
    actions, _ = agent.predict(rows, deterministic=True)
    with torch.no_grad():
        best = agent.policy.get_distribution(obs_as_tensor(rows, agent.device)).mode()
    assert actions.tolist() == best.tolist()
