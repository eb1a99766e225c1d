"""The snippets of docs/environments.md run, in their order."""

import re
from pathlib import Path

import gymnasium

from textgym import registry

PAGE = Path(__file__).parents[2] / "docs" / "environments.md"


def test_the_snippets_of_the_page_run(capsys):
    text = PAGE.read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    known, names = set(registry.tasks.names()), {}
    try:
        for snippet in snippets:
            exec(compile(snippet, str(PAGE), "exec"), names)
        registered = set(registry.tasks.names()) - known
        for name in registered:  # those that a snippet only registers can be made too
            gymnasium.make(name).reset(seed=0)
        assert len(snippets) >= 7 and len(registered) >= 5
        assert "reward model 'broken' returned None" in capsys.readouterr().out
    finally:
        for name in set(registry.tasks.names()) - known:
            registry.tasks.unregister(name)
            gymnasium.registry.pop(name, None)
