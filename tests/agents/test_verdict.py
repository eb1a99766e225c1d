"""The verdict of made studies whose figures are known."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_studies import made_study
from markdown_it import MarkdownIt
from rich.console import Console

from textgym.agents.comparison.costs import costs_of
from textgym.agents.comparison.judgements import judge_study
from textgym.agents.comparison.page.verdict_block import verdict_block
from textgym.agents.comparison.study import Study
from textgym.agents.comparison.table_formats import latex_text, markdown_text
from textgym.agents.comparison.verdict import verdict_of
from textgym.errors import InputError

CROWD, LEXICON, GRPO = "ppo · crowd", "ppo · lexicon", "grpo · crowd"


def exact(**keywords):
    """Without noise: every seed's scores are what the effects say."""
    return made_study(noise=0, seed_spread=0, prompts=20, strange=False, **keywords)


def changed(study, change):
    """The study with `change(cell, seed, k, text)` instead of each text of evaluation k."""
    runs = []
    for run in study.runs:
        texts = {
            step: [change(run.cell, run.seed, k, text) for text in run.record.texts[step]]
            for k, step in enumerate(run.record.steps)
        }
        runs.append(replace(run, record=replace(run.record, texts=texts)))
    return replace(study, runs=runs)


def with_scores(text, **scores):
    return replace(text, scores={**text.scores, **scores})


def test_scores_gains_and_differences_without_noise():
    study = exact(effects={CROWD: {"critic": 0.75}, LEXICON: {"critic": 0.25}})
    found = judge_study(study, "critic")
    # The start's scores are (k % 5) / 4 − 0.5 + 0.06, so their deviation is √(1/8).
    spread = (1 / 8) ** 0.5
    assert found.spread == pytest.approx(spread)
    assert found.aggregate == "IQM" and found.start.value == pytest.approx(0.06)
    assert [cell.cell for cell in found.cells] == [CROWD, GRPO, LEXICON]
    for cell, gain in zip(found.cells, (0.75, 0.5, 0.25), strict=True):
        assert cell.score.value == pytest.approx(0.06 + gain)
        assert cell.gain.value == pytest.approx(gain / spread)
        assert (cell.gain.low, cell.gain.high) == pytest.approx((gain / spread,) * 2)
        assert cell.improvement.value == 1
        assert cell.best_step == 40_000 and cell.seeds == [0, 1, 2]
    assert found.pair(CROWD, LEXICON).difference.value == pytest.approx(0.5 / spread)
    assert found.pair(LEXICON, CROWD).difference.value == pytest.approx(-0.5 / spread)
    assert found.pair(LEXICON, CROWD).improvement.value == 0
    assert found.winner == CROWD
    own = verdict_of(study).own
    assert own[LEXICON].value == pytest.approx(1 / spread)


def test_a_winner_is_one_only_where_every_interval_excludes_0():
    clear = verdict_of(made_study(seeds=5, prompts=40, effects={CROWD: {"critic": 1.5}}))
    assert clear.winner == CROWD
    nearest = clear.judgements[0].pair(CROWD, clear.judgements[0].cells[1].cell)
    told = f"{nearest.difference.value:+.2f} SD [{nearest.difference.low:+.2f}, "
    start = f"{CROWD} is better than both other cells by critic: {told}"
    assert clear.headline.startswith(start)
    assert clear.headline.endswith(f"over {nearest.other}, the nearest.")

    equal = verdict_of(made_study(seeds=5, prompts=40))
    assert equal.winner is None
    first = equal.judgements[0].cells[0].cell
    assert equal.headline.startswith(
        f"No winner: by critic {first} is first, but is not told apart"
    )
    # One of the two differences does not suffice.
    two = {CROWD: {"critic": 2.0}, GRPO: {"critic": 2.0}, LEXICON: {"critic": 0.0}}
    tie = verdict_of(made_study(seeds=5, prompts=40, effects=two))
    assert tie.judgements[0].pair(CROWD, LEXICON).difference.excludes_zero
    assert tie.judgements[0].pair(GRPO, LEXICON).difference.excludes_zero
    assert tie.winner is None and tie.headline.startswith("No winner: ")


def test_judges_must_agree_on_a_winner():
    judges = {"crowd": "reward", "lexicon": "reward", "critic": "gold", "raters": "gold"}
    one = {"critic": 1.5, "raters": 0.0}
    other = {"critic": 0.0, "raters": 1.5}
    rest = {"critic": 0.1, "raters": 0.1}
    effects = {CROWD: one, LEXICON: other, GRPO: rest}
    found = verdict_of(exact(judges=judges, effects=effects))
    assert found.headline == (
        f"No winner: the judges disagree; critic puts {CROWD} first, raters puts {LEXICON} first."
    )
    assert found.winner is None
    both = {CROWD: {"critic": 1.5, "raters": 1.0}, LEXICON: rest, GRPO: rest}
    agreed = verdict_of(exact(judges=judges, effects=both))
    assert agreed.winner == CROWD
    assert "by critic: +3.96 SD" in agreed.headline and "by raters: +2.55 SD" in agreed.headline


