"""Judging in a terminal: the questions of the page, one after another, an answer a line.

It has the store open itself: no server runs beside it. Every answer is on the disk before the next
question is shown, so that nothing is lost however the session ends.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from textgym.labelling.words import catalogue
from textgym.reward_models.people.records import KINDS, SKIP_REASONS, Kind, Reply, Showing
from textgym.reward_models.people.store import LabelStore
from textgym.terminal import visible

CHOICES = {"1": "a", "a": "a", "2": "b", "b": "b", "0": "tie", "9": "both_bad"}
END_OF_TEXT = "."


def label_in_terminal(
    store: LabelStore,
    rater: str,
    *,
    kinds: Sequence[Kind] = KINDS,
    language: str = "en",
    ask: Callable[[str], str] = input,
    show: Callable[[str], Any] = print,
) -> int:
    """Ask one rater until there is nothing left, or until `q`, the end of input, or Ctrl-C.

    :param store: open for writing.
    :param kinds: of items that are wanted.
    :param language: of the questions, one of `textgym.labelling.words.languages()`.
    :param ask: shows a line and reads one.
    :param show: prints.
    :returns: how many answers were given here.
    """
    session = _Session(store, rater, catalogue(language), ask, show)
    try:
        while showings := store.next(rater, kinds=kinds):
            if not session.question(showings[0]):
                break
        else:
            show(session.words["done_title"])
    except (EOFError, KeyboardInterrupt):
        show("")
    show(session.words["terminal_end"].format(n=session.given))
    return session.given


class _Session:
    """A rater in front of a terminal."""

    def __init__(
        self,
        store: LabelStore,
        rater: str,
        words: dict[str, str],
        ask: Callable[[str], str],
        show: Callable[[str], Any],
    ) -> None:
        self.store, self.rater, self.words, self.ask, self.show = store, rater, words, ask, show
        self.given = 0

    def question(self, showing: Showing) -> bool:
        """Ask one question until it is answered or undone; False to end."""
        shown_at = time.time()
        note = ""
        self._draw(showing)
        while True:
            said = self.ask(f"{self.words['terminal_keys_' + showing.item.kind]} > ").strip()
            word, _, rest = said.partition(" ")
            if word == "q":
                return False
            if word == "u":
                self._undo()
                return True
            if word == "g":
                self.show(visible(self.store.settings.guidelines))
            elif word == "n":
                note = rest or self.ask(f"{self.words['note']}: ")
            else:
                answer = self._answer(showing, word.lower())
                if answer is not None:
                    answer |= {"note": note, "shown_at": shown_at, "answered_at": time.time()}
                    self.store.answer(
                        self.rater, Reply(showing.id, secrets.token_hex(16), **answer)
                    )
                    self.given += 1
                    return True
                self.show(self.words["terminal_unknown"].format(said=visible(said)))

    def _draw(self, showing: Showing) -> None:
        progress = self.store.progress(self.rater)
        total = progress.answered + progress.left
        self.show("")
        self.show(f"── {self.words['progress'].format(done=progress.answered, total=total)} ──")
        self.show(visible(showing.item.prompt) or self.words["no_prompt"])
        is_any_cut = any(text.is_cut for text in showing.on_screen)
        for side, text in zip("ab", showing.on_screen, strict=False):
            title = self.words[side] if len(showing.on_screen) == 2 else self.words["text"]
            self.show(f"\n── {title} ──")
            self.show(visible(text.text) or self.words["text_empty"])
            if is_any_cut:
                self.show(f"({self.words['cut' if text.is_cut else 'not_cut']})")
        self.show("")

    def _answer(self, showing: Showing, word: str) -> dict[str, Any] | None:
        """What a line says, as fields of a `Reply`; None if it says nothing."""
        if word == "s":
            reason = self._reason()
            return None if reason is None else {"choice": "skip", "reason": reason}
        if showing.item.kind == "pair":
            return {"choice": CHOICES[word]} if word in CHOICES else None
        if showing.item.kind == "rating":
            low, high = self.store.settings.scale
            is_score = word.lstrip("-").isdecimal() and low <= int(word) <= high
            return {"choice": "rate", "score": float(word)} if is_score else None
        return {"choice": "edit", "rewrite": self._rewrite()} if word == "e" else None

    def _reason(self) -> str | None:
        names = [f"{i} {self.words['reason_' + r]}" for i, r in enumerate(SKIP_REASONS, 1)]
        said = self.ask(f"{self.words['skip_title']} {' · '.join(names)} > ").strip()
        is_one = said.isdecimal() and 1 <= int(said) <= len(SKIP_REASONS)
        return SKIP_REASONS[int(said) - 1] if is_one else None

    def _rewrite(self) -> str:
        self.show(self.words["terminal_rewrite"].format(end=END_OF_TEXT))
        lines = []
        while (line := self.ask("")) != END_OF_TEXT:
            lines.append(line)
        return "\n".join(lines)

    def _undo(self) -> None:
        undone = self.store.undo(self.rater, secrets.token_hex(16))
        if undone is None:
            self.show(self.words["nothing_to_undo"])
            return
        self.given = max(0, self.given - 1)
        self.show(self.words["terminal_undone"])
