"""The verb that opens runs and studies in TensorBoard: what it starts, and the links it prints."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from textgym.command_line.tensorboard import show_tensorboard, study_links

CELLS = ("ppo · crowd", "grpo,kl_coef=0.1 · length")


def made(place, *names):
    for name in names:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.fixture
def started(monkeypatch):
    """What TensorBoard would be started with, and the files that it would find there."""
    seen = []

    def call(command):
        logdir = Path(command[command.index("--logdir") + 1])
        folders = [path for path in logdir.iterdir() if path.is_dir()]
        files = [p.relative_to(path) for path in folders for p in path.rglob("events*")]
        seen.append((logdir, sorted(path.name for path in folders), len(files)))
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    return seen


def test_several_directories_are_shown_as_one_by_their_names(tmp_path, started, capsys):
    made(tmp_path, "a/cmp/events.out.tfevents.1", "b/cmp/x/events.out.tfevents.2")
    made(tmp_path, "a, b:c/events.out.tfevents.3")
    runs = [tmp_path / "a/cmp", tmp_path / "b/cmp", tmp_path / "a, b:c"]
    assert show_tensorboard(runs, port=0) == 0
    [(logdir, names, files)] = started
    assert names == ["a, b:c", "cmp", "cmp (2)"] and files == 3
    assert not logdir.exists() and capsys.readouterr().out == ""
    assert all(any(run.rglob("events*")) for run in runs)


def test_links_choose_the_runs_of_a_study():
    """As TensorBoard reads them: the runs whose names a regular expression finds."""
    own = "my runs/cmp+/tensorboard"
    cells = [f"{own}/{cell}" for cell in CELLS]
    seeds = [f"{cell}/seed-{n}" for cell in cells for n in range(5)]
    others = ["my runs/cmp+/cells/a/seed-0/tensorboard/ppo_1", "my runs/ppo/tensorboard/ppo_1"]
    chosen = _chosen(study_links("http://127.0.0.1:6006/", own), [own, *cells, *seeds, *others])
    everything = [own, *cells, *seeds, *others]
    assert chosen == {
        "timeseries": cells + seeds,
        "custom_scalars": cells,
        "hparams": everything,
        "images": [own],
        "text": [own],
    }


def test_links_choose_the_runs_where_the_study_is_the_whole_directory():
    runs = [".", *CELLS, *(f"{cell}/seed-0" for cell in CELLS)]
    chosen = _chosen(study_links("http://localhost:1/", "."), runs)
    assert chosen["custom_scalars"] == list(CELLS)
    assert chosen["images"] == chosen["text"] == ["."] and chosen["timeseries"] == runs


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (["cmp"], ["tensorboard"]),
        (["cmp/tensorboard"], ["."]),
        (["."], ["cmp/tensorboard", "old/tensorboard"]),
        (["cmp", "old/tensorboard"], ["cmp/tensorboard", "tensorboard"]),
        (["cmp/cells"], []),
    ],
)
def test_studies_are_found_by_their_event_files(
    tmp_path, started, capsys, monkeypatch, runs, names
):
    monkeypatch.chdir(tmp_path)
    for study in ("cmp", "old"):
        made(tmp_path / study, "tensorboard/events.out.tfevents.1.study")
        made(tmp_path / study, "tensorboard/cell/events.out.tfevents.2.study")
        made(tmp_path / study, "tensorboard/cell/seed-0/events.out.tfevents.3.study")
        made(tmp_path / study, "cells/cell/seed-0/tensorboard/ppo_1/events.out.tfevents.4")
    assert show_tensorboard(runs, port=0) == 0
    assert re.findall("^study (.*)$", capsys.readouterr().out, re.M) == names


def _chosen(links, runs):
    """The runs that each link leaves, by page; all of them where it says nothing."""
    chosen = {}
    for link in links:
        address = urlsplit(link.split()[1])
        page = address.fragment.split("&")[0]
        found = re.search("(?:runFilter|regexInput)=([^&]*)", f"{address.query}&{address.fragment}")
        pattern = unquote(found[1]) if found else ""
        chosen[page] = [run for run in runs if re.search(pattern, run)]
    return chosen