def test_the_best_of_bad_cells_is_said_to_be_no_better_than_the_start():
    effects = {CROWD: {"critic": -0.1}, LEXICON: {"critic": -0.5}, GRPO: {"critic": -0.9}}
    found = verdict_of(exact(effects=effects))
    assert found.winner == CROWD
    assert found.headline.endswith("It is not shown to be better than its start by critic.")


def test_one_cell_is_compared_with_its_start_alone():
    found = verdict_of(exact(cells=[("ppo", "crowd")]))
    assert found.winner is None
    assert found.headline.startswith(
        f"One cell, so nothing to compare with: {CROWD}; by critic it is better than its start: "
    )


def test_without_a_gold_judge_there_is_no_verdict():
    found = verdict_of(exact(judges={"crowd": "reward", "lexicon": "reward"}))
    assert found.headline.startswith("No verdict: no independent judge")
    assert found.judgements == [] and found.winner is None
    assert len(found.costs) == 3 and set(found.own) == {CROWD, LEXICON, GRPO}
    assert "What it cost" in found.markdown()
    nothing = Study("empty", "X", [], {"critic": "gold"}, [], [])
    assert verdict_of(nothing).headline.startswith("No verdict")


def test_a_gold_judge_that_is_a_contestant_is_refused():
    study = replace(exact(), judges={"crowd": "gold", "lexicon": "reward"})
    with pytest.raises(InputError, match=f"crowd is a gold judge, and {CROWD} trains on it"):
        verdict_of(study)


def test_cells_with_missing_seeds_are_paired_on_those_that_both_have():
    study = exact()
    runs = [run for run in study.runs if (run.cell, run.seed) != (GRPO, 1)]
    found = verdict_of(replace(study, runs=runs))
    judgement = found.judgements[0]
    assert judgement.pair(CROWD, GRPO).difference.seeds == 2
    assert judgement.pair(CROWD, LEXICON).difference.seeds == 3
    told = f"{GRPO} has no seed 1: cells are compared on the seeds that both have"
    assert told in found.cautions
    # The missing run's scores are in no figure of the pair.
    odd = changed(
        study,
        lambda cell, seed, k, text: with_scores(text, critic=99.0) if seed == 1 else text,
    )
    runs = [run for run in odd.runs if (run.cell, run.seed) != (GRPO, 1)]
    pair = judge_study(replace(odd, runs=runs), "critic").pair(CROWD, GRPO)
    assert abs(pair.difference.value) < 1e-9
    # Not one seed in common: not compared, and no winner.
    apart = [r for r in study.runs if (r.seed == 0) == (r.cell == CROWD)]
    judgement = judge_study(replace(study, runs=apart), "critic")
    assert judgement.pair(CROWD, GRPO) is None and judgement.winner is None


def test_few_seeds_are_told():
    one = verdict_of(made_study(seeds=1))
    assert any("one seed, so the intervals are over prompts alone" in c for c in one.cautions)
    assert one.judgements[0].cells[0].score.high > one.judgements[0].cells[0].score.low
    two = verdict_of(made_study(seeds=2))
    assert any("two seeds hardly show" in c for c in two.cautions)
    assert not any("seed" in c for c in verdict_of(made_study(seeds=3)).cautions)


def test_alarms_of_the_guards_are_told_by_cell(tmp_path):
    rows = {
        0: [{"step": 900, "kind": "KL", "says": "1.2 nats", "exploit": "length"}],
        1: [{"step": 300, "kind": "KL", "says": "1.1 nats", "exploit": "the word 'moon'"},
            {"step": 400, "kind": "entropy", "says": "fell", "later": "field"}],
        2: [{"step": 500, "kind": "KL", "says": "1.3 nats", "exploit": "length"}],
    }  # fmt: skip
    made = exact()
    runs = [replace(run, directory=tmp_path / f"{run.cell}-{run.seed}") for run in made.runs]
    for run in runs:
        run.directory.mkdir()
        if run.cell == CROWD:
            lines = "".join(json.dumps(row) + "\n" for row in rows[run.seed])
            (run.directory / "alarms.jsonl").write_text(lines)
        if run.cell == LEXICON:
            (run.directory / "alarms.jsonl").write_text('{"step": 3}\n')  # of another version
    study = replace(made, runs=runs)
    verdict = verdict_of(study)
    told = [caution for caution in verdict.cautions if "guards" in caution]
    assert told == [
        f"{CROWD}: the guards of 3 of 3 runs raised “KL”, first at 300 tokens: 1.1 nats; its "
        "reward seems to pay for length",
        f"{CROWD}: the guards of 1 of 3 runs raised “entropy”, first at 400 tokens: fell",
    ]
    for page in (verdict.markdown(), json.dumps(verdict_block(study, verdict), ensure_ascii=False)):
        assert "raised “entropy”, first at 400 tokens" in page


