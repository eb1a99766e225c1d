"""What a run asks people about its own texts: which pairs, how many wait, which grew stale."""

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from textgym.reward_models.people.answers import AnswerLog
from textgym.reward_models.people.heads import Array, Heads, TextFeatures
from textgym.reward_models.people.queries import RuleName, Written, candidates, query_rule
from textgym.reward_models.people.records import NewItem, Text

POOL = 1024  # latest texts among which pairs are looked for
CANDIDATES = 256  # pairs that the rule chooses from
STALE = 10  # rollouts after which a pair that nobody answered makes room for a newer one


class Questions:
    """The pairs of one run in a store of labels.

    :param log: the store, as far as it was read.
    :param features: of texts, by which an ensemble says how it is divided.
    :param queries: how pairs are picked; before the first fit they are drawn at random.
    :param waiting: pairs of this run that wait for an answer at most.
    :param seed: of the draws; each step has its own.
    :raises UnknownNameError: for a rule that does not exist.
    """

    def __init__(
        self, log: AnswerLog, features: TextFeatures, queries: RuleName, waiting: int, seed: int
    ) -> None:
        self.log, self.features, self.waiting, self.seed = log, features, waiting, seed
        self.queries, self._rule = queries, query_rule(queries)
        self.is_open: dict[int, int] = {}  # item that waits → rollout in which it was asked
        self._pool: deque[Written] = deque(maxlen=POOL)
        self._asked: set[frozenset[Written]] = set()
        self._asked_until = -1
        self._rollouts = 0

    def find(self, run: str) -> None:
        """What the store holds of a run already, and which pairs nobody needs to ask again."""
        for item in self.log.items.values():
            if len(item.texts) == 2:
                self._asked.add(frozenset((item.prompt, text.text) for text in item.texts))
            source = item.texts[0].source
            if source.get("run") == run:
                self._asked_until = max(self._asked_until, int(source.get("step", 0)))
                if item.is_open:
                    self.is_open[item.id] = 0

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
        done = self.log.done()
        self.is_open = {item: since for item, since in self.is_open.items() if item not in done}
        stale = [i for i, since in self.is_open.items() if self._rollouts - since >= STALE]
        rng = np.random.default_rng([self.seed, step])
        texts = list(self._pool)
        places = candidates(texts, new, self._asked, CANDIDATES, rng)
        preferences = self._preferences(texts, places, heads)
        room = self.waiting - len(self.is_open) + len(stale)
        rule = self._rule if len(preferences) else query_rule("random")
        picked = [places[pair] for pair in rule(preferences, places, room, rng)]
        if not picked:
            return
        stale = stale[: max(len(self.is_open) + len(picked) - self.waiting, 0)]
        if stale:
            self.log.labels.close_items(stale)
        source = {"run": run, "step": step}
        items = [
            NewItem(
                texts[first][0],
                (Text(texts[first][1], source), Text(texts[second][1], source)),
                key=f"{run}/{step}/{number}",
                priority=float(step),
                query=self.queries if len(preferences) else "random",
            )
            for number, (first, second) in enumerate(picked)
        ]
        ids = self.log.labels.add_items(items)
        self._asked |= {frozenset((texts[i], texts[k])) for i, k in picked}
        self.is_open = {i: since for i, since in self.is_open.items() if i not in set(stale)}
        self.is_open |= dict.fromkeys(ids, self._rollouts)

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
