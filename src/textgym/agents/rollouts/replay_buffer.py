"""The replay buffer: whole episodes for Stable-Baselines3's off-policy algorithms.

Stock SB3 keeps two padded rows for every token, and its networks read every prefix anew. Here an
episode's tokens are kept once, and a sample is whole episodes: one causal pass over each gives the
Q-values of all its tokens. `train()` of DQN and QR-DQN never looks inside `observations`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from textgym.agents.rollouts.recording_vec_env import follow_env
from textgym.agents.rollouts.replayed_episodes import ReplayedEpisode, episodes_of, episodes_state
from textgym.agents.rollouts.rollout_buffer import pad_token_of
from textgym.agents.rollouts.rollout_scores import score_by_rollout
from textgym.agents.rollouts.split_rewards import await_score, spread, with_split
from textgym.agents.runs.rollout_figures import RolloutFigures
from textgym.divergence import check_arrays
from textgym.envs.scoring import Scores
from textgym.errors import InputError
from textgym.policies.language_model.packing import (
    PackedSegments,
    array_row_lengths,
    pack_segments,
)
from textgym.policies.sb3.exchange import Exchange
from textgym.policies.sb3.q_network import BootstrapSegments
from textgym.saved_fields import SavedFields
from textgym.states import generator_state, load_generator_state

if TYPE_CHECKING:
    from textgym.agents.runs.recording import Recorder


def n_step_returns(
    rewards: np.ndarray, gamma: float, n_steps: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns of each step up to n steps later or the episode's end, whichever comes first.

    R_t = Σ γ^i r_{t+i} for i from 0 to e_t - t - 1, with e_t = min(t + n, T) (Sutton and Barto
    2018, section 7.1, without the value at the end).

    :param rewards: float `[T]`.
    :param n_steps: n; None: to the end.
    :return: R, float64 `[T]`, and e, int64 `[T]`.
    """
    count = len(rewards)
    steps = np.arange(count)
    ends = np.minimum(steps + (n_steps or count), count)
    to_end = np.zeros(count + 1)
    for t in reversed(range(count)):
        to_end[t] = rewards[t] + gamma * to_end[t + 1]
    return to_end[:-1] - gamma ** (ends - steps) * to_end[ends], ends


