"""A language model behind a chat endpoint as a reward model: it grades texts, or compares two."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from textgym.errors import InputError, RewardFailure
from textgym.reward_answers import shorten
from textgym.reward_models.judges.answers import read_choice, read_score
from textgym.reward_models.judges.chat_client import ChatClient
from textgym.reward_models.judges.cost import Cost, cost_components
from textgym.reward_models.judges.endpoint import KEY_VARIABLE, URL_VARIABLE
from textgym.reward_models.judges.opponents import Against, opponents
from textgym.reward_models.judges.response_cache import ResponseCache
from textgym.reward_models.judges.rubric import PAIR, SCORE, Rubric
from textgym.rewards import RewardOutput
from textgym.storage import json_text

if TYPE_CHECKING:
    import httpx

_MOST_REPEATED = 2000  # characters of an answer that is none, where the reminder shows it again


class ChatJudge:
    """Asks a chat model about each text, many at a time.

    Without `against` a text gets the grade that the model answers, (grade − low) / (high − low).
    With it the text is compared with another one, in both orders: 1 where it is preferred in both,
    0 where the other one is, ½ where the two answers disagree or say tie, or the texts are equal.

    The endpoint and its key come from the environment. Figures of each text are components:
    `judge_calls`, `judge_tokens_in`, `judge_tokens_out`, `judge_cached`, `judge_price` where prices
    are given, and of pairs `judge_disagreed` (1 where the order of the two decided). `cost` has the
    sums. A call that fails keeps the answers that it got: they are in the cache.

    :param model: as the server names it.
    :param rubric: a template or its file, with the place `{completion}` and maybe `{prompt}`,
        `{low}`, `{high}` and columns of the prompts; for pairs with `{first}` and `{second}`.
        Default: a general one (`textgym.reward_models.judges.rubric`).
    :param low, high: the range that the rubric asks for; what lies outside is no answer.
    :param against: a column of the prompts with the texts to compare with, or a function that gives
        them for a list of prompts.
    :param nonsense: what follows an answer that is none, and another one after a reminder:
        `"error"`, or `"none"` for the score None (inside a weighted sum).
    :param cache: file for answers: a question is paid for once, in later runs too. None: memory.
    :param cache_entries: how many answers are kept, the newest.
    :param total_timeout: seconds of all texts of a call; None for no such limit.
    :param price_in, price_out: of a million tokens.
    :param name: its name in logs.
    :param temperature, max_tokens, concurrency, requests_per_minute, timeout, retries, wait,
        url_variable, key_variable: as `ChatClient`'s.
    :raises InputError: for a rubric without its places, a number out of range, a cache that is no
        cache, no endpoint in the environment, or no httpx.
    """

    def __init__(
        self,
        model: str,
        rubric: str | Path | None = None,
        *,
        low: float = 1,
        high: float = 10,
        against: Against | None = None,
        nonsense: Literal["error", "none"] = "error",
        cache: str | Path | None = None,
        cache_entries: int = 100_000,
        total_timeout: float | None = None,
        price_in: float = 0.0,
        price_out: float = 0.0,
        name: str = "chat_judge",
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
        if not low < high:
            raise InputError(f"a judge needs low < high, got {low} and {high}")
        if nonsense not in ("error", "none"):
            raise InputError(f"nonsense must be 'error' or 'none', got {nonsense!r}")
        if total_timeout is not None and not total_timeout > 0:
            raise InputError(f"total_timeout must be above 0, got {total_timeout!r}")
        self.client = ChatClient(
            model,
            temperature=temperature,
            max_tokens=max_tokens,
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            timeout=timeout,
            retries=retries,
            wait=wait,
            url_variable=url_variable,
            key_variable=key_variable,
        )
        self.against, self.is_pairwise, self.name = against, against is not None, name
        default, *places = (PAIR, "first", "second") if self.is_pairwise else (SCORE, "completion")
        self.rubric = Rubric(default if rubric is None else rubric, places)
        self.low, self.high, self.nonsense = low, high, nonsense
        self.total_timeout, self.prices = total_timeout, (price_in, price_out)
        self.cache = ResponseCache(cache, most=cache_entries)
        self.cost = Cost()
        self._asking: dict[str, asyncio.Event] = {}

    async def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> RewardOutput:
        """:returns: one float in [0, 1] per completion (or None, see `nonsense`), and its cost.

        :raises RewardFailure: in one line that names the endpoint, if it fails for a text.
        :raises InputError: for a place of the rubric, or texts to compare with, that are missing.
        """
        if self.against is not None:
            others = opponents(self.against, prompts, columns)
            return await self._compare(prompts, completions, others, columns)
        rows = _rows(prompts, columns, completion=completions)
        answers = await self._ask_all([self._text(row) for row in rows])
        grades = [None if grade is None else self._scaled(grade) for grade, _ in answers]
        return RewardOutput(grades, self._components([cost for _, cost in answers]))

    async def prefer(
        self,
        prompts: Sequence[str],
        first: Sequence[str],
        second: Sequence[str],
        **columns: Sequence[Any],
    ) -> list[float | None]:
        """1 where the first of two texts is preferred in both orders, 0 the second, ½ neither.

        :raises InputError: if the judge grades texts (it has no `against`).
        :raises RewardFailure: as `__call__`.
        """
        if not self.is_pairwise:
            raise InputError(f"{self.name} grades single texts: give it against=... to compare two")
        return list((await self._compare(prompts, first, second, columns)).scores)

    async def _compare(
        self,
        prompts: Sequence[str],
        first: Sequence[str],
        second: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
    ) -> RewardOutput:
        """Scores of the first texts."""
        ways = [
            [self._text(row) for row in _rows(prompts, columns, first=a, second=b)]
            for a, b in ((first, second), (second, first))
        ]
        places = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
        answers = await self._ask_all([way[i] for i in places for way in ways])
        scores: list[float | None] = [0.5] * len(prompts)
        costs, disagreed = [Cost() for _ in prompts], [0.0] * len(prompts)
        for i, (one, cost), (other, more) in zip(places, answers[::2], answers[1::2], strict=True):
            costs[i].add(cost)
            costs[i].add(more)
            scores[i] = _in_both_orders(one, other)
            disagreed[i] = float(one is not None and one == other != 0.5)
        return RewardOutput(scores, {**self._components(costs), "judge_disagreed": disagreed})

    def _components(self, costs: Sequence[Cost]) -> dict[str, list[float]]:
        return cost_components(costs, *self.prices)

    def _scaled(self, grade: float) -> float:
        return (grade - self.low) / (self.high - self.low)

    def _text(self, row: Mapping[str, Any]) -> str:
        return self.rubric.fill({**row, "low": f"{self.low:g}", "high": f"{self.high:g}"})

    def _read(self, answer: str) -> float | None:
        return read_choice(answer) if self.is_pairwise else read_score(answer, self.low, self.high)

    @property
    def _wanted(self) -> str:
        return "A or B" if self.is_pairwise else f"one number from {self.low:g} to {self.high:g}"

    async def _ask_all(self, texts: Sequence[str]) -> list[tuple[float | None, Cost]]:
        """The answers to some questions; the first failure ends those that still wait."""
        loop = asyncio.get_running_loop()
        deadline = None if self.total_timeout is None else loop.time() + self.total_timeout
        tasks: list[asyncio.Task[tuple[float | None, Cost]]] = []
        try:
            async with (
                self.client.connections() as http,
                asyncio.timeout(self.total_timeout),
                asyncio.TaskGroup() as group,
            ):
                tasks += [group.create_task(self._ask(http, text, deadline)) for text in texts]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        except TimeoutError:
            done = sum(task.done() and not task.cancelled() for task in tasks)
            raise RewardFailure(
                f"{self.name}: {done} of {len(texts)} questions were answered within "
                f"{self.total_timeout:g} s (total_timeout), and are kept"
            ) from None
        return [task.result() for task in tasks]

    async def _ask(
        self, http: "httpx.AsyncClient", text: str, deadline: float | None
    ) -> tuple[float | None, Cost]:
        """The answer to one question, from the cache if it is there; asked once at a time."""
        key = self._key(text)
        cost = Cost()
        while (others := self._asking.get(key)) is not None:
            await others.wait()
        known = self.cache.get(key)
        value = None if known is None else self._read(known.text)
        if value is not None:
            cost.cached = 1
            self.cost.add(cost)
            return value, cost
        done = self._asking[key] = asyncio.Event()
        try:
            return await self._ask_twice(http, key, text, cost, deadline), cost
        finally:
            self.cost.add(cost)
            del self._asking[key]
            done.set()

    async def _ask_twice(
        self, http: "httpx.AsyncClient", key: str, text: str, cost: Cost, deadline: float | None
    ) -> float | None:
        """Ask, and once more with a reminder where the answer is none."""
        messages = [{"role": "user", "content": text}]
        for _ in range(2):
            reply = await self.client.ask(http, messages, cost, deadline)
            value = self._read(reply.text)
            if value is not None:
                self.cache.put(key, reply)
                return value
            said = reply.text[-_MOST_REPEATED:] or "(nothing)"
            reminder = f"That is no answer: write {self._wanted}, and nothing else."
            messages += [
                {"role": "assistant", "content": said},
                {"role": "user", "content": reminder},
            ]
        if self.nonsense == "none":
            return None
        raise RewardFailure(
            f"{self.name} answered {shorten(reply.text)!r} where it was asked for {self._wanted}, "
            f"twice: mend the rubric, or pass nonsense='none' (question {shorten(text)!r})"
        )

    def _key(self, text: str) -> str:
        """A hash of all that the answer depends on, and of how it is read."""
        kind = "choice" if self.is_pairwise else [self.low, self.high]
        content = json_text([self.client.settings, kind, text], sort_keys=True)
        return hashlib.sha256(content.encode("utf-8")).hexdigest()


def _in_both_orders(one: float | None, other: float | None) -> float | None:
    """The verdict on the first text from its two answers: as A, and as B."""
    if one is None or other is None:
        return None
    return one if one + other == 1 else 0.5


def _rows(
    prompts: Sequence[str], columns: Mapping[str, Sequence[Any]], **texts: Sequence[str]
) -> list[dict[str, Any]]:
    """What can stand in a rubric's places, for each prompt; the texts come before columns."""
    named: dict[str, Sequence[Any]] = {**columns, "prompt": prompts, **texts}
    return [{name: values[i] for name, values in named.items()} for i in range(len(prompts))]
