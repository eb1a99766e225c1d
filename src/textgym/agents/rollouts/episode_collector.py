"""The collector of whole episodes for algorithms without a critic: row by row, packed at the end.

Legend: `n` rows, `L` width of a row, `a` acted tokens of one episode, `A` of all, `E` episodes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textgym.agents.rollouts.saved_episodes import finite, joined, split
from textgym.envs.scoring import FinishedText
from textgym.errors import InputError
from textgym.policies.language_model.packing import (
    PackedSegments,
    array_row_lengths,
    budget_groups,
    equal_parts,
    pack_segments,
)
from textgym.saved_fields import SavedFields


@dataclass(eq=False)
class CollectedEpisode:
    """One finished episode.

    :param tokens: int64, all that the policy saw when it chose the last token.
    :param acted: int64 `[a]`, for each token chosen the place in `tokens` of the last one seen.
    :param actions: int64 `[a]`, the tokens chosen.
    :param log_probs: float32 `[a]`, under the policy that chose them.
    :param reward: all that was paid over its steps; NaN until its text is scored.
    :param group: number of its group; episodes of one group had the same prompt.
    :param prompt: its text.
    :param completion: its text.
    :param is_truncated: an outer limit or a full context cut it, and it was not scored.
    """

    tokens: np.ndarray
    acted: np.ndarray
    actions: np.ndarray
    log_probs: np.ndarray
    reward: float
    group: int
    prompt: str = ""
    completion: str = ""
    is_truncated: bool = False
    fresh: int = 0  # last tokens of `actions` that no `rescore` has seen yet


@dataclass
class _OpenRow:
    """The steps of one row since its episode began."""

    lengths: list[int] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    reward: float = 0.0
    fresh: int = 0


class EpisodeCollector:
    """Follows the rows of a vector environment and hands out whole groups.

    A row that ends is refilled at once, so a rollout's end finds some episodes open. They go on in
    the next rollout, and each token keeps the log-probability under the policy that drew it: no
    token is thrown away, and short texts are not preferred.

    :param n_envs: rows.
    :param num_generations: episodes of a group.
    :param pad_token_id: fills the rows to the right.
    """

    def __init__(self, n_envs: int, num_generations: int, pad_token_id: int) -> None:
        self.num_generations, self.pad_token_id = num_generations, pad_token_id
        self._rows = [_OpenRow() for _ in range(n_envs)]
        self._waiting: dict[int, list[CollectedEpisode]] = {}
        self._whole: list[list[CollectedEpisode]] = []
        self._count = 0

    @property
    def whole_groups(self) -> int:
        """Groups that are complete and not yet taken."""
        return len(self._whole)

    def forget_open_rows(self) -> None:
        """The environment was reset: what the rows began will not be finished.

        Nor will texts be scored for which the reward model has failed.
        """
        self._rows = [_OpenRow() for _ in self._rows]
        self._waiting = {}
        self._whole = [g for g in self._whole if all(e.reward == e.reward for e in g)]

    def add(
        self,
        obs: np.ndarray,
        actions: np.ndarray,
        log_probs: np.ndarray,
        rewards: np.ndarray,
        dones: np.ndarray,
        infos: Sequence[dict[str, Any]],
        waiting: Mapping[int, FinishedText] = MappingProxyType({}),
    ) -> None:
        """One step of every row: `obs` int64 `[n, L]`, the others `[n]`.

        :param waiting: the texts that ended, by row, whose score is still to come.
        """
        lengths = array_row_lengths(obs, self.pad_token_id).tolist()
        lists = lengths, actions.tolist(), log_probs.tolist(), np.asarray(rewards).tolist()
        for row, length, action, log_prob, reward in zip(self._rows, *lists, strict=True):
            row.lengths.append(length)
            row.actions.append(action)
            row.log_probs.append(log_prob)
            row.reward += reward
            row.fresh += 1
        for i in np.flatnonzero(dones).tolist():
            episode = self._finish(i, obs[i], infos[i])
            if i in waiting:
                _await_score(waiting[i], episode)

    def _finish(self, i: int, obs: np.ndarray, info: dict[str, Any]) -> CollectedEpisode:
        row, self._rows[i] = self._rows[i], _OpenRow()
        group = info.get("group")
        if group is None:
            if self.num_generations > 1:
                raise InputError(
                    f"the environment deals no groups: make it with num_generations="
                    f"{self.num_generations}, as textgym.make_vec does"
                )
            group = self._count
        self._count += 1
        episode = CollectedEpisode(
            tokens=obs[: row.lengths[-1]].astype(np.int64),
            acted=np.array(row.lengths) - 1,
            actions=np.array(row.actions),
            log_probs=np.array(row.log_probs, dtype=np.float32),
            reward=row.reward,
            group=group,
            prompt=info.get("prompt", ""),
            completion=info.get("completion", ""),
            is_truncated=bool(info.get("TimeLimit.truncated", False)),
            fresh=row.fresh,
        )
        members = self._waiting.setdefault(group, [])
        members.append(episode)
        if len(members) == self.num_generations:
            self._whole.append(self._waiting.pop(group))
        elif len(self._waiting) > len(self._rows) + 1:  # more than rows that could complete them
            raise InputError(
                f"the environment's groups never reach {self.num_generations} episodes: make it "
                f"with num_generations={self.num_generations}, as textgym.make_vec does"
            )
        return episode

    def rescore(
        self, obs: np.ndarray, log_probs_of: Callable[[PackedSegments, np.ndarray], np.ndarray]
    ) -> float:
        """Put other log-probabilities of the tokens drawn since the last call for the sampler's.

        At a rollout's end, before the policy moves: also of texts that are still open.

        :param obs: int64 `[n, L]`, the rows as they stand now.
        :param log_probs_of: float32 `[A]` from packed segments and their actions.
        :return: the mean distance of the two in nats.
        """
        whole = [e for group in (*self._whole, *self._waiting.values()) for e in group if e.fresh]
        open_rows = [i for i, row in enumerate(self._rows) if row.fresh]
        started = [_started(self._rows[i], obs[i]) for i in open_rows]
        both = whole + started
        total, count = 0.0, 0
        for part in budget_groups([len(e.tokens) for e in both], 2048):
            chosen = [both[i] for i in part]
            flat = log_probs_of(pack_episodes(chosen), np.concatenate([e.actions for e in chosen]))
            cuts = np.cumsum([len(e.actions) for e in chosen])[:-1]
            for episode, found in zip(chosen, np.split(flat, cuts), strict=True):
                new = slice(len(found) - episode.fresh, None)
                total += float(np.abs(found[new] - episode.log_probs[new]).sum())
                count += episode.fresh
                episode.log_probs[new], episode.fresh = found[new], 0
        for i, episode in zip(open_rows, started, strict=True):
            self._rows[i].log_probs, self._rows[i].fresh = episode.log_probs.tolist(), 0
        return total / max(count, 1)

    def state_dict(self) -> dict[str, Any]:
        """The open rows, and the finished episodes that wait for their groups or for a rollout."""
        waiting = [e for members in self._waiting.values() for e in members]
        return {
            "lengths": joined([np.array(row.lengths) for row in self._rows], "int64"),
            "actions": joined([np.array(row.actions) for row in self._rows], "int64"),
            "log_probs": joined([np.array(row.log_probs) for row in self._rows], "float64"),
            "rewards": np.array([row.reward for row in self._rows], dtype=np.float64),
            "waiting": _episodes_state(waiting),
            "whole": _episodes_state([e for group in self._whole for e in group]),
            "count": self._count,
        }

    def load_state_dict(self, state: Any, *, vocab_size: int) -> None:
        """Go on from a state of `state_dict`.

        :param vocab_size: tokens that there are.
        :raises InputError: if it is none of as many rows, or of groups of another size.
        """
        fields, n, high = SavedFields(state, "state of the episodes"), len(self._rows), vocab_size
        lengths = split(fields, "lengths", "int64", n, low=1)
        actions = split(fields, "actions", "int64", n, low=0, high=high - 1)
        log_probs = split(fields, "log_probs", "float64", n)
        rewards = fields.array("rewards", "float64", (n,))
        for parts in zip(lengths, actions, log_probs, strict=True):
            if len({len(part) for part in parts}) > 1:
                raise fields.error("lengths", "as many as actions and log_probs")
        if not finite([rewards, *log_probs]):
            raise fields.error("rewards", "finite numbers, as log_probs")
        waiting = _episodes_of(fields.table("waiting"), high)
        whole = _episodes_of(fields.table("whole"), high)
        size = self.num_generations
        groups = [whole[i : i + size] for i in range(0, len(whole), size)]
        if any(len(group) != size for group in groups):
            raise fields.error("whole", f"groups of {size}")
        self._count = fields.whole("count")
        self._rows = [
            _OpenRow(seen.tolist(), acted.tolist(), probs.tolist(), float(reward))
            for seen, acted, probs, reward in zip(lengths, actions, log_probs, rewards, strict=True)
        ]
        self._waiting, self._whole = {}, groups
        for episode in waiting:
            self._waiting.setdefault(episode.group, []).append(episode)

    def take(self, n_groups: int) -> list[CollectedEpisode]:
        """The episodes of the first `n_groups` whole groups, group by group."""
        taken, self._whole = self._whole[:n_groups], self._whole[n_groups:]
        return [episode for group in taken for episode in group]


def _started(row: _OpenRow, obs: np.ndarray) -> CollectedEpisode:
    """An open row as an episode of what it has so far."""
    return CollectedEpisode(
        tokens=obs[: row.lengths[-1]].astype(np.int64),
        acted=np.array(row.lengths) - 1,
        actions=np.array(row.actions),
        log_probs=np.array(row.log_probs, dtype=np.float32),
        reward=row.reward,
        group=-1,
        fresh=row.fresh,
    )


def _episodes_state(episodes: Sequence[CollectedEpisode]) -> dict[str, Any]:
    return {
        "tokens": joined([e.tokens for e in episodes], "int64"),
        "acted": joined([e.acted for e in episodes], "int64"),
        "actions": joined([e.actions for e in episodes], "int64"),
        "log_probs": joined([e.log_probs for e in episodes], "float32"),
        "rewards": np.array([e.reward for e in episodes], dtype=np.float64),
        "groups": np.array([e.group for e in episodes], dtype=np.int64),
        "prompts": [e.prompt for e in episodes],
        "completions": [e.completion for e in episodes],
        "is_truncated": np.array([e.is_truncated for e in episodes], dtype=bool),
    }


def _episodes_of(fields: SavedFields, vocab_size: int) -> list[CollectedEpisode]:
    rewards = fields.array("rewards", "float64", (None,))
    count, high = len(rewards), vocab_size - 1
    groups = fields.array("groups", "int64", (count,), low=0)
    is_truncated = fields.array("is_truncated", "bool", (count,)).tolist()
    tokens = split(fields, "tokens", "int64", count, low=0, high=high)
    acted = split(fields, "acted", "int64", count, low=0)
    actions = split(fields, "actions", "int64", count, low=0, high=high)
    log_probs = split(fields, "log_probs", "float32", count)
    texts = {name: fields.texts(name) for name in ("prompts", "completions")}
    if any(len(texts[name]) != count for name in texts) or not finite([rewards, *log_probs]):
        raise fields.error("rewards", "finite numbers, one for each text")
    for row, places, chosen, probs in zip(tokens, acted, actions, log_probs, strict=True):
        is_falling = not len(places) or bool((np.diff(places) < 0).any())
        if is_falling or places[-1] >= len(row) or not len(places) == len(chosen) == len(probs):
            raise fields.error("acted", "places in the tokens that never fall, one for each action")
    columns = zip(tokens, acted, actions, log_probs, strict=True)
    more = zip(rewards.tolist(), groups.tolist(), *texts.values(), is_truncated, strict=True)
    rows = zip(columns, more, strict=True)
    return [CollectedEpisode(*arrays, *values) for arrays, values in rows]


def _await_score(text: FinishedText, episode: CollectedEpisode) -> None:
    """Have a score added to an episode's reward once it is there."""
    text.listeners.append(_Pay(episode, episode.reward))
    episode.reward = float("nan")


