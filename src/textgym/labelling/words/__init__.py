"""The strings of the labelling pages, one JSON catalogue a language.

A new language is one file here: the keys of `en.json`, and `"dir": "rtl"` where it is read so.
"""

import json
import re
from functools import cache
from importlib.resources import files


@cache
def languages() -> tuple[str, ...]:
    """The tags of the catalogues, English first."""
    names = {place.name.removesuffix(".json") for place in files(__name__).iterdir()}
    found = sorted(name for name in names if re.fullmatch("[a-z]{2,3}", name))
    return ("en", *(name for name in found if name != "en"))


@cache
def catalogue(language: str) -> dict[str, str]:
    """The strings of a language, by key; those that it lacks are English.

    :raises ValueError: there is no such catalogue.
    """
    if language not in languages():
        known = ", ".join(languages())
        raise ValueError(f"no catalogue {language!r} of strings; there are: {known}")
    words: dict[str, str] = _read("en") | _read(language)
    return words


def language_for(wanted: str | None, accepted: str | None) -> str:
    """The language of a page.

    :param wanted: what the reader chose, if anything.
    :param accepted: the browser's `Accept-Language` header (RFC 9110, 12.5.4).
    """
    if wanted in languages():
        return str(wanted)
    weighted = []
    for place, part in enumerate((accepted or "").split(",")):
        tag, _, weight = part.strip().partition(";q=")
        try:
            weighted.append((-float(weight or 1), place, tag.split("-")[0].lower()))
        except ValueError:
            continue
    return next((tag for weight, _, tag in sorted(weighted) if weight and tag in languages()), "en")


def _read(language: str) -> dict[str, str]:
    text = files(__name__).joinpath(f"{language}.json").read_text(encoding="utf-8")
    words: dict[str, str] = json.loads(text)
    return words
