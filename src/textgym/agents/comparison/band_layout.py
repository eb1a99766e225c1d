"""The layout of TensorBoard's Custom Scalars page: a chart with bands for every held-out figure.

A margin chart wants the mean and both ends of its band as tags of one run, so each cell has a run
of its own for them.
"""

from collections.abc import Sequence
from typing import Any

from textgym.agents.comparison.held_out_curves import (
    DISTINCT_2,
    KL,
    LENGTH,
    PERPLEXITY,
    judge_tag,
)
from textgym.agents.comparison.study import Study

Layout = dict[str, dict[str, list[Any]]]
_TITLES = {
    KL: "KL to the start, nats per text",
    LENGTH: "length, tokens",
    DISTINCT_2: "distinct-2",
    PERPLEXITY: "perplexity under the start",
}


def band_tags(tag: str) -> tuple[str, str]:
    """The tags of a band's lower and upper end."""
    name = tag.removeprefix("held_out/")
    return f"seed_band/{name}/lower", f"seed_band/{name}/upper"


def band_layout(study: Study, *, has_bands: bool) -> Layout:
    """What `SummaryWriter.add_custom_scalars` takes: charts by title, by category.

    The charts of a category stand in reverse order, as TensorBoard shows the last one first.

    :param has_bands: False where every cell has a single seed: lines then, without bands.
    """
    kinds = (
        ("gold judges", "gold"),
        ("rewards that a cell trains on", "reward"),
        ("rewards that only look on", "shadow"),
    )
    layout: Layout = {}
    for title, role in kinds:
        tags = {name: judge_tag(name) for name, is_of in study.judges.items() if is_of == role}
        if tags:
            layout[title] = {name: _chart(tag, has_bands) for name, tag in tags.items()}
    layout["texts"] = {title: _chart(tag, has_bands) for tag, title in _TITLES.items()}
    return {title: dict(reversed(charts.items())) for title, charts in layout.items()}


def _chart(tag: str, has_bands: bool) -> list[Any]:
    tags: Sequence[str] = (tag, *band_tags(tag)) if has_bands else (f"^{tag}$",)
    return ["Margin" if has_bands else "Multiline", list(tags)]
