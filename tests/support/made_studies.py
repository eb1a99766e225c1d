"""Made studies with known figures: as an object, and as the directories that runs leave.

Texts look like reviews, some of them Chinese, and some are what a page must escape. With
`noise=0`, `seed_spread=0` every score is what `expected_score` says, to the last bit.
"""

import json
import random
from functools import cache
from pathlib import Path

import yaml

from textgym.agents.comparison.study import Cell, Study, StudyRun
from textgym.agents.runs.held_out import (
    HeldOutRecord,
    HeldOutSettings,
    HeldOutText,
    Judge,
    append_texts,
    prompts_digest,
    write_settings,
)
from textgym.envs.tasks.movie_reviews import load_movie_reviews

ENV = "textgym/MovieReview-v0"
CELLS = (("ppo", "crowd"), ("ppo", "lexicon"), ("grpo", "crowd"))
JUDGES = {"crowd": "reward", "lexicon": "reward", "length": "shadow", "critic": "gold"}
STRANGE = (
    "<script>document.title = 'broken'</script><img src=x onerror=\"document.title='broken'\">",
    "**not bold** [no link](https://example.com) `no code` | a | table | # no title",
    "\u202eright to left\u202c and \u2067\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "fine 👍🏽 family 👩‍👩‍👧 and a null \u0000, a tab\t, two\nlines & <b>&amp;</b> ]]> --> \u2028",
)
CHINESE_PROMPTS = ("这部电影", "我觉得导演", "总的来说，", "演员们")
CHINESE = (
    "非常好看，故事真诚感人，画面优美，值得再看一遍。可惜结尾有些仓促，节奏也慢，但是音乐很动听。"
)