@dataclass(eq=False)
class _Pay:
    """An object, so that copies of the text pay the copy of the episode."""

    episode: CollectedEpisode
    before: float

    def __call__(self, text: FinishedText) -> None:
        self.episode.reward = self.before + float(np.float32(text.reward))


@dataclass(frozen=True)
class EpisodeBatch:
    """Episodes laid end to end, for one causal pass.

    :param observations: the packed segments, `A` acted positions.
    :param actions: `[A]` int64.
    :param old_log_prob: `[A]` float32, under the policy that drew them.
    :param advantages: `[A]` float32, one value an episode, at each of its tokens.
    :param reference_log_prob: `[A]` float32 under the reference; None where the loss has no KL.
    :param episode_of: `[A]` int64, the number of each token's episode, 0 to `E - 1`.
    :param lengths: `[E]` int64, acted tokens of each episode.
    :param given_at: `[E]` int64, where each episode stood in the sequence that was collated.
    """

    observations: PackedSegments
    actions: Tensor
    old_log_prob: Tensor
    advantages: Tensor
    reference_log_prob: Tensor | None
    episode_of: Tensor
    lengths: Tensor
    given_at: Tensor

    def episode_sums(self, per_token: Tensor) -> Tensor:
        """Sums `[E]` of `[A]` values over each episode, in the order in which they were given."""
        zeros = torch.zeros(len(self.lengths), dtype=per_token.dtype, device=per_token.device)
        return zeros.index_add(0, self.given_at[self.episode_of], per_token)


