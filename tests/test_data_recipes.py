"""The parsing and comparing that the data recipes do, on hand-made cases."""

import hashlib
import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

RECIPES = Path(__file__).resolve().parent.parent / "recipes"


@pytest.fixture
def archives(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("source_archives")


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("near_duplicates")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (" a place;  ", ["a place"]),
        (' a place; "we met there"; "no!"  ', ["a place", "we met there", "no!"]),
        (' a place: "we met there"- A. Poet; "x y"', ["a place", "we met there", "x y"]),
        (
            ' used in the phrase "on the job" only; "x"',
            ['used in the phrase "on the job" only', "x"],
        ),
        (" followed by `with'", ["followed by 'with'"]),
        (' "we met there"', ['"we met there"']),
    ],
)
def test_glosses_and_examples_come_apart(
    archives: ModuleType, entry: str, expected: list[str]
) -> None:
    assert archives.split_gloss(entry) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Isn''t it ''great''?", 'Isn"t it "great"?'),
        ("a film    a good one    for all", "a film - a good one - for all"),
        ("two  spaces\nand a line  ", "two spaces and a line"),
        ("Q &amp; A, at &amp;#38; t", "Q & A, at & t"),
        ("cafe\u0301\x07", "caf\u00e9"),
    ],
)
def test_snippets_are_cleaned(archives: ModuleType, text: str, expected: str) -> None:
    assert archives.clean_snippet(text) == expected


def test_near_duplicates_are_found_by_both_measures(near: ModuleType) -> None:
    long = "A thoughtful, slow and rather beautiful film about two sisters by the sea."
    texts = [
        long,
        "Nothing like it at all, a comedy of manners.",
        long.replace("two", "three").upper(),  # most 8-grams are the same
        "It is, they say, a thoughtful, slow and rather beautiful film. " + "Other words. " * 9,
        "slow and rather beautiful film about two sisters",  # contained
    ]
    assert list(near.near_duplicate_pairs(texts)) == [(0, 2), (0, 4)]


def test_near_duplicate_thresholds_are_inclusive(near: ModuleType) -> None:
    # Keys of 10 and 11 characters: 3 and 4 8-grams, of which 3 are shared: 3 / 4 of the union.
    assert list(near.near_duplicate_pairs(["abcdefghij", "abcdefghijk"])) == [(0, 1)]
    # 4 and 6 8-grams share 3: 3 / 7 of the union, and too short for the measure of containment.
    assert list(near.near_duplicate_pairs(["xabcdefghij", "abcdefghijklm"])) == []
    # 2 and 4 8-grams share 2: 2 / 4 of the union, which is just enough.
    assert list(near.near_duplicate_pairs(["abcdefghi", "abcdefghijk"])) == [(0, 1)]


