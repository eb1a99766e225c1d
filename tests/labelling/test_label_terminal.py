"""Judging in a terminal over a real store."""

import pytest

from textgym.labelling.terminal import label_in_terminal
from textgym.labelling.words import catalogue, language_for, languages
from textgym.reward_models.people.records import NewItem, Text, standing
from textgym.reward_models.people.store import LabelStore


@pytest.fixture
def store(tmp_path):
    settings = {"repeats": 0.0, "gold": 0.0, "seed": 1, "scale": (0, 10)}
    with LabelStore(tmp_path / "labels.db", guidelines="Read both.", **settings) as store:
        pairs = [NewItem(f"Film {n} ", (Text("good"), Text("bad\x1b[2J"))) for n in range(4)]
        rating = NewItem("p", (Text("t"),), "rating", priority=-1)
        edit = NewItem("p", (Text("t", is_cut=True),), "edit", priority=-2)
        store.add_items([*pairs, rating, edit])
        yield store


def run(store, lines, **options):
    """What is printed when these lines are typed, then the end of input."""
    given, printed = iter(lines), []

    def ask(prompt):
        printed.append(prompt)
        try:
            return next(given)
        except StopIteration:
            raise EOFError from None

    count = label_in_terminal(store, "anna", ask=ask, show=printed.append, **options)
    return count, "\n".join(map(str, printed))


def test_every_kind_of_answer_is_stored(store):
    lines = [
        "1",
        "u",
        "2",
        "0",
        "what",
        "n so so",
        "9",
        "g",
        "s",
        "2",
        "11",
        "7",
        "e",
        "x",
        "y",
        ".",
    ]
    count, printed = run(store, lines)
    assert count == 6 and printed.endswith("All done, thank you\n6 answers saved.")
    said = standing(store.events())
    assert [event.choice for event in said] == ["b", "tie", "both_bad", "skip", "rate", "edit"]
    assert said[2].note == "so so" and said[3].reason == "wrong_language"
    assert said[4].score == 7 and said[5].rewrite == "x\ny"
    assert [event.undoes for event in store.events()][:3] == [None, 1, None]
    assert "what: not one of these" in printed and "11: not one of these" in printed
    assert "Read both." in printed and "cut off at its length limit" in printed
    assert "\x1b" not in printed and r"bad\x1b[2J" in printed


def test_the_end_of_input_loses_nothing_and_another_session_goes_on(store):
    assert run(store, ["1", "n"])[0] == 1
    assert len(store.events()) == 1
    count, printed = run(store, ["2", "q"], language="zh")
    assert count == 1 and "── 1 / 6 ──" in printed and printed.endswith("已保存 1 个回答。")


def test_every_catalogue_has_every_string_with_the_same_places():
    english = catalogue("en")
    for tag in languages():
        words = catalogue(tag)
        assert words.keys() == english.keys()
        assert words is english or words["title"] != english["title"]
        for key, text in words.items():
            assert sorted(part.split("}")[0] for part in text.split("{")[1:]) == sorted(
                part.split("}")[0] for part in english[key].split("{")[1:]
            ), key


@pytest.mark.parametrize(
    "wanted, accepted, language",
    [
        ("zh", "en", "zh"),
        ("xx", "de, zh-CN;q=0.8, en;q=0.5", "zh"),
        (None, "en;q=0.4,zh;q=0.6", "zh"),
        (None, "zh;q=0, fr", "en"),
        (None, "zh;q=x,,;", "en"),
        (None, None, "en"),
    ],
)
def test_the_language_is_the_readers(wanted, accepted, language):
    assert language_for(wanted, accepted) == language
