"""A study on TensorBoard's pages: a real TensorBoard, opened in a real Chromium."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from browser import chromium, open_page  # noqa: F401
from made_studies import made_study, write_made_study
from torch.utils.tensorboard import SummaryWriter

from textgym.agents.comparison.study_events import write_study_events

CELLS = (("ppo", "crowd"), ("grpo", "电影"))
JUDGES = {"crowd": "reward", "电影": "reward", "critic": "gold"}
WAIT = 30_000  # milliseconds, for a machine that has other work
# TensorBoard's pages choose no run by themselves where there are more.
MOST = 40


@pytest.fixture(scope="module")
def board(tmp_path_factory, chromium):  # noqa: F811
    """Address of TensorBoard on a study and other runs, and the links that the verb prints."""
    out = tmp_path_factory.mktemp("runs") / "cmp"
    study = made_study(CELLS, seeds=2, prompts=4, evaluations=3, judges=JUDGES)
    write_made_study(study, out)
    write_study_events(study, out)
    own = out / study.runs[0].name / "tensorboard" / "ppo_1"
    with SummaryWriter(str(own)) as writer:
        for step in range(3):
            writer.add_scalar("reward/total", step, step * 20_000)
    [events] = own.iterdir()
    for n in range(MOST):
        (out / f"sb3_only/PPO_{n}").mkdir(parents=True)
        shutil.copy(events, out / f"sb3_only/PPO_{n}")
    command = [sys.executable, "-m", "textgym", "tensorboard", str(out), "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        lines = [process.stdout.readline().strip() for _ in range(6)]
        links = dict(line.split() for line in lines[1:])
        page = links["curves"].partition("?")[0]
        wait_for(page)
        yield page, links
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        process.stdout.close()


def wait_for(page):
    """Wait until TensorBoard has read all runs: 47, of which 7 are the study's."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{page}data/runs", timeout=5) as answer:
                if len(json.load(answer)) == MOST + 8:
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"{page}: TensorBoard shows too few runs")


@pytest.fixture
def opened(board, open_page):  # noqa: F811
    """A function that opens a link; afterwards no request has left, and no script has failed."""
    page, links = board
    pages = []

    def open_link(name):
        opened_page = open_page(viewport={"width": 1400, "height": 1000})
        opened_page.set_default_timeout(WAIT)
        opened_page.goto(links[name])
        pages.append(opened_page)
        return opened_page

    yield open_link
    for opened_page in pages:
        assert opened_page.requests and opened_page.errors == []
        away = [url for url in opened_page.requests if not url.startswith((page, "data:", "blob:"))]
        assert away == []


def test_the_curves_are_those_of_the_study(opened):
    page = opened("curves")
    page.get_by_text("held_out/judges/critic", exact=True).wait_for()
    runs = page.locator("runs-data-table tb-data-table-content-cell").all_inner_texts()
    names = {text.strip() for text in runs if text.strip()}
    cells = ("ppo · crowd", "grpo · 电影")
    assert names == {
        f"tensorboard/{cell}{seed}" for cell in cells for seed in ("", "/seed-0", "/seed-1")
    }


def test_the_bands_are_drawn_for_every_cell(opened):
    page = opened("bands")
    page.locator("tf-custom-scalar-margin-chart-card path.area").nth(2 * 7 - 1).wait_for(
        state="attached"
    )
    charts = page.locator("tf-custom-scalar-margin-chart-card")
    titles = charts.evaluate_all("charts => charts.map(chart => chart.title)")
    texts = ["KL to the start, nats per text", "length, tokens", "distinct-2"]
    assert titles == ["critic", "crowd", "电影", *texts, "perplexity under the start"]
    for chart in charts.all():
        areas = chart.locator("path.area").evaluate_all("all => all.map(a => a.getAttribute('d'))")
        assert len(areas) == 2 and all(area.count("L") >= 4 for area in areas)
    assert page.get_by_text("Missing Tags").count() == 0
    boxes = page.locator("tf-runs-selector paper-checkbox")
    names = [f"tensorboard/{cell}" for cell in ("ppo · crowd", "grpo · 电影")]
    assert boxes.evaluate_all("all => all.map(box => box.name)") == names


