"""The page in a real Chromium, from a file: what a reader sees and can do."""

import csv
import dataclasses
import io
import re

import numpy as np
import pytest
from browser import chromium, open_page  # noqa: F401
from made_studies import STRANGE, made_study

from textgym.agents.comparison.page.write import write_page
from textgym.agents.comparison.study import scores_of
from textgym.agents.comparison.verdict import verdict_of

CELL = "ppo · lexicon"
EFFECTS = {CELL: {"lexicon": 2.0, "critic": -0.2}}


@pytest.fixture(scope="module")
def study():
    return made_study(prompts=24, seeds=2, effects=EFFECTS)


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    return write_page(study, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def view(open_page, report):  # noqa: F811
    """Opens the report at a view, and waits until it is drawn; nothing may go wrong on it."""
    pages = []

    def opened(link="", path=report, **options):
        page = open_page(path.as_uri() + link, **options)
        page.wait_for_selector("html[data-ready]")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        assert page.errors == []
        assert [url for url in page.requests if not url.startswith(("file:", "blob:"))] == []
        assert page.evaluate("document.title") == "agents and reward models"


def rows(page):
    """The prompts shown, by index, from the top."""
    return page.eval_on_selector_all("#table tbody tr", "rows => rows.map(r => +r.dataset.row)")


def texts(page, column):
    """What stands in a column (0 is the baseline), from the top, without what was struck out."""
    script = """(rows, k) => rows.map(r => { const t = r.cells[k + 1].querySelector('.text')
      const copy = t.cloneNode(true); copy.querySelectorAll('del').forEach(d => d.remove())
      return copy.textContent })"""
    return page.eval_on_selector_all("#table tbody tr", script, column)


def counts_of(histogram):
    """How many prompts the bars of a histogram hold, as they say it."""
    bars = histogram.locator("button").all()
    return [int(bar.get_attribute("aria-label").split()[0]) for bar in bars]


def last_texts(run):
    return [text.completion for text in run.record.texts[run.record.steps[-1]]]


def gaps(run, judge):
    scores = scores_of(run, judge)
    return scores[-1] - scores[0]


def test_the_page_says_what_it_is_about(view):
    page = view()
    assert page.inner_text("h1") == "agents and reward models"
    assert "3 cells · 2 seeds · 24 held-out prompts · 4 evaluations" in page.inner_text("#lead")
    assert "critic" in page.inner_text("#headline")
    assert page.locator("#chart-plots svg").count() == 2
    label = page.get_attribute("#chart-plots svg", "aria-label")
    assert "ppo · crowd: from" in label and "critic over training" in label
    assert page.locator("#chart-plots .band").count() == 6
    assert page.locator("#matrix-body tbody button").count() == 3 * 4
    settings = page.locator("#configurations tbody th").all_inner_texts()
    assert settings == ["reward", "agent", "kl_coef"]


@pytest.fixture(scope="module")
def verdict(study):
    return verdict_of(study)


def test_the_verdict_stands_on_top_with_every_figure(view, study, verdict, tmp_path):
    page = view(path=write_page(study, tmp_path / "report.html", verdict))
    assert page.inner_text("#headline") == verdict.headline
    judged = verdict.judgements[0]
    lines = page.locator(".judged").first.locator("tbody tr")
    for k, cell in enumerate(judged.cells):
        line = lines.nth(k).inner_text().replace("−", "-")
        for figure in (cell.gain.value, cell.gain.low, cell.gain.high, cell.score.value):
            assert f"{figure:.2f}" in line
        assert line.startswith(cell.cell) and f"{cell.best_step:,}" in line
    page.get_by_text("Every pair of cells (3)").click()
    pair = judged.pairs[0]
    shown = page.locator(".judged details tbody tr").first.inner_text()
    assert shown.startswith(f"{pair.one} over {pair.other}")
    assert f"{pair.difference.value:+.2f}" in shown.replace("−", "-")
    assert page.locator("#costs tbody tr").count() == 3
    assert page.locator("#cautions li").all_inner_texts() == list(verdict.cautions)
    for button, text in (("Markdown file", verdict.markdown()), ("LaTeX file", verdict.latex())):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.path().read_text(encoding="utf-8") == text


def test_without_scripts_the_verdict_is_read(open_page, study, verdict, tmp_path):  # noqa: F811
    path = write_page(study, tmp_path / "report.html", verdict)
    page = open_page(path.as_uri(), java_script_enabled=False)
    assert page.inner_text("noscript pre").strip() == verdict.markdown().strip()


def test_rows_show_the_record(view, study):
    page = view("#rows=25")
    assert rows(page) == list(range(24))
    prompts = page.locator("#table .prompt").all_text_contents()
    assert prompts == [row["prompt"] for row in study.prompts]
    first = [text.completion.replace("\0", "\ufffd") for text in study.runs[0].record.texts[0]]
    assert [text.replace("\0", "\ufffd") for text in texts(page, 0)] == first
    for k, cell in enumerate(study.cells):
        assert texts(page, k + 1) == last_texts(study.runs_of(cell.label)[0])


def test_strange_texts_are_shown_as_they_are_and_stay_in_their_place(view, study):
    page = view("#rows=25&mode=plain")
    shown = "".join(texts(page, 1))
    assert all(text in shown for text in STRANGE)
    assert page.locator("#table img, #table script, #table a").count() == 0
    directions = page.eval_on_selector_all(
        "#table .text, #table bdi", "all => all.map(x => getComputedStyle(x).unicodeBidi)"
    )
    assert set(directions) == {"isolate"}


def test_differences_are_by_word_and_by_character_in_chinese(view):
    page = view()
    script = "([a, b]) => differenceOf(a, b)"
    # The page's own functions are in a scope of their own; the script is read again to try one.
    source = page.evaluate("[...document.scripts].at(-1).textContent")
    words = source[source.index("const PIECES") : source.index("function differenceNodes")]
    run = f"(pair) => {{ {words}; return ({script})(pair) }}"
    assert page.evaluate(run, ["the very old man", "the old wise man"]) == [
        ["same", "the "],
        ["gone", "very "],
        ["same", "old"],
        ["new", " wise"],
        ["same", " man"],
    ]
    assert page.evaluate(run, ["电影很好看", "电影不好看"]) == [
        ["same", "电影"],
        ["gone", "很"],
        ["new", "不"],
        ["same", "好看"],
    ]
    assert page.evaluate(run, ["", "don't 👍🏽"]) == [["new", "don't 👍🏽"]]
    assert page.evaluate(run, ["a b c", "x y c"]) == [
        ["gone", "a b"],
        ["new", "x y"],
        ["same", " c"],
    ]


def test_a_cell_of_the_matrix_shows_its_texts_with_the_largest_losses_first(view, study):
    page = view()
    label = re.compile(f"^{CELL}, scored by critic: −")
    page.get_by_role("button", name=label).click()
    run = study.runs_of(CELL)[0]
    assert rows(page) == np.argsort(gaps(run, "critic"), kind="stable")[:10].tolist()
    assert page.locator("#table thead .cell-name").all_inner_texts() == ["start", CELL]
    assert page.input_value("#judge") == "critic"
    gap = min(gaps(run, "critic"))
    shown = page.locator("#table tbody tr").first.locator(".down").inner_text()
    assert float(shown.replace("▼ −", "-")) == pytest.approx(gap, abs=0.006)


def test_sorting_by_every_figure(view, study):
    run = study.runs[0]
    end = run.record.texts[40_000]
    length = [text.length for text in end]
    spread = []
    for judge in study.judges:
        scores = np.array([scores_of(one, judge) for one in study.runs])
        spread.append((scores[0, -1] - scores[:, 0].mean()) / scores[:, 0].std())
    losses = np.min([gaps(study.runs_of(c.label)[0], "crowd") for c in study.cells], axis=0)
    expected = {
        "score": scores_of(run, "crowd")[-1],
        "difference": gaps(run, "crowd"),
        "length": np.array(length),
        "disagreement": np.std(spread, axis=0),
        "worst": losses,
        "kl": np.array([text.kl for text in end]),
    }
    page = view("#judge=crowd&rows=25")
    for name, values in expected.items():
        page.select_option("#sort", name)
        assert rows(page) == np.argsort(values, kind="stable").tolist(), name
    page.click("#direction")
    assert rows(page) == np.argsort(-expected["kl"], kind="stable").tolist()


def test_a_column_heading_sorts_by_it_and_turns_the_order(view, study):
    page = view("#rows=25")
    button = page.get_by_role("button", name="Sort by difference of grpo · crowd, seed 0")
    button.click()
    order = np.argsort(gaps(study.runs_of("grpo · crowd")[0], "critic"), kind="stable").tolist()
    assert rows(page) == order
    assert page.locator("[aria-sort=ascending]").count() == 1
    button.click()
    assert rows(page) == order[::-1]


def test_search_and_filters_leave_the_rows_that_pass(view, study):
    page = view("#rows=25&focus=1.0")
    page.fill("#search", "故事")
    first = [text.completion for text in study.runs[0].record.texts[0]]
    columns = [first, *(last_texts(study.runs_of(cell.label)[0]) for cell in study.cells)]
    found = [k for k in range(24) if any("故事" in column[k] for column in columns)]
    assert rows(page) == found and 0 < len(found) < 24
    assert f"{len(found)} of 24 prompts" in page.inner_text("#status")
    page.get_by_role("button", name="Remove filter: “故事”").click()
    page.click("#filters-panel summary")
    page.wait_for_selector("#filters .bars")
    page.get_by_role("button", name="Only losses to the baseline").click()
    losses = np.flatnonzero(gaps(study.runs_of(CELL)[0], "critic") < 0).tolist()
    assert rows(page) == losses and 0 < len(losses) < 24
    page.fill("#search", "no such text")
    assert "No prompt passes" in page.inner_text("#table tbody")
    page.get_by_role("button", name="Remove the filters").click()
    assert len(rows(page)) == 24


def test_a_bar_of_a_histogram_picks_its_rows(view, study):
    page = view("#rows=25")
    page.click("#filters-panel summary")
    page.wait_for_selector("#filters .bars")
    length = [text.length for text in study.runs[0].record.texts[40_000]]
    group = page.get_by_role("group", name="length, tokens")
    bars = counts_of(group)
    values, counts = np.unique(length, return_counts=True)
    assert bars == [int(counts[values == v].sum()) for v in range(min(length), max(length) + 1)]
    group.locator("button").nth(0).click()
    assert rows(page) == [k for k, n in enumerate(length) if n == min(length)]
    score = page.get_by_role("group", name="score by critic")
    assert sum(counts_of(score)) == len(rows(page))


def test_one_slider_moves_all_columns(view, study):
    page = view("#rows=25")
    page.focus("#slider")
    page.keyboard.press("ArrowLeft")
    assert "Evaluation 3 of 4 · 26,666 tokens" in page.inner_text("#slider-text")
    for k, cell in enumerate(study.cells):
        run = study.runs_of(cell.label)[0]
        assert texts(page, k + 1) == [text.completion for text in run.record.texts[26_666]]
    page.keyboard.press("Home")
    assert texts(page, 1) == texts(page, 2) == texts(page, 0)
    assert page.locator("#table ins, #table del").count() == 0


def test_columns_are_chosen_and_compared_with_any_other(view, study):
    page = view("#rows=25")
    page.click("#columns-panel summary")
    page.get_by_label("grpo · crowd, seed 1", exact=True).check()
    page.get_by_label("ppo · crowd, seed 0", exact=True).uncheck()
    names = page.locator("#table thead th:not(.first)").all_inner_texts()
    assert [name.split("\n")[0] for name in names] == [
        "start",
        CELL,
        "grpo · crowd",
        "grpo · crowd",
    ]
    run = study.runs_of("grpo · crowd")[1]
    assert texts(page, 3) == last_texts(run)
    page.select_option("#base", "2.0")
    assert texts(page, 0) == last_texts(study.runs_of("grpo · crowd")[0])
    assert page.locator("#table tbody tr").first.locator("td").nth(2).locator("ins").count() == 0


def test_tokens_are_coloured_by_log_ratio_and_by_reward(view, study):
    page = view()
    page.select_option("#mode", "reward:lexicon")
    end = study.runs[0].record.texts[40_000][0]
    tokens = page.locator("#table tbody tr").first.locator("td").nth(1).locator(".token")
    rewards = end.token_rewards["lexicon"]
    sizes = [tokens.nth(k).text_content() for k in range(tokens.count())]
    starts = [0, *end.token_ends[:-1]]
    cut = [end.completion[a:b] for a, b in zip(starts, end.token_ends, strict=True)]
    assert set(sizes) <= set(cut) and len(sizes) >= len(cut) - 2
    k = int(np.argmax(np.abs(rewards)))
    strongest = tokens.filter(has_text=cut[k].strip()).first
    assert (strongest.get_attribute("title")[0] == "+") == (rewards[k] > 0)
    assert "lexicon pays for" in page.inner_text("#mode-hint")
    page.select_option("#mode", "ratio")
    baseline = page.locator("#table tbody tr").first.locator("td").nth(0)
    assert baseline.locator(".token").count() == 0  # the start is its own reference
    page.goto(page.url.replace("mode=ratio", "mode=ratio&rows=25"))
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert texts(page, 1) == last_texts(study.runs[0])  # emoji and all


def test_blind_reading_hides_names_and_counts_preferences(view, study):
    page = view("#columns=0.0,1.0&base=s0")
    page.click("#blind")
    dialog = page.locator("#blind-dialog")
    said = dialog.inner_text()
    assert "ppo" not in said and "start" not in said and "seed" not in said
    runs = [study.runs_of(name)[0] for name in ("ppo · crowd", CELL)]
    written = [[t.completion for t in runs[0].record.texts[0]], *map(last_texts, runs)]
    prompts = [row["prompt"] for row in study.prompts]
    preferred, agreed = [0, 0, 0], dict.fromkeys(study.judges, 0)
    for _ in range(5):
        prompt = prompts.index(dialog.locator(".prompt").text_content())
        texts_ = [column[prompt] for column in written]
        shown = dialog.locator(".choice .text").all_text_contents()
        assert sorted(shown) == sorted(set(texts_))
        page.keyboard.press(str(shown.index(texts_[1]) + 1))
        preferred = [n + (text == texts_[1]) for n, text in zip(preferred, texts_, strict=True)]
        for judge in study.judges:
            scores = [scores_of(runs[0], judge)[0], *(scores_of(run, judge)[-1] for run in runs)]
            best = int(np.argmax([of_column[prompt] for of_column in scores]))
            agreed[judge] += texts_[best] == texts_[1]
    page.keyboard.press("0")
    dialog.get_by_role("button", name="End and see the tally").click()
    # Wilson: 5 of 5 is 57% to 100%.
    lines = page.locator("#tally-columns tbody tr").all_inner_texts()
    assert lines[0].split("\t") == ["ppo · crowd, seed 0", "5 of 5", "100%", "57% to 100%"]
    found = {line.split("\t")[0]: line.split("\t")[1] for line in lines}
    names = ["start", "ppo · crowd, seed 0", f"{CELL}, seed 0"]
    assert found == {name: f"{n} of 5" for name, n in zip(names, preferred, strict=True)}
    lines = page.locator("#tally-judges tbody tr").all_inner_texts()
    assert [line.split("\t")[:2] for line in lines] == [[j, f"{n} of 5"] for j, n in agreed.items()]
    assert "6 prompts read. 1 prompt without a preference" in dialog.inner_text()
    assert "You preferred ppo · crowd, seed 0: 100% of 5" in page.inner_text("#tally")


def test_a_link_restores_the_view(view):
    page = view()
    page.select_option("#judge", "lexicon")
    page.select_option("#sort", "disagreement")
    page.click("#direction")
    page.fill("#search", "e")
    page.focus("#slider")
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Remove column ppo · crowd, seed 0").click()
    page.get_by_role("button", name="Next →").click()
    other = view("#" + page.url.split("#")[1])
    assert other.inner_text("#table") == page.inner_text("#table")
    assert other.inner_text("#status") == page.inner_text("#status")
    assert "11 to" in other.inner_text("#pager")
    wrong = view("#at=99&columns=9.9,nonsense&judge=nobody&sort=<b>&range.x=1,2&rows=7")
    assert wrong.locator("#table tbody tr").count() == 10


def test_the_csv_is_the_record(view, study):
    page = view("#columns=1.1&sort=length&down=true")
    with page.expect_download() as download:
        page.click("#csv")
    content = download.value.path().read_bytes().decode("utf-8")
    lines = list(csv.DictReader(io.StringIO(content, newline="")))
    assert len(lines) == 2 * 24
    run = study.runs_of(CELL)[1]
    end = run.record.texts[40_000]
    order = np.argsort([-text.length for text in end], kind="stable").tolist()
    mine = [line for line in lines if line["is_baseline"] == "false"]
    assert [int(line["prompt_index"]) for line in mine] == order
    for line in mine:
        text = end[int(line["prompt_index"])]
        assert line["completion"] == text.completion
        assert (line["column"], line["seed"], line["step"]) == (CELL, "1", "40000")
        assert int(line["length"]) == text.length
        assert line["finish_reason"] == text.finish_reason
        for judge, score in text.scores.items():
            assert float(line[f"score:{judge}"]) == pytest.approx(score, rel=5e-5)


def test_all_of_it_goes_by_keyboard(view):
    page = view("#rows=25")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "texts"
    for _ in range(100):  # wait_for_function evaluates a string, which the page forbids
        if page.evaluate("location.hash === '#rows=25'"):
            break
        page.wait_for_timeout(50)
    assert page.evaluate("location.hash") == "#rows=25"
    assert len(rows(page)) == 24
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    for name in ("slider", "judge", "mode", "sort", "search", "blind", "csv", "table-scroll"):
        assert name in seen
    assert "difference" in seen
    page.focus("#blind")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.id") == "blind"
    page.focus("[data-sort='1.0']")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.dataset.sort") == "1.0"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    nameless = """all => all.filter(x => x.checkVisibility()
      && !(x.ariaLabel || x.textContent.trim() || x.labels?.length)).length"""
    assert page.eval_on_selector_all("button, select, input", nameless) == 0


def test_it_fits_400_pixels_and_both_colours(view):
    for scheme in ("light", "dark"):
        page = view(viewport={"width": 400, "height": 800}, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper))) > 3 * 128) == (scheme == "light")
        page.click("#theme")
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.click("#blind")
        assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_it_prints_the_verdict_the_charts_and_the_rows(view):
    page = view()
    page.emulate_media(media="print")
    assert page.locator("#headline").is_visible()
    assert page.locator("#chart-plots svg").first.is_visible()
    assert page.locator("#table tbody tr").count() == 10
    for hidden in ("#blind", "#csv", "#print", "#pager", "#search"):
        assert not page.locator(hidden).is_visible()
    assert page.pdf(format="A4")[:5] == b"%PDF-"


def test_samples_alone_are_shown_over_time(view, tmp_path):
    study = made_study(seeds=1)
    runs = [dataclasses.replace(run, record=None) for run in study.runs[:1]]
    study = dataclasses.replace(study, runs=runs, cells=study.cells[:1], judges={}, prompts=[])
    page = view(path=write_page(study, tmp_path / "report.html"))
    assert "No held-out evaluations" in page.inner_text("#headline")
    assert rows(page) == list(range(8))
    assert not page.locator("#charts").is_visible() and not page.locator("#matrix").is_visible()
    assert texts(page, 1) == [row["completion"] for row in runs[0].samples if row["step"] == 40_000]
    page.focus("#slider")
    page.keyboard.press("Home")
    assert texts(page, 1) == texts(page, 0)


def test_a_single_run_is_not_said_to_be_best(view, tmp_path):
    study = made_study((("ppo", "crowd"),), seeds=1, kl=1.5)
    page = view(path=write_page(study, tmp_path / "report.html"))
    said = page.inner_text("#headline")
    assert said.startswith("By the independent judge critic ppo · crowd moved +")
    assert page.locator("#chart-plots .band").count() == 0
    assert "no band" in page.inner_text("#chart-hint")
    for k in range(2):
        drawing = page.locator("#chart-plots svg").nth(k)
        across = drawing.locator("text[text-anchor=middle]").all_text_contents()
        assert len(set(across)) == len(across) >= 4


def test_a_study_without_any_text_says_so(view, tmp_path):
    study = dataclasses.replace(made_study(), runs=[])
    page = view(path=write_page(study, tmp_path / "report.html"))
    assert "No run has texts to read" in page.inner_text("#status")
