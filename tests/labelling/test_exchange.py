"""Judgements out of a store and into files for TRL and us; other tools' files in; bad files."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.envs.texts import read_ratings
from textgym.errors import InputError
from textgym.labelling.exchange import read_judgements, write_labels
from textgym.labelling.verb import label
from textgym.reward_models.people.preference_rows import (
    Judgement,
    Score,
    judgements_of_rows,
    preference_rows,
    rating_rows,
)
from textgym.reward_models.people.records import NewItem, Reply, Text
from textgym.reward_models.people.store import LabelStore


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def answered(store, rater, choices):
    """Items get the texts' own order on the screen or not; `choices` says which text is better."""
    for place, showing in enumerate(store.next(rater, len(choices))):
        wanted = choices[showing.item.prompt]
        choice = wanted
        if wanted in ("first", "second"):
            choice = "b" if (wanted == "first") == showing.is_swapped else "a"
        score = wanted if isinstance(wanted, float) else None
        store.answer(
            rater,
            Reply(
                showing.id,
                key=f"{rater}{place}",
                choice="rate" if score else choice,
                score=score,
                reason="cannot_judge" if choice == "skip" else None,
                note="loud" if wanted == "second" else "",
            ),
        )


@pytest.fixture
def pairs(tmp_path):
    texts = {"p0": ("a", "b"), "p1": ("雪", "c\r\n"), "p2": ("d", "e"), "p3": ("f", "g")}
    with LabelStore(tmp_path / "labels.db", raters=2, repeats=0.0, gold=0.0) as store:
        store.add_items([NewItem(p, (Text(one), Text(two))) for p, (one, two) in texts.items()])
        store.add_items([NewItem("gold", (Text("x"), Text("y")), gold="first")])
        choices = {"p0": "first", "p1": "second", "p2": "tie", "p3": "both_bad", "gold": "first"}
        answered(store, "anna", choices)
        answered(store, "bert", {**choices, "p0": "second", "p1": "skip", "p2": "skip"})
        yield store


def test_a_store_is_written_as_trls_preferences(pairs, tmp_path):
    counts = write_labels(pairs, tmp_path / "out.jsonl")
    assert counts == {"first": 1, "second": 2, "tie": 1, "both_bad": 2, "lines": 6}
    rows = rows_of(tmp_path / "out.jsonl")
    by_who = {(row["prompt"], row["rater"]): row for row in rows}
    assert by_who.keys() == {
        *(("p0", "anna"), ("p1", "anna"), ("p2", "anna"), ("p3", "anna")),
        *(("p0", "bert"), ("p3", "bert")),
    }
    assert by_who["p0", "anna"] == {
        "prompt": "p0",
        "chosen": "a",
        "rejected": "b",
        "tie": False,
        "winner": "first",
        "rater": "anna",
    }
    assert (by_who["p0", "bert"]["chosen"], by_who["p0", "bert"]["rejected"]) == ("b", "a")
    assert by_who["p1", "anna"]["chosen"] == "c\r\n" and by_who["p1", "anna"]["note"] == "loud"
    assert [by_who[p, "anna"]["tie"] for p in ("p1", "p2", "p3")] == [False, True, True]
    write_labels(pairs, tmp_path / "dpo.jsonl", ties=False)
    assert [row["tie"] for row in rows_of(tmp_path / "dpo.jsonl")] == [False] * 3


@pytest.mark.parametrize("chat", [False, True])
def test_what_is_written_is_read_again(pairs, tmp_path, chat):
    write_labels(pairs, tmp_path / "out.jsonl", chat=chat)
    said = read_judgements(tmp_path / "out.jsonl")
    assert len(said) == 6
    assert Judgement("p1", "c\r\n", "雪", "first", "anna") in said
    assert Judgement("p2", "d", "e", "tie", "anna") in said
    fitted = list(read_ratings(tmp_path / "out.jsonl"))
    assert [(row.prompt, row.chosen, row.is_tie) for row in fitted] == [
        (one.prompt, one.first, one.winner == "tie") for one in said
    ]