def test_the_table_has_a_row_for_every_run_and_is_sorted_by_a_figure(opened):
    page = opened("table")
    page.get_by_text("tensorboard/ppo · crowd/seed-1").first.wait_for()
    rows = table_rows(page)
    columns = ["agent", "policy", "reward", "seed", "judges/critic", "kl", "distinct_2", "length"]
    assert rows[0][2:] == [*columns, "perplexity"]
    cells = (("grpo", "电影"), ("ppo", "crowd"))
    names = [[agent, reward, str(seed)] for agent, reward in cells for seed in (0, 1)]
    assert sorted([row[2], *row[4:6]] for row in rows[1:]) == names
    menus = page.locator("tf-hparams-query-pane paper-dropdown-menu")
    for menu, choice in ((menus.nth(0), "judges/critic"), (menus.nth(1), "Descending")):
        menu.scroll_into_view_if_needed()
        menu.click()
        menu.locator("paper-item", has_text=choice).first.click()
    expected = sorted((row[6] for row in rows[1:]), key=float, reverse=True)
    found = until(
        lambda: [row[6] for row in table_rows(page)[1:]], lambda figures: figures == expected
    )
    assert found == expected and len(set(expected)) == 4


def table_rows(page):
    """The texts of the visible table, row by row; the first are the headings."""
    visible = "all => all.filter(e => e.checkVisibility()).map(e => e.innerText.trim())"
    cells = page.locator("vaadin-grid-cell-content").evaluate_all(visible)
    return [cells[k : k + 11] for k in range(0, len(cells), 11)]


def test_the_pictures_are_decoded(opened):
    page = opened("pictures")
    sizes = "images => images.map(image => image.complete && image.naturalWidth)"
    widths = until(
        lambda: page.locator("tf-image-loader img").evaluate_all(sizes),
        lambda widths: len(widths) == 3 and all(widths),
    )
    assert min(widths) > 500


def test_the_texts_are_readable_and_nothing_in_them_acts(opened):
    """Prompt 2 is followed by a script and a picture whose error runs one, prompt 4 is Chinese."""
    page = opened("texts")
    strange, chinese = (prompt_card(page, number) for number in (2, 4))
    for card in (strange, chinese):
        assert card.locator("table").count() == 3  # evaluations
        heads = ["start", "ppo · crowd", "grpo · 电影"]
        assert card.locator("th").all_inner_texts() == 3 * heads
    text = strange.locator("td").first.inner_text()
    assert "<script>document.title = 'broken'</script><img src=x onerror=" in text
    assert strange.locator("script, img").count() == 0 and page.title() == "TensorBoard"
    assert chinese.locator("strong").first.inner_text() == "这部电影"
    assert chinese.locator("td").first.inner_text().startswith("非常好看")
    worst = page.locator("tf-text-loader").first
    assert worst.evaluate("card => card.tag") == "most_regressed/grpo · 电影"
    assert worst.locator("tbody tr").count() == 4


def prompt_card(page, number):
    """The card of a prompt's tables, once they are there."""
    cards = page.locator("tf-text-loader")
    tags = until(
        lambda: cards.evaluate_all("all => all.map(card => card.tag)"),
        lambda tags: f"prompts/{number:03}" in tags,
    )
    card = cards.nth(tags.index(f"prompts/{number:03}"))
    card.scroll_into_view_if_needed()
    card.locator("table").nth(2).wait_for(state="attached")
    return card


def until(look, is_there):
    """What a function sees once it is what is waited for, or in the end."""
    end = time.monotonic() + WAIT / 1000
    while not is_there(seen := look()) and time.monotonic() < end:
        time.sleep(0.1)
    return seen