def test_a_proxy_that_is_the_judge_is_told():
    study = changed(
        made_study(prompts=40),
        lambda cell, seed, k, text: with_scores(text, critic=2 * text.scores["crowd"] + 1),
    )
    found = [c for c in verdict_of(study).cautions if "almost the same thing" in c]
    assert len(found) == 1
    assert found[0].startswith("critic and crowd are almost the same thing (rank correlation 1.00")


def test_a_gain_by_length_is_told():
    def longer(cell, seed, k, text):
        n = 10 + text.prompt % 5 + seed + (6 * k if cell == GRPO else 0)
        ends = list(range(n))
        by_length = n / 3 if cell == GRPO else text.scores["critic"]
        return replace(with_scores(text, critic=by_length), token_ends=ends)

    found = [c for c in verdict_of(changed(exact(), longer)).cautions if "goes with length" in c]
    assert len(found) == 1 and found[0].startswith(f"{GRPO}: of its gain by critic, ")
    # 13 to 31 tokens, a third of a point each, in deviations of the start's scores.
    assert "(13.0 to 31.0 tokens; correlation of score and length +1.00)" in found[0]


def test_texts_that_have_become_alike_are_told_with_the_judge_that_puts_them_first():
    study = exact(effects={CROWD: {"critic": 0.75}, LEXICON: {"critic": 0.25}})
    assert not [c for c in verdict_of(study).cautions if "alike" in c]

    def praised(cell, seed, k, text):
        is_last = cell in (CROWD, LEXICON) and k == len(study.runs[0].record.steps) - 1
        return replace(text, completion="one of the best, best films") if is_last else text

    cautions = verdict_of(changed(study, praised)).cautions
    of_crowd, of_lexicon = (c for c in cautions if "alike" in c)
    # Five bigrams in each of twenty texts, and no others.
    assert of_crowd.startswith(
        f"{CROWD}: its texts have become alike: distinct-2 0.05, the start's"
    )
    assert '"best best" 1.00 times a text; critic' in of_crowd
    assert "puts it first all the same" in of_crowd
    assert of_lexicon.startswith(LEXICON) and "first" not in of_lexicon


def test_over_optimisation_is_told_with_intervals():
    def hacked(cell, seed, k, text):
        rise = 0.3 * k
        if cell == CROWD:
            wobble = 0.05 * np.sin(seed + 3.0 * text.prompt + k)
            gold = [0.0, 0.5, 0.2, 0.1][k] + wobble
            return with_scores(text, critic=gold, crowd=rise + wobble)
        return with_scores(text, critic=rise / 3 + text.prompt % 3, crowd=rise)

    verdict = verdict_of(changed(exact(), hacked))
    found = [c for c in verdict.cautions if "over-optimised" in c]
    assert len(found) == 1
    assert found[0].startswith(f"{CROWD} is over-optimised: after 13,333 tokens its own reward")
    best = {cell.cell: cell.best_step for cell in verdict.judgements[0].cells}
    assert best == {CROWD: 13_333, LEXICON: 40_000, GRPO: 40_000}


def test_a_judge_of_few_values_is_averaged():
    study = changed(exact(), lambda cell, seed, k, text: with_scores(text, critic=1.0))
    found = verdict_of(study)
    assert found.judgements[0].aggregate == "mean" and found.judgements[0].spread == 1
    assert any("means are shown" in caution for caution in found.cautions)
    assert found.winner is None
    assert found.headline == (
        "No winner: critic tells nothing apart, since it gives all texts of a prompt one score."
    )


def test_a_judge_that_is_silent_on_some_texts_counts_where_it_speaks():
    def silent(cell, seed, k, text):
        return with_scores(text, critic=None) if text.prompt % 2 else text

    study = exact(effects={CROWD: {"critic": 0.75}})
    found = judge_study(changed(study, silent), "critic")
    gain = next(cell.gain.value for cell in found.cells if cell.cell == CROWD)
    even = [(k % 5) / 4 for k in range(0, 20, 2)]
    assert gain == pytest.approx(0.75 / np.std(even))
    mute = judge_study(
        changed(study, lambda c, s, k, text: with_scores(text, critic=None)), "critic"
    )
    assert mute.winner is None and np.isnan(mute.cells[0].score.value)


