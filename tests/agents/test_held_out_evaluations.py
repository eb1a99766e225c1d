"""Held-out evaluations on the way: every algorithm writes its record, and training sees nothing."""

import json
import random
import re

import numpy as np
import pytest
import torch
from front_door import read_lines, run_cli
from stable_baselines3.common.callbacks import ConvertCallback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from textgym_resuming import (
    ID,
    PROMPTS,
    SMALL,
    digests,
    register_task,
    rows_of,
    score,
    unregister_task,
)
from textgym_testing import letter_tokenizer, tiny_lm

import textgym
from textgym import registry
from textgym.agents.evaluation.held_out_callback import evaluation_points
from textgym.agents.evaluation.held_out_prompts import HeldOutPrompts, prompt_row
from textgym.agents.evaluation.held_out_texts import HeldOutTexts
from textgym.agents.runs.figures import figures
from textgym.agents.runs.held_out import read_held_out
from textgym.envs.texts.prompts import PromptSource
from textgym.errors import InputError, RewardError
from textgym.reward_models import Normalize

HELD_OUT = ["b", "dc", "abab", "cc", "dd"]
TOKENS = 200
pytestmark = pytest.mark.filterwarnings("ignore:all .* earned the same reward:UserWarning")


@pytest.fixture(autouse=True)
def task():
    register_task(tokenizer=letter_tokenizer(), heldout_prompts=HELD_OUT)
    yield
    unregister_task()


def last_letter(prompts, completions, **columns):
    """A judge of its own opinion."""
    return [float(text[-1:] in ("c", "d")) for text in completions]


def train(out, word="ppo", **changes):
    settings = {"learning_rate": 0.01, **SMALL[word], **changes}
    settings = {"evaluations": 3, "timesteps": TOKENS, "progress_bar": False, **settings}
    settings.setdefault("policy", tiny_lm(spread=6.0, num_hidden_layers=1))
    return textgym.train(ID, agent=word, n_envs=4, out=out, report=lambda text: None, **settings)


# ---- where and when ----------------------------------------------------------


@pytest.mark.parametrize("word", registry.agents.names())
def test_every_algorithm_writes_a_whole_record_at_the_expected_steps(word, tmp_path):
    agent = train(tmp_path / "run", word, gold=last_letter, shadow="length,target=3")
    record = read_held_out(tmp_path / "run")
    boundaries = [0, *(row["step"] for row in rows_of(tmp_path / "run/metrics.jsonl"))]
    expected = {min(b for b in boundaries if b >= point) for point in (0, TOKENS / 2, TOKENS)}
    assert record.steps == sorted(expected) and record.steps[-1] == agent.num_timesteps
    assert len(record.steps) == 3
    assert {name: judge.role for name, judge in record.settings.judges.items()} == {
        "score": "reward",
        "length": "shadow",
        "last_letter": "gold",
    }
    assert record.prompts == [{"prompt": prompt} for prompt in HELD_OUT]
    for step, texts in record.texts.items():
        written = [text.completion for text in texts]
        assert [text.scores["score"] for text in texts] == score(HELD_OUT, written)
        assert [text.scores["last_letter"] for text in texts] == last_letter(HELD_OUT, written)
        for text in texts:
            assert len(text.token_ends) == len(text.log_probs) == len(text.reference_log_probs)
            assert text.token_ends[-1] == len(text.completion)
        if step == 0 and word != "nlpo":  # whose mask the start has not
            assert max(abs(text.kl) for text in texts) < 1e-3
    assert any(abs(text.kl) > 1e-3 for text in record.texts[record.steps[-1]])


def test_points_are_evenly_spaced_and_one_boundary_serves_several(tmp_path):
    assert evaluation_points(5, 1000) == [0, 250, 500, 750, 1000]
    train(tmp_path / "run", evaluations=8, timesteps=70)  # rollouts of 40 tokens
    assert read_held_out(tmp_path / "run").steps == [0, 40, 80]


@pytest.mark.parametrize("word", ["ppo", "grpo", "dqn"])
def test_training_is_the_same_to_the_last_bit(word, tmp_path):
    class Rude:
        """A judge that draws from the global generators and counts what it is asked."""

        name = "rude"

        def __init__(self):
            self.asked = 0

        def __call__(self, prompts, completions, **columns):
            self.asked += len(completions)
            drawn = random.random() + np.random.rand() + float(torch.rand(()))
            return [self.asked + drawn for _ in completions]

        def state_dict(self):
            return {"asked": self.asked}

        def load_state_dict(self, state):
            self.asked = int(state["asked"])

    def reward():
        return Normalize(score, running=True)

    with_them = train(tmp_path / "with", word, reward=reward(), gold=Rude(), evaluations=6)
    without = train(tmp_path / "without", word, reward=reward(), evaluations=0)
    assert digests(with_them) == digests(without)
    for record in ("metrics.jsonl", "samples.jsonl"):
        assert rows_of(tmp_path / "with" / record) == rows_of(tmp_path / "without" / record)


