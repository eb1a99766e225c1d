"""The verb `textgym label`: a store made, filled, served, or written out."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textgym.checks import check_numbers
from textgym.counts import count_of
from textgym.errors import InputError
from textgym.labelling.sources import read_items
from textgym.labelling.terminal import label_in_terminal
from textgym.labelling.words import language_for
from textgym.paths import absolute, expand, is_directory
from textgym.reward_models.people.records import KINDS, Settings
from textgym.reward_models.people.store import LabelStore
from textgym.reward_models.people.token_file import read_or_make_token
from textgym.storage import read_small_file, require_regular_file

_LANGUAGE_TAG = re.compile("[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")  # BCP 47, as browsers read it


def label(
    store: str | Path,
    *,
    texts: Sequence[str | Path] = (),
    cells: Sequence[str] = (),
    kind: str = "pair",
    lang: str | None = None,
    raters: int = 1,
    scale: str = "1-5",
    guidelines: str | Path | None = None,
    ask: Sequence[str] = (),
    name: str = "owner",
    invite: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 8765,
    public: bool = False,
    known_as: Sequence[str] = (),
    new_token: bool = False,
    import_: str | Path | None = None,
    export: str | Path | None = None,
    chat: bool = False,
    ties: bool = True,
    serve: bool = True,
    terminal: bool = False,
) -> int:
    """Ask people about texts on a page of this machine, and keep what they answer in one file.

    Prints an address for the owner and one for everybody in `invite`; each opens once. Answers are
    on the disk before the page shows them as saved, and training reads them while they come
    (`--reward human,store=STORE`).

    :param store: the file of the store; made if missing.
    :param texts: what to ask about: a file (.jsonl, .csv) of preferences or texts, a run or a
        study.
    :param cells: of a study, the labels of the two cells to compare.
    :param kind: pair (which is better), rating (how good) or edit (rewrite it).
    :param lang: language of the texts, such as zh-Hans, for the browser's choice of glyphs.
    :param raters: how many people are asked about an item; of a new store.
    :param scale: of ratings, lowest and highest; of a new store.
    :param guidelines: a text file that raters can open; of a new store.
    :param ask: what raters are asked beside their choice: strength (slightly or clearly better),
        facts (which has its facts right, apart from liking), rewrite (the text chosen, as they
        would have written it); of a new store.
    :param name: what your own answers are stored under.
    :param invite: names of others who answer; each gets an address.
    :param host: the address to listen on.
    :param port: of the page; 0 takes a free one.
    :param public: let other machines reach the page, over plain HTTP.
    :param known_as: further names that this machine is reached by.
    :param new_token: end all sessions and make another token.
    :param import_: add the answers of a file: an export of Argilla or Label Studio, preferences or
        ratings.
    :param export: write the answers as .jsonl, which `fit-reward` and TRL read, and end.
    :param chat: of an export: prompts and texts as chat messages.
    :param ties: of an export: undecided pairs too, which TRL's trainers would take for decided.
    :param serve: go on to serve; without it, the store is made and filled only.
    :param terminal: ask here, one question after another, and serve no page.
    :raises InputError: for what cannot be read, a file that is no store, or a port in use.
    :raises StorageError: if another process writes the store, or nothing can be written.
    """
    check_numbers({"port": port, "raters": raters})
    if kind not in KINDS:
        raise InputError(f"kind must be among {', '.join(KINDS)}, got {kind!r:.40}")
    if lang is not None and not _LANGUAGE_TAG.fullmatch(lang):
        raise InputError(f"lang must be a language tag such as zh-Hans or ar, got {lang!r:.60}")
    for flag, names in (("name", [name]), ("invite", invite), ("known_as", known_as)):
        for given in names:
            if not given.strip() or not given.isprintable():
                raise InputError(f"{flag} must be a name that can be read, got {given!r:.60}")
    if cells and not any(is_directory(source) for source in texts):
        raise InputError(f"cells choose among a study's: give --texts STUDY (got {cells[0]!r:.60})")
    if export is not None and not (texts or import_):
        return _export(absolute(store), export, chat=chat, ties=ties)
    serve = serve and not terminal and export is None
    if serve:
        from textgym.labelling.serving import check_host, require_extra

        require_extra()
        check_host(host, public)
    items = [
        item
        for source in texts
        for item in read_items(source, kind=kind, cells=cells, lang=lang or "")
    ]
    judged = [] if import_ is None else _judgements(import_)
    if export is not None:
        _check_export(expand(export))
    settings: dict[str, Any] = {
        "raters": raters,
        "scale": _scale(scale),
        "asks": tuple(ask),
        "guidelines": "" if guidelines is None else read_small_file(expand(guidelines)),
    }
    with LabelStore(absolute(store), wait=1.0, **settings) as opened:
        for setting, value in settings.items():
            kept = getattr(opened.settings, setting)
            if value not in (kept, getattr(Settings(), setting)):
                print(f"{store}: {setting} stays {kept!r:.60}, as chosen when it was made")
        if items:
            before = len(opened.items())
            opened.add_items(items)
            new = count_of(len(opened.items()) - before, "item")
            print(f"{store}: {new} added, of {len(items)} read")
        if import_ is not None:
            from textgym.labelling.importing import import_judgements

            added = import_judgements(opened, judged, lang=lang or "")
            print(f"{store}: {count_of(added, 'answer')} added, of {len(judged)} read")
        if terminal:
            language = language_for(None, os.environ.get("LANG", "").replace("_", "-"))
            label_in_terminal(opened, name, language=language)
        if serve:
            from textgym.labelling.serving import serve as run_server

            token = read_or_make_token(opened.path, is_new=new_token)
            run_server(
                opened, token, host=host, port=port, owner=name, raters=invite, names=known_as
            )
    return 0 if export is None else _export(absolute(store), export, chat=chat, ties=ties)


def _judgements(path: str | Path) -> list[Any]:
    """What people said elsewhere, read before a store is made."""
    from textgym.labelling.exchange import read_judgements

    return read_judgements(path)


def _check_export(path: Path) -> None:
    """Raises where no answers can be written, before a store is made."""
    if path.suffix != ".jsonl":
        raise InputError(f"{path}: labels are written as .jsonl; give it that ending")
    if path.exists() or path.is_symlink():
        require_regular_file(path)


def _export(store: Path, path: str | Path, *, chat: bool, ties: bool) -> int:
    """Write the answers; works beside a server."""
    from textgym.labelling.exchange import write_labels

    with LabelStore(store, is_read_only=True) as opened:
        counts = write_labels(opened, path, chat=chat, ties=ties)
    lines = counts.pop("lines")
    what = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items())
    print(f"{path}: {lines} lines ({what})")
    return 0


def _scale(text: str) -> tuple[int, int]:
    low, separator, high = text.partition("-")
    if not separator or not low.strip().isdigit() or not high.strip().isdigit():
        raise InputError(f"scale must be two whole numbers like 1-5, got {text!r:.40}")
    return int(low), int(high)
