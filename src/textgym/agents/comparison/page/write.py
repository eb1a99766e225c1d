"""The page as one file: template, style, script and compressed data joined, nothing outside."""

import base64
import hashlib
import html
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from textgym.agents.comparison.page.overview import overview_of
from textgym.agents.comparison.page.packing import pack
from textgym.agents.comparison.page.run_blocks import MEGABYTE, fit_blocks
from textgym.agents.comparison.page.verdict_block import verdict_block
from textgym.agents.comparison.study import Study
from textgym.agents.comparison.verdict import Verdict
from textgym.storage import write_text_atomically

# Joined in this order into one script.
SCRIPTS = (
    "page.js",
    "data.js",
    "state.js",
    "figures.js",
    "words.js",
    "verdict.js",
    "charts.js",
    "matrix.js",
    "picker.js",
    "filters.js",
    "table.js",
    "blind.js",
    "export.js",
    "main.js",
)


def write_page(
    study: Study,
    path: str | Path,
    verdict: Verdict | None = None,
    *,
    limit: int = 10 * MEGABYTE,
) -> Path:
    """Write a study as one HTML file, which asks for nothing outside itself.

    :param verdict: what `verdict_of` says of the study; without one the page shows the figures
        alone.
    :param limit: bytes. Past it the page leaves out the texts of later seeds, then evaluations
        between start and end, and says so; charts and matrix are always of all runs.
    :returns: the file.
    :raises StorageError: if it cannot be written.
    """
    path = Path(path)
    blocks = fit_blocks(study, limit)
    block = None if verdict is None else verdict_block(study, verdict)
    overview = overview_of(study, blocks, block)
    write_text_atomically(path, page_html(overview, blocks.packed))
    return path


def page_html(overview: dict[str, Any], packed: dict[int, str]) -> str:
    """The page.

    :param overview: JSON values, what the page shows before any text is read.
    :param packed: texts and scores by index of the run, as `pack` makes them.
    """
    style, script = read("page.css"), script_text()
    data = [_data("overview", pack(overview))]
    data += [_data(f"run-{index}", text) for index, text in packed.items()]
    return Template(read("page.html")).substitute(
        title=html.escape(overview["title"]),
        verdict=html.escape((overview["verdict"] or {}).get("markdown", "")),
        style_hash=_hash(style),
        script_hash=_hash(script),
        style=style,
        script=script,
        data="\n".join(data),
    )


def script_text() -> str:
    """The page's script: the files of `SCRIPTS`, in a scope of their own."""
    return '"use strict";\n{\n' + "\n".join(map(read, SCRIPTS)) + "\n}\n"


def read(name: str) -> str:
    """One of the template's files."""
    place = resources.files("textgym.agents.comparison.page") / "template" / name
    return place.read_text(encoding="utf-8")


def _data(name: str, text: str) -> str:
    return f'<script type="application/gzip+base64" id="{name}">{text}</script>'


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