# ---- a prompt's own draws ----------------------------------------------------


def texts_of(prompts, seed=0, rows=64, **fields):
    """Completions by prompt."""
    lm = tiny_lm(spread=6.0, num_hidden_layers=1)
    fields = {"max_new_tokens": 6, "tokenizer": lm.tokenizer, "reward": score, **fields}
    source = HeldOutPrompts(PromptSource(prompts, lm.tokenizer).all(), seed, 9)
    limit = {"prompts": source, "max_prompt_tokens": source.longest}
    env = textgym.make_vec(ID, min(rows, len(prompts)), seed=0, **fields, **limit)
    policy = textgym.make_agent("a2c", ID, policy=lm, n_envs=1).policy
    texts = HeldOutTexts(env, source, {}, lm).write(policy, 0)
    found = {
        json.dumps(prompt_row(prompt)): text.completion
        for prompt, text in zip(source.prompts, texts, strict=True)
    }
    again = HeldOutTexts(env, source, {}, lm).write(policy, 0)  # at the next evaluation
    assert [text.completion for text in again] == [text.completion for text in texts]
    return found


def some(found, prompts):
    return {key: found[key] for key in (json.dumps({"prompt": prompt}) for prompt in prompts)}


MANY = ["".join(p) for p in np.random.default_rng(0).choice([*"abcd"], (40, 4))]
MANY = [*dict.fromkeys([*MANY, *HELD_OUT])]


def reply(prompt, turns, np_random):
    """Words that are drawn."""
    return "".join(np_random.choice([*"abcd"], 2)) if len(turns) < 4 else None


@pytest.mark.parametrize("fields", [{}, {"reply": reply, "max_new_tokens": 9, "max_context": 24}])
def test_a_prompts_text_is_its_own(fields):
    among = texts_of(HELD_OUT, **fields)
    assert texts_of(HELD_OUT[::-1], **fields) == among
    assert texts_of(HELD_OUT[2:3], **fields) == some(among, HELD_OUT[2:3])
    for rows in (7, 64):
        found = texts_of(MANY, rows=rows, **fields)
        assert some(found, HELD_OUT) == among
    assert len(set(found.values())) > 20


def test_another_seed_or_column_draws_anew():
    rows = [{"prompt": "ab", "number": n} for n in range(12)]
    first = texts_of(rows)
    assert len(set(first.values())) > 3  # the columns are part of the prompt
    turned = texts_of([{"number": n, "prompt": "ab"} for n in range(12)])
    assert [*turned.values()] == [*first.values()]
    assert texts_of(rows, seed=1) != first


# ---- what is written ---------------------------------------------------------


@torch.no_grad()
def naive_log_probs(lm, prompt, tokens, temperature=1.0, top_k=0):
    """One whole forward pass a token."""
    found, row = [], list(prompt)
    for token in tokens:
        logits = lm(torch.tensor([row]))[0, -1].double() / temperature
        logits[[0, 1]] = -torch.inf  # padding and start
        if top_k:
            least = logits.sort(descending=True).values[top_k - 1]
            logits[(logits < least) & (torch.arange(len(logits)) != token)] = -torch.inf
        found.append(float(logits.log_softmax(-1)[token]))
        row.append(token)
    return found


@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_log_probs_are_those_of_a_naive_computation(kl_coef, tmp_path):
    start = tiny_lm(spread=6.0, num_hidden_layers=1)
    sampling = {"temperature": 0.7, "top_k": 3}
    keywords = {"kl_coef": kl_coef, "kl_target": None, **sampling}
    agent = train(tmp_path / "run", policy=start, **keywords)
    record = read_held_out(tmp_path / "run")
    tokenizer = start.tokenizer
    for row, text in zip(HELD_OUT, record.texts[record.steps[-1]], strict=True):
        tokens = tokenizer.encode(text.completion)
        tokens += [tokenizer.eos_token_id] * (text.finish_reason == "stop")
        prompt = tokenizer.encode(row)
        ends = [min(i + 1, len(text.completion)) for i in range(len(tokens))]  # a token a letter
        assert text.token_ends == ends
        own = naive_log_probs(agent.policy.lm, prompt, tokens, **sampling)
        theirs = naive_log_probs(start, prompt, tokens, **sampling)
        assert text.log_probs == pytest.approx(own, abs=2e-5)
        assert text.reference_log_probs == pytest.approx(theirs, abs=2e-5)
        plain = sum(naive_log_probs(start, prompt, tokens))
        assert text.start_nll == pytest.approx(-plain, abs=1e-4)


