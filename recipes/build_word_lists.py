"""Build the bundled word lists: stop words, and WordNet's synonyms, into src/textgym/envs/data.

    python recipes/build_word_lists.py [--archives DIR]

wordnet_synonyms.txt.gz  a word, a tab and its synonyms: those of the two commonest meanings of its
                         commonest part of speech (Debian package wordnet-base, WordNet 3.0)
stop_words_en.txt, stop_words_zh.txt  one a line (npm package stopword)

Archives that are not in DIR are fetched into it, by package name. The same archives give the same
bytes; word_lists.json holds the SHA-256 of both. LICENSES.md says whose the words are.
"""

import argparse
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from source_archives import fetch_wordnet

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "src/textgym/envs/data"
STOP_WORDS_PACKAGE, STOP_WORDS_ARCHIVE = "stopword@3.1.5", "stopword-3.1.5.tgz"
PARTS = ("noun", "verb", "adj", "adv")
SENSE_PARTS = "1234"  # in a sense key; "5" is an adjective, too
SENSES, MOST_SYNONYMS = 2, 6
_WORD = re.compile(r"[a-z]{3,}")


def fetch_stop_words(directory: Path) -> Path:
    """The npm package `stopword` in `directory`, downloaded there if it is missing."""
    path = directory / STOP_WORDS_ARCHIVE
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", STOP_WORDS_PACKAGE], check=True, cwd=directory)
    return path


def read_stop_words(script: str) -> list[str]:
    """The strings of the list in one of the package's scripts, sorted, each once."""
    body = script[script.index("= [") :]
    return sorted({word for word in re.findall(r"'([^']*)'", body) if word.strip()})


def read_lemmas(data: str) -> dict[str, list[str]]:
    """Offset of a synset → its lemmas, from the lines of a `data.*` file (wndb(5WN))."""
    lemmas: dict[str, list[str]] = {}
    for line in data.splitlines():
        if line.startswith(" "):  # the licence
            continue
        fields = line.split(" ")
        count = int(fields[3], 16)
        words = [re.sub(r"\((?:a|p|ip)\)$", "", word) for word in fields[4 : 4 + 2 * count : 2]]
        lemmas[fields[0]] = words
    return lemmas


def first_senses(index: str) -> dict[str, list[str]]:
    """Word → offsets of its commonest synsets, from the lines of an `index.*` file."""
    found: dict[str, list[str]] = {}
    for line in index.splitlines():
        if not line.startswith(" "):
            fields = line.split()
            start = 6 + int(fields[3])
            found[fields[0]] = fields[start : start + SENSES]
    return found


def commonest_parts(counts: str) -> dict[str, str]:
    """Word → the part of speech in which it was tagged most, from `cntlist.rev` (cntlist(5WN))."""
    times: Counter[tuple[str, str]] = Counter()
    for line in counts.splitlines():
        key, _, count = line.split()
        word, _, rest = key.partition("%")
        times[word, PARTS[SENSE_PARTS.index(rest[0].replace("5", "3"))]] += int(count)
    best: dict[str, str] = {}
    for (word, part), count in times.items():
        if word not in best or count > times[word, best[word]]:
            best[word] = part
    return best


def synonyms(files: Mapping[str, str]) -> dict[str, list[str]]:
    """Word → its synonyms, both single words in lower case; words without any are left out.

    A word that was never tagged has its first part of speech in the order of `PARTS`.

    :param files: text of `cntlist.rev`, `data.noun`, `index.noun` and so on.
    """
    table: dict[str, list[str]] = {}
    best = commonest_parts(files["cntlist.rev"])
    for part in PARTS:
        lemmas = read_lemmas(files[f"data.{part}"])
        for word, offsets in first_senses(files[f"index.{part}"]).items():
            if _WORD.fullmatch(word) and word not in table and best.get(word, part) == part:
                others = [w for offset in offsets for w in lemmas[offset]]
                table[word] = [w for w in dict.fromkeys(others) if _WORD.fullmatch(w) and w != word]
    return {word: others[:MOST_SYNONYMS] for word, others in sorted(table.items()) if others}


def gzipped(lines: Iterable[str]) -> bytes:
    """Lines as gzip without a time stamp."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as stream:
        stream.write("".join(f"{line}\n" for line in lines).encode("utf-8"))
    return buffer.getvalue()


def read_wordnet_files(package: Path) -> dict[str, str]:
    """`data.*` and `index.*` of Debian's package."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["dpkg-deb", "-x", str(package), directory], check=True)
        folder = Path(directory) / "usr/share/wordnet"
        names = ["cntlist.rev"]
        names += [f"{kind}.{part}" for kind in ("data", "index") for part in PARTS]
        return {name: (folder / name).read_text(encoding="utf-8") for name in names}


def build(directory: Path) -> list[Path]:
    """Write the lists and their provenance; their paths."""
    wordnet, package = fetch_wordnet(directory), fetch_stop_words(directory)
    contents = {
        "wordnet_synonyms.txt.gz": gzipped(
            f"{word}\t{' '.join(others)}"
            for word, others in synonyms(read_wordnet_files(wordnet)).items()
        )
    }
    with tarfile.open(package) as archive:
        for code, name in (("en", "eng"), ("zh", "zho")):
            member = archive.extractfile(f"package/src/stopwords_{name}.js")
            if member is None:
                raise SystemExit(f"{package}: no list of {name}; another version?")
            words = read_stop_words(member.read().decode("utf-8"))
            contents[f"stop_words_{code}.txt"] = "".join(f"{w}\n" for w in words).encode("utf-8")
    for name, content in contents.items():
        (DATA / name).write_bytes(content)
    paths = [DATA / name for name in contents]
    record = {
        "recipe": "recipes/build_word_lists.py",
        "archives": describe([wordnet, package]),
        "files": describe(paths),
    }
    (DATA / "word_lists.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return paths


def describe(paths: Sequence[Path]) -> list[dict[str, object]]:
    """Name, SHA-256 and size of files."""
    return [
        {"file": p.name, "sha256": hashlib.sha256(p.read_bytes()).hexdigest(),
         "bytes": p.stat().st_size}
        for p in paths
    ]  # fmt: skip


def main() -> int:
    """Build, then print what was written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archives", type=Path, default=Path("build/archives"))
    for path in build(parser.parse_args().archives):
        print(f"{path.stat().st_size:>9,} bytes  {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