def collate_episodes(
    episodes: Sequence[CollectedEpisode],
    advantages: np.ndarray,
    reference_log_probs: Sequence[np.ndarray] | None = None,
    *,
    device: torch.device | str = "cpu",
) -> EpisodeBatch:
    """A batch, longest episodes first (the attention then pads little).

    :param advantages: float `[E]`.
    :param reference_log_probs: float32 `[a]` of each episode.
    """
    order = sorted(range(len(episodes)), key=lambda i: -len(episodes[i].tokens))
    chosen = [episodes[i] for i in order]
    acted = np.array([len(episode.actions) for episode in chosen])

    def flat(parts: Sequence[np.ndarray], dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(np.concatenate(parts), dtype=dtype, device=device)

    reference = None
    if reference_log_probs is not None:
        reference = flat([reference_log_probs[i] for i in order], torch.float32)
    return EpisodeBatch(
        observations=pack_episodes(chosen).to(device),
        actions=flat([e.actions for e in chosen], torch.int64),
        old_log_prob=flat([e.log_probs for e in chosen], torch.float32),
        advantages=flat([np.repeat(advantages[order], acted)], torch.float32),
        reference_log_prob=reference,
        episode_of=flat([np.repeat(np.arange(len(chosen)), acted)], torch.int64),
        lengths=torch.as_tensor(acted, device=device),
        given_at=torch.as_tensor(order, device=device),
    )


def pack_episodes(episodes: Sequence[CollectedEpisode]) -> PackedSegments:
    """Episodes end to end, in the order given."""
    return pack_segments([e.tokens for e in episodes], [e.acted for e in episodes])


def minibatches(
    episodes: Sequence[CollectedEpisode], batch_size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Indices of episodes in a random order, cut into parts of nearly equal counts of tokens.

    :param batch_size: acted tokens of a part, about; there are `round(tokens / batch_size)` parts.
    """
    order = rng.permutation(len(episodes))
    sizes = np.array([len(episodes[i].actions) for i in order])
    yield from (order[part] for part in equal_parts(sizes, batch_size))
