"""What a study writes for TensorBoard, read back with TensorBoard's own reader."""

import errno
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_studies import expected_score, made_study, write_made_study
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter

from textgym.agents.comparison.study import Cell
from textgym.agents.comparison.study_events import cell_folders, write_study_events
from textgym.agents.comparison.verdict import verdict_of

CELLS = (("ppo", "crowd"), ("ppo", "lexicon"))
FIGURES = ["judges/critic", "kl", "distinct_2", "length", "perplexity"]
FIGURES += ["judges/crowd", "judges/lexicon", "judges/length"]
LAST = ["reward/total", "kl/per_episode", "text/length", "text/distinct_2"]
LAST += ["time/rollout_tokens_per_second", "seconds"]


def read(folder):
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    accumulator = EventAccumulator(str(folder), everything)
    accumulator.Reload()
    return accumulator


def text_of(event):
    [text] = event.tensor_proto.string_val
    return text.decode("utf-8")


@pytest.fixture
def without_pictures(monkeypatch):
    """They take most of the time."""
    monkeypatch.setattr("textgym.agents.comparison.study_events.study_pictures", lambda *_: {})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A study without noise, and where its event files stand."""
    study = made_study(CELLS, seeds=2, prompts=4, evaluations=3, noise=0, seed_spread=0.1)
    out = tmp_path_factory.mktemp("study")
    return study, write_study_events(study, out, verdict_of(study))


def test_every_cell_has_a_run_and_in_it_every_seed(written):
    _, place = written
    files = sorted(path.relative_to(place).parent.as_posix() for path in place.rglob("*.study"))
    seeds = [f"{cell}/seed-{n}" for cell in ("ppo · crowd", "ppo · lexicon") for n in (0, 1)]
    assert files == sorted([".", "ppo · crowd", "ppo · lexicon", *seeds])


def test_the_verdict_stands_beside_the_texts(written):
    study, place = written
    verdict = verdict_of(study)
    [event] = read(place).Tensors("study/verdict")
    told = re.sub(r"&#(\d+);", lambda code: chr(int(code[1])), text_of(event))
    assert event.step == 40_000 and told.startswith(verdict.headline)
    assert verdict.cautions and all(f"- {caution}" in told for caution in verdict.cautions)


def test_a_seed_has_the_means_over_prompts(written):
    study, place = written
    scalars = read(place / "ppo · crowd" / "seed-1")
    held_out = {f"held_out/{name}" for name in FIGURES}
    assert {*scalars.Tags()["scalars"]} == held_out | {f"last/{name}" for name in LAST}
    [_, run] = study.runs_of("ppo · crowd")
    at_the_end = run.record.texts[40_000]
    events = scalars.Scalars("held_out/judges/critic")
    assert [event.step for event in events] == [0, 20_000, 40_000]
    critic = [text.scores["critic"] for text in at_the_end]
    assert events[-1].value == pytest.approx(sum(critic) / 4)
    first = sum(expected_score(k, "critic", 0.5, 0.0) for k in range(4)) / 4
    assert events[0].value == pytest.approx(first)
    kl = [sum(t.log_probs) - sum(t.reference_log_probs) for t in at_the_end]
    assert scalars.Scalars("held_out/kl")[-1].value == pytest.approx(sum(kl) / 4, rel=1e-5)
    tokens = sum(len(text.token_ends) for text in at_the_end)
    assert scalars.Scalars("held_out/length")[-1].value == pytest.approx(tokens / 4)
    surprise = np.exp(sum(text.start_nll for text in at_the_end) / tokens)
    assert scalars.Scalars("held_out/perplexity")[-1].value == pytest.approx(surprise, rel=1e-5)
    [last] = scalars.Scalars("last/seconds")
    assert (last.step, last.value) == (40_000, 61.0)


def test_a_cell_has_mean_and_band_over_its_seeds(written):
    """Of two values a < b: mean (a + b)/2, and t(0.975, 1) · s/√2 = 12.7062 · (b − a)/2."""
    study, place = written
    scalars = read(place / "ppo · lexicon")
    of_seeds = [
        np.mean([text.scores["critic"] for text in run.record.texts[40_000]])
        for run in study.runs_of("ppo · lexicon")
    ]
    a, b = sorted(of_seeds)
    assert b > a
    mean, half = (a + b) / 2, 12.7062 * (b - a) / 2
    expected = {
        "held_out/judges/critic": mean,
        "seed_band/judges/critic/lower": mean - half,
        "seed_band/judges/critic/upper": mean + half,
    }
    for tag, value in expected.items():
        assert scalars.Scalars(tag)[-1].value == pytest.approx(value, rel=1e-4)
    assert not scalars.Tags()["tensors"]  # no HParams: the table has one row a run


def test_the_layout_has_a_margin_chart_for_every_figure(written):
    _, place = written
    [event] = read(place).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {
        category.title: [chart.title for chart in reversed(category.chart)]
        for category in layout.category
    }
    assert charts == {
        "gold judges": ["critic"],
        "rewards that a cell trains on": ["crowd", "lexicon"],
        "rewards that only look on": ["length"],
        "texts": [
            "KL to the start, nats per text",
            "length, tokens",
            "distinct-2",
            "perplexity under the start",
        ],
    }
    cell = set(read(place / "ppo · crowd").Tags()["scalars"])
    for category in layout.category:
        for chart in category.chart:
            [series] = chart.margin.series
            assert {series.value, series.lower, series.upper} <= cell


def test_hparams_is_one_experiment_and_a_session_for_every_run(written):
    _, place = written
    found = {}
    for folder in {path.parent for path in place.rglob("*.study")}:
        tags = read(folder).summary_metadata
        found[folder.relative_to(place).as_posix()] = {
            tag: value.plugin_data.content
            for tag, value in tags.items()
            if value.plugin_data.plugin_name == metadata.PLUGIN_NAME
        }
    assert [run for run, tags in found.items() if metadata.EXPERIMENT_TAG in tags] == ["."]
    content = found["."][metadata.EXPERIMENT_TAG]
    experiment = metadata.parse_experiment_plugin_data(content)
    assert [i.name for i in experiment.hparam_infos] == ["policy", "agent", "reward", "seed"]
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics == [f"held_out/{n}" for n in FIGURES] + [f"last/{n}" for n in LAST]
    assert not any(info.name.group for info in experiment.metric_infos)
    rows = {}
    for run, tags in found.items():
        if metadata.SESSION_START_INFO_TAG in tags:
            content = tags[metadata.SESSION_START_INFO_TAG]
            start = metadata.parse_session_start_info_plugin_data(content)
            rows[run] = {name: value.string_value for name, value in start.hparams.items()}
            end = metadata.parse_session_end_info_plugin_data(tags[metadata.SESSION_END_INFO_TAG])
            assert end.status == 1  # success
            assert set(metrics) <= set(read(place / run).Tags()["scalars"])
    reviews = {"policy": "runs/reviews", "agent": "ppo"}
    assert rows == {
        f"ppo · {reward}/seed-{n}": {**reviews, "reward": reward, "seed": str(n)}
        for reward in ("crowd", "lexicon")
        for n in (0, 1)
    }


def test_pictures_are_images_that_can_be_decoded(written):
    _, place = written
    events = read(place)
    names = ["pictures/cross_scores", "pictures/gold_over_kl", "pictures/proxy_and_gold"]
    assert sorted(events.Tags()["images"]) == names
    for name in names:
        [event] = events.Images(name)
        pixels = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        assert event.step == 40_000 and pixels.shape == (event.height, event.width, 3)
        assert len(np.unique(pixels[::9, ::9].reshape(-1, 3), axis=0)) > 20


def test_every_prompt_has_a_table_at_every_evaluation(written):
    study, place = written
    events = read(place)
    tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("prompts/")]
    assert tags == ["prompts/001", "prompts/002", "prompts/003", "prompts/004"]
    tables = events.Tensors("prompts/004")
    assert [event.step for event in tables] == [0, 20_000, 40_000]
    heading, _, seed, _, *table = text_of(tables[-1]).split("\n")
    assert heading == "prompt 4 of 4: **这部电影**" and seed.startswith("seed 0;")
    assert table[0] == "| start | ppo · crowd | ppo · lexicon |"
    first = [study.runs_of(cell.label)[0].record for cell in study.cells]
    start, *last = first[0].texts[0][3], *(record.texts[40_000][3] for record in first)
    texts = [text.completion for text in (start, *last)]
    assert table[2] == f"| {' | '.join(texts)} |" and "非常好看" in texts[0]
    assert "critic \\(gold\\)" not in "".join(table)  # escaped as references
    scores = [f"critic &#40;gold&#41;&#58; {t.scores['critic']:.3f}" for t in (start, *last)]
    assert (
        f"| {' | '.join(s.replace('.', '&#46;').replace('-', '&#45;') for s in scores)} |" in table
    )


def test_strange_texts_are_escaped(written):
    """The made texts of prompt 2 hold a script and a picture whose error runs one."""
    _, place = written
    for event in read(place).Tensors("prompts/002"):
        text = text_of(event)
        assert "script" in text and "<" not in text and "onerror=" not in text


def test_every_tag_is_documented_where_it_stands(written):
    """The table of tags in docs/comparing.md: each run has tags of its kind only, and all kinds."""
    _, place = written
    page = (Path(__file__).parents[2] / "docs" / "comparing.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[^|]+) \| (cell|seed|study|cell, seed) \|", page, re.M)
    known = {
        re.sub("NAME|TAG|CELL|NUMBER", ".+", tag): set(kinds.split(", "))
        for tags, kinds in rows
        for tag in re.findall("`([^`]+)`", tags)
    }
    seen = set()
    for folder in {path.parent for path in place.rglob("*.study")}:
        kind = ("study", "cell", "seed")[len(folder.relative_to(place).parts)]
        tags = read(folder).Tags()
        for tag in [*tags["scalars"], *tags["images"], *tags["tensors"]]:
            if not tag.startswith(("_hparams_/", "custom_scalars__")):
                [pattern] = [known_as for known_as in known if re.fullmatch(known_as, tag)]
                assert kind in known[pattern], (tag, kind)
                seen.add(pattern)
    assert known.keys() - seen == {"samples/continuations"}  # where nothing is held out


def test_event_files_of_an_earlier_report_are_replaced(tmp_path, without_pictures):
    study = made_study(CELLS, seeds=1, prompts=2, evaluations=2)
    write_made_study(study, tmp_path)
    own = tmp_path / study.runs[0].name / "tensorboard" / "ppo_1"
    with SummaryWriter(str(own)) as writer:
        writer.add_scalar("reward/total", 1.0, 8)
    with SummaryWriter(str(tmp_path / "tensorboard" / "mine")) as writer:
        writer.add_scalar("a", 1.0, 8)
    before = {path: path.read_bytes() for path in tmp_path.rglob("events.out.tfevents.*")}
    place = write_study_events(study, tmp_path)
    first = sorted(place.rglob("*.study"))
    assert len(first) == 5
    fewer = replace(study, cells=study.cells[:1], runs=study.runs[:1])
    write_study_events(fewer, tmp_path)
    second = sorted(place.rglob("*.study"))
    assert len(second) == 3 and not set(first) & set(second)
    assert sorted(path.name for path in place.iterdir() if path.is_dir()) == ["mine", "ppo · crowd"]
    assert {path: path.read_bytes() for path in before} == before
    assert not list(tmp_path.glob(".tensorboard-*"))


def test_what_cannot_be_written_leaves_the_earlier_report(tmp_path, without_pictures, monkeypatch):
    study = made_study(CELLS, seeds=1, prompts=2, evaluations=2)
    place = write_study_events(study, tmp_path)
    before = {path: path.read_bytes() for path in place.rglob("*.study")}

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_study_events(study, tmp_path)
    assert {path: path.read_bytes() for path in place.rglob("*.study")} == before
    assert list(tmp_path.iterdir()) == [place]


def test_a_single_seed_has_no_band(tmp_path, without_pictures):
    study = made_study(CELLS, seeds=1, prompts=2, evaluations=2)
    place = write_study_events(study, tmp_path)
    tags = read(place / "ppo · crowd").Tags()["scalars"]
    assert sorted(tags) == sorted(f"held_out/{name}" for name in FIGURES)
    [event] = read(place).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    assert [list(c.multiline.tag) for c in layout.category[0].chart] == [
        ["^held_out/judges/critic$"]
    ]


def test_runs_without_held_out_evaluations_show_their_samples(tmp_path):
    study = made_study(CELLS, seeds=1, prompts=2, evaluations=2)
    bare = replace(study, judges={}, runs=[replace(run, record=None) for run in study.runs])
    place = write_study_events(bare, tmp_path)
    events = read(place)
    assert events.Tags()["images"] == []
    assert [event.step for event in events.Tensors("samples/continuations")] == [0, 40_000]
    table = text_of(events.Tensors("samples/continuations")[-1]).split("\n")
    assert table[0] == "| prompt | ppo · crowd | ppo · lexicon |" and len(table) == 4
    assert sorted(read(place / "ppo · crowd" / "seed-0").Tags()["scalars"]) == sorted(
        f"last/{name}" for name in LAST
    )


def test_a_column_of_numbers_and_words_is_one_of_words(tmp_path, without_pictures):
    study = made_study(CELLS, seeds=1, prompts=2, evaluations=2)
    first, second = study.cells
    cells = [
        replace(first, settings={**first.settings, "kl_target": 6.0, "kl_coef": 0.1}),
        replace(second, settings={**second.settings, "kl_target": "none"}),
    ]
    place = write_study_events(replace(study, cells=cells), tmp_path)
    content = read(place).summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    columns = metadata.parse_experiment_plugin_data(content).hparam_infos
    kinds = {column.name: column.type for column in columns}
    assert kinds["kl_target"] == 1 and kinds["kl_coef"] == 3  # text, number
    folder = place / "ppo · crowd" / "seed-0"
    content = read(folder).summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    assert start.hparams["kl_target"].string_value == "6.0"
    assert start.hparams["kl_coef"].number_value == 0.1


def test_folders_are_names_that_file_systems_take_and_all_different():
    study = made_study(CELLS, seeds=1, prompts=1, evaluations=2)
    labels = ["runs/lm · a?b", "runs_lm · a_b", "RUNS_LM · a_b", "电影", "..", "x" * 300]
    folders = cell_folders(replace(study, cells=[Cell(label, {}, "crowd") for label in labels]))
    assert list(folders.values()) == [
        "runs_lm · a_b",
        "runs_lm · a_b (2)",
        "RUNS_LM · a_b (3)",
        "电影",
        "cell",
        "x" * 80,
    ]
    assert all(len(Path(name).parts) == 1 for name in folders.values())
