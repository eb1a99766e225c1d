"""The Chinese demo: its readers and figures by hand, the whole road in short, what it refuses."""

import hashlib
import io
import json
import math
import shutil

import numpy as np
import pytest
from front_door import run_cli
from rich.console import Console

import textgym
from textgym.agents.building.reward_checkpoint import load_reward
from textgym.agents.evaluation.report import Interval
from textgym.agents.runs.held_out import HeldOutText, read_held_out
from textgym.demonstration import chinese
from textgym.demonstration.chinese import ChineseSettings
from textgym.demonstration.chinese_figures import Poems, figures_of, written
from textgym.demonstration.chinese_readers import (
    JUDGE,
    TASTE,
    area_under_curve,
    paid,
    poets_apart,
    rules_and_taste,
)
from textgym.demonstration.run import run_demo
from textgym.envs.tasks.quatrains import load_quatrains, quatrain_tokenizer
from textgym.paths import CHINESE_START, start_model_directory
from textgym.policies.language_model.causal_lm import CausalLM

FORM = chinese.FORM
# 登鸛雀樓 keeps all rules; below, two lines trade places, or a character is missing.
FIRST, REST = "白日依山盡，", "黃河入海流。欲窮千里目，更上一層樓。"
UNRHYMED, SHORT = "黃河入海目。欲窮千里流，更上一層樓。", "黃河入海流。欲窮千里目，更上層樓。"


def held_out(completion, **scores):
    return HeldOutText(0, 0, completion, "stop", [], [-1.0, -2.0], [-1.5, -2.5], 0.0, scores)


def test_the_figures_of_three_poems_are_those_by_hand():
    texts = [held_out(REST, **{JUDGE: 1.0}), held_out(UNRHYMED, **{JUDGE: 3.0})]
    texts.append(held_out(SHORT, **{JUDGE: 2.0}))
    figures = figures_of(Poems([FIRST] * 3, texts), "wujue", {"黃河入海流", "更上層樓"})
    assert figures["well_formed"]["mean"] == pytest.approx(2 / 3)
    assert figures["rhyme"]["mean"] == pytest.approx(2 / 3)
    assert figures["all_rules"]["mean"] == pytest.approx(1 / 3)
    # 11 places: two wrong ends (目 in line 2, 流 in line 3); a lost line has 2 and its end.
    assert figures["tones"]["mean"] == pytest.approx((11 + 9 + 8) / 33)
    half = 1.96 * math.sqrt(1.0 / 3)
    assert figures["judge"] == {
        "mean": 2.0,
        "low": pytest.approx(2 - half),
        "high": pytest.approx(2 + half),
    }
    assert figures["copied_lines"] == pytest.approx(3 / 9)  # 黃河入海流 twice, 更上層樓 once
    assert figures["commonest_line"] == pytest.approx(2 / 3)
    assert figures["commonest_rhyme"] == 1.0  # 樓, three times
    assert figures["duplicates"] == 0.0 and figures["kl"] == pytest.approx(1.0)
    assert written(figures["judge"]) == f"2.000 [{2 - half:.3f}, {2 + half:.3f}]"


def test_a_judge_that_was_not_asked_has_no_figure():
    figures = figures_of(Poems([FIRST] * 2, [held_out(REST)] * 2), "wujue", set())
    assert "judge" not in figures and figures["duplicates"] == 0.5
    assert written(None) == ""


def test_the_area_under_the_curve_is_that_of_all_pairs():
    area = area_under_curve([3.0, 2.0, 0.0], [1.0, 2.0])
    assert area.mean == pytest.approx((1 + 1 + 1 + 0.5 + 0 + 0) / 6)
    # Shares that each text wins: 1, .75, 0 and 2/3, .5; their variances over 3 and 2 texts.
    variance = np.var([1, 0.75, 0], ddof=1) / 3 + np.var([2 / 3, 0.5], ddof=1) / 2
    assert area.half_width == pytest.approx(1.96 * math.sqrt(variance))
    assert area_under_curve([2.0] * 4, [1.0] * 4) == Interval(1.0, 0.0)


def test_no_poet_is_in_both_halves_nor_among_the_start_models():
    halves = poets_apart(load_quatrains(FORM, "judge"))
    taste, judge = ({poem.author for poem in half} for half in halves)
    trained = {poem.author for poem in load_quatrains(split="train")}
    asked = {poem.author for poem in load_quatrains(split="test")}
    assert not taste & judge and not (taste | judge) & (trained | asked)
    assert 0.35 < len(halves[0]) / (len(halves[0]) + len(halves[1])) < 0.65


