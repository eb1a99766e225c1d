"""The Chinese README says what the English one says; the Chinese getting-started page runs.

Compared is what both languages share: code, pictures, links, figures, the order of the sections.
"""

import re
from collections import Counter
from pathlib import Path

import gymnasium
import pytest

from textgym import registry

ROOT = Path(__file__).parents[1]
CHINESE = re.compile("[\u4e00-\u9fff]")
LATER = "one README was changed and the other was not: say the same in README.zh-CN.md"
# What a training of the page is cut down to, so that a test of it takes seconds.
FEWER = {"steps=300": "steps=10", "learn(8_000)": "learn(512)", "开头 * 50": "开头 * 2"}


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def sections(text):
    """`[(heading, body)]` of the second level, the opening first; headings inside code are none."""
    parts = [("", "")]
    is_code = False
    for line in text.splitlines():
        is_code ^= line.startswith("```")
        if line.startswith("## ") and not is_code:
            parts.append((line, ""))
        else:
            heading, body = parts[-1]
            parts[-1] = (heading, f"{body}{line}\n")
    return parts


def code_blocks(text):
    """Fenced blocks with the marker before them, but for the tree, which the English page has."""
    return re.findall(r"((?:^<!-- run -->\n)?^```(?!text)\w*\n.*?^```$)", text, re.M | re.S)


def prose(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def targets(text):
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def figure_blocks(text):
    """`{name: [numbers of a row]}`, whatever the words between them."""
    blocks = re.findall(r"<!-- figures:(\w+) -->\n(.*?)<!-- /figures -->", text, re.S)
    return {name: [numbers(row) for row in rows.splitlines()] for name, rows in blocks}


def numbers(text):
    return re.findall(r"[+-]?\d*\.?\d+[%✓]?", text)


ENGLISH, TRANSLATED = sections(read("README.md")), sections(read("README.zh-CN.md"))
PAIRS = [
    pytest.param(english, chinese, id=heading.removeprefix("## ") or "opening")
    for (heading, english), (_, chinese) in zip(ENGLISH, TRANSLATED, strict=False)
]


def test_the_sections_are_as_many_and_in_chinese():
    assert len(TRANSLATED) == len(ENGLISH) >= 9
    assert all(CHINESE.search(heading) for heading, _ in TRANSLATED[1:])
    assert not any(CHINESE.search(heading) for heading, _ in ENGLISH)


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_a_section_has_the_same_code(english, chinese):
    assert code_blocks(chinese) == code_blocks(english), LATER


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_a_section_has_the_same_pictures_and_links(english, chinese):
    def pictures(text):
        return re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)

    own = {"README.md", "README.zh-CN.md", "README.md#what-is-where"}

    def links(text):
        found = {target for target in targets(text) if not target.startswith("docs/zh/")}
        return {target for target in found if not target.startswith("#")} - own

    assert pictures(chinese) == pictures(english), LATER
    assert links(chinese) == links(english), LATER


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_a_section_names_the_same_code_and_numbers(english, chinese):
    def names(text):
        return Counter(re.findall(r"`([^`\n]+)`", prose(text)))

    def stated(text):
        text = re.sub(r"\]\([^)]*\)|`[^`\n]*`", "", prose(text))
        return sorted(numbers(text))

    assert names(chinese) == names(english), LATER
    assert stated(chinese) == stated(english), LATER


def test_the_figures_are_equal_row_by_row():
    english, chinese = figure_blocks(read("README.md")), figure_blocks(read("README.zh-CN.md"))
    assert english.keys() >= {"demo", "speed"}
    assert chinese == english, LATER


def test_a_changed_figure_is_a_difference():
    block = "<!-- figures:demo -->\n| a rises | +0.62 ✓ | 3% |\n<!-- /figures -->\n"
    assert figure_blocks(block) == {"demo": [["+0.62", "3%"]]}
    assert figure_blocks(block.replace("0.62", "0.63")) != figure_blocks(block)
    assert sections("a\n```\n## no\n```\n## yes\nb\n") == [
        ("", "a\n```\n## no\n```\n"),
        ("## yes", "b\n"),
    ]


def test_the_readmes_lead_to_each_other_at_once():
    assert "[中文](README.zh-CN.md)" in read("README.md")[:60]
    assert "[English](README.md)" in read("README.zh-CN.md")[:60]


@pytest.mark.parametrize(
    "page", ["README.zh-CN.md", *(f"docs/zh/{p.name}" for p in (ROOT / "docs/zh").glob("*.md"))]
)
def test_relative_links_lead_somewhere(page):
    document = ROOT / page
    broken = []
    for target in targets(read(page)):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        if not (document.parent / path if path else document).exists():
            broken.append(target)
        if anchor and not path:
            headings = [heading.removeprefix("## ") for heading, _ in sections(read(page))]
            broken += [target] if anchor not in headings else []
    assert broken == []


def test_the_chinese_index_lists_every_page():
    """Those of its own folder, and all English ones of the index that the README leads to."""
    linked = set(targets(read("docs/zh/index.md")))
    own = {path.name for path in (ROOT / "docs/zh").glob("*.md")} - {"index.md"}
    english = {f"../{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert own | english <= linked


def test_the_snippets_of_the_getting_started_page_run(tmp_path, monkeypatch, capsys):
    for library in ("opencc", "rjieba", "sacrebleu"):
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    page = read("docs/zh/getting-started.md")
    for long, short in FEWER.items():
        assert page.count(long) == 1, long
        page = page.replace(long, short)
    codes = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert len(codes) >= 8
    known, names = set(registry.tasks.names()), {}
    try:
        for code in codes:
            exec(compile(code, "getting-started.md", "exec"), names)
    finally:
        for name in set(registry.tasks.names()) - known:
            registry.tasks.unregister(name)
            gymnasium.registry.pop(name, None)
    assert "stable_baselines3.ppo.ppo.PPO" in capsys.readouterr().out
