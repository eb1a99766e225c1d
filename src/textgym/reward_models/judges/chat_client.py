"""Requests to an OpenAI-compatible chat endpoint that outlive a server's bad moments.

A request that finds no server, a busy one (429), a broken one (5xx), half an answer or none in time
is made again after a pause that doubles, or that the server names (`Retry-After`). What else goes
wrong is an error at once. Errors name the endpoint, and never its key.
"""

import asyncio
import email.utils
import json
import random
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from textgym.errors import InputError, RewardFailure
from textgym.extras import import_extra
from textgym.reward_answers import shorten
from textgym.reward_models.judges.cost import Cost
from textgym.reward_models.judges.endpoint import KEY_VARIABLE, URL_VARIABLE, Endpoint
from textgym.reward_models.judges.rate_limit import RateLimit
from textgym.reward_models.judges.response_cache import Reply

if TYPE_CHECKING:
    import httpx

Messages = Sequence[Mapping[str, str]]

MOST_BYTES = 2**20  # of an answer
LONGEST_PAUSE = 60.0  # seconds, of the pauses that double
_PASSING = (408, 409, 425, 429)  # states of a server that pass, beside 5xx


class Passing(NamedTuple):
    """What went wrong and may not the next time. :param pause: seconds that the server names."""

    what: str
    pause: float | None = None


