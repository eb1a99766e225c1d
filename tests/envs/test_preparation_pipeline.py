"""Pipelines: order, streaming, splits that share no group, augmentation that crosses none."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.envs.texts.preparation import (
    Augment,
    Duplicates,
    Length,
    NearDuplicates,
    Quality,
    Rule,
    Segment,
    Split,
    StopWords,
    TextPipeline,
    default_rules,
    rule,
)
from textgym.envs.texts.preparation.augmentation import OPERATIONS, augmented
from textgym.envs.texts.preparation.catalogue import STEPS, step_from_json, step_of
from textgym.envs.texts.preparation.word_lists import wordnet_synonyms
from textgym.errors import InputError, UnknownNameError
from textgym.near_copies import text_key

FEW = settings(max_examples=25, deadline=None)
WORDS = ("a good film big story happy end the sea run small old new dog cat . ! 12 bad").split()
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), max_size=40)
TABLE = {"good": ("fine", "nice"), "film": ("movie",), "bad": ("poor",)}


def table_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("table") / "synonyms.txt"
    file.write_text("# mine\nGood\tfine nice\nfilm\tmovie\n", encoding="utf-8")
    return file


@FEW
@given(TEXTS)
def test_a_stream_gives_what_a_list_gives(texts):
    steps = [
        *(*default_rules(), Quality(), NearDuplicates(), Segment(characters=True), StopWords()),
        *(Length(), Split(0.2, 0.2), Augment(2, 0.0, 0.0, 0.2, 0.2)),
    ]
    pipeline = TextPipeline(steps)
    rows = pipeline.rows(texts)
    whole = [(r.text, r.number, r.part, r.origin) for r in rows]
    streamed = pipeline.rows(text for text in texts)
    assert [(r.text, r.number, r.part, r.origin) for r in streamed] == whole
    assert streamed.report.to_json() == rows.report.to_json()
    assert [(r.text, r.number, r.part, r.origin) for r in rows] == whole  # and once more
    report = rows.report
    changes = sum(c.added - c.removed for c in report.steps)
    assert report.kept == len(whole) == report.read + changes
    assert report.read + report.blank == len(texts)


@FEW
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.text(max_size=8))), st.integers(0, 99))
def test_a_split_never_shares_a_group(rows, seed):
    source = [{"text": text, "author": author} for author, text in rows]
    for by, key in (("author", lambda row: row.values["author"]), (None, _key)):
        parts = defaultdict(set)
        for row in TextPipeline([Split(0.3, 0.3, by, seed)]).rows(source):
            parts[key(row)].add(row.part)
        assert all(len(found) == 1 for found in parts.values())


def _key(row):
    return text_key(row.text) or row.text


def test_a_split_has_about_its_shares_and_keeps_them_as_the_corpus_grows():
    texts = [f"text number {i}" for i in range(2000)]
    pipeline = TextPipeline([Split(validation=0.1, test=0.2)])
    parts = [row.part for row in pipeline.rows(texts)]
    shares = Counter(parts)
    # Binomial standard deviations of 13 and 18 rows.
    assert abs(shares["validation"] - 200) < 60 and abs(shares["test"] - 400) < 80
    again = {row.text: row.part for row in pipeline.rows([*reversed(texts), "one more"])}
    assert [again[text] for text in texts] == parts
    other = [row.part for row in TextPipeline([Split(0.1, 0.2, seed=1)]).rows(texts)]
    assert other != parts


def test_a_row_without_its_group_is_named():
    with pytest.raises(InputError, match="row 2: the split is by 'author', which this row lacks"):
        list(TextPipeline([Split(by="author")]).rows([{"text": "a", "author": "b"}, "c"]))


@FEW
@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=2, max_size=4).map(" ".join), min_size=20),
    st.integers(0, 99),
    st.sampled_from([None, "group"]),
)
def test_augmentation_never_crosses_a_split(texts, seed, by):
    """Nothing held out is augmented, and no copy says what a text of another part says."""
    split = Split(0.3, 0.2, by, seed)
    source = [{"text": text, "group": i % 5} for i, text in enumerate(texts)]
    rows = list(TextPipeline([split, Augment(3, 0, 0, 0.3, 0.3, seed=seed)]).rows(source))
    read = {row.number: row for row in rows if row.origin is None}
    keys = defaultdict(set)
    for row in rows:
        if row.origin is not None:
            parent = read[row.origin["row"]]
            assert row.part == parent.part == "train"
            assert row.values == parent.values
            assert row.text != parent.text
        keys[_key(row)].add(row.part)
    if by is None:
        assert all(len(parts) == 1 for parts in keys.values())


def test_held_out_rows_are_as_they_were():
    texts = [f"a good film number {i}" for i in range(200)]
    rows = list(TextPipeline([Split(0.5), Augment(1)]).rows(texts))
    held = [row.text for row in rows if row.part == "validation"]
    assert held == [t for t in texts if t in held]
    assert len(rows) > 250 > 200  # and the others have copies


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("rate", "touched"), [(0.1, 1), (0.5, 4), (1.0, 8)])
def test_each_operation_touches_as_many_words_as_its_rate_says(operation, rate, touched):
    words = "good one film two bad three good four".split()
    rates = dict.fromkeys(OPERATIONS, 0.0) | {operation: rate}
    text, done, times = augmented(" ".join(words), rates, TABLE, np.random.default_rng(0))
    assert done == operation
    new = text.split()
    if operation == "deletion":
        touched = min(touched, 7)
        assert not Counter(new) - Counter(words) and len(new) == 8 - touched
    elif operation == "swap":
        assert Counter(new) == Counter(words)
    elif operation == "insertion":
        touched = min(touched, 4)  # only so many have a synonym
        inserted = Counter(new) - Counter(words)
        assert len(new) == 8 + touched and set(inserted) <= {"fine", "nice", "movie", "poor"}
    else:
        touched = min(touched, 4)
        changed = [(a, b) for a, b in zip(words, new, strict=True) if a != b]
        assert len(changed) == touched and all(b in TABLE[a] for a, b in changed)
    assert times == touched


def test_a_synonym_keeps_capital_and_punctuation():
    rates = dict.fromkeys(OPERATIONS, 0.0) | {"synonym": 1.0}
    text, _, _ = augmented("“Film!” (bad),", rates, TABLE, np.random.default_rng(0))
    assert text == "“Movie!” (poor),"


def test_a_text_that_nothing_can_change_has_no_copy():
    prepared = TextPipeline([Augment(3)]).rows(["xyzzy"])
    assert [row.text for row in prepared] == ["xyzzy"]
    assert prepared.report.steps[0].reasons == {"not made: nothing new": 3}


def test_a_users_synonyms_take_the_place_of_wordnets(tmp_path_factory):
    step = Augment(1, 1.0, 0, 0, 0, synonyms=table_file(tmp_path_factory))
    assert [row.text for row in TextPipeline([step]).rows(["a film, happy"])] == [
        *("a film, happy", "a movie, happy")
    ]
    assert "happy" in wordnet_synonyms()
    bad = table_file(tmp_path_factory)
    bad.write_text("no tab here\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1: expected a word, a tab and its synonyms"):
        list(TextPipeline([Augment(synonyms=bad)]).rows(["a"]))


def test_wordnets_synonyms_are_single_words_that_differ():
    table = wordnet_synonyms()
    assert len(table) == 38_851
    assert table["story"] == ("narrative", "narration", "tale")
    assert all(re.fullmatch("[a-z]{3,}", w) and w != k for k, v in table.items() for w in v)


def test_texts_that_are_made_depend_on_their_own_row_only():
    step = Augment(1, seed=3)
    texts = ["a good film about a dog", "the big story of an old sea"]
    both = [row.text for row in TextPipeline([step]).rows(texts)]
    shorter = [row.text for row in TextPipeline([step]).rows(["", texts[1]])]
    assert shorter == both[2:]  # behind a blank row the second is still row 2


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([Augment(), Split()], "'augment' comes before 'split': put it behind"),
        ([Split(), Length()], "'length 1' comes behind 'split': only 'augment' may"),
        ([Split(), Split()], "'split' is given twice"),
        ([StopWords(), Segment()], "'stop_words' comes before 'segment'"),
        (["segment"], "expected steps of preparation, got str"),
    ],
)
def test_an_order_that_undoes_a_promise_is_refused(steps, message):
    with pytest.raises(InputError, match=message):
        TextPipeline(steps)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Split(0, 0), "validation \\+ test must be above 0 and below 1, got 0"),
        (lambda: Split(0.5, 0.5), "validation \\+ test must be above 0 and below 1, got 1"),
        (lambda: Augment(0), "augment: copies must be a whole number from 1"),
        (lambda: Augment(1, 0, 0, 0, 0), "augment: expected a rate above 0 of synonym"),
        (lambda: Augment(1, 1.5), "augment: synonym must be a finite number from 0 to 1"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_every_step_has_a_name_on_the_command_line_and_comes_back_from_json():
    for name in STEPS:
        step = step_of({"language": "language,keep=en"}.get(name, name), seed=7)
        assert step_from_json(step.to_json(), "recipe") == step
        assert getattr(step, "seed", 7) == 7
    assert step_of("near-duplicates,threshold=0.9") == NearDuplicates(0.9)
    assert step_of("split,test=0.1,by=author,seed=3", seed=7) == Split(0.05, 0.1, "author", 3)
    assert step_of("length,min_characters=2,max_words=none") == Length(2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("segmant", "^unknown step 'segmant': did you mean 'segment'"),
        (
            "split,valid=0.1",
            "^unknown argument of step 'split': 'valid': did you mean 'validation'",
        ),
        ("length,min_characters=x", "min_characters must be a whole number, got 'x'"),
        ("language", "step 'language': missing 1 required positional argument: 'keep'"),
        ("split,0.1", "expected name=value after a comma, got '0.1'"),
        (3, "expected a step or its name, got int"),
    ],
)
def test_a_step_that_is_none_is_one_line(spec, message):
    with pytest.raises(InputError, match=message):
        step_of(spec)


def test_an_unknown_step_of_a_recipe_names_the_recipe():
    with pytest.raises(InputError, match=r"^r.json: unknown step 'repare': did you mean 'repair'"):
        step_from_json({"step": "repare"}, "r.json")
    with pytest.raises(InputError, match=r"^r.json: expected a step like"):
        step_from_json("repair", "r.json")
    assert issubclass(UnknownNameError, InputError)


def test_a_step_of_ones_own_runs_but_no_recipe_holds_it():
    own = rule("louder", str.upper)
    assert list(TextPipeline([own]).texts(["a"])) == ["A"]
    assert isinstance(own, Rule)
    with pytest.raises(InputError, match="'louder' is a function: a recipe cannot hold it"):
        own.to_json()


def test_the_report_shows_samples_and_reasons():
    prepared = TextPipeline([Length(3), Duplicates(), Split(0.5)]).rows(["ab", "abc", "ABC"])
    assert len(list(prepared)) == 1
    length, duplicates, split = prepared.report.steps
    assert length.samples == [("ab", None)] and duplicates.samples == [("ABC", None)]
    assert sum(split.reasons.values()) == 1
    assert "texts kept" in str(prepared.report) and "1 of 3" in str(prepared.report)
    with pytest.raises(InputError, match="row 1: expected a text or a mapping with 'text', got 3"):
        list(TextPipeline([]).texts([3]))