def test_ratings_are_written_with_all_raters_of_a_text(tmp_path):
    with LabelStore(tmp_path / "l.db", raters=2, repeats=0.0, gold=0.0) as store:
        store.add_items([NewItem(p, (Text(p.upper()),), kind="rating") for p in ("p", "q")])
        answered(store, "anna", {"p": 4.0, "q": 1.0})
        answered(store, "bert", {"p": 5.0, "q": "skip"})
        assert write_labels(store, tmp_path / "out.jsonl") == {"rating": 3, "lines": 2}
    rows = {row["text"]: (row["prompt"], row["ratings"], row["raters"]) for row in
            rows_of(tmp_path / "out.jsonl")}  # fmt: skip
    assert rows == {"P": ("p", [4.0, 5.0], ["anna", "bert"]), "Q": ("q", [1.0], ["anna"])}
    assert {row.ratings for row in read_ratings(tmp_path / "out.jsonl")} == {(4.0, 5.0), (1.0,)}


def test_an_empty_store_and_another_ending_are_refused(tmp_path):
    with LabelStore(tmp_path / "l.db") as store:
        with pytest.raises(InputError, match="nothing to write, as nobody has said anything yet"):
            write_labels(store, tmp_path / "out.jsonl")
        with pytest.raises(InputError, match=r"out\.csv: labels are written as \.jsonl"):
            write_labels(store, tmp_path / "out.csv")
    assert not (tmp_path / "out.jsonl").exists()


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(words, words, words, st.booleans(), st.sampled_from(["first", "second", "tie"]))
def test_texts_come_back_as_they_were(prompt, one, other, chat, winner):
    if one == other:
        return
    said = [Judgement(prompt, one, other, winner)]
    rows = [json.loads(json.dumps(row)) for row in preference_rows(said, chat=chat)]
    (back,) = judgements_of_rows(list(read_ratings(rows)))
    sides = (other, one) if winner == "second" else (one, other)
    assert back == Judgement(prompt, *sides, "tie" if winner == "tie" else "first")


def test_a_conversation_may_hold_its_prompt(tmp_path):
    start = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]

    def said(text):
        return [*start, {"role": "assistant", "content": text}]

    path = written(tmp_path / "p.jsonl", [{"chosen": said("Hi"), "rejected": said("No")}])
    (row,) = read_ratings(path)
    assert (row.prompt, row.chosen, row.rejected) == (
        "system: Be kind.\nuser: Hello",
        "Hi",
        "No",
    )


def nested(**responses):
    fields = {"prompt": "p", "response1": "a", "response2": "b"}
    return {"id": "1", "fields": fields, "responses": responses, "status": "completed"}


def flat(values, **more):
    return {
        "id": "1",
        "prompt": "p",
        "response1": "a",
        "response2": "b",
        "best.responses": values,
        "best.responses.users": [f"u{n}" for n in range(len(values))],
        "best.responses.status": ["submitted"] * len(values),
        "best.suggestion": "response2",
        **more,
    }


