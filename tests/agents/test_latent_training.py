"""`textgym.train(..., decoder=...)`: run directory, held-out texts, and what comes back of it."""

import numpy as np
import pytest
import torch
from front_door import read_lines, run_cli
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from textgym_latents import LetterDecoder

import textgym
from textgym import registry
from textgym.agents.building.latent_checkpoint import read_latent_agent
from textgym.agents.runs.callbacks import StopWhen
from textgym.errors import DivergenceError, InputError, RewardError
from textgym.policies import TextVAE
from textgym.tokenizer import Tokenizer

ID, VAE_ID = "test/LatentTraining-v0", "test/VaeTraining-v0"
HELD_OUT = ["ab", "ba", "bb"]


def count_c(prompts, completions):
    """What z can raise: the letter c is at the upper end of its first number."""
    return [float(text.count("c")) for text in completions]


def length(prompts, completions):
    return [float(len(text)) for text in completions]


@pytest.fixture(autouse=True)
def task():
    fields = {"reward": count_c, "max_new_tokens": 6}
    textgym.register(
        ID,
        prompts=["a", "b", "aa"],
        heldout_prompts=HELD_OUT,
        tokenizer=LetterDecoder().tokenizer,
        **fields,
    )
    textgym.register(VAE_ID, prompts=["a ", "b "], heldout_prompts=["c ", "d "], **fields)
    yield
    registry.tasks.unregister(ID)
    registry.tasks.unregister(VAE_ID)


def train(out, agent="ppo", env=ID, **keywords):
    settings = {"decoder": LetterDecoder(), "n_envs": 4, "timesteps": 600, "progress_bar": False}
    said = []
    trained = textgym.train(
        env, agent=agent, out=out, report=said.append, **{**settings, **keywords}
    )
    return trained, said


