"""The bundled data: counts, licences, checksums, and that no text stands in two splits."""

import gzip
import hashlib
import json
from collections import Counter, defaultdict
from importlib import resources
from itertools import pairwise

import numpy as np
import pytest

from textgym.envs.tasks import movie_reviews  # as a module: pytest would collect `test_prompts`
from textgym.envs.texts.corpus import read_texts
from textgym.errors import UnknownNameError
from textgym.near_copies import text_key

DATA = resources.files("textgym.envs") / "data"
SPLITS = ("reward_model", "judge", "validation", "test")


def texts_by_split() -> list[tuple[str, str]]:
    """(text, split) of every bundled text; the other domains count as one more split."""
    rows = [(review.text, str(review.split)) for review in movie_reviews.load_movie_reviews()]
    rows += [(item.text, str(item.split)) for item in movie_reviews.load_critic_snippets()]
    for items in movie_reviews.load_other_domains().values():
        rows += [(item.text, "other") for item in items]
    return rows


def grams(text: str) -> set[str]:
    key = text_key(text)
    return {key[i : i + 8] for i in range(max(1, len(key) - 7))}


def word_starts(text: str) -> set[str]:
    """The 8-grams that begin a word: a sixth of all, enough to find candidates."""
    words = [word for word in map(text_key, text.split()) if word]
    return {"".join(words[i : i + 8])[:8] for i in range(len(words))}


def test_splits_have_their_sizes_and_shares() -> None:
    counts = Counter(review.split for review in movie_reviews.load_movie_reviews())
    assert counts == {"reward_model": 6368, "judge": 2691, "validation": 489, "test": 1048}
    shares = [counts[split] / counts.total() for split in SPLITS]
    assert np.allclose(shares, [0.60, 0.25, 0.05, 0.10], atol=0.01)
    for split in SPLITS:
        reviews = movie_reviews.load_movie_reviews(split)
        assert {review.split for review in reviews} == {split}
        assert movie_reviews.review_texts(split) == [review.text for review in reviews]
    others = {name: len(rows) for name, rows in movie_reviews.load_other_domains().items()}
    assert others == {"amazon": 3686, "editorials": 5118, "tweets": 4045}
    assert len(movie_reviews.load_critic_snippets()) == 2285
    assert len(movie_reviews.load_critic_snippets("judge")) == 569


def test_a_known_review_is_read_right() -> None:
    first = movie_reviews.load_movie_reviews()[0]
    assert first.text.startswith('The Rock is destined to be the 21st Century\'s new "Conan" and')
    assert first.ratings == (3, 2, 2, 2, 0, 4, 3, 1, 2, 2, 4, 3, 3, 1, 2)
    assert (first.block, first.label) == (0, "fresh")
    assert first.movie is not None and "scorpion" in first.movie


def test_ratings_are_raw_and_blocks_are_rating_tasks() -> None:
    blocks = defaultdict(list)
    for review in movie_reviews.load_movie_reviews():
        assert 15 <= len(review.ratings) <= 29
        assert all(-4 <= rating <= 4 for rating in review.ratings)
        blocks[review.block].append(review)
    assert sorted(blocks) == list(range(354))
    for reviews in blocks.values():
        assert len(reviews) <= 30
        assert len({len(review.ratings) for review in reviews}) == 1  # the same people
    for items in movie_reviews.load_other_domains().values():
        assert all(len(item.ratings) >= 20 for item in items)


def test_a_place_in_a_block_is_one_person() -> None:
    """Deviations from the text's mean agree between neighbours of a block, not across blocks."""
    inside, across = [], []
    reviews = movie_reviews.load_movie_reviews()
    for one, two in pairwise(reviews):
        n = min(len(one.ratings), len(two.ratings))
        a, b = (np.array(r.ratings[:n]) - np.mean(r.ratings) for r in (one, two))
        if a.std() and b.std():
            (inside if one.block == two.block else across).append(np.corrcoef(a, b)[0, 1])
    assert np.mean(inside) > 0.25
    assert abs(np.mean(across)) < 0.1


def test_labels_agree_with_the_ratings() -> None:
    labelled = [r for r in movie_reviews.load_movie_reviews() if r.label is not None]
    assert len(labelled) > 10_000
    clear = [r for r in labelled if abs(np.mean(r.ratings)) > 0.5]
    agree = np.mean([(np.mean(r.ratings) > 0) == (r.label == "fresh") for r in clear])
    assert agree > 0.95


def test_a_movie_is_in_one_split() -> None:
    splits = defaultdict(set)
    for item in [*movie_reviews.load_movie_reviews(), *movie_reviews.load_critic_snippets()]:
        if item.movie is not None:
            splits[item.movie].add(item.split)
    assert len(splits) > 480
    assert all(len(found) == 1 for found in splits.values())


def test_no_text_is_in_two_splits() -> None:
    splits = defaultdict(set)
    for text, split in texts_by_split():
        splits[text_key(text)].add(split)
    assert [key for key, found in splits.items() if len(found) > 1] == []


