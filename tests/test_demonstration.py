"""The demo: the same figures on a slow machine, finished parts that stay, its agents on disk."""

import hashlib
import io
import json
import re
import shutil

import numpy as np
import pytest
from front_door import run_cli
from rich.console import Console
from safetensors.torch import load_file

import textgym
from textgym.agents.building.reward_checkpoint import load_reward
from textgym.agents.evaluation.bundled_rewards import critic, with_a_floor
from textgym.agents.runs.held_out import read_held_out
from textgym.demonstration import start_model as demonstration
from textgym.demonstration.run import run_demo
from textgym.demonstration.settings import Settings, seconds_of_a_step, written
from textgym.demonstration.start_model import StartModelDemo
from textgym.errors import InputError
from textgym.paths import START
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.pretraining.loop import TrainingReport
from textgym.text_metrics.metrics import distinct_n


def quiet_demo(out, **keywords):
    console = Console(file=io.StringIO(), width=200)
    run_demo(out=out, quick=True, seed=3, progress_bar=False, console=console, **keywords)
    return outcome(out), console.file.getvalue()


def digest(path):
    """Of every number of a model; the bytes of a file may come in another order."""
    tensors = load_file(path)
    return {k: hashlib.sha256(tensors[k].numpy().tobytes()).hexdigest() for k in sorted(tensors)}


def outcome(out):
    """All figures but the times, and every weight that was learned."""
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    del report["seconds"], report["seconds_of_parts"], report["reward_model"]["fit"]["seconds"]
    places = {run.config["kl_coef"]: run.directory for run in runs(out)}
    places["start"] = out / "start"
    return report, {name: digest(path / "model.safetensors") for name, path in places.items()}


def runs(out):
    """The two runs of a demo, that with the larger β first."""
    found = textgym.open_run(out / "comparison").children()
    return sorted(found, key=lambda run: -run.config["kl_coef"])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "run"
    return out, *quiet_demo(out)


def test_a_demo_that_is_stopped_and_resumed_ends_the_same(demo, tmp_path, monkeypatch):
    whole, (report, weights), _ = demo
    out = tmp_path / "run"
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("comparison", "report.json"))

    def refuse(*arguments, **keywords):
        raise AssertionError("a finished part is made again")

    monkeypatch.setattr(demonstration, "train_language_model", refuse)
    monkeypatch.setattr(demonstration, "fit_crowd", refuse)
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(InputError, match="the run has seed=3, but seed=4 was given"):
        run_demo(out=out, resume=True, seed=4)
    run_demo(out=out, resume=True, progress_bar=False, console=console)
    assert outcome(out) == (report, weights)
    assert console.file.getvalue().count("is there already") == 2  # start, reward model
    assert weights[0.27] != weights["start"] != weights[0.03] != weights[0.27]
    assert report["after"]["kl"][0] != 0.0 != report["after"]["judges"]["critic"][0]
    assert report["before"]["bits_per_character"] != report["after"]["bits_per_character"]


def test_the_quick_form_says_that_its_figures_prove_nothing(demo):
    printed = demo[2]
    assert printed.count("These figures prove nothing") == 1
    assert printed.index("Eight prompts") < printed.index("These figures prove nothing")


def test_from_scratch_at_the_command_line(tmp_path):
    """In this process, which has fitted the judges by now; .ci/run has it as a command."""
    out = tmp_path / "demo"
    code, printed, error = run_cli(
        "demo", "--quick", "--from-scratch", "--out", out, "--no-progress-bar"
    )
    assert code == 0, error
    assert "Tokenizer and pretraining" in printed and "tensorboard" in printed
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["before"]["episodes"] == report["after"]["episodes"] == 16
    assert set(report["after"]["judges"]) == {"critic", "other_raters"}
    assert (out / "comparison" / "report.html").read_text("utf-8").lower().startswith("<!doctype")


def test_the_reward_model_is_the_best_of_what_there_is(demo):
    out, (report, _), printed = demo
    crowd = report["reward_model"]
    used = max(crowd["chosen_on"], key=crowd["chosen_on"].get)
    assert crowd["used"] == used and crowd["pair_accuracy"] == crowd["accuracies"][used]
    assert crowd["chosen_on"].keys() == {"trunk and n-grams", "trunk", "n-grams"}
    assert f"Used, as the best on other movies: {used}" in printed
    texts = ["A funny and moving film.", "A dull, stupid mess of a film."]
    scores = load_reward(out / "reward_model").score(texts)
    assert scores[0] > scores[1]