@pytest.fixture
def word_lists(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("build_word_lists")


def test_stop_words_are_read_from_a_script(word_lists: ModuleType) -> None:
    script = "/* 'no' */\nconst eng = [\n  'the',\n  'a',\n  'a',\n  ' ']\nexport { eng }"
    assert word_lists.read_stop_words(script) == ["a", "the"]


def test_synonyms_are_those_of_the_commonest_meanings(word_lists: ModuleType) -> None:
    """Two made synsets a part of speech, in the formats of wndb(5WN) and cntlist(5WN)."""
    empty = dict.fromkeys(word_lists.PARTS, "")
    data = empty | {
        "noun": "  1 licence  \n"
        "00000001 03 n 03 film 0 movie 0 motion_picture 0 000 | a film  \n"
        "00000002 03 n 02 film 0 Celluloid 0 000 | stock  \n"
        "00000003 03 n 02 film 0 coat 0 000 | a layer  \n",
        "adj": "00000004 00 a 02 big(a) 0 large 0 000 | not small  \n",
        "verb": "00000005 03 v 02 film 0 shoot 0 000 | to film  \n",
    }
    index = empty | {
        "noun": "film n 3 2 @ ~ 3 1 00000001 00000002 00000003  \n"
        "movie n 1 0 1 1 00000001  \ncoat n 1 0 1 1 00000003  \n",
        "adj": "big a 1 0 1 1 00000004  \nlarge a 1 0 1 1 00000004  \n",
        "verb": "film v 1 0 1 1 00000005  \nshoot v 1 0 1 0 00000005  \n",
    }
    counts = "film%1:06:00:: 1 9\nfilm%2:36:00:: 1 5\nbig%5:00:00:x:00 1 2\n"
    files = {"cntlist.rev": counts}
    files |= {f"data.{part}": text for part, text in data.items()}
    files |= {f"index.{part}": text for part, text in index.items()}
    assert word_lists.synonyms(files) == {
        "big": ["large"],
        "coat": ["film"],
        "film": ["movie"],  # of two meanings of the noun; capitals and two words are left out
        "large": ["big"],
        "movie": ["film"],
        "shoot": ["film"],
    }


def test_the_bundled_word_lists_are_those_that_the_recipe_wrote(word_lists: ModuleType) -> None:
    record = json.loads((word_lists.DATA / "word_lists.json").read_text(encoding="utf-8"))
    for entry in record["files"]:
        content = (word_lists.DATA / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["file"]
        assert f"`{entry['file']}`" in (word_lists.DATA / "LICENSES.md").read_text(encoding="utf-8")


@pytest.fixture
def quatrains(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("opencc")
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("build_quatrains")


def test_rhymes_are_read_and_completed(quatrains: ModuleType) -> None:
    level = {"上平聲一東": ["東同", "童x"], "下平聲十一尤": ["樓"]}
    text = json.dumps({"ping": {"p": level}, "ze": {"z": {"去聲一送": ["同"]}}})
    own = quatrains.read_rhymes(text)
    assert own == {
        "東": {"上平聲一東"}, "同": {"上平聲一東", "去聲一送"}, "童": {"上平聲一東"},
        "樓": {"下平聲十一尤"},
    }  # fmt: skip
    sounds = quatrains.read_syllables(["同\tdung", "同\tdungh", "硐\tdung", "一東\tx", "樓\tlou"])
    assert sounds == {"同": {"dung", "dungh"}, "硐": {"dung"}, "樓": {"lou"}}
    assert [quatrains.tone(s) for s in ("dung", "dungh", "dungx", "duk")] == [
        "平聲", "去聲", "上聲", "入聲",
    ]  # fmt: skip
    assert quatrains.by_sound(own, sounds) == {"硐": {"上平聲一東"}}
    simplified = {"東": "东", "东": "东", "樓": "楼", "楼": "楼", "慺": "楼", "人": "人"}
    both = quatrains.with_variants(own, simplified)
    assert both == {**own, "东": {"上平聲一東"}, "楼": {"下平聲十一尤"}, "慺": {"下平聲十一尤"}}


def test_poems_in_two_splits_are_kept_once(quatrains: ModuleType) -> None:
    first, other = "白日依山盡，黃河入海流。欲窮千里目，更上一層樓。", "山山山山山，水水水水水。"
    by_split = {quatrains.split_of(f"poet {k}"): f"poet {k}" for k in range(100)}
    rows = [
        {"text": text, "title": "t", "author": by_split[split], "dynasty": "tang", "form": "wujue"}
        for split, text in [
            ("test", first),
            ("train", first.replace("更", "再")),  # a near-copy: the training split keeps it
            ("test", "雲雲雲雲雲，黃河入海流。"),  # a line of the training split
            ("test", other),
            ("validation", other.replace("水水水水水", "石石石石石")),
        ]
    ]
    kept = {row["text"]: row["split"] for row in quatrains.without_copies(rows)}
    assert kept == {rows[1]["text"]: "train", other: "test"}


def test_the_bundled_quatrains_are_those_that_the_recipe_wrote(quatrains: ModuleType) -> None:
    record = json.loads(quatrains.RECORD.read_text(encoding="utf-8"))
    paths = {path.name: path for path in (quatrains.POEMS_FILE, quatrains.RHYMES_FILE)}
    assert paths.keys() == {entry["file"] for entry in record["files"]}
    for entry in record["files"]:
        path = paths[entry["file"]]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"], path.name
        assert f"`{path.name}`" in (path.parent / "LICENSES.md").read_text(encoding="utf-8")
    known = {entry["file"]: entry["sha256"] for entry in record["archives"]}
    assert known == quatrains.SHA256
