"""What a store refuses: items, replies and settings that do not fit."""

import math
from typing import Any

from textgym.errors import InputError
from textgym.reward_models.people.records import (
    ASKABLE,
    CHOICES,
    FACTS,
    KINDS,
    SKIP_REASONS,
    Choice,
    NewItem,
    Reply,
    Settings,
    Showing,
)

MAX_CHARACTERS = 200_000  # of one text


class ConflictError(InputError):
    """A reply that does not fit what is stored: its showing is answered, its key was used."""


def checked(settings: Settings) -> Settings:
    """The settings themselves.

    :raises InputError: for one out of range.
    """
    low, high = settings.scale
    if settings.raters < 1:
        raise InputError(f"raters must be at least 1, got {settings.raters}")
    if not low < high or high - low > 100:
        raise InputError(f"scale must rise, by at most 100, got {low} to {high}")
    if not set(settings.asks) <= set(ASKABLE):
        raise InputError(f"asks must be among {', '.join(ASKABLE)}, got {settings.asks!r:.60}")
    for name in ("repeats", "gold"):
        if not 0 <= getattr(settings, name) <= 0.5:
            raise InputError(f"{name} must be from 0 to 0.5, got {getattr(settings, name)}")
    check_text(settings.guidelines, "guidelines", MAX_CHARACTERS)
    return settings


def check_text(text: Any, what: str, longest: int) -> None:
    """Raises unless it is a text that UTF-8 can hold, of at most so many characters."""
    if not isinstance(text, str):
        raise InputError(f"{what} must be a text, got {type(text).__name__}")
    if len(text) > longest:
        raise InputError(f"{what} must have at most {longest:,} characters, got {len(text):,}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{what} holds half a surrogate pair at character {error.start}") from None


def check_item(item: NewItem, where: str) -> None:
    """Raises unless it can be asked about."""
    if item.kind not in KINDS:
        raise InputError(f"{where}: kind must be among {', '.join(KINDS)}, got {item.kind!r:.40}")
    wanted = 2 if item.kind == "pair" else 1
    if len(item.texts) != wanted:
        raise InputError(
            f"{where}: expected {wanted} text{'s' * (wanted - 1)} for kind {item.kind}, got "
            f"{len(item.texts)}"
        )
    check_text(item.prompt, f"{where}: prompt", MAX_CHARACTERS)
    for text in item.texts:
        check_text(text.text, f"{where}: text", MAX_CHARACTERS)
    for name in ("key", "query", "lang"):
        check_text(getattr(item, name) or "", f"{where}: {name}", 200)
    if item.kind == "pair" and item.texts[0].text == item.texts[1].text:
        raise InputError(f"{where}: both texts are the same: there is nothing to choose")
    if item.gold is not None and (
        item.kind != "pair" or item.gold not in ("first", "second", "tie", "both_bad")
    ):
        raise InputError(
            f"{where}: gold must be first, second, tie or both_bad, of a pair, got "
            f"{item.gold!r:.40}"
        )
    if not math.isfinite(item.priority):
        raise InputError(f"{where}: priority must be finite, got {item.priority}")


def check_reply(reply: Reply, showing: Showing, scale: tuple[int, int]) -> None:
    """Raises unless it answers the showing."""
    check_text(reply.key, "key", 100)
    check_text(reply.note, "note", 10_000)
    if not reply.key:
        raise InputError("key must not be empty")
    choices: tuple[Choice, ...] = CHOICES[showing.item.kind]
    if reply.choice not in choices:
        raise InputError(f"choice must be among {', '.join(choices)}, got {reply.choice!r:.40}")
    if reply.strength is not None and (reply.choice not in "ab" or reply.strength not in (1, 2)):
        raise InputError(f"strength must be 1 or 2, of a or b, got {reply.strength}")
    if (reply.score is None) == (reply.choice == "rate") or (
        reply.score is not None and not scale[0] <= reply.score <= scale[1]
    ):
        raise InputError(f"score must be from {scale[0]} to {scale[1]}, of a rating only")
    if reply.rewrite is not None:
        check_text(reply.rewrite, "rewrite", MAX_CHARACTERS)
    if reply.choice == "edit" and reply.rewrite is None:
        raise InputError("rewrite must be given for an edit")
    if (reply.reason is None) == (reply.choice == "skip") or (
        reply.reason is not None and reply.reason not in SKIP_REASONS
    ):
        raise InputError(f"reason must be among {', '.join(SKIP_REASONS)}, of a skip only")
    facts = FACTS[showing.item.kind]
    if reply.facts is not None and (reply.choice == "skip" or reply.facts not in facts):
        raise InputError(f"facts must be among {', '.join(facts)}, of no skip: {reply.facts!r:.40}")
    if not (math.isfinite(reply.shown_at) and math.isfinite(reply.answered_at)):
        raise InputError("shown_at and answered_at must be finite")