def test_only_likely_tokens_are_drawn_under_nlpos_mask(tmp_path):
    train(tmp_path / "run", "nlpo", mask_top_p=0.2, timesteps=40, evaluations=2)
    texts = read_held_out(tmp_path / "run").texts[0]
    assert all(log_prob > -1e-4 for text in texts for log_prob in text.log_probs)  # one is left
    assert any(log_prob < -0.1 for text in texts for log_prob in text.reference_log_probs)


def test_a_reward_with_spans_says_what_each_token_is_worth(tmp_path):
    def a_is_good(prompts, completions, **columns):
        spans = [[(i, i + 1, 1.0) for i, c in enumerate(t) if c == "a"] for t in completions]
        totals = [float(t.count("a")) for t in completions]
        return textgym.RewardOutput(totals, spans=spans)

    train(tmp_path / "run", gold=a_is_good, timesteps=40, evaluations=2)
    for text in read_held_out(tmp_path / "run").texts[0]:
        worth = [float(letter == "a") for letter in text.completion]
        worth += [0.0] * (text.finish_reason == "stop")
        assert text.token_rewards == {"a_is_good": worth}


def test_ends_of_tokens_count_the_environments_words(tmp_path):
    fields = {
        "reply": lambda prompt, turns: "zz" if len(turns) < 3 else None,
        "max_new_tokens": 8,
        "max_context": 30,
        "tokenizer": letter_tokenizer("abcdz"),
    }
    lm = tiny_lm(letter_tokenizer("abcdz"), spread=6.0, num_hidden_layers=1)
    fields.pop("tokenizer")
    train(tmp_path / "run", policy=lm, env_kwargs=fields, timesteps=40, evaluations=2)
    texts = read_held_out(tmp_path / "run").texts[0]
    assert any("zz" in text.completion for text in texts)
    for text in texts:
        assert len(text.token_ends) == len(text.log_probs)
        assert text.token_ends == sorted(text.token_ends)
        assert text.token_ends[-1] <= len(text.completion)


def test_a_judge_may_say_nothing_of_a_text(tmp_path):
    def only_a(prompts, completions, **columns):
        return [1.0 if "a" in text else None for text in completions]

    train(tmp_path / "run", gold=only_a, timesteps=40, evaluations=2)
    texts = read_held_out(tmp_path / "run").texts[0]
    scores = [text.scores["only_a"] for text in texts]
    assert scores == [1.0 if "a" in text.completion else None for text in texts]


def test_tensorboard_shows_the_means_at_their_steps(tmp_path):
    train(tmp_path / "run", gold=last_letter)
    record = read_held_out(tmp_path / "run")
    (folder,) = (tmp_path / "run/tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    mean = {
        "held_out_scores/score": lambda text: text.scores["score"],
        "held_out_scores/last_letter": lambda text: text.scores["last_letter"],
        "held_out/kl": lambda text: text.kl,
        "held_out/length": lambda text: text.length,
    }
    for tag, value in mean.items():
        shown = {event.step: event.value for event in events.Scalars(tag)}
        assert shown == pytest.approx(
            {step: np.mean([value(t) for t in texts]) for step, texts in record.texts.items()},
            abs=1e-4,
        )
    shown = {tag for tag in events.Tags()["scalars"] if tag.startswith("held_out")}
    table = {figure.tag for figure in figures("Held-out evaluations")}
    names = {f"held_out_scores/{name}" for name in record.settings.judges}
    assert shown == {*mean, "held_out/distinct_2", "held_out/perplexity_ratio"}
    latent = {"held_out_prior/NAME"}  # of runs with a decoder
    assert shown - names == table - {"held_out_scores/NAME"} - latent
    ratios = [event.value for event in events.Scalars("held_out/perplexity_ratio")]
    assert ratios[0] == 1.0 and len(ratios) == 3
    assert len(events.Scalars("held_out/distinct_2")) == 3


# ---- shadows -----------------------------------------------------------------