def test_costs_by_hand():
    def known(cell, seed, k, text):
        return replace(
            text,
            completion=" a b c" if k else " a b a b",
            token_ends=[2, 4, 6] if k else [2, 4],
            log_probs=[-1.0] * (3 if k else 2),
            reference_log_probs=[-1.5] * 3 if k else [-1.0] * 2,
            start_nll=6.0 if k else 2.0,
        )

    study = changed(exact(), known)
    runs = [replace(r, figures={"time/fps": 100.0 + r.seed}, seconds=None) for r in study.runs]
    found = costs_of(replace(study, runs=runs))[0]
    assert found.kl == pytest.approx(1.5)
    assert found.perplexity_ratio == pytest.approx(np.exp(2.0) / np.exp(1.0))
    assert found.distinct_2 == pytest.approx(2 / 40)  # "a b", "b c" of 20 texts with two pairs
    assert found.distinct_2_start == pytest.approx(2 / 60)
    assert (found.length, found.length_start) == (3, 2)
    assert found.tokens_per_second == 101 and found.seconds is None


STRANGE = "<script>x</script> **b** [a](http://b.c) | $x_1$ & 50% \\end{table} ^~#{}\u202e www.a.b"


def strange_study():
    study = made_study()
    names = {CROWD: STRANGE, LEXICON: "[l] \x1b[31m", GRPO: "*g"}
    cells = [replace(cell, label=names[cell.label]) for cell in study.cells]
    runs = [replace(run, cell=names[run.cell]) for run in study.runs]
    return replace(study, title=STRANGE, cells=cells, runs=runs)


def test_markdown_shows_labels_and_does_not_obey_them():
    page = verdict_of(strange_study()).markdown()
    assert "\u202e" not in page and "\x1b" not in page
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    inline = [child for token in tokens if token.children for child in token.children]
    kinds = {token.type for token in [*tokens, *inline]}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "em_open"}
    texts = "".join(token.content for token in inline if token.type.startswith("text"))
    assert "<script>x</script> **b** [a](http://b.c) | $x_1$ & 50%" in texts
    headers = sum(token.type == "th_open" for token in tokens)
    assert headers == 7 + 6 + 9


def test_figures_and_plain_labels_stay_readable_in_markdown():
    for text in ("+0.31 [+0.20, +0.42]", "ppo,kl_coef=0.1 · crowd", "40,000", "perplexity ratio"):
        assert markdown_text(text) == text
    assert markdown_text("_a_") != "_a_" and markdown_text("[1, 2](x)") != "[1, 2](x)"


def test_latex_has_no_command_of_a_label():
    page = verdict_of(strange_study()).latex()
    assert r"\textless{}script\textgreater{}x" in page and r"50\% " in page
    assert r"\textbackslash{}end\{table\}" in page
    assert r"\$x\_1\$ \&" in page and "\x1b" not in page
    rows = page.split("\\\\\n")
    assert not any(row.startswith(("[", "*")) for row in rows)
    assert page.count(r"\begin{tabular}") == page.count(r"\end{tabular}") == 3
    # Every row of a table has as many cells as its columns.
    for block in page.split(r"\begin{tabular}{")[1:]:
        columns = len(block.split("}")[0])
        body = block.split(r"\toprule")[1].split(r"\bottomrule")[0]
        for row in body.replace(r"\midrule", "").strip().split("\\\\"):
            assert not row.strip() or row.replace(r"\&", "").count("&") == columns - 1
    assert latex_text("a\nb") == "a b"


def test_the_terminal_obeys_no_label(capsys):
    console = Console(width=200, force_terminal=False)
    verdict_of(strange_study()).print(console)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown
    assert "[l] \\x1b[31m" in shown


def test_json_is_strict_and_whole_and_the_same_again():
    study = made_study(seeds=2)
    found = verdict_of(study)
    text = json.dumps(found.to_json(), allow_nan=False)
    assert text == json.dumps(verdict_of(study).to_json(), allow_nan=False)
    values = json.loads(text)
    cell = values["judgements"][0]["cells"][0]
    assert cell["gain"]["value"] == found.judgements[0].cells[0].gain.value
    assert values["headline"] == found.headline and values["winner"] is None
    assert [table["title"] for table in values["tables"]] == [
        "By the gold judge critic",
        "Differences by critic",
        "What it cost",
    ]
    silent = changed(study, lambda c, s, k, text: with_scores(text, critic=None))
    json.dumps(verdict_of(silent).to_json(), allow_nan=False)


def test_policies_as_an_axis_have_no_common_start():
    study = exact()
    cells = [replace(c, settings={**c.settings, "policy": "runs/a"}) for c in study.cells]
    assert judge_study(replace(study, cells=cells), "critic").start is None