def weights(agent):
    return {name: value.clone() for name, value in agent.policy.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """The directory of an untrained autoencoder of bytes."""
    folder = tmp_path_factory.mktemp("vae") / "vae"
    shape = {"hidden_size": 16, "latent_size": 3, "max_position_embeddings": 32}
    TextVAE.new(Tokenizer.byte(), seed=1, **shape).save_pretrained(folder)
    return folder


def test_the_record_says_what_the_texts_earned(tmp_path):
    earned = []

    def remembered(prompts, completions):
        earned.extend(count_c(prompts, completions))
        return earned[-len(completions) :]

    trained, said = train(tmp_path, reward=remembered, timesteps=512, env_kwargs={"prior_coef": 1})
    rows = read_lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [256, 512, 512]  # the last one has the last update's
    for row, part in zip(rows[:2], (earned[:256], earned[256:512]), strict=True):
        price = row["reward_components/prior"]
        assert row["reward/environment"] == pytest.approx(np.mean(part) + price, abs=1e-5)
        # The component is -1 · half of ‖z‖², z cut to ±3, and the mean square is before the cut.
        assert row["latent/mean_square"] >= -price - 1e-6
    assert rows[2]["train/n_updates"] > rows[1]["train/n_updates"]
    assert trained.num_timesteps == 512 and said == [f"{tmp_path}: saved after 512 texts"]
    config = textgym.open_run(tmp_path).config
    assert config["agent"] == "ppo" and config["gamma"] == 1.0 and config["n_envs"] == 4
    assert config["not_saved"] == ["decoder", "reward"]


def test_samples_are_written_at_the_start_in_the_middle_and_at_the_end(tmp_path):
    trained, _ = train(tmp_path, timesteps=512)
    samples = read_lines(tmp_path / "samples.jsonl")
    assert [row["step"] for row in samples[::3]] == [0, 256, 512]
    assert {row["prompt"] for row in samples} == {"a", "b", "aa"}
    decoder = LetterDecoder()
    for row in samples[-3:]:
        z, _ = trained.predict(decoder.encode_prompts([row["prompt"]]), deterministic=True)
        ids = decoder.decode_latents(z, [row["prompt"]], max_new_tokens=6)[0]
        assert row["completion"] == decoder.tokenizer.decode(ids)


@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_recording_and_evaluating_change_nothing_in_the_training(tmp_path, agent):
    alone = textgym.make_agent(agent, ID, decoder=LetterDecoder(), n_envs=4, seed=0).learn(300)
    trained, _ = train(tmp_path, agent, timesteps=300, evaluations=3, gold=[length])
    assert equal(weights(trained), weights(alone))


def test_held_out_texts_stand_beside_those_of_the_prior(tmp_path):
    _, said = train(tmp_path, timesteps=1024, evaluations=3, gold=[length])
    rows = read_lines(tmp_path / "latent_held_out.jsonl")
    assert [(row["step"], row["z"]) for row in rows[::3]] == [
        (0, "prior"),
        (0, "policy"),
        (512, "policy"),
        (1024, "policy"),
    ]
    assert all([row["prompt"] for row in rows[i : i + 3]] == HELD_OUT for i in range(0, 12, 3))
    for row in rows:
        text = row["completion"]
        assert row["scores"] == {"count_c": text.count("c"), "length": len(text)}
    z = np.random.default_rng(0).standard_normal((3, 2), np.float32)
    decoder = LetterDecoder()
    ids = decoder.decode_latents(np.clip(z, -3, 3), HELD_OUT, max_new_tokens=6)
    assert [row["completion"] for row in rows[:3]] == decoder.tokenizer.decode_batch(ids)
    means = [np.mean([row["scores"]["count_c"] for row in rows[i : i + 3]]) for i in (0, 3, 9)]
    assert means[2] > max(means[:2])  # and training has raised what z can raise
    events = EventAccumulator(str(next((tmp_path / "tensorboard").iterdir()))).Reload()
    for tag, place in (("held_out_scores/count_c", 2), ("held_out_prior/count_c", 0)):
        points = events.Scalars(tag)
        assert [point.step for point in points] == [0, 512, 1024]
        assert points[-1].value == pytest.approx(means[place])
    assert said[0].startswith(f"held-out count_c: {means[2]:.3f} ± ")
    assert f"z of the prior: {means[0]:.3f} ± " in said[0]


@pytest.mark.parametrize("agent", registry.latent_agents.names())
def test_evaluate_brings_a_run_back(tmp_path, vae, agent):
    trained, _ = train(tmp_path, agent, VAE_ID, decoder=vae, timesteps=64)
    report = textgym.evaluate(VAE_ID, policy=tmp_path, prompts=["c ", "d ", "dd"], gold=[length])
    decoder = TextVAE.from_pretrained(vae)
    prompts = ["c ", "d ", "dd"]
    z, _ = trained.predict(decoder.encode_prompts(prompts), deterministic=True)
    ids = decoder.decode_latents(z, prompts, max_new_tokens=6)
    expected = [decoder.tokenizer.decode(row) for row in ids]
    assert [episode.completion for episode in report.episodes] == expected
    assert report.judges["length"].mean == pytest.approx(np.mean([len(t) for t in expected]))
    assert report.kl is None and report.perplexity is None
    again = textgym.evaluate(VAE_ID, policy=trained, decoder=decoder, prompts=prompts)
    assert [episode.completion for episode in again.episodes] == expected


def test_a_run_comes_back_with_its_own_decoder_only(tmp_path, vae):
    own = tmp_path / "vae"
    TextVAE.from_pretrained(vae).save_pretrained(own)
    train(tmp_path / "run", "sac", VAE_ID, decoder=own, timesteps=16)
    TextVAE.new(Tokenizer.byte(), seed=2, hidden_size=16, latent_size=3).save_pretrained(own)
    with pytest.raises(InputError, match="does not hold the decoder that it was trained with"):
        textgym.evaluate(VAE_ID, policy=tmp_path / "run", n_episodes=2)
    wide = TextVAE.new(Tokenizer.byte(), hidden_size=16, latent_size=5)
    with pytest.raises(InputError, match="its decoder has latent_size 3, the one given 5"):
        textgym.evaluate(VAE_ID, policy=tmp_path / "run", decoder=wide, n_episodes=2)
    with pytest.raises(InputError, match="temperature, top_k, top_p and pad_token go with"):
        textgym.evaluate(VAE_ID, policy=tmp_path / "run", decoder=vae, temperature=0.5)
    with pytest.raises(InputError, match="reference has another vocabulary than the decoder"):
        textgym.evaluate(VAE_ID, policy=tmp_path / "run", decoder=vae, reference="start")


def test_what_cuts_a_training_short_leaves_what_was_learned(tmp_path):
    def breaks(prompts, completions):
        breaks.calls += 1
        if breaks.calls > 100:
            raise ValueError("no more")
        return count_c(prompts, completions)

    breaks.calls = 0
    with pytest.raises(RewardError, match="no more"):
        train(tmp_path, "sac", reward=breaks, timesteps=10_000)
    saved = read_latent_agent(tmp_path).saved
    assert saved.num_timesteps == 400 and saved.agent == "sac"


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    train(tmp_path, timesteps=16)
    before = read_latent_agent(tmp_path).tensors

    class Breaks(StopWhen):
        def _on_training_end(self):
            with torch.no_grad():
                next(self.model.policy.parameters()).fill_(float("nan"))

    with pytest.raises(DivergenceError, match="not finite, so nothing of it is saved"):
        train(tmp_path / "other", timesteps=16, callback=Breaks(lambda: False))
    assert not (tmp_path / "other" / "checkpoints").exists()
    assert equal(before, read_latent_agent(tmp_path).tensors)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"ent_coef": "auto"}, "ent_coef must be a finite number from 0"),
        ({"agent": "a2c", "ent_coef": "auto_0.1"}, "ent_coef must be a finite number from 0"),
        ({"agent": "sac", "ent_coef": "automatic"}, "must be a number, 'auto' or 'auto_0.1'"),
        ({"agent": "tqc", "ent_coef": "auto_0"}, "must be a number, 'auto' or 'auto_0.1'"),
        ({"agent": "sac", "ent_coef": "auto_1e30"}, "must be a number, 'auto' or 'auto_0.1'"),
        ({"agent": "sac", "target_entropy": "auto_1"}, "target_entropy must be a number, 'auto', "),
        ({"agent": "sac", "ent_coef": -0.1}, "ent_coef must be a finite number from 0"),
        ({"policy": "start"}, "policy goes with token actions: with decoder leave it out"),
        ({"reference": "start"}, "reference goes with token actions"),
        ({"shadow": ["length"]}, "shadow goes with token actions"),
        ({"guards": "warn"}, "guards goes with token actions"),
        ({"keep": 3}, "keep goes with token actions"),
        ({"agent": "dqn"}, "agent 'dqn' chooses among tokens"),
        ({"agent": "sac", "decoder": None}, "agent 'sac' has continuous actions: give decoder"),
        ({"decoder": "nowhere"}, "nowhere: is not there"),
        ({"agent": "sac", "kl_coef": 0.1}, "'kl_coef'"),
        ({"agent": "sac", "top_quantiles_to_drop_per_net": 1}, "did you mean|unknown|takes"),
        ({"evaluations": 1}, "evaluations must be 2 at least"),
    ],
)
def test_what_does_not_go_together_is_one_line_and_leaves_nothing(tmp_path, keywords, message):
    with pytest.raises(InputError, match=message) as caught:
        train(tmp_path / "run", **keywords)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_decoder_with_too_small_a_context_leaves_nothing(tmp_path, vae):
    with pytest.raises(
        InputError, match="together take 34 tokens, but the decoder's context is 32"
    ):
        train(
            tmp_path / "run",
            env=VAE_ID,
            decoder=vae,
            env_kwargs={"max_new_tokens": 31},
            agent="sac",
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("agent", ["sac", "tqc", "crossq"])
def test_an_entropy_coefficient_that_is_found_by_itself(tmp_path, agent):
    found = {}
    for word in ("auto", "auto_0.1"):
        trained, _ = train(tmp_path / word, agent, ent_coef=word, timesteps=260)
        assert textgym.open_run(tmp_path / word).config["ent_coef"] == word
        found[word] = trained.log_ent_coef.exp().item()
    # It begins at 1 or at 0.1, and a few updates at a thousandth do not carry it far.
    assert found == {"auto": pytest.approx(1, rel=0.1), "auto_0.1": pytest.approx(0.1, rel=0.1)}
    assert found["auto"] != 1  # but it has learned


def test_words_for_numbers_on_the_command_line(tmp_path, vae):
    words = f"train {VAE_ID} --decoder {vae} --timesteps 32 --n-envs 4 --no-progress-bar".split()
    config = tmp_path / "settings.yaml"
    config.write_text("ent_coef: auto_0.1\ntarget-entropy: auto\n", encoding="utf-8")
    for name, more, value in (
        ("flag", ["--ent-coef", "auto"], "auto"),
        ("file", ["--config", str(config)], "auto_0.1"),
    ):
        out = tmp_path / name
        code, _, error = run_cli(*words, "--agent", "sac", "--out", str(out), *more)
        assert (code, error) == (0, "")
        assert textgym.open_run(out).config["ent_coef"] == value
    no = str(tmp_path / "no")
    for agent, value, message in (
        ("ppo", "auto", "--ent-coef must be a number, got 'auto'"),
        ("sac", "much", "--ent-coef must be a number or 'auto', got 'much'"),
        ("sac", "auto_0", "--ent-coef must be a number, 'auto' or 'auto_0.1' (where it begins)"),
    ):
        code, _, error = run_cli(*words, "--agent", agent, "--out", no, "--ent-coef", value)
        assert code == 2 and error.startswith(f"textgym: error: {message}")
        assert error.count("\n") == 1 and not (tmp_path / "no").exists()
    code, said, _ = run_cli("train", "--decoder", str(vae), "--agent", "sac", "--help")
    assert code == 0 and "NUMBER|auto" in said


def test_the_command_line(tmp_path, vae):
    out = tmp_path / "run"
    code, said, error = run_cli(
        *f"train {VAE_ID} --decoder {vae} --agent sac --timesteps 32 --n-envs 4".split(),
        *f"--out {out} --evaluations 2 --ent-coef 0.1 --no-progress-bar".split(),
        *"--reward length,target=3 --env-kwargs prior_coef=0.1".split(),
    )
    assert (code, error) == (0, "")
    assert f"{out}: saved after 32 texts" in said and "held-out length" in said
    assert f"textgym evaluate {VAE_ID} --policy {out} --reward length,target=3" in said
    assert "generate" not in said
    assert textgym.open_run(out).config["ent_coef"] == 0.1
    code, said, error = run_cli("evaluate", VAE_ID, "--policy", str(out), "--n-episodes", "3")
    assert (code, error) == (0, "") and "3 texts" in said
    code, _, error = run_cli("train", VAE_ID, "--agent", "sac", "--out", str(tmp_path / "no"))
    assert code == 2 and "agent 'sac' has continuous actions: give decoder" in error
    code, said, _ = run_cli("train", "--decoder", str(vae), "--agent", "td3", "--help")
    assert code == 0 and "--policy-delay" in said and "--kl-coef" not in said