def test_no_near_duplicate_is_in_two_splits() -> None:
    rows = texts_by_split()
    places = defaultdict(list)
    found = []
    for j, (text, split) in enumerate(rows):
        starts = word_starts(text)
        shared = Counter(i for start in starts for i in places[start] if rows[i][1] != split)
        for i, count in shared.items():
            if count >= 3 or 3 * count >= len(starts):
                a, b = grams(rows[i][0]), grams(text)
                smaller = min(len(a), len(b))
                is_contained = smaller >= 20 and len(a & b) >= 0.8 * smaller
                if is_contained or len(a & b) >= 0.5 * len(a | b):
                    found.append((rows[i], rows[j]))
        for start in starts:
            places[start].append(j)
    assert found == []


def test_near_duplicates_are_what_the_test_above_would_find() -> None:
    one = grams("An utterly charming little comedy, with a fine cast.")
    two = grams("an utterly charming little comedy with a great cast")
    other = grams("A grim and rather slow film about the war.")
    assert len(one & two) >= 0.5 * len(one | two)
    assert len(one & other) < 0.1 * len(one | other)


def test_texts_are_clean() -> None:
    for text, _ in texts_by_split():
        assert text == " ".join(text.split())
        assert "''" not in text and "&amp;" not in text
        assert text.isprintable()


def test_files_are_those_of_the_record_and_small() -> None:
    record = json.loads((DATA / "sources.json").read_text(encoding="utf-8"))
    assert len(record["files"]) == 7
    lexicon = resources.files("textgym.reward_models") / "data"
    for row in record["files"]:
        folder = lexicon if row["file"].startswith("vader_lexicon") else DATA
        content = (folder / row["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["sha256"], row["file"]
        assert content[4:8] == b"\0\0\0\0"  # no time stamp
    assert sum(row["bytes"] for row in record["files"]) < 3_000_000


def test_licences_are_beside_the_data() -> None:
    text = (DATA / "LICENSES.md").read_text(encoding="utf-8")
    for notice in (
        "Copyright (c) 2016 C.J. Hutto",
        "The above copyright notice and this permission notice shall be included in all",
        "Copyright 2016 Jason S. Kessler",
        "Version 2.0, January 2004",
        "END OF TERMS AND CONDITIONS",
        "third-party texts",
    ):
        assert notice in text
    for file in ("movie_reviews", "critic_snippets", "amazon", "editorials", "tweets"):
        assert f"`{file}.jsonl.gz`" in text
    lexicon = resources.files("textgym.reward_models") / "data" / "LICENSES.md"
    assert "Copyright (c) 2016 C.J. Hutto" in lexicon.read_text(encoding="utf-8")


def test_prompts_are_starts_of_reviews_at_a_words_end() -> None:
    prompts = movie_reviews.training_prompts()
    assert len(prompts) == len(set(prompts)) > 10_000
    starts = set()
    for split in movie_reviews.TRAINING_SPLITS:
        for text in movie_reviews.review_texts(split):
            words = text.split(" ")
            starts |= {" ".join(words[:2]), " ".join(words[:3])}
    assert set(prompts) <= starts


@pytest.mark.parametrize("split", ["validation", "test"])
def test_heldout_prompts_are_of_their_split_and_of_many_movies(split: str) -> None:
    function, number = {
        "validation": (movie_reviews.validation_prompts, 200),
        "test": (movie_reviews.test_prompts, 500),
    }[split]
    prompts = function()
    assert len(prompts) == len(set(prompts)) == number
    assert not set(prompts) & set(movie_reviews.training_prompts())
    reviews = movie_reviews.load_movie_reviews(split)  # type: ignore[arg-type]
    by_start = {" ".join(review.text.split(" ")[:3]): review.movie for review in reviews}
    assert set(prompts) <= set(by_start)
    assert prompts[:50] == function(50)
    movies = {review.movie for review in reviews if review.movie is not None}
    assert len({by_start[prompt] for prompt in prompts} - {None}) >= 0.95 * len(movies)


def test_pretraining_never_sees_validation_or_test() -> None:
    corpus = list(movie_reviews.corpus_for_pretraining())
    assert len(corpus) == 6368 + 2691 + 3686
    keys = set(map(text_key, corpus))
    for split in ("validation", "test"):
        assert not keys & set(map(text_key, movie_reviews.review_texts(split)))  # type: ignore[arg-type]


def test_unknown_split_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown split 'judges': did you mean 'judge'"):
        movie_reviews.load_movie_reviews("judges")  # type: ignore[arg-type]


def test_the_public_domain_slice_is_the_sonnets() -> None:
    with resources.as_file(DATA / "public_domain.txt.gz") as path:
        lines = list(read_texts(path))
        sonnets = list(read_texts(path, paragraphs=True))
        assert path.stat().st_size < 50_000
    assert (len(sonnets), len(lines)) == (154, 2155)  # 152 of 14 lines, one of 15, one of 12
    assert lines[0] == "From fairest creatures we desire increase,"
    assert lines[-1] == "Love's fire heats water, water cools not love."


def test_the_lexicon_is_readable() -> None:
    path = resources.files("textgym.reward_models") / "data" / "vader_lexicon.txt.gz"
    rows = [line.split("\t") for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    valence = {token: float(value) for token, value in rows}
    assert (valence["good"], valence["horrible"]) == (1.9, -2.5)
    assert len(rows) > 7500
    assert all(-4 <= value <= 4 for value in valence.values())