@pytest.mark.parametrize("word", ["ppo"])
def test_a_shadow_is_shown_and_changes_nothing(word, tmp_path):
    def parts(prompts, completions, **columns):
        scores = [0.1 * text.count("a") + 0.7 * text.count("b") for text in completions]
        return textgym.RewardOutput(scores, components={"length": [1.0] * len(scores)})

    plain = train(tmp_path / "plain", word, reward=parts, evaluations=0)
    beside = train(
        tmp_path / "beside", word, reward=parts, shadow=["length,target=3"], evaluations=0
    )
    assert digests(plain) == digests(beside)
    first, second = (rows_of(tmp_path / run / "metrics.jsonl") for run in ("plain", "beside"))
    new = {name for row in second for name in row} - {name for row in first for name in row}
    assert new == {"reward_components/length_2"}  # `length` is the reward's own
    assert [{k: v for k, v in row.items() if k not in new} for row in second] == first


def test_a_shadow_that_fails_ends_nothing_and_says_nothing(tmp_path):
    def broken(prompts, completions, **columns):
        if any("c" in text for text in completions):
            raise ValueError("no licence")
        return [1.0] * len(completions)

    def silent(prompts, completions, **columns):
        return [float("nan")] * len(completions)

    plain = train(tmp_path / "plain", reward=score)
    with pytest.warns(UserWarning) as caught:
        beside = train(tmp_path / "beside", reward=score, shadow=[broken, silent])
    told = "\n".join({str(warning.message) for warning in caught})
    looks_on = ".* it only looks on, and says nothing of these texts"
    assert re.search(f"reward model 'broken' raised ValueError: no licence{looks_on}", told), told
    assert re.search(f"reward model 'silent' returned a score that is not{looks_on}", told), told
    assert digests(plain) == digests(beside)
    record = read_held_out(tmp_path / "beside")
    assert len(record.steps) == 3
    first = record.texts[0]
    assert any("c" in text.completion for text in first)
    assert [text.scores["broken"] for text in first] == [None] * len(HELD_OUT)
    every = [text for texts in record.texts.values() for text in texts]
    assert {text.scores["silent"] for text in every} == {None}
    assert [t.scores["score"] for t in first] == score(HELD_OUT, [t.completion for t in first])


# ---- going on ----------------------------------------------------------------


def stop_at(tokens):
    return lambda names, _: names["self"].num_timesteps < tokens


@pytest.mark.parametrize(
    "word, tear",
    [("ppo", "none"), ("grpo", "half a row"), ("ppo", "some rows"), ("grpo", "all of the last")],
)
def test_a_stopped_run_goes_on_with_the_same_record(word, tear, tmp_path):
    policy = tmp_path / "lm"
    tiny_lm(spread=6.0, num_hidden_layers=1).save_pretrained(policy)
    keywords = {"policy": policy, "gold": ["length,target=2"], "evaluations": 5}
    keywords["timesteps"] = 240  # both algorithms evaluate at the checkpoint that they go on from
    whole = train(tmp_path / "whole", word, **keywords)
    parts = tmp_path / "parts"
    train(parts, word, callback=ConvertCallback(stop_at(150)), **keywords)
    path = parts / "held_out.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert 5 < len(lines) < 25
    kept = {"none": len(lines), "half a row": -1, "some rows": -3, "all of the last": -5}[tear]
    path.write_text("".join(lines[:kept]) + (lines[kept][:40] if tear == "half a row" else ""))
    again = {"callback": None, "progress_bar": False, "report": len}
    resumed = textgym.train(ID, out=parts, resume=True, **again)
    assert digests(resumed) == digests(whole)
    for record in ("metrics.jsonl", "held_out.jsonl"):
        assert rows_of(parts / record) == rows_of(tmp_path / "whole" / record)


def test_the_last_evaluation_is_made_up_for(tmp_path):
    policy = tmp_path / "lm"
    tiny_lm(spread=6.0, num_hidden_layers=1).save_pretrained(policy)
    train(tmp_path / "run", policy=policy, kl_coef=0.0, kl_target=None)
    path = tmp_path / "run/held_out.jsonl"
    before = path.read_text()
    path.write_text("".join(before.splitlines(keepends=True)[:-2]))
    assert (tmp_path / "run/checkpoints/start").is_dir()
    textgym.train(ID, out=tmp_path / "run", resume=True, progress_bar=False, report=len)
    assert path.read_text() == before
    (tmp_path / "run/checkpoints/start/config.json").unlink()


