"""What a run asks people about its own texts: which pairs, how many wait, which grew stale."""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from textgym.reward_models.people.answers import AnswerLog
from textgym.reward_models.people.heads import Array, Heads, TextFeatures
from textgym.reward_models.people.queries import RuleName, Written, candidates, query_rule
from textgym.reward_models.people.records import HELD_OUT, NewItem, Text

POOL = 1024  # latest texts among which pairs are looked for
CANDIDATES = 256  # pairs that a rule chooses from
STALE = 10  # rollouts after which a pair that nobody answered makes room for a newer one


@dataclass
class Waiting:
    """Pairs that wait for an answer.

    :param limit: how many at most.
    :param most: answers that are wanted, after which nothing more is asked; None for no end.
    :param since: item → rollout in which it was asked.
    """

    limit: int
    most: int | None
    since: dict[int, int] = field(default_factory=dict)

    def room(self, answers: int, stale: int) -> int:
        """How many more can be asked.

        :param answers: that there are.
        :param stale: of those that wait, so many make room.
        """
        left = self.limit - len(self.since) + stale
        return left if self.most is None else min(left, self.most - answers - len(self.since))


@dataclass(frozen=True)
class _Round:
    """What is asked after one rollout: of which run, at which step, about which texts."""

    run: str
    step: int
    texts: list[Written]
    rng: np.random.Generator


class Questions:
    """The pairs of one run in a store of labels.

    All pairs of some prompts are set aside (`HELD_OUT`): they are picked at random, and no answer
    about them is fitted. Which prompts these are depends on the prompts alone.

    :param log: the store, as far as it was read.
    :param features: of texts, by which an ensemble says how it is divided.
    :param queries: how pairs are picked; before the first fit they are drawn at random.
    :param waiting: pairs of this run that wait for an answer at most; those set aside are besides.
    :param seed: of the draws; each step has its own.
    :param held_out: share of the prompts whose pairs are set aside, and of the answers.
    :param most: answers to fit after which no more is asked; None for no end.
    :raises UnknownNameError: for a rule that does not exist.
    """

    def __init__(
        self,
        log: AnswerLog,
        features: TextFeatures,
        queries: RuleName,
        waiting: int,
        seed: int,
        *,
        held_out: float = 0.0,
        most: int | None = None,
    ) -> None:
        self.log, self.features, self.seed, self.share = log, features, seed, held_out
        self.queries, self._rule = queries, query_rule(queries)
        beside = held_out / (1 - held_out)  # answers set aside for each that is fitted
        self.fitted = Waiting(waiting, most)
        self.aside = Waiting(
            max(round(waiting * beside), 1) if held_out else 0,
            None if most is None else round(most * beside),
        )
        self._pool: deque[Written] = deque(maxlen=POOL)
        self._asked: set[frozenset[Written]] = set()
        self._asked_until = -1
        self._rollouts = 0

    @property
    def waiting(self) -> int:
        """Pairs that wait for an answer."""
        return len(self.fitted.since) + len(self.aside.since)

    def is_set_aside(self, prompt: str) -> bool:
        """Whether the pairs of a prompt are set aside."""
        digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64

    def find(self, run: str) -> None:
        """What the store holds of a run already, and which pairs nobody needs to ask again."""
        for item in self.log.items.values():
            if len(item.texts) == 2:
                self._asked.add(frozenset((item.prompt, text.text) for text in item.texts))
            source = item.texts[0].source
            if source.get("run") == run and "step" in source:
                self._asked_until = max(self._asked_until, int(source["step"]))
                if item.is_open:
                    kind = self.aside if item.query == HELD_OUT else self.fitted
                    kind.since[item.id] = 0

    def rollout(self, texts: Sequence[Written]) -> None:
        """The texts of a rollout that is over."""
        self._pool.extend(texts)
        self._rollouts += 1

    def ask(self, run: str, step: int, new: int, heads: Heads | None) -> None:
        """Put the pairs worth asking into the store; close those that grew stale.

        Not where an earlier life of the run has asked at this step or a later one.

        :param step: completion tokens that were played so far.
        :param new: how many of the latest texts are of this rollout.
        :param heads: the ensemble, None before the first fit.
        """
        if step <= self._asked_until:
            return
        this = _Round(run, step, list(self._pool), np.random.default_rng([self.seed, step]))
        places = candidates(this.texts, new, self._asked, CANDIDATES, this.rng)
        is_aside = np.array([self.is_set_aside(this.texts[place][0]) for place, _ in places], bool)
        own, others = places[~is_aside], places[is_aside]
        preferences = self._preferences(this.texts, own, heads)
        at_random = query_rule("random")
        query, rule = (self.queries, self._rule) if len(preferences) else ("random", at_random)
        done = self.log.done()
        for kind in (self.fitted, self.aside):
            kind.since = {item: since for item, since in kind.since.items() if item not in done}
        self._fill(
            self.fitted,
            len(self.log.counted()),
            lambda room: [own[place] for place in rule(preferences, own, room, this.rng)],
            this,
            query,
        )
        self._fill(
            self.aside,
            len(self.log.held_out()),
            lambda room: [others[k] for k in at_random(preferences, others, room, this.rng)],
            this,
            HELD_OUT,
        )

    def _fill(
        self,
        kind: Waiting,
        answers: int,
        pick: Callable[[int], list[npt.NDArray[np.int64]]],
        this: "_Round",
        query: str,
    ) -> None:
        """Ask as many as may wait; the stale ones make room, all of them where it is enough.

        :param answers: of this kind, that there are.
        :param pick: pairs of texts, as many as there is room for at most.
        """
        stale = [item for item, since in kind.since.items() if self._rollouts - since >= STALE]
        picked = pick(max(kind.room(answers, len(stale)), 0))
        closed = stale[: max(len(kind.since) + len(picked) - kind.limit, 0)]
        if kind.most is not None and answers >= kind.most:
            closed = list(kind.since)
        if closed:
            self.log.labels.close_items(closed)
        kind.since = {item: since for item, since in kind.since.items() if item not in set(closed)}
        if not picked:
            return
        source = {"run": this.run, "step": this.step}
        items = [
            NewItem(
                this.texts[first][0],
                (Text(this.texts[first][1], source), Text(this.texts[second][1], source)),
                key=f"{this.run}/{this.step}/{query}/{number}",
                priority=float(this.step),
                query=query,
            )
            for number, (first, second) in enumerate(picked)
        ]
        kind.since |= dict.fromkeys(self.log.labels.add_items(items), self._rollouts)
        self._asked |= {frozenset((this.texts[i], this.texts[k])) for i, k in picked}

    def _preferences(
        self, texts: Sequence[Written], places: npt.NDArray[np.int64], heads: Heads | None
    ) -> Array:
        """Each member's about each pair, float64 [k, p]; k is 0 before the first fit."""
        if heads is None or not len(places):
            return np.zeros((0, len(places)))
        used, compact = np.unique(places, return_inverse=True)
        features = self.features(["".join(texts[place]) for place in used])
        compact = compact.reshape(places.shape)
        return heads.preferences(features[compact[:, 0]], features[compact[:, 1]])
