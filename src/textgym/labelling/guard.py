"""What stands before every route of the label server, those to come included.

A browser sends requests to this machine on behalf of any page that is open in it. So, in this
order: the name in `Host` must be ours (421), no other site may be asking (403), the request must
carry the token or a cookie (401), a body must be JSON (415) and short (413).
"""

import asyncio
import json
from collections.abc import Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from textgym.labelling.access import Access, Session

Scope = MutableMapping[str, Any]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
BODY_BYTES = 65_536  # of what a page sends
OWNER_BODY_BYTES = 16 * 2**20  # of the items that a training process adds
BODY_SECONDS = 20.0
ENTRANCE = "/enter"  # where a ticket becomes a cookie: the one route without a session
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware that refuses what is not ours, and sets the session of the rest.

    :param app: what is guarded.
    :param access: knows the token.
    :param hosts: names that this server is reached by, without the port.
    """

    def __init__(self, app: Any, access: Access, hosts: Iterable[str] = LOOPBACK) -> None:
        self.app, self._access = app, access
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        send = _with_headers(send)
        session = self._session(headers)
        refusal = self._refusal(scope, headers, session)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        scope.setdefault("state", {})["session"] = session
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        longest = OWNER_BODY_BYTES if session is not None and session.is_owner else BODY_BYTES
        try:
            body = await asyncio.wait_for(_body(receive, longest), BODY_SECONDS)
        except TimeoutError:
            await _refuse(send, 408, "the request took too long to arrive")
            return
        if body is None:
            await _refuse(send, 413, f"a request has at most {longest:,} bytes")
            return
        await self.app(scope, _replayed(body, receive), send)

    def _session(self, headers: dict[str, str]) -> Session | None:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        morsel = cookies.get(self._access.cookie_name)
        return self._access.session_of(
            headers.get("authorization", ""), morsel.value if morsel is not None else ""
        )

    def _refusal(
        self, scope: Scope, headers: dict[str, str], session: Session | None
    ) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if _name(host) not in self._hosts:
            return 421, "this address is not known here: open the one that was printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "another site may not ask"
        is_entrance = scope["path"] == ENTRANCE
        site = headers.get("sec-fetch-site", "none")
        is_click = is_entrance and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("none", "same-origin") and not is_click:
            return 403, "another site may not ask"
        if session is None and not is_entrance:
            return 401, "no session: open the address that was printed, or send the token"
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return 415, "expected a body of type application/json"
        return None


def _name(host: str) -> str:
    """The name in a `Host` header, without its port."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()


async def _body(receive: Any, longest: int) -> bytes | None:
    """The body; None as soon as it is longer than it may be, whatever the header says."""
    parts, length, is_more = [], 0, True
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        part = message.get("body", b"")
        length += len(part)
        if length > longest:
            return None
        parts.append(part)
        is_more = message.get("more_body", False)
    return b"".join(parts)


def _replayed(body: bytes, receive: Any) -> Any:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Any:
        return messages.pop() if messages else await receive()

    return next_message


def _with_headers(send: Any) -> Any:
    extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def send_with(message: Any) -> None:
        if message["type"] == "http.response.start":
            ours = {name for name, _ in extra}
            kept = [pair for pair in message.get("headers", []) if pair[0].lower() not in ours]
            message = {**message, "headers": [*kept, *extra]}
        await send(message)

    return send_with


async def _refuse(send: Any, status: int, error: str) -> None:
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