def test_rules_count_ten_and_taste_at_most_point_two():
    def taste(prompts, completions, **columns):
        return [3.0] * len(completions)

    scores = paid(taste, "wujue")([FIRST, FIRST], [REST, UNRHYMED]).scores
    squashed = 0.1 * 2 * math.tanh(1.5)
    unrhymed = (1.0 + 0.25 + 9 / 11) / 3  # line 4 alone ends on a level tone; two tones are wrong
    assert scores == pytest.approx([10 + squashed, 10 * unrhymed + squashed])


def test_the_start_model_is_small_whole_and_knows_its_characters():
    place = start_model_directory(CHINESE_START)
    assert sum(path.stat().st_size for path in place.iterdir()) <= 8 * 2**20
    digests = json.loads((place / "manifest.json").read_text(encoding="utf-8"))["sha256"]
    assert digests.keys() >= {"model.safetensors", "config.json", "tokenizer.json"}
    for name, digest in digests.items():
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == digest, name
    lm = CausalLM.from_pretrained(CHINESE_START)
    assert lm.tokenizer == quatrain_tokenizer()
    assert textgym.generate(CHINESE_START, prompt=FIRST, max_new_tokens=19, temperature=0)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A short demo at the command line: its directory, its report, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "run"
    flags = ("--chinese", "--quick", "--seed", "3", "--no-progress-bar")
    code, printed, error = run_cli("demo", *flags, "--out", out)
    assert code == 0, error
    return out, json.loads((out / "report.json").read_text(encoding="utf-8")), printed


def test_the_report_says_what_the_poems_are(demo):
    out, report, printed = demo
    assert report["chinese"] is True and report["prompts"] == 16
    assert "These figures prove nothing" in printed and "textgym demo --chinese" in printed
    assert f"{JUDGE}: AUC" in printed and "Eight first lines" in printed
    runs = textgym.open_run(out / "comparison").children()
    by_reward = {run.config["reward"].partition(":")[2].partition(",")[0]: run for run in runs}
    assert by_reward.keys() == {"rules_and_taste", "rules_alone"}
    for name, reward in (("after", "rules_and_taste"), ("rules_alone", "rules_alone")):
        record = read_held_out(by_reward[reward].directory)
        poems = Poems([row["prompt"] for row in record.prompts], record.texts[record.steps[-1]])
        corpus = chinese._lines_of_poets()
        assert report[name] == json.loads(json.dumps(figures_of(poems, FORM, corpus)))
    page = (out / "poems.md").read_text(encoding="utf-8")
    assert page.count("<br>") >= 3 * 16 * 2 and record.prompts[0]["prompt"] in page
    assert (out / "comparison" / "report.html").is_file()


def test_the_agent_of_the_demo_is_paid_rules_and_taste(demo):
    out, _, _ = demo
    taste = load_reward(out / TASTE)
    reward = rules_and_taste(str(out / TASTE), FORM)
    poem = load_quatrains(FORM, "test")[0]
    prompt, rest = poem.first_line, poem.text[len(poem.first_line) :]
    expected = 10.0 + 0.1 * 2 * math.tanh(taste.score([poem.text])[0] / 2)
    assert reward([prompt], [rest]).scores == pytest.approx([expected])


def test_a_judge_that_knows_too_little_is_not_asked(demo, monkeypatch, tmp_path):
    """Resumed, too: what is there is taken as it is, and no reader is fitted again."""
    out = tmp_path / "run"
    shutil.copytree(demo[0], out, ignore=shutil.ignore_patterns("comparison", "report.json"))
    asked = {}

    def refuse(*arguments, **keywords):
        raise AssertionError("a finished part is made again")

    def stop(*arguments, **keywords):
        asked.update(keywords)
        raise KeyboardInterrupt

    monkeypatch.setattr(chinese, "fit_taste", refuse)
    monkeypatch.setattr(chinese, "compare", stop)
    monkeypatch.setattr(chinese, "FEWEST_AUC", 1.1)
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(KeyboardInterrupt):
        run_demo(out=out, resume=True, progress_bar=False, console=console)
    said = console.file.getvalue()
    assert asked["gold"] == () and "the judge is not asked" in said and "there already" in said
    assert f"in {out}: {TASTE}, {JUDGE}. Go on with:" in said


@pytest.mark.parametrize("flag", ["--human", "--from-scratch", "--reader=smollm2"])
def test_what_does_not_go_with_chinese_is_refused(flag, tmp_path):
    code, _, error = run_cli("demo", "--chinese", flag, "--out", tmp_path / "out")
    name = flag.strip("-").partition("=")[0]
    assert code == 2 and error.startswith("textgym: error: ")
    assert f"{name} does not go with chinese" in error
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_the_estimate_grows_with_the_work_and_the_step():
    quick, whole = ChineseSettings.quick(), ChineseSettings()
    assert quick.estimate(0.2) < whole.estimate(0.2) < whole.estimate(0.4)
