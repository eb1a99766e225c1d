"""Reaching a store by its path or by the URL of its server, with the same few methods.

    labels = open_labels("http://127.0.0.1:8765")  # or open_labels("labels.db")
    labels.add_items([...])
    labels.events(since=41)

A training process may start before the server, outlive it, or meet one that is being started anew:
a call waits for it, and what is sent twice is stored once.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from textgym.errors import InputError, StorageError
from textgym.paths import absolute
from textgym.reward_models.people.database import StoreInUse
from textgym.reward_models.people.items_as_json import PAGE, item_body, item_of_json, parts
from textgym.reward_models.people.records import Event, Item, NewItem, Refit, Settings
from textgym.reward_models.people.store import ConflictError, LabelStore
from textgym.reward_models.people.token_file import TOKEN_VARIABLE, read_token
from textgym.reward_models.people.validation import check_item
from textgym.storage import json_text

PATIENCE = 60.0  # seconds that a call waits for a server or a writer


class Labels(Protocol):
    """What training needs of a store, wherever it is. See `LabelStore` for what each returns."""

    @property
    def settings(self) -> Settings:
        """What holds for the whole store."""

    def add_items(self, items: Sequence[NewItem]) -> list[int]:
        """Add items; one whose key is there already is not added again."""

    def close_items(self, ids: Sequence[int]) -> None:
        """Ask nobody any more about these items."""

    def items(self, since: int = 0, limit: int | None = None) -> list[Item]:
        """The items with ids above `since`."""

    def events(self, since: int = 0, limit: int | None = None) -> list[Event]:
        """The lines of the log with ids above `since`."""

    def add_refit(
        self,
        run: str,
        step: int,
        answers: Sequence[int],
        details: Mapping[str, Any] | None = None,
    ) -> int:
        """Note that a reward model was fitted to these answers."""

    def refits(self, run: str | None = None) -> list[Refit]:
        """The refits of a run, or of all."""

    def close(self) -> None:
        """Let go of it."""


def open_labels(
    place: str | Path, *, token: str | None = None, patience: float = PATIENCE, **settings: Any
) -> Labels:
    """A store by its path, made if missing, or by the URL of the server that serves it.

    :param token: of the server; None takes the variable `TEXTGYM_LABEL_TOKEN`.
    :param patience: seconds that a call waits for the server, or for another writer.
    :param settings: of a store that is made, see `Settings`.
    :raises InputError: for a URL without a token, or a file that is no store.
    """
    text = str(place)
    if not text.startswith(("http://", "https://")):
        return LocalLabels(absolute(place), patience=patience, **settings)
    token = token or os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise InputError(
            f"{text}: expected the server's token in the variable {TOKEN_VARIABLE}; it is in the "
            "file STORE.token beside the store"
        )
    return LabelClient(text, token, patience=patience)


class LocalLabels:
    """A store on this machine: through its server while one runs, else by opening it for a moment.

    :param path: of the store.
    """

    def __init__(self, path: Path, *, patience: float = PATIENCE, **settings: Any) -> None:
        self.path, self._patience, self._new = path, patience, settings
        with self._open() as labels:  # finds out now what is wrong with the file
            self._settings = labels.settings

    @property
    def settings(self) -> Settings:
        """What holds for the whole store."""
        return self._settings

    @contextlib.contextmanager
    def _open(self) -> Iterator[Labels]:
        end = time.monotonic() + self._patience
        while True:
            try:
                labels: Labels = LabelStore(self.path, **self._new)
                break
            except StoreInUse:
                served = served_at(self.path)
                if served is not None:
                    left = max(end - time.monotonic(), 1.0)
                    labels = LabelClient(served, read_token(self.path), patience=left)
                    break
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        try:
            yield labels
        finally:
            labels.close()

    def add_items(self, items: Sequence[NewItem]) -> list[int]:
        """As `LabelStore.add_items`."""
        with self._open() as labels:
            return labels.add_items(items)

    def close_items(self, ids: Sequence[int]) -> None:
        """As `LabelStore.close_items`."""
        with self._open() as labels:
            labels.close_items(ids)

    def items(self, since: int = 0, limit: int | None = None) -> list[Item]:
        """As `LabelStore.items`; reading needs no server."""
        with LabelStore(self.path, is_read_only=True) as store:
            return store.items(since, limit)

    def events(self, since: int = 0, limit: int | None = None) -> list[Event]:
        """As `LabelStore.events`; reading needs no server."""
        with LabelStore(self.path, is_read_only=True) as store:
            return store.events(since, limit)

    def add_refit(
        self,
        run: str,
        step: int,
        answers: Sequence[int],
        details: Mapping[str, Any] | None = None,
    ) -> int:
        """As `LabelStore.add_refit`."""
        with self._open() as labels:
            return labels.add_refit(run, step, answers, details)

    def refits(self, run: str | None = None) -> list[Refit]:
        """As `LabelStore.refits`; reading needs no server."""
        with LabelStore(self.path, is_read_only=True) as store:
            return store.refits(run)

    def close(self) -> None:
        """Nothing is open between calls."""


class LabelClient:
    """A store on the other side of HTTP.

    :param url: of the label server, such as "http://127.0.0.1:8765".
    :param token: of the store.
    :param patience: seconds that a call goes on trying while the server cannot be reached.
    :raises InputError: without the extra `label` (or `judge`), or for what is no URL.
    """

    def __init__(self, url: str, token: str, *, patience: float = PATIENCE) -> None:
        httpx = _httpx()
        self.url, self._patience = url.rstrip("/"), patience
        self._lost = (httpx.TransportError,)
        try:
            self._client = httpx.Client(
                base_url=self.url,
                headers={"authorization": f"Bearer {token}"},
                timeout=30.0,
                trust_env=False,
            )
        except httpx.InvalidURL as error:
            raise InputError(f"{self.url:.100}: no URL ({error})") from None

    @property
    def settings(self) -> Settings:
        """What holds for the whole store."""
        values = self._call("GET", "/api/settings")
        return Settings(**(values | {name: tuple(values[name]) for name in ("scale", "asks")}))

    def add_items(self, items: Sequence[NewItem]) -> list[int]:
        """Add items, a few hundred a request; each gets a key, so that none is added twice."""
        for place, item in enumerate(items):
            check_item(item, f"item {place}")
        ids: list[int] = []
        for part in parts([item_body(item) for item in items]):
            ids += self._call("POST", "/api/items", {"items": part})["ids"]
        return ids

    def close_items(self, ids: Sequence[int]) -> None:
        """Ask nobody any more about these items."""
        self._call("POST", "/api/items/close", {"ids": list(ids)})

    def items(self, since: int = 0, limit: int | None = None) -> list[Item]:
        """The items with ids above `since`."""
        return [item_of_json(row) for row in self._pages("items", since, limit)]

    def events(self, since: int = 0, limit: int | None = None) -> list[Event]:
        """The lines of the log with ids above `since`."""
        return [Event(**row) for row in self._pages("events", since, limit)]

    def add_refit(
        self,
        run: str,
        step: int,
        answers: Sequence[int],
        details: Mapping[str, Any] | None = None,
    ) -> int:
        """Note that a reward model was fitted to these answers."""
        body = {
            "run": run,
            "step": step,
            "answers": list(answers),
            "details": json.loads(json_text(dict(details or {}))),
        }
        return int(self._call("POST", "/api/refits", body)["id"])

    def refits(self, run: str | None = None) -> list[Refit]:
        """The refits of a run, or of all."""
        values = {} if run is None else {"run": run}
        rows = self._call("GET", "/api/refits", values=values)["refits"]
        return [Refit(**(row | {"answers": tuple(row["answers"])})) for row in rows]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _pages(self, what: str, since: int, limit: int | None) -> Iterator[dict[str, Any]]:
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            values = {"since": since, "limit": size}
            rows = self._call("GET", f"/api/{what}", values=values)[what]
            yield from rows
            if len(rows) < size:
                return
            since = rows[-1]["id"]
            left = None if left is None else left - len(rows)

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        values: dict[str, Any] | None = None,
    ) -> Any:
        end, wait = time.monotonic() + self._patience, 0.05
        while True:
            try:
                reply = self._client.request(method, path, json=body, params=values)
            except self._lost as error:
                reason = " ".join(str(error).split()) or type(error).__name__
            else:
                if reply.status_code < 500 or reply.status_code == 507:
                    return self._content(reply)
                reason = f"status {reply.status_code}"
            if time.monotonic() + wait > end:
                raise StorageError(f"{self.url}: the label server cannot be reached ({reason})")
            time.sleep(wait)
            wait = min(2 * wait, 2.0)

    def _content(self, reply: Any) -> Any:
        try:
            content = reply.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise InputError(f"{self.url}: no label server answers there")
        if reply.status_code == 200:
            return content
        error = str(content.get("error", f"status {reply.status_code}"))
        if reply.status_code == 401:
            raise InputError(
                f"{self.url}: refuses the token; it is in STORE.token beside the store"
            )
        if reply.status_code == 409:
            raise ConflictError(error)
        if reply.status_code == 507:
            raise StorageError(error)
        raise InputError(f"{self.url}: {error}")


def address_path(store: Path) -> Path:
    """Where the server of a store writes down its URL."""
    return store.with_name(store.name + ".server")


def served_at(store: Path) -> str | None:
    """The URL of the server that serves a store, by what it wrote down."""
    try:
        content = json.loads(address_path(store).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    url = content.get("url") if isinstance(content, dict) else None
    return url if isinstance(url, str) else None


def _httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise InputError(
            "a label server is reached with httpx: install the extra, pip install 'textgym[label]'"
        ) from None
    return httpx
