"""`textgym prepare`: what it writes, recipes that make it again, bad input, interrupts."""

import hashlib
import json
import os
import shutil
import signal

import pytest
import yaml
from front_door import run_cli
from hypothesis import given, settings
from hypothesis import strategies as st

import textgym
from textgym.envs.texts import read_texts
from textgym.envs.texts.preparation import Length, Segment, Split, rule
from textgym.errors import InputError
from textgym.manifest import verify_directory

STEPS = [
    *("control_characters", "normalize,form=NFKC", "white_space", "length,min_characters=2"),
    *("duplicates", "near_duplicates", "segment,characters=true", "stop_words,language=en"),
    *("split,validation=0.3", "augment,copies=2"),
]
LINES = [f"the good film number {i} about a big story of the sea {i * 37 % 11}" for i in range(40)]


def content(folder):
    """Every file of a directory by its name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def quiet(*arguments, **keywords):
    return textgym.prepare(*arguments, progress_bar=False, report=lambda line: None, **keywords)


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_text("\n".join([*LINES, LINES[0].upper(), "", "\u4e2d\u6587"]), encoding="utf-8")
    return file


def test_rows_report_and_recipe_are_written_and_read_again(corpus, tmp_path):
    made = quiet(corpus, out=tmp_path / "out", step=STEPS, seed=5)
    assert {*content(tmp_path / "out")} == {
        *("train.jsonl", "validation.jsonl", "report.json", "report.md", "recipe.json"),
        "manifest.json",
    }
    verify_directory(tmp_path / "out", must_have_manifest=True)
    rows = list(map(json.loads, made.files["train"].read_text(encoding="utf-8").splitlines()))
    copies = [row for row in rows if "augmented_from" in row]
    assert copies and {*copies[0]["augmented_from"]} == {"row", "operation", "words"}
    assert list(read_texts(made.files["train"])) == [row["text"] for row in rows]
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["read"] == 42 and report["parts"] == made.report.parts
    assert report["encodings"] == {str(corpus): "utf-8"}
    duplicates = next(s for s in report["steps"] if s["name"] == "duplicates")
    assert duplicates["removed"] == 1
    assert duplicates["samples"] == [{"before": LINES[0].upper(), "after": None}]
    assert "## duplicates" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_a_recipe_makes_the_same_bytes_again(corpus, tmp_path, monkeypatch):
    quiet(corpus, out=tmp_path / "one", step=STEPS, seed=5)
    monkeypatch.chdir(tmp_path / "one")  # from wherever it is called
    lines = []
    recipe = tmp_path / "one" / "recipe.json"
    textgym.prepare(
        recipe=recipe, out=tmp_path / "two", progress_bar=False, report=lines.append, samples=0
    )
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert lines[-1] == "the same bytes as the recipe's run"
    as_yaml = tmp_path / "recipe.yaml"
    as_yaml.write_text(yaml.safe_dump(json.loads(recipe.read_text(encoding="utf-8"))))
    quiet(recipe=as_yaml, out=tmp_path / "three")
    assert content(tmp_path / "one") == content(tmp_path / "three")
    other = quiet(corpus, out=tmp_path / "four", step=STEPS, seed=6)
    assert content(tmp_path / "four")["train.jsonl"] != content(tmp_path / "one")["train.jsonl"]
    assert other.recipe.steps[-2] == Split(0.3, seed=6)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1), st.integers(0, 2**32 - 1))
def test_any_run_is_made_again_by_its_recipe(tmp_path_factory, texts, seed):
    folder = tmp_path_factory.mktemp("recipes")
    source = folder / "in.jsonl"
    rows = (json.dumps({"text": text, "n": n}) for n, text in enumerate([*texts, "never empty"]))
    source.write_text("\n".join(rows), encoding="utf-8")
    steps = ["control_characters", "split,test=0.2", "augment,swap=0.5"]
    quiet(source, out=folder / "one", step=steps, seed=seed)
    quiet(recipe=folder / "one" / "recipe.json", out=folder / "two")
    assert content(folder / "one") == content(folder / "two")


def test_a_recipe_serves_for_other_inputs_but_not_for_changed_ones(corpus, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("film\n", encoding="utf-8")
    steps = ["length", f"stop_words,language=,words={words}"]
    quiet(corpus, out=tmp_path / "one", step=steps)
    recipe = tmp_path / "one" / "recipe.json"
    other = tmp_path / "other.txt"
    other.write_text("one film\n", encoding="utf-8")
    made = quiet(other, out=tmp_path / "two", recipe=recipe)
    assert made.files["texts"].read_text(encoding="utf-8") == '{"text": "one"}\n'
    shutil.copy(corpus, tmp_path / "kept.txt")
    corpus.write_text("changed\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"corpus\.txt: not the file that the recipe was written"):
        quiet(recipe=recipe, out=tmp_path / "three")
    shutil.copy(tmp_path / "kept.txt", corpus)
    words.write_text("story\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"words\.txt: not the file that the recipe was written"):
        quiet(recipe=recipe, out=tmp_path / "three")
    assert not (tmp_path / "three").exists()


def test_without_steps_it_cleans_as_pretrain_does(corpus, tmp_path):
    made = quiet(corpus, out=tmp_path / "out", format="txt")
    assert [count.name for count in made.report.steps] == [
        *("control characters", "unicode NFC", "white space", "length 1 to 10000", "duplicates")
    ]
    texts = made.files["texts"].read_text(encoding="utf-8").splitlines()
    assert texts == [*LINES, "中文"]


def test_columns_stay_and_the_text_keeps_its_name(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("id,body,author\n1, a  text ,x\n2,,y\n", encoding="utf-8")
    made = quiet(source, out=tmp_path / "out", column="body", step=["white_space"])
    rows = made.files["texts"].read_text(encoding="utf-8").splitlines()
    assert list(map(json.loads, rows)) == [{"body": "a text", "id": "1", "author": "x"}]
    assert made.report.blank == 1


def test_other_charsets_are_read_and_said(tmp_path):
    source = tmp_path / "in.txt"
    source.write_bytes("我来到北京清华大学，今天天气很好。\n".encode("gb18030") * 3)
    lines = []
    made = textgym.prepare(
        source, out=tmp_path / "out", step=["segment"], progress_bar=False, report=lines.append
    )
    assert made.encodings == {source: "gb18030"}
    assert lines[-1] == f"note: {source} was read as gb18030"
    assert next(iter(read_texts(made.files["texts"]))).startswith("我 来到 北京 清华大学 ，")


def test_paragraphs_are_texts_where_wanted(tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("one\ntwo\n\n\nthree\n", encoding="utf-8")
    made = quiet(source, out=tmp_path / "out", step=["length"], paragraphs=True)
    assert list(read_texts(made.files["texts"])) == ["one\ntwo", "three"]
    with pytest.raises(InputError, match=r"in\.txt, line 2: holds a line break, and a \.txt file"):
        quiet(source, out=tmp_path / "no", step=["length"], paragraphs=True, format="txt")


RECIPE = {"recipe_version": 1, "inputs": [], "steps": []}


@pytest.mark.parametrize(
    ("source", "keywords", "message"),
    [
        (b"", {}, "no text to prepare: the inputs hold none"),
        (b" \n\n", {}, "no text to prepare"),
        (b"a\0b\n", {}, r"in\.txt, line 1: holds a NUL byte, so it is no text file"),
        (
            "é\n".encode() + "我来到北京清华大学\n".encode("gbk") * 9,
            {},
            "mixed encodings: line 1 is",
        ),
        (b"short\n", {"step": ["length,min_characters=9"]}, "no rows left: of 1 read, .* length 9"),
        (b"a\n", {"step": ["segmnt"]}, "unknown step 'segmnt': did you mean 'segment'"),
        (b"a\n", {"step": ["split", "length"]}, "comes behind 'split'"),
        (b"a\n", {"step": ["augment"], "format": "txt"}, "'augment' needs --format jsonl"),
        (b"a\n", {"encoding": "klingon"}, "encoding must be 'auto' or a charset"),
        (b"a\n", {"format": "xml"}, "format must be one of jsonl, txt, got 'xml'"),
        (b"a\n", {"step": [rule("own", str.upper)]}, "'own' is a function"),
        (b"a\n", {"recipe": {**RECIPE, "recipe_version": 2}}, "a recipe of version 2, but this"),
        (b"a\n", {"recipe": {**RECIPE, "surplus": 1}}, "unknown key 'surplus' in a recipe"),
        (b"a\n", {"recipe": {**RECIPE, "steps": [{"step": "x"}]}}, "r.json: unknown step 'x'"),
        (b"a\n", {"recipe": {**RECIPE, "steps": 3}}, "steps must be a list, got 3"),
        (b"a\n", {"recipe": {**RECIPE, "format": "x"}}, "format must be one of"),
        (b"a\n", {"recipe": {"steps": []}}, "expected a recipe of textgym prepare"),
        (b"a\n", {"recipe": RECIPE, "step": ["length"]}, "step must not be given beside a recipe"),
        (b"a\n", {"recipe": RECIPE, "column": "x"}, "column must not be given beside a recipe"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, source, keywords, message):
    file = tmp_path / "in.txt"
    file.write_bytes(source)
    if "recipe" in keywords:
        recipe = tmp_path / "r.json"
        recipe.write_text(json.dumps(keywords["recipe"]), encoding="utf-8")
        keywords = {**keywords, "recipe": recipe}
    before = content(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        quiet(file, out=tmp_path / "out", **keywords)
    assert "\n" not in str(error.value)
    assert content(tmp_path) == before


def test_a_half_pair_is_named_with_its_line(tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text('{"text": "fine"}\n{"text": "half \\ud83d"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2: holds half a surrogate pair: add the step"):
        quiet(file, out=tmp_path / "out", step=["length"])
    made = quiet(file, out=tmp_path / "out")
    assert list(read_texts(made.files["texts"])) == ["fine", "half"]


def test_an_interrupt_leaves_what_was_there(corpus, tmp_path):
    out = tmp_path / "out"
    quiet(corpus, out=out, step=["length"])
    before = content(out)

    class Interrupting(Length):
        def apply(self, rows, count):
            for n, row in enumerate(rows):
                if n == 5:
                    signal.raise_signal(signal.SIGINT)
                yield row

    with pytest.raises(KeyboardInterrupt):
        quiet(corpus, out=out, step=[Interrupting(), Segment(characters=True)])
    assert content(out) == before
    assert sorted(os.listdir(tmp_path)) == ["corpus.txt", "out"]


def test_the_command_line_prepares_and_says_what_each_step_did(corpus, tmp_path):
    words = ("prepare", str(corpus), "--out", str(tmp_path / "out"), "--no-progress-bar")
    code, output, _ = run_cli(*words, "--step", "white-space", "--step", "duplicates")
    assert code == 0
    assert "duplicates            0           1" in output
    assert output.endswith("texts.jsonl --out runs/lm\n")
    assert f"duplicates: '{LINES[0].upper()}' removed" in output
    recipe = str(tmp_path / "out" / "recipe.json")
    again = ("prepare", "--recipe", recipe, "--out", str(tmp_path / "again"), "--no-progress-bar")
    code, output, _ = run_cli(*again)
    assert code == 0 and "the same bytes as the recipe's run" in output
    code, _, error = run_cli("prepare", "--out", str(tmp_path / "none"))
    assert (code, error) == (2, "textgym: error: missing INPUTS: the files to prepare\n")


def test_a_fresh_pretrain_takes_the_commonest_words(corpus, tmp_path):
    settings = {"hidden_size": 16, "num_hidden_layers": 1, "context": 32, "steps": 1}
    textgym.pretrain(
        corpus,
        out=tmp_path / "lm",
        tokenizer="word",
        vocab_size=400,
        progress_bar=False,
        report=lambda line: None,
        **settings,
    )
    tokenizer = textgym.Tokenizer.load(tmp_path / "lm")
    assert [tokenizer.decode([i]) for i in tokenizer.encode("the good film")] == [
        *("the", " good", " film")
    ]


def test_a_recipe_knows_what_it_was_made_with(corpus, tmp_path):
    made = quiet(corpus, out=tmp_path / "out")
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(corpus.read_bytes()).hexdigest()
    assert recipe["inputs"] == [{"path": str(corpus), "sha256": digest}]
    assert {"textgym", "python", "numpy", "unicode", "ftfy"} <= {*recipe["versions"]}
    written = hashlib.sha256(made.files["texts"].read_bytes()).hexdigest()
    assert recipe["outputs"] == {"texts.jsonl": written}