def test_the_agents_of_the_demo_know_their_reward(demo):
    out, _, _ = demo
    run, name = runs(out)[0], runs(out)[0].config["reward"]
    with pytest.raises(InputError, match=r"a checkpoint imports no code: pass reward=\.\.\."):
        textgym.load_agent(run.directory)
    agent = textgym.load_agent(run.directory, reward=name)
    assert agent.num_timesteps == Settings.quick().timesteps
    texts = ["A funny and moving film of eleven words that is no more.", "Dull."]
    reward = with_a_floor(load_reward(out / "reward_model"))
    assert agent.env.get_attr("task")[0].reward(["x", "x"], texts).scores == pytest.approx(
        reward(["x", "x"], texts).scores
    )


def test_the_figures_are_those_of_an_evaluation(demo):
    """What the record says of the last texts is what `evaluate` finds in them."""
    out, (report, _), _ = demo
    chosen = runs(out)[0]
    rows = read_held_out(chosen.directory)
    last = rows.texts[rows.steps[-1]]
    texts = [text.completion for text in last]
    assert report["after"]["judges"]["critic"][0] == pytest.approx(
        np.mean(critic()([row["prompt"] for row in rows.prompts], texts)), abs=1e-6
    )
    tokens = sum(len(text.token_ends) for text in last)
    nats = sum(text.start_nll for text in last)
    assert report["after"]["perplexity"] == pytest.approx(np.exp(nats / tokens))
    assert report["after"]["length"][0] == pytest.approx(tokens / 16)
    kl = [sum(text.log_probs) - sum(text.reference_log_probs) for text in last]
    assert report["after"]["kl"][0] == pytest.approx(np.mean(kl))
    assert report["before"]["kl"][0] == pytest.approx(0.0, abs=1e-4)
    assert report["after"]["distinct_2"] == pytest.approx(distinct_n(texts, 2))


def test_a_demo_that_fails_says_what_is_there(tmp_path, monkeypatch):
    console, out = Console(file=io.StringIO(), width=200), tmp_path / "run"

    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(demonstration, "fit_crowd", stop)
    monkeypatch.setattr(
        demonstration, "train_language_model", lambda *given, **keywords: TrainingReport()
    )
    with pytest.raises(KeyboardInterrupt):
        run_demo(out=out, quick=True, progress_bar=False, console=console)
    command = rf"(\S+/)?textgym demo --out {re.escape(str(out))} --resume"  # on the path or not
    said = console.file.getvalue()
    assert re.search(rf"in {re.escape(str(out))}: start\. Go on with: {command}", said), said
    assert CausalLM.from_pretrained(out / "start").config.hidden_size == 192


@pytest.mark.parametrize("step, is_slow", [(0.1, False), (5.0, True)])
def test_a_slow_machine_is_told_of_the_short_form(tmp_path, monkeypatch, step, is_slow):
    monkeypatch.setattr(demonstration, "seconds_of_a_step", lambda lm: step)
    console = Console(file=io.StringIO(), width=200)
    parts = StartModelDemo(tmp_path, Settings(), False, 0, False, console, None)
    parts._say_how_long(None)
    text = console.file.getvalue()
    assert f"about {written(Settings().estimate(step))} on this machine" in text
    assert ("textgym demo --quick" in text) == is_slow


def test_the_estimate_grows_with_the_work_and_the_step():
    whole, quick = Settings(), Settings.quick()
    assert quick.estimate(0.2) < whole.estimate(0.2) < whole.estimate(0.4)
    assert whole.estimate(0.2) < whole.estimate(0.2, from_scratch=True)
    assert whole.estimate(0.4) - whole.estimate(0.2) == pytest.approx(
        whole.estimate(0.6) - whole.estimate(0.4)
    )
    assert [written(t) for t in (14, 80, 100, 5399, 7200)] == [
        "10 seconds", "80 seconds", "2 minutes", "90 minutes", "2.0 hours",
    ]  # fmt: skip


def test_timing_a_step_changes_nothing():
    lm = CausalLM.from_pretrained(START)
    before = {name: value.clone() for name, value in lm.state_dict().items()}
    assert 0 < seconds_of_a_step(lm, repeats=1)
    assert all((value == before[name]).all() for name, value in lm.state_dict().items())
    assert all(parameter.grad is None for parameter in lm.parameters())