def test_what_is_evaluated_may_not_change(tmp_path):
    policy, file = tmp_path / "lm", tmp_path / "prompts.txt"
    tiny_lm(spread=6.0, num_hidden_layers=1).save_pretrained(policy)
    file.write_text("b\ndc\n")
    train(tmp_path / "run", policy=policy, prompts=file, timesteps=40)
    again = {"out": tmp_path / "run", "resume": True, "progress_bar": False, "report": len}
    with pytest.raises(InputError, match="the run has evaluations=3, but evaluations=4 was given"):
        textgym.train(ID, evaluations=4, **again)
    with pytest.raises(InputError, match=r"the run has gold=\[\], but gold=\['length'\] was given"):
        textgym.train(ID, gold=["length"], **again)
    file.write_text("b\ncc\n")
    with pytest.raises(InputError, match=r"heldout_prompts .*prompts.txt had SHA-256"):
        textgym.train(ID, **again)
    with pytest.raises(InputError, match=r"have prompts_sha256='.*' \(held_out.json\), but now"):
        textgym.train(ID, force_resume=True, **again)


# ---- bad input ---------------------------------------------------------------


def test_a_failing_judge_is_named_and_the_agent_is_saved(tmp_path):
    def moody(prompts, completions, **columns):
        moody.asked += 1
        if moody.asked > 1 and "dc" in prompts:
            raise ValueError("not today")
        return [0.0] * len(completions)

    moody.asked = 0
    expected = (
        r"'moody' raised ValueError: not today \(prompt 'dc'\) at step 120; the agent is saved"
    )
    with pytest.raises(RewardError, match=expected):
        train(tmp_path / "run", gold=moody)
    assert textgym.load_agent(tmp_path / "run").num_timesteps == 120
    assert read_held_out(tmp_path / "run").steps == [0]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"evaluations": 1}, "evaluations must be 2 at least"),
        ({"evaluations": 0, "gold": "length"}, "gold is of the held-out evaluations: give eval"),
        ({"evaluations": 0, "prompts": ["b"]}, "prompts is of the held-out evaluations"),
        ({"gold": score}, "gold judge 'score' is a contestant too"),
        (
            {"gold": "length,target=3,scale=1", "shadow": "length,scale=1,target=3"},
            "gold judge 'length,target=3,scale=1' is a contestant too",
        ),
        ({"gold": ["length", "length"]}, "gold judge 'length' is given twice"),
        ({"shadow": score}, "shadow 'score' is what is trained on"),
        ({"shadow": ["length", "length"]}, "shadow 'length' is given twice"),
        ({"gold": "lenght"}, "did you mean 'length'"),
        ({"gold": lambda prompts, completions, wanted: []}, "asks for 'wanted'"),
        ({"prompts": [""]}, "empty prompt"),
        ({"prompts": [{"prompt": "b", "x": {1, 2}}]}, "do not come back from JSON"),
        ({"prompts": ["abcd" * 16]}, "the model's context is 64"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_leaves_nothing(given, message, tmp_path):
    with pytest.raises(InputError, match=message):
        train(tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_task_without_held_out_prompts_is_told_so_in_one_line(tmp_path):
    tiny_lm(num_hidden_layers=1).save_pretrained(tmp_path / "lm")
    register_task(tokenizer=letter_tokenizer())
    code, _, error = run_cli(
        *("train", ID, "--policy", tmp_path / "lm", "--out", tmp_path / "run"),
        *("--evaluations", "3", "--n-envs", "2"),
    )
    assert code == 2 and error.count("\n") == 1
    assert "no prompts that its training never draws" in error and "--prompts FILE" in error


def test_training_prompts_among_the_held_out_ones_are_counted(tmp_path):
    with pytest.warns(UserWarning, match="2 of 3 held-out prompts are among the training prompts"):
        train(tmp_path / "run", prompts=["b", *PROMPTS[:2]], timesteps=40)


def test_the_command_line_reads_prompts_from_a_file(tmp_path):
    tiny_lm(num_hidden_layers=1).save_pretrained(tmp_path / "lm")
    (tmp_path / "p.jsonl").write_text('{"prompt": "b", "n": 1}\n{"prompt": "dd", "n": 2}\n')
    code, _, error = run_cli(
        *("train", ID, "--policy", tmp_path / "lm", "--out", tmp_path / "run", "--n-envs", "4"),
        *("--evaluations", "2", "--prompts", tmp_path / "p.jsonl", "--timesteps", "20"),
        *("--gold", "length", "--shadow", "repetition", "--no-progress-bar", "--n-steps", "10"),
    )
    assert (code, error) == (0, "")
    record = read_held_out(tmp_path / "run")
    assert record.prompts == read_lines(tmp_path / "p.jsonl")
    judges = {name: (j.role, j.spec) for name, j in record.settings.judges.items()}
    assert judges == {
        "score": ("reward", ""),
        "repetition": ("shadow", "repetition"),
        "length": ("gold", "length"),
    }