class EpisodeReplayBuffer(ReplayBuffer):
    """Pass it as SB3's own `replay_buffer_class`, with `TextQPolicy` or `TextQuantilePolicy`.

    Only finished episodes are sampled: what an open one will earn nobody knows yet, and its value
    so far is what it would teach the network anyway. Where the buffer is full, the oldest episodes
    go first.

    :param buffer_size: tokens chosen in finished episodes that are kept at most (one episode is
        kept in any case).
    :param optimize_memory_usage: SB3's; changes nothing, tokens are kept once either way.
    :param n_steps: steps of reward in a target before the value of the target network stands in.
        None: the return to the episode's end. (A reward at the end of a text would otherwise crawl
        back by `n_steps` tokens with each update of the target network.)
    :param gamma: discount; the algorithm's own is not asked, since samples carry theirs.
    :param pad_token_id: only where the observation space does not say it.
    :raises InputError: if the space is not a row of token ids, or a number makes no sense.
    """

    observation_space: spaces.Box
    scores: Scores | None = None  # where the texts of this rollout wait, if they do

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        n_steps: int | None = None,
        gamma: float = 1.0,
        pad_token_id: int | None = None,
    ) -> None:
        if n_steps is not None and n_steps < 1:
            raise InputError(f"n_steps must be at least 1, or None for all, got {n_steps}")
        if not 0 < gamma <= 1:
            raise InputError(f"gamma must be in (0, 1], got {gamma}")
        # Past ReplayBuffer's constructor, which allocates two padded rows for every step.
        super(ReplayBuffer, self).__init__(
            buffer_size, observation_space, action_space, device, n_envs=n_envs
        )
        self.pad_token_id = pad_token_of(observation_space, pad_token_id, keeper="replay_buffer")
        self.n_steps, self.gamma = n_steps, gamma
        self.optimize_memory_usage = False
        self.handle_timeout_termination = True
        self.recorder: Recorder | None = None
        # SB3 has just seeded torch's global generator; one draw from it, and never again.
        self.rng = np.random.default_rng(int(torch.randint(2**62, ())))
        self.reset()
        score_by_rollout(self)

    def reset(self) -> None:
        """Empty the buffer."""
        self.episodes: list[ReplayedEpisode] = []
        self.stored = 0
        self.tokens_forwarded = 0
        self.new_steps = 0
        # What the open episodes hold: an episode has fewer steps than its row has columns.
        shape = (self.n_envs, self.observation_space.shape[0])
        self._seen = np.zeros(shape, dtype=np.int32)
        self._actions = np.zeros(shape, dtype=np.int32)
        self._rewards = np.zeros(shape, dtype=np.float32)
        self._counts = np.zeros(self.n_envs, dtype=np.int64)
        self._rows = np.zeros((0, 0), dtype=np.int32)
        self.exchange.stored_steps = 0
        self.pos, self.full = 0, False

    @property
    def exchange(self) -> Exchange:
        """What this buffer and the agent's policy say to each other."""
        return Exchange.of(self.observation_space)

    def size(self) -> int:
        """Transitions that can be sampled."""
        return self.stored

    def add(
        self,
        obs: np.ndarray,
        next_obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """One step of every row; as SB3's, with `obs` and `next_obs` int64 `[n_envs, L]`.

        :raises InputError: if the policy is one that cannot read what `sample` hands out.
        """
        if not self.exchange.reads_segments:
            raise InputError(
                "EpisodeReplayBuffer hands out packed token segments, which only TextQPolicy and "
                "TextQuantilePolicy read: use one of them, or SB3's own ReplayBuffer"
            )
        if self.recorder is not None and self.new_steps == 0:
            follow_env(self.recorder)
        if self._rows.shape == obs.shape:
            # An open episode that does not go on was left by a reset of the environment.
            self._counts[(self._rows != obs).any(1)] = 0
        rows, steps = np.arange(self.n_envs), self._counts
        self._seen[rows, steps] = self._lengths(obs)
        self._actions[rows, steps] = np.asarray(action).reshape(self.n_envs)
        self._rewards[rows, steps] = reward
        self._counts += 1
        splits = getattr(with_split(reward, done, infos), "token_rewards", {})
        waiting = {} if self.scores is None else self.scores.latest
        for env in np.flatnonzero(done):
            split = splits.get(int(env))
            is_truncated = bool(infos[env].get("TimeLimit.truncated", False))
            rewards = self._close(int(env), next_obs[env], split, is_truncated)
            if int(env) in waiting:
                await_score(waiting[int(env)], rewards)
        self._rows = np.array(next_obs, dtype=np.int32)
        self._counts[done.astype(bool)] = 0
        self.exchange.stored_steps += 1
        self.new_steps += self.n_envs

    def _lengths(self, rows: np.ndarray) -> np.ndarray:
        """Tokens of each row of `[n, L]`, up to the last that is not padding."""
        return array_row_lengths(rows, self.pad_token_id)

    def _close(
        self, env: int, row: np.ndarray, split: np.ndarray | None, is_truncated: bool
    ) -> np.ndarray:
        """Keep the open episode of a row, which ended with the tokens `row [L]`.

        :param split: float64, what each token of the episode earned, if the reward says so.
        :return: the rewards that are kept; what is changed in them is changed there.
        """
        count = int(self._counts[env])
        rewards = self._rewards[env, :count].copy()
        if split is not None:
            spread(rewards, split)
        check_arrays({"rewards": rewards})
        tokens = row[: int(self._lengths(row[None])[0])].astype(np.int32)
        seen, actions = self._seen[env, :count].copy(), self._actions[env, :count].copy()
        self.episodes.append(ReplayedEpisode(tokens, seen, actions, rewards, is_truncated))
        self.stored += count
        self._forget_oldest()
        return rewards

    def _forget_oldest(self) -> None:
        """Keep at most `buffer_size` tokens, and one episode in any case."""
        oldest = 0
        while self.stored > self.buffer_size and oldest < len(self.episodes) - 1:
            self.stored -= len(self.episodes[oldest].actions)
            oldest += 1
        del self.episodes[:oldest]

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Exactly `batch_size` transitions, none twice while there are others.

        All of an episode's transitions come together, but for the first and the last one drawn,
        which are cut; each transition is as likely as any other.

        :param env: normalizes rewards, if the agent's environment does.
        :return: `observations` are `PackedSegments`, `next_observations` `BootstrapSegments`; the
            others are `[batch_size, 1]`, int64 or float32.
        :raises InputError: if no episode has ended yet.
        """
        self.rollout_ends()
        if not self.episodes:
            raise InputError(
                "no episode has ended yet, so there is nothing to learn from: set train_freq to "
                "the budget of the task (max_new_tokens) at least"
            )
        if self.recorder is not None:
            self.recorder.learned(batch_size)
        return self._samples(self._draw(batch_size), env)

    def rollout_ends(self) -> None:
        """Score what waits, and write the figures of what was played since the last call."""
        if self.scores is not None:
            self.scores.settle()
        if self.recorder is not None and self.new_steps:
            self.recorder.rollout_done(RolloutFigures(self.new_steps, None))
        self.new_steps = 0

    def _draw(self, count: int) -> list[tuple[ReplayedEpisode, np.ndarray]]:
        """Episodes, each once, and which of their steps (int64, rising), `count` steps in all.

        Shuffled, laid end to end in a ring, and cut out from a random step on: so each step is
        drawn with the same probability, however long its episode.
        """
        order = self.rng.permutation(len(self.episodes))
        sizes = np.array([len(self.episodes[i].actions) for i in order])
        start = int(self.rng.integers(self.stored))
        place = int(np.searchsorted(sizes.cumsum(), start, side="right"))
        first = start - int(sizes[:place].sum())
        drawn: dict[int, list[np.ndarray]] = {}
        while count:  # more than all steps that there are: once more around the ring
            place %= len(order)
            steps = np.arange(first, sizes[place])[:count]
            drawn.setdefault(int(order[place]), []).append(steps)
            count -= len(steps)
            first, place = 0, place + 1
        return [(self.episodes[i], np.sort(np.concatenate(s))) for i, s in drawn.items()]

    def _samples(
        self, drawn: list[tuple[ReplayedEpisode, np.ndarray]], env: VecNormalize | None
    ) -> ReplayBufferSamples:
        # Longest first: the attention then pads little.
        drawn.sort(key=lambda part: -int(part[0].seen[part[1][-1]]))
        returns, discounts, following = [], [], []
        for episode, steps in drawn:
            rewards = self._normalize_reward(episode.rewards, env)
            total, ends = n_step_returns(rewards, self.gamma, self.n_steps)
            returns.append(total[steps])
            discounts.append(self.gamma ** (ends - np.arange(len(ends)))[steps])
            following.append(_followed_by(episode, ends[steps]))
        seen = [episode.seen[steps] for episode, steps in drawn]
        tokens = [episode.tokens for episode, _ in drawn]
        observations = _pack(tokens, seen)
        next_observations = _pack_following(tokens, following)
        self.tokens_forwarded += len(observations.tokens) + len(next_observations.tokens)
        actions = np.concatenate([episode.actions[steps] for episode, steps in drawn])

        def column(array: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.as_tensor(array, dtype=dtype, device=self.device)[:, None]

        return ReplayBufferSamples(
            observations=observations.to(self.device),  # type: ignore[arg-type]
            actions=column(actions, torch.int64),
            next_observations=next_observations.to(self.device),  # type: ignore[arg-type]
            dones=column(np.concatenate(following) == 0),
            rewards=column(np.concatenate(returns)),
            discounts=column(np.concatenate(discounts)),
        )

    def state_dict(self) -> dict[str, Any]:
        """All finished episodes and the open ones, and the generator that samples."""
        return {
            **episodes_state(self.episodes),
            "new_steps": self.new_steps,
            "stored_steps": self.exchange.stored_steps,
            "open": {
                "seen": self._seen.copy(),
                "actions": self._actions.copy(),
                "rewards": self._rewards.copy(),
                "counts": self._counts.copy(),
                "rows": self._rows.copy(),
            },
            "rng": generator_state(self.rng),
        }

    def load_state_dict(self, state: Any, *, goes_on: bool = True) -> None:
        """Go on from a state of `state_dict`; what is more than `buffer_size` is left out.

        :param goes_on: False where the environment begins anew: the open episodes are dropped.
        :raises InputError: if it is the state of another buffer.
        """
        assert isinstance(self.action_space, spaces.Discrete)
        fields = SavedFields(state, "state of the replay buffer")
        largest = int(self.action_space.n) - 1
        width = self.observation_space.shape[0]
        episodes = episodes_of(fields, largest + 1)
        opened, shape = fields.table("open"), (self.n_envs, width)
        new_steps, stored_steps = fields.whole("new_steps"), fields.whole("stored_steps")
        if goes_on:
            rows = opened.array("rows", "int32", (None, None), low=0, high=largest)
            counts = opened.array("counts", "int64", (self.n_envs,), low=0, high=width - 1)
            if rows.shape not in (shape, (0, 0)):
                raise opened.error("rows", "the rows of the environment")
            self._seen = opened.array("seen", "int32", shape, low=0, high=width).copy()
            self._actions = opened.array("actions", "int32", shape, low=0, high=largest).copy()
            self._rewards = opened.array("rewards", "float32", shape).copy()
            self._rows, self._counts = rows.copy(), counts.copy()
            load_generator_state(self.rng, fields.value("rng"), fields.path)
        self.episodes, self.stored = episodes, sum(len(e.actions) for e in episodes)
        self._forget_oldest()
        self.new_steps = new_steps
        self.exchange.stored_steps = stored_steps

    def __getstate__(self) -> dict[str, Any]:
        """Without what holds agent and environment: `save_replay_buffer` pickles this."""
        return {**self.__dict__, "recorder": None, "scores": None}


def _followed_by(episode: ReplayedEpisode, ends: np.ndarray) -> np.ndarray:
    """How many tokens the observation holds whose value follows a return, 0 for none.

    :param ends: int64 `[k]`, the steps up to which returns go; T is the episode's end.
    """
    at_end = len(episode.tokens) if episode.is_truncated else 0
    counts: np.ndarray = np.append(episode.seen, at_end)[ends]
    return counts


def _pack(tokens: list[np.ndarray], seen: list[np.ndarray]) -> PackedSegments:
    """Segments up to the last token that is seen; `seen` are rising counts, one at least each."""
    cut = [part[: counts[-1]] for part, counts in zip(tokens, seen, strict=True)]
    return pack_segments(cut, [counts - 1 for counts in seen])


def _pack_following(tokens: list[np.ndarray], following: list[np.ndarray]) -> BootstrapSegments:
    """Only the episodes, and in them only the positions, whose value somebody asks for.

    :param following: for each episode what `_followed_by` says of its transitions, rising but for
        the zeros.
    """
    asked = [i for i, counts in enumerate(following) if counts.any()]
    asked.sort(key=lambda i: -int(following[i].max()))
    distinct = {i: np.unique(following[i][following[i] > 0]) for i in asked}
    packed = _pack([tokens[i] for i in asked], [distinct[i] for i in asked])
    firsts = np.cumsum([0, *(len(distinct[i]) for i in asked)])
    source = [np.full(len(counts), len(packed.acted_index)) for counts in following]
    for i, first in zip(asked, firsts, strict=False):
        is_asked = following[i] > 0
        source[i][is_asked] = first + np.searchsorted(distinct[i], following[i][is_asked])
    return BootstrapSegments(
        packed.tokens, packed.lengths, packed.acted_index, torch.as_tensor(np.concatenate(source))
    )
