"""The pages of docs/algorithms say what the code does: keywords, defaults, metrics, examples."""

import ast
import inspect
import math
import re
import sys
import types
from pathlib import Path

import gymnasium
import pytest
from stable_baselines3.common.logger import Logger

import textgym
from textgym import registry
from textgym.agents.building.build import build_agent
from textgym.agents.building.specs import CriticSpec, OffPolicySpec, spec_of
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.signatures import constructors
from textgym.tokenizer import Tokenizer

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "algorithms"
WORDS = [word for word in registry.agents.names() if (FOLDER / f"{word}.md").is_file()]
# Budgets and environments on which every default that depends on them differs.
SETTINGS = ((32, 16), (64, 32), (40, 9))
FILLED_IN = {
    *("self", "policy", "env", "seed", "kl", "keywords", "arguments", "_init_setup_model"),
    *("rollout_buffer_class", "rollout_buffer_kwargs", "replay_buffer_class"),
}
ON_EVERY_PAGE = {"rollout/ep_rew_mean", "rollout/ep_len_mean"}  # in metrics.md alone


def text_of(word):
    return (FOLDER / f"{word}.md").read_text(encoding="utf-8")


def table(text, heading):
    """The rows of the tables under a heading, without their heads: lists of cells.

    A link beside the table to the same heading of another page borrows that page's rows.
    """
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ")[0]
    rows = re.findall(r"^\|(.*)\|$", section, re.M)
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows]
    cells = [row for row in cells if row[0].startswith("`")]
    for other in re.findall(rf"^[^|\n]*\]\((\w+)\.md#{heading.lower()}\)", section, re.M):
        cells += table(text_of(other), heading)
    return cells


def code_in(cell):
    return re.findall(r"`([^`]+)`", cell)


def stated(text, heading):
    """`{keyword: default}`; a default in backticks is Python, or like 2 * T; others are words."""
    found = {}
    for names, defaults, *_ in table(text, heading):
        keys, values = code_in(names), code_in(defaults) or [None]
        assert len(keys) == len(values), names
        assert not found.keys() & set(keys), names
        found |= dict(zip(keys, values, strict=True))
    return found


def value_of(said, budget, n_envs):
    """A stated default as Python has it, or a product with the budget T and n environments."""
    factors = said.split(" * ")
    if not {"T", "n"} & set(factors):
        return ast.literal_eval(said)
    return math.prod({"T": budget, "n": n_envs}.get(f) or int(f) for f in factors)


def signature_of(cls):
    """Keywords of a class and of the bases that it passes them on to, with their defaults."""
    found = {}
    for base in reversed(constructors(cls)):
        found |= {k: p.default for k, p in inspect.signature(base.__init__).parameters.items()}
    return found


def real(word, budget, n_envs):
    """`{keyword: default}` of what `make_agent` takes for an algorithm."""
    algorithm = spec_of(word)
    own = signature_of(algorithm.algorithm_class)
    policys = signature_of(algorithm.policy_class)
    builder = {k: p.default for k, p in inspect.signature(build_agent).parameters.items()}
    found = {k: v for k, v in own.items() if k not in FILLED_IN}
    found |= {k: policys[k] for k in algorithm.policy_keywords}
    if isinstance(algorithm, OffPolicySpec):
        found["n_steps"] = None  # handed to our buffer, whose default it is
    wanted = ["final_learning_rate", "optimizer"]
    if algorithm.has_kl:
        wanted += ["kl_coef", "kl_estimator", "kl_target"]
        builder["kl_coef"] = 0.0
    if isinstance(algorithm, CriticSpec):
        wanted += ["value_warmup_rollouts"]
        found["value_lr_scale"] = 10.0
    found |= {k: builder[k] for k in wanted}
    return found | algorithm.defaults(budget, n_envs)


def tiny():
    return CausalLM.new(Tokenizer.byte(), hidden_size=16, num_hidden_layers=1)


def test_every_word_has_a_row_in_the_index_with_its_class():
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| `([\w.]+)`", text_of("index"), re.M)
    assert all(word == page for word, page, _ in rows)
    targets = {word: registry.agents.resolve(word).target for word in registry.agents.names()}
    classes = {
        word: re.sub(r"^textgym\.agents\.algorithms\.\w+:", "textgym.agents:", target)
        for word, target in targets.items()
    }
    assert {word: name for word, _, name in rows} == {
        word: target.replace(":", ".") for word, target in classes.items()
    }