def made_study(
    cells=CELLS,
    *,
    seeds=3,
    prompts=8,
    evaluations=4,
    timesteps=40_000,
    judges=None,
    effects=None,
    noise=0.2,
    seed_spread=0.1,
    kl=6.0,
    words=14,
    token_rewards=True,
    strange=True,
    chinese=True,
    seed=0,
):
    """A study in memory; nothing is written.

    :param cells: pairs of agent (with keywords) and reward.
    :param evaluations: the start and the end counted.
    :param judges: role by name.
    :param effects: `{label: {judge: change at the end}}`; a cell gains 1 from its own judge
        and 0.5 from the others where nothing is said.
    :param noise: standard deviation of a score at one prompt and evaluation.
    :param seed_spread: the same of a seed's effect at the end.
    :param kl: nats per text at the end, before a wobble of at most a tenth.
    """
    judges = dict(JUDGES if judges is None else judges)
    rows = made_prompts(prompts, chinese=chinese)
    settings = HeldOutSettings(
        env=ENV,
        prompts_sha256=prompts_digest(rows),
        n_prompts=prompts,
        seed=0,
        evaluations=evaluations,
        max_new_tokens=words,
        judges={name: Judge(role, name) for name, role in judges.items()},
    )
    steps = [timesteps * k // (evaluations - 1) for k in range(evaluations)]
    made = [Cell(f"{a} · {r}", {"agent": a, "reward": r}, r) for a, r in cells]
    runs = []
    for cell in made:
        gains = (effects or {}).get(cell.label, {})
        gains = {j: gains.get(j, 1.0 if j == cell.reward else 0.5) for j in judges}
        for n in range(seeds):
            draw = random.Random(f"{seed}/{cell.label}/{n}")
            shift = {j: draw.gauss(0, seed_spread) if seed_spread else 0.0 for j in judges}
            texts = {
                step: [
                    _text(step, k, rows[k]["prompt"], step / timesteps, gains, shift, cell, n)
                    for k in range(prompts)
                ]
                for step in steps
            }
            runs.append(_run(cell, n, HeldOutRecord(settings, rows, texts), timesteps))
    study = Study("agents and reward models", ENV, rows, judges, made, runs)
    vary = random.Random(f"{seed}/noise")
    for run in study.runs:
        for step, texts in run.record.texts.items():
            for k, text in enumerate(texts):
                texts[k] = _finish(text, words, kl * step / timesteps, noise, vary, strange, seed)
                if not token_rewards:
                    texts[k].token_rewards.clear()
    return study


def made_prompts(n, *, chinese=True):
    """`n` prompts with a column; every fourth is Chinese."""
    rows = []
    for k in range(n):
        is_chinese = chinese and k % 4 == 3
        i = k // 4
        written = CHINESE_PROMPTS[i % 4] + CHINESE[: i // 4]
        prompt = written if is_chinese else " ".join(_words(k)[:3])
        rows.append({"prompt": prompt, "sentiment": "positive" if k % 2 else "negative"})
    return rows


def base_score(prompt, judge):
    """What the start gets at a prompt, before noise."""
    return (prompt % 5) / 4 - 0.5 + len(judge) / 100


def expected_score(prompt, judge, gain, progress):
    """The score at a share of the training, before noise and a seed's effect."""
    return base_score(prompt, judge) + gain * progress


def write_made_study(study, out):
    """Write a study's runs as directories; returns where they stand (`cells/<slug>/seed-<n>`)."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    cells = [dict(cell.settings) for cell in study.cells]
    (out / "config.yaml").write_text(yaml.safe_dump({"verb": "compare", "cells": cells}))
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in study.prompts]
    (out / "held_out_prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    places = []
    for run in study.runs:
        place = out / run.name
        place.mkdir(parents=True)
        text = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
        (place / "config.yaml").write_text(text, encoding="utf-8")
        if run.record is not None:
            write_settings(place, run.record.settings, run.record.prompts)
            for step in run.record.steps:
                append_texts(place, run.record.texts[step])
        _write_lines(place / "samples.jsonl", run.samples)
        _write_lines(place / "metrics.jsonl", [{"step": run.timesteps, **run.figures}])
        places.append(place)
    return places


def _write_lines(path, rows):
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def _run(cell, seed, record, timesteps):
    name = f"cells/{cell.label.replace(' · ', '-').replace(',', '-').replace('=', '-')}/seed-{seed}"
    steps = record.steps
    samples = [
        {"step": step, "prompt": record.prompts[k]["prompt"], "completion": text.completion}
        for step in steps
        for k, text in enumerate(record.texts[step][:8])
    ]
    config = {"verb": "train", "env": ENV, "reward": cell.reward, "policy": "runs/reviews"}
    config |= {"agent": cell.settings["agent"].split(",")[0], "timesteps": timesteps, "seed": seed}
    config |= {"learning_rate": 0.001, "kl_coef": 0.05 if config["agent"] == "ppo" else 0.1}
    figures = {"reward/total": 1.0, "kl/per_episode": 5.0, "text/length": 12.0}
    figures |= {"text/distinct_2": 0.8, "time/rollout_tokens_per_second": 900.0}
    return StudyRun(
        directory=Path("made") / name,
        name=name,
        cell=cell.label,
        seed=seed,
        config=config,
        record=record,
        samples=samples,
        figures=figures,
        timesteps=timesteps,
        seconds=60.0 + seed,
    )


def _text(step, prompt, prompt_text, progress, gains, shift, cell, seed):
    """Scores without noise; `_finish` writes the words, so that the start is the same for all."""
    scores = {
        judge: expected_score(prompt, judge, gains[judge], progress) + shift[judge] * progress
        for judge in gains
    }
    key = "start" if step == 0 else f"{cell.label}/{seed}/{step}"
    return HeldOutText(step, prompt, key, prompt_text, (), (), (), 0.0, scores)


def _finish(text, words, kl, noise, vary, strange, seed):
    draw = random.Random(f"{seed}/{text.completion}/{text.prompt}")
    is_chinese = not text.finish_reason.isascii()
    source = list(CHINESE) if is_chinese else _words(text.prompt)[3:]
    # The later, the more words are new; the first ones of a prompt always stay.
    kept = max(2, round(len(source) * 0.4)) if text.step else len(source)
    turn = draw.randrange(400)
    other = source[turn % 40 :] + source[: turn % 40] if is_chinese else _words(turn)
    chosen = (source[:kept] + other)[: max(3, words - draw.randrange(words // 3 + 1))]
    pieces = chosen if is_chinese else [" " + word for word in chosen]
    if strange and text.prompt % 4 == 1:
        pieces = [*pieces, " " + STRANGE[text.prompt // 4 % len(STRANGE)]]
    ends = [sum(map(len, pieces[: i + 1])) for i in range(len(pieces))]
    log_probs = [round(-draw.uniform(0.5, 4), 5) for _ in pieces]
    spent = kl * draw.uniform(0.9, 1.1) / len(pieces)
    reference = [round(value - spent, 5) for value in log_probs]
    noisy = random.Random(f"{seed}/start/{text.prompt}") if text.step == 0 else vary
    scores = {j: s + (noisy.gauss(0, noise) if noise else 0.0) for j, s in text.scores.items()}
    rewards = {}
    if "lexicon" in scores:
        parts = [draw.uniform(-1, 1) for _ in pieces]
        excess = (sum(parts) - scores["lexicon"]) / len(parts)
        rewards["lexicon"] = [round(part - excess, 5) for part in parts]
    completion = "".join(pieces)
    reason = "stop" if len(chosen) < words else "length"
    nll = round(-sum(reference), 5)
    return HeldOutText(
        text.step, text.prompt, completion, reason, ends, log_probs, reference, nll, scores, rewards
    )


@cache
def _reviews():
    return [review.text for review in load_movie_reviews("validation")]


def _words(k):
    reviews = _reviews()
    words = []
    while len(words) < 24:
        words += reviews[k % len(reviews)].split()
        k += 97
    return words
