"""The Python of the documents runs, in its order, page by page; links between pages lead somewhere.

`environments.md` has a test of its own.
"""

import re
from pathlib import Path

import gymnasium
import pytest
from chat_server import chat_server
from front_door import byte_lm

from textgym import registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Snippets with one of these need files of the reader's own, or a long training.
NOT_RUN = ("ratings.jsonl", "corpus.jsonl.gz")


def snippets(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    return [code for code in found if not any(word in code for word in NOT_RUN)]


@pytest.fixture
def clean_registry():
    tasks, rewards = set(registry.tasks.names()), set(registry.rewards.names())
    agents = set(registry.agents.names())
    yield
    for name in set(registry.tasks.names()) - tasks:
        registry.tasks.unregister(name)
        gymnasium.registry.pop(name, None)
    for name in set(registry.rewards.names()) - rewards:
        registry.rewards.unregister(name)
    for name in set(registry.agents.names()) - agents:
        registry.agents.unregister(name)


@pytest.mark.parametrize(
    ("page", "at_least"),
    [
        ("policies.md", 6),
        ("memory.md", 1),
        ("trunks.md", 2),
        ("vae.md", 1),
        ("agents.md", 5),
        ("reward-models.md", 2),
        ("human-reward.md", 1),
        ("adversarial.md", 1),
        ("fitting-rewards.md", 1),
        ("data.md", 2),
        ("judgement-files.md", 1),
        ("preparation.md", 4),
        ("masks.md", 5),
        ("oracle.md", 1),
        ("resuming.md", 1),
        ("label-store.md", 1),
    ],
)
def test_the_snippets_of_a_page_run(page, at_least, tmp_path, monkeypatch, clean_registry):
    monkeypatch.chdir(tmp_path)
    codes = snippets(page)
    assert len(codes) >= at_least
    names = {}
    for code in codes:
        exec(compile(code, page, "exec"), names)


def test_the_index_lists_every_page():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {path.name for path in DOCS.glob("*.md")} - {"index.md"}
    assert pages == set(re.findall(r"\]\(([\w-]+\.md)\)", index))


def test_relative_links_lead_somewhere():
    documents = [*DOCS.glob("*.md"), *ROOT.glob("*.md")]
    broken = []
    for document in documents:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            if "://" in target or target.endswith(".png"):
                continue
            if not (document.parent / target).exists():
                broken.append(f"{document.name}: {target}")
    assert broken == []


def test_the_settings_in_the_demo_page_are_those_of_the_code():
    from textgym.demonstration.settings import PolicySettings, Settings

    page = (DOCS / "demo.md").read_text("utf-8")
    heading = "\n## With a model that writes whole sentences\n"
    for part, settings in zip(page.split(heading), (Settings(), PolicySettings()), strict=True):
        rows = re.findall(r"^\| `(\w+)` \| (-?[\d,.]+) \|", part, re.M)
        stated = {name: float(value.replace(",", "")) for name, value in rows}
        assert stated == {name: float(value) for name, value in vars(settings).items()}


def test_the_snippets_of_the_judges_page_run(tmp_path, monkeypatch, capsys):
    """A model of ours answers at the endpoint."""
    monkeypatch.chdir(tmp_path)
    codes = snippets("model-judges.md")
    assert len(codes) == 3
    with chat_server(byte_lm(max_position_embeddings=512), "123456789") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        names = {}
        for code in codes:
            exec(compile(code, "model-judges.md", "exec"), names)
    assert len(server.requests) == 1 and "pair accuracy of local_judge" in capsys.readouterr().out