class ChatClient:
    """Asks one model at one endpoint.

    :param model: as the server names it.
    :param temperature: None leaves it to the server.
    :param max_tokens: that it may write.
    :param concurrency: requests at a time.
    :param requests_per_minute: at most; None for as many as come.
    :param timeout: seconds of one request, from its start to the last byte.
    :param retries: further tries of a request.
    :param wait: seconds before the second try; they double, with up to half of them left out by
        chance, so that many requests do not come back at once.
    :param url_variable, key_variable: of the environment, read at each request.
    :raises InputError: if httpx is missing, the environment has no endpoint, or a number is out of
        range.
    """

    def __init__(
        self,
        model: str,
        *,
        temperature: float | None = 0.0,
        max_tokens: int = 256,
        concurrency: int = 8,
        requests_per_minute: float | None = None,
        timeout: float = 60.0,
        retries: int = 4,
        wait: float = 1.0,
        url_variable: str = URL_VARIABLE,
        key_variable: str = KEY_VARIABLE,
    ) -> None:
        _httpx()
        Endpoint.from_environment(url_variable, key_variable)
        ranges = {
            "max_tokens": (max_tokens, 1),
            "concurrency": (concurrency, 1),
            "retries": (retries, 0),
            "wait": (wait, 0),
        }
        for name, (value, least) in ranges.items():
            if not value >= least:
                raise InputError(f"{name} must be at least {least}, got {value!r}")
        if not timeout > 0:
            raise InputError(f"timeout must be above 0, got {timeout!r}")
        self.settings: dict[str, Any] = {"model": model, "max_tokens": max_tokens}
        if temperature is not None:
            self.settings["temperature"] = temperature
        self.concurrency, self.timeout, self.retries, self.wait = (
            concurrency,
            timeout,
            retries,
            wait,
        )
        self.url_variable, self.key_variable = url_variable, key_variable
        self.limit = RateLimit(requests_per_minute)
        self._chance = random.Random()
        self._gate: tuple[Any, asyncio.Semaphore] | None = None
        self._certificates: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to an event loop or to a process."""
        return {**vars(self), "_gate": None, "_certificates": None}

    def connections(self) -> "httpx.AsyncClient":
        """A client for some requests, to be used in `async with`."""
        endpoint = Endpoint.from_environment(self.url_variable, self.key_variable)
        if endpoint.url.startswith("https:") and self._certificates is None:
            self._certificates = _httpx().create_ssl_context()  # 20 ms, so once
        return _httpx().AsyncClient(  # type: ignore[no-any-return]
            verify=self._certificates or False,  # False: there is none over http
            timeout=None,
            trust_env=not endpoint.is_here,
            follow_redirects=False,
        )

    async def ask(
        self,
        client: "httpx.AsyncClient",
        messages: Messages,
        cost: Cost,
        deadline: float | None = None,
    ) -> Reply:
        """A model's reply to some messages.

        :param cost: requests and tokens are added to it.
        :param deadline: of the loop's clock: a pause beyond it is not begun.
        :raises RewardFailure: in one line, once no try is left or the server refuses.
        """
        endpoint = Endpoint.from_environment(self.url_variable, self.key_variable)
        body = {**self.settings, "messages": list(messages)}
        for attempt in range(self.retries + 1):
            async with self._open_gate():
                await self.limit.turn()
                cost.calls += 1
                answer = await self._try(client, endpoint, body)
            if isinstance(answer, Reply):
                cost.tokens_in += answer.tokens_in
                cost.tokens_out += answer.tokens_out
                return answer
            is_last = attempt == self.retries
            pause = self.wait * 2**attempt * (1 - self._chance.random() / 2)
            pause = min(pause, LONGEST_PAUSE) if answer.pause is None else answer.pause
            if deadline is not None and asyncio.get_running_loop().time() + pause > deadline:
                is_last = True
            if is_last:
                tries = "1 try" if attempt == 0 else f"{attempt + 1} tries"
                raise self._failure(endpoint, f"{answer.what}, after {tries}")
            if answer.pause is not None:
                self.limit.pause(pause)
            await asyncio.sleep(pause)
        raise AssertionError("a try is the last one")

    def _open_gate(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._gate is None or self._gate[0] is not loop:
            self._gate = loop, asyncio.Semaphore(self.concurrency)
        return self._gate[1]

    async def _try(
        self, client: "httpx.AsyncClient", endpoint: Endpoint, body: dict[str, Any]
    ) -> Reply | Passing:
        """One request.

        :raises RewardFailure: for what will not pass.
        """
        try:
            async with asyncio.timeout(self.timeout):
                status, headers, content = await _post(client, endpoint, body)
        except TimeoutError:
            return Passing(f"no answer within {self.timeout:g} s (timeout)")
        except _httpx().TransportError as error:
            reason = endpoint.without_key(" ".join(str(error).split())) or type(error).__name__
            return Passing(f"no answer ({reason:.80})")
        if status == 200:
            reply = _reply(content)
            return reply if reply is not None else Passing("not the answer of a chat endpoint")
        what = f"HTTP {status}{_message(content, endpoint)}"
        if status in _PASSING or status >= 500:
            return Passing(what, _retry_after(headers.get("Retry-After")))
        if status in (401, 403):
            what += f": is {self.key_variable} set, and the right key?"
        raise self._failure(endpoint, what)

    def _failure(self, endpoint: Endpoint, what: str) -> RewardFailure:
        return RewardFailure(f"judge {self.settings['model']!r} at {endpoint.url}: {what}")


async def _post(
    client: "httpx.AsyncClient", endpoint: Endpoint, body: dict[str, Any]
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and content of an answer, of which at most `MOST_BYTES` are read."""
    content = json.dumps(body).encode("ascii")  # lone surrogates too
    headers = {"Content-Type": "application/json", **endpoint.headers}
    url = f"{endpoint.url}/chat/completions"
    async with client.stream("POST", url, content=content, headers=headers) as response:
        chunks, size = [], 0
        async for chunk in response.aiter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            if size > MOST_BYTES:
                break
        return response.status_code, response.headers, b"".join(chunks)


def _reply(content: bytes) -> Reply | None:
    """The reply in an answer's JSON, or None."""
    try:
        answer = json.loads(content)
        text = answer["choices"][0]["message"]["content"]
        usage = answer.get("usage") or {}
        counts = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return Reply(text, *counts) if isinstance(text, str) else None


def _message(content: bytes, endpoint: Endpoint) -> str:
    """What a server says of its error, without the key, in short."""
    try:
        error = json.loads(content)["error"]
        text = error if isinstance(error, str) else error["message"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    return f" ({shorten(endpoint.without_key(text), 120)})" if isinstance(text, str) else ""


def _retry_after(value: str | None) -> float | None:
    """Seconds from now, of a number or a date (RFC 9110, section 10.2.3); None for neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def _httpx() -> Any:
    """The library.

    :raises InputError: if it is not installed.
    """
    return import_extra("httpx", extra="judge", what="a chat judge")