ARGILLA = {
    "nested": (
        nested(best=[{"value": "response1", "user_id": "u0"}, {"value": "tie", "user_id": "u1"}]),
        [("first", "u0"), ("tie", "u1")],
    ),
    "nested, unsubmitted": (
        nested(best=[{"value": "response1", "user_id": "u0", "status": "draft"},
                     {"value": "response2", "user_id": "u1", "status": "submitted"}]),
        [("second", "u1")],
    ),
    "ranking": (
        nested(best=[{"value": [{"value": "response2", "rank": 1},
                                {"value": "response1", "rank": 2}], "user_id": "u0"}]),
        [("second", "u0")],
    ),
    "equal ranks": (
        nested(best=[{"value": [{"value": "response2", "rank": 1},
                                {"value": "response1", "rank": 1}], "user_id": "u0"}]),
        [("tie", "u0")],
    ),
    "ranking in order": (
        nested(best=[{"value": ["response1", "response2"], "user_id": "u0"}]),
        [("first", "u0")],
    ),
    "flattened": (flat(["response2", "both bad"]), [("second", "u0"), ("both_bad", "u1")]),
    "first version": (
        {
            "fields": {"prompt": "p", "response1": "a", "response2": "b"},
            "responses": [{"user_id": "u0", "status": "submitted",
                           "values": {"best": {"value": "response-2"}}}],
        },
        [("second", "u0")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ARGILLA)
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_argillas_choices_are_read(case, ending, tmp_path):
    record, expected = ARGILLA[case]
    path = tmp_path / f"export.{ending}"
    path.write_text(json.dumps([record] if ending == "json" else record))
    assert read_judgements(path) == [Judgement("p", "a", "b", w, u) for w, u in expected]


def task(*results, data=None, **more):
    annotations = [
        {"id": n, "completed_by": rater, "was_cancelled": False, "result": [
            {"from_name": "best", "to_name": "a,b", "type": "pairwise", "value": value}], **more}
        for n, (rater, value) in enumerate(results)
    ]  # fmt: skip
    return {"id": 7, "data": data or {"prompt": "p", "text1": "a", "text2": "b"},
            "annotations": annotations}  # fmt: skip


def test_label_studios_choices_and_ratings_are_read(tmp_path):
    path = tmp_path / "export.json"
    tasks = [
        task((3, {"selected": "left"}), ({"id": 4, "email": "x@y.z"}, {"choices": ["Tie"]})),
        task((3, {"selected": "right"}), was_cancelled=True),
        task((3, {"choices": ["text2"]})),
    ]
    path.write_text(json.dumps(tasks))
    assert read_judgements(path) == [
        Judgement("p", "a", "b", "first", "3"),
        Judgement("p", "a", "b", "tie", "x@y.z"),
        Judgement("p", "a", "b", "second", "3"),
    ]
    path.write_text(json.dumps([task((3, {"rating": 4}), data={"prompt": "p", "text": "t"})]))
    assert read_judgements(path) == [Score("p", "t", 4.0, "3")]
    row = {"id": 1, "prompt": "p", "text1": "a", "text2": "b", "best": "right", "annotator": 2,
           "annotation_id": 5, "lead_time": 1.5}  # fmt: skip
    path.write_text(json.dumps([row]))
    assert read_judgements(path, question="best") == [Judgement("p", "a", "b", "second", "2")]


def test_scores_of_several_raters_are_one_row():
    said = [Score("p", "t", 1.0, "x"), Score("p", "t", 2.0), Score("p", "t", 3.0, "x")]
    assert list(rating_rows(said)) == [
        {"prompt": "p", "text": "t", "ratings": [3.0, 2.0], "raters": ["x", ""]}
    ]


PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}
SIDE = [{"role": "assistant", "content": "a"}]
BAD = {
    "nan": ({**PAIR, "chosen": float("nan")}, "line 2: expected a text in column 'chosen'"),
    "none": ({**PAIR, "rejected": None}, "line 2: expected a text in column 'rejected', found N"),
    "a number": ({**PAIR, "prompt": 3}, "line 2: expected a text in column 'prompt', found int"),
    "missing column": (
        {"prompt": "p", "chosen": "a"},
        "line 2: expected the column 'rejected', found 'prompt', 'chosen'",
    ),
    "equal": ({**PAIR, "rejected": "a"}, "line 2: 'chosen' and 'rejected' are the same text"),
    "empty": ({**PAIR, "chosen": " "}, "line 2: expected a text in 'chosen', found none"),
    "tie": ({**PAIR, "tie": "perhaps"}, "line 2: expected true or false in 'tie', found 'perhaps'"),
    "surrogate": (b'{"prompt": "p", "chosen": "\\ud800", "rejected": "b"}', "line 2: column"),
    "utf-8": (b'{"prompt": "\xff", "chosen": "a", "rejected": "b"}', "line 2: expected UTF-8"),
    "not json": (b'{"prompt": ', "line 2: not JSON"),
    "a list": (b"[1, 2]", "line 2: expected a JSON object, found list"),
    "17 MB": (b'{"prompt": "' + b"p" * (17 * 2**20) + b'"}', "line 2: longer than 16,777,216"),
    "one side messages": ({**PAIR, "chosen": SIDE}, "line 2: 'chosen' and 'rejected' must both be"),
    "no start": ({"chosen": SIDE, "rejected": SIDE}, "line 2: expected the column 'prompt', or"),
    "a picture": (
        {**PAIR, "chosen": [{"role": "assistant", "content": [{"type": "image"}]}],
         "rejected": SIDE, "prompt": SIDE},
        "line 2: expected a text as the content of a message, got list",
    ),
    "same messages": ({"prompt": SIDE, "chosen": SIDE, "rejected": SIDE}, "are the same text"),
    "nan rating": ({"text": "t", "ratings": [float("nan")]}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_preference_file_is_one_line_that_names_the_place(case, tmp_path):
    bad, message = BAD[case]
    path = tmp_path / "p.jsonl"
    line = bad if isinstance(bad, bytes) else json.dumps(bad).encode()
    first = PAIR if message else {"text": "t", "ratings": [1.0]}
    path.write_bytes(json.dumps(first).encode() + b"\n" + line + b"\n")
    before = path.stat().st_size
    for read in (lambda: list(read_ratings(path)), lambda: read_judgements(path)):
        with pytest.raises(InputError) as caught:
            read()
        assert (message or "line 2: expected finite numbers in 'ratings'") in str(caught.value)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    assert path.stat().st_size == before


def test_a_line_of_10_mb_is_read_whole(tmp_path):
    text = "x" * 10_000_000
    (row,) = read_ratings(written(tmp_path / "p.jsonl", [{**PAIR, "chosen": text}]))
    assert row.chosen == text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "expected judgements, found no row"),
        ([nested()], "1 records, and nobody has said anything in them"),
        ([nested(best=[{"value": "blue", "user_id": "u"}])],
         "record 0: best: expected which of response1 and response2 is better, or a tie, g"),
        ([nested(best=[{"value": "tie"}], other=[{"value": "tie"}])],
         "record 0: several questions were answered (best, other): name one"),
        ([nested(best="tie")], "record 0: responses of best: expected a list of objects"),
        ([{"fields": {"a": "1", "b": "2", "c": "3"}, "responses": {"q": [{"value": "a"}]}}],
         "record 0: expected one or two texts, and maybe a prompt, found the fields a, b, c: name"),
        ([task((3, {"selected": "middle"}))], "record 0: best: expected which of text1 and text2"),
        ([task((3, "left"))], "record 0: expected a value in each result, got 'left'"),
        ([flat(["tie"], **{"best.responses.users": []})], None),
        ([flat(["tie"], **{"best.responses.users": ["a", "b"]})], "1 values for 2 users"),
        ([task((3, {"rating": None}), data={"prompt": "p", "text": "t"})], "nobody has said"),
        (["text"], "record 0: expected an object, got 'text'"),
    ],
)  # fmt: skip
def test_a_bad_export_is_one_line_that_names_the_place(rows, message, tmp_path):
    path = tmp_path / "export.json"
    path.write_text(json.dumps(rows))
    if message is None:
        assert len(read_judgements(path)) == 1
        return
    with pytest.raises(InputError) as caught:
        read_judgements(path)
    assert message in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_verb_reads_an_export_and_writes_one(tmp_path, capsys):
    export, store, out = tmp_path / "export.json", tmp_path / "labels.db", tmp_path / "out.jsonl"
    export.write_text(json.dumps([ARGILLA["flattened"][0], ARGILLA["flattened"][0]]))
    label(store, texts=[export], serve=False)
    assert "1 item added, of 1 read" in capsys.readouterr().out
    with LabelStore(store, repeats=0.0, gold=0.0) as opened:
        answered(opened, "anna", {"p": "second"})
    label(store, export=out, ties=False)
    assert f"{out}: 1 lines (1 second)" in capsys.readouterr().out
    assert [(row["chosen"], row["rejected"]) for row in rows_of(out)] == [("b", "a")]