def test_every_word_has_a_page():
    assert {f"{word}.md" for word in registry.agents.names()} <= {f"{w}.md" for w in WORDS}


@pytest.mark.parametrize("word", WORDS)
def test_a_page_lists_every_keyword_with_its_default(word):
    shared = stated(text_of("index"), "Keywords that all take")
    page = stated(text_of(word), "Keywords")
    actual = [real(word, *setting) for setting in SETTINGS]
    names = set(actual[0])
    assert set(page) - names == set(), "the page has keywords that do not exist"
    assert names - set(page) - set(shared) == set(), "the page leaves keywords out"
    for name in names:
        defaults = [keywords[name] for keywords in actual]
        said = {**shared, **page}[name]
        if said is None:
            assert len({repr(value) for value in defaults}) > 1, f"{name} is {defaults[0]!r}"
        else:
            values = [value_of(said, *setting) for setting in SETTINGS]
            assert values == defaults, f"{name}: said {said}, is {defaults}"


def test_the_shared_table_has_nothing_that_nobody_takes():
    shared = stated(text_of("index"), "Keywords that all take")
    assert set(shared) <= set().union(*(real(word, 32, 16) for word in registry.agents.names()))


@pytest.mark.parametrize("word", WORDS)
def test_make_agent_takes_what_the_page_lists(word):
    keywords = real(word, 24, 8)
    agent = textgym.make_agent(word, "textgym/Keyword-v0", policy=tiny(), n_envs=8, **keywords)
    assert type(agent) is spec_of(word).algorithm_class


@pytest.fixture
def clean_registry():
    agents, tasks = set(registry.agents.names()), set(registry.tasks.names())
    yield
    for name in set(registry.agents.names()) - agents:
        registry.agents.unregister(name)
    for name in set(registry.tasks.names()) - tasks:
        registry.tasks.unregister(name)
        gymnasium.registry.pop(name, None)


def run_snippets(page, text, tmp_path, monkeypatch):
    """Run a page's Python in a module of its own; the tags that were logged."""
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType(f"page_{page}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    seen, record = set(), Logger.record

    def noted(self, key, value, exclude=None):
        seen.add(key)
        record(self, key, value, exclude)

    monkeypatch.setattr(Logger, "record", noted)
    codes = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert codes, "no example"
    for code in codes:
        exec(compile(code, f"{page}.md", "exec"), vars(module))
    return {tag for tag in seen if tag.startswith(("train/", "rollout/"))} - ON_EVERY_PAGE


def metrics(word):
    """Tags of a page, and those of them that are not always logged."""
    rows = table(text_of(word), "Metrics")
    tags = {tag for names, *_ in rows for tag in code_in(names)}
    sometimes = {tag for names, meaning, *_ in rows for tag in code_in(names) if "only" in meaning}
    return tags, sometimes


@pytest.mark.parametrize("word", WORDS)
def test_a_pages_example_runs_and_logs_what_the_page_says(
    word, tmp_path, monkeypatch, clean_registry
):
    seen = run_snippets(word, text_of(word), tmp_path, monkeypatch)
    tags, sometimes = metrics(word)
    assert seen - tags == set(), "logged, but not on the page"
    assert tags - seen <= sometimes, "on the page, but not logged"


def test_the_indexs_examples_run(tmp_path, monkeypatch, clean_registry):
    run_snippets("index", text_of("index"), tmp_path, monkeypatch)


def test_every_tag_of_the_pages_is_in_the_metric_reference():
    reference = (DOCS / "metrics.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^\| `([^`]+)` \|", reference, re.M))
    assert set().union(*(metrics(word)[0] for word in WORDS)) <= known


def anchors(path):
    """Headings as they are linked to."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}


def test_links_between_the_pages_lead_somewhere():
    broken = []
    for page in FOLDER.glob("*.md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            name, _, anchor = target.partition("#")
            path = page.parent / name if name else page
            if not path.exists() or (anchor and anchor not in anchors(path)):
                broken.append(f"{page.name}: {target}")
    assert broken == []
