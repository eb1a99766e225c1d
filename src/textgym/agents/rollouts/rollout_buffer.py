"""The rollout buffer: whole episode segments for Stable-Baselines3's on-policy algorithms.

Stock SB3 keeps the observation of every step, and its policy reads every prefix anew. Here an
episode's tokens are kept once, and a minibatch is whole episode segments: one causal pass over a
segment gives what one pass per token gave. `train()` of PPO, A2C and TRPO never looks inside
`observations`; it needs flat tensors that line up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from textgym.agents.rollouts.recording_vec_env import follow_env
from textgym.agents.rollouts.rollout_scores import score_by_rollout
from textgym.agents.rollouts.split_rewards import await_score, spread
from textgym.agents.runs.rollout_figures import KLFigures, RolloutFigures
from textgym.divergence import check_arrays
from textgym.envs.scoring import Scores
from textgym.errors import InputError
from textgym.policies.language_model.packing import (
    PackedSegments,
    array_row_lengths,
    budget_groups,
    equal_parts,
    pack_segments,
)
from textgym.policies.sb3.exchange import Exchange
from textgym.saved_fields import SavedFields
from textgym.states import generator_state, load_generator_state

if TYPE_CHECKING:
    from textgym.agents.rollouts.kl import KLPenalty
    from textgym.agents.runs.recording import Recorder


@dataclass(frozen=True)
class Segment:
    """A stretch of one episode inside one rollout.

    :param env: row of the vector environment.
    :param start: first step of the rollout, `end` one past the last.
    :param tokens: int64, everything the policy saw at the last of these steps.
    """

    env: int
    start: int
    end: int
    tokens: np.ndarray


class EpisodeRolloutBuffer(RolloutBuffer):
    """Pass it as SB3's own `rollout_buffer_class`, with `TextActorCriticPolicy`.

    Memory is O(tokens): per step the usual scalars and one length, per segment its tokens.
    Minibatches are whole segments, cut where the count of acted tokens comes closest to equal
    shares, so their number is fixed: `round(steps / batch_size)`, at least 1.

    :param kl: a `KLPenalty`, whose term is added to the rewards before advantages are computed.
    :param pad_token_id: only where the observation space does not say it.
    :raises InputError: if the space is not a row of token ids.
    """

    observation_space: spaces.Box
    scores: Scores | None = None  # where the texts of this rollout wait, if they do

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        gae_lambda: float = 1.0,
        gamma: float = 0.99,
        n_envs: int = 1,
        *,
        kl: "KLPenalty | None" = None,
        pad_token_id: int | None = None,
    ) -> None:
        self.pad_token_id = pad_token_of(observation_space, pad_token_id, keeper="rollout_buffer")
        self.kl = kl
        if kl is not None:
            kl.fit_to(observation_space)
        self.recorder: Recorder | None = None
        self.episode_kl = np.zeros(0)
        self._carried_kl, self._carried_weighted_kl = np.zeros(n_envs), np.zeros(n_envs)
        # SB3 has just seeded torch's global generator; one draw from it, and never again.
        self.rng = np.random.default_rng(int(torch.randint(2**62, ())))
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            gae_lambda=gae_lambda,
            gamma=gamma,
            n_envs=n_envs,
        )
        score_by_rollout(self)

    def reset(self) -> None:
        """Empty the buffer, where a rollout begins; unlike SB3's it allocates no observations."""
        if self.recorder is not None:
            follow_env(self.recorder)
        shape = (self.buffer_size, self.n_envs)
        self.actions = np.zeros((*shape, 1), dtype=np.int64)
        self.rewards = np.zeros(shape, dtype=np.float32)
        self.returns = np.zeros(shape, dtype=np.float32)
        self.episode_starts = np.zeros(shape, dtype=np.float32)
        self.values = np.zeros(shape, dtype=np.float32)
        self.log_probs = np.zeros(shape, dtype=np.float32)
        self.advantages = np.zeros(shape, dtype=np.float32)
        self.lengths = np.zeros(shape, dtype=np.int64)
        self.kl_raw = np.zeros(shape, dtype=np.float32)
        self.segments: list[Segment] = []
        self.tokens_forwarded = 0
        self._rows = np.zeros((0, 0), dtype=np.int64)
        self._open_from = np.zeros(self.n_envs, dtype=np.int64)
        self.pos, self.full = 0, False

    def add(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        episode_start: np.ndarray,
        value: torch.Tensor,
        log_prob: torch.Tensor,
    ) -> None:
        """One step of every row; as SB3's, with `obs` int64 `[n_envs, L]`.

        :raises InputError: if the policy is one that cannot read what `get` hands out.
        """
        if not Exchange.of(self.observation_space).reads_segments:
            raise InputError(
                "EpisodeRolloutBuffer hands out packed token segments, which only "
                "TextActorCriticPolicy reads: use that policy, or SB3's own RolloutBuffer"
            )
        step = self.pos
        # A row that starts anew shows its next prompt already: its old tokens are in `_rows`, the
        # observations of the step before.
        for row in np.flatnonzero(episode_start) if step else ():
            self._close(int(row), step)
        self.lengths[step] = array_row_lengths(obs, self.pad_token_id)
        self._rows = np.array(obs, dtype=np.int64)
        self.actions[step] = np.asarray(action).reshape(self.n_envs, 1)
        self.rewards[step] = reward
        splits = getattr(reward, "token_rewards", {})
        if not splits and vars(self.observation_space).get("split_rows"):
            raise InputError(
                "the environment pays dense rewards, but a wrapper lost their split over the "
                "tokens: put textgym.agents.DenseRewards around the environment, outermost"
            )
        for env, split in splits.items():
            spread(self.rewards[int(self._open_from[env]) : step + 1, env], split)
        if self.scores is not None:
            for env, text in self.scores.latest.items():
                await_score(text, self.rewards, (slice(int(self._open_from[env]), step + 1), env))
        self.episode_starts[step] = episode_start
        self.values[step] = value.detach().cpu().numpy().reshape(-1)
        self.log_probs[step] = log_prob.detach().cpu().numpy().reshape(-1)
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            for env in range(self.n_envs):
                self._close(env, self.pos)

    def _close(self, env: int, end: int) -> None:
        """End the open segment of a row before step `end`."""
        start = int(self._open_from[env])
        length = int(self.lengths[end - 1, env])  # the last token chosen was never seen: no input
        self.segments.append(Segment(env, start, end, self._rows[env, :length].copy()))
        self._open_from[env] = end

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: np.ndarray) -> None:
        """SB3's generalised advantages, after scores and the KL term have joined the rewards.

        :raises RewardError: from the reward model; nothing has been learned then.
        :raises DivergenceError: if one is not finite; nothing has been learned from it then.
        """
        if self.scores is not None:
            self.scores.settle()
        sampler_gap = self._rescore()
        if self.is_penalised:
            assert self.kl is not None
            self._add_kl(self.kl)
            self.episode_kl = self.episode_totals(self.kl_raw, self._carried_kl, dones)
        check_arrays({name: getattr(self, name) for name in ("rewards", "values", "log_probs")})
        super().compute_returns_and_advantage(last_values, dones)
        check_arrays({"advantages": self.advantages, "returns": self.returns})
        if self.recorder is not None:
            mean_log_prob = float(self.log_probs.mean())
            figures = self._kl_figures(dones)
            drawn = RolloutFigures(
                self.log_probs.size, mean_log_prob, figures, sampler_gap=sampler_gap
            )
            self.recorder.rollout_done(drawn)
        is_learned = self.recorder is None or not self.recorder.only_collects
        if is_learned and self.is_penalised and self.kl is not None and len(self.episode_kl):
            self.kl.update(float(self.episode_kl.mean()), len(self.episode_kl))

    def _kl_figures(self, dones: np.ndarray) -> KLFigures | None:
        if self.kl is None or not self.is_penalised:
            return None
        beta = self.kl.coefficient  # that of each token's own rollout counts in an episode's sum
        weighted = self.episode_totals(beta * self.kl_raw, self._carried_weighted_kl, dones)
        return KLFigures(
            coefficient=beta,
            per_token=float(self.kl_raw.mean()),
            per_episode=float(self.episode_kl.mean()) if len(self.episode_kl) else None,
            weighted=float(weighted.mean()) if len(weighted) else None,
        )

    @property
    def is_penalised(self) -> bool:
        """Whether a KL term counts; with a coefficient of 0 the reference is never asked."""
        return self.kl is not None and self.kl.coefficient > 0

    def episode_totals(
        self, per_step: np.ndarray, carried: np.ndarray, dones: np.ndarray
    ) -> np.ndarray:
        """Totals `[episodes]` of the episodes that ended in this rollout.

        :param per_step: `[steps, n_envs]`.
        :param carried: float64 `[n_envs]`, what open episodes have so far; updated in place.
        :param dones: bool `[n_envs]`, the rows whose last step ended an episode.
        """
        totals = []
        for segment in self.segments:
            env = segment.env
            if self.episode_starts[segment.start, env]:
                carried[env] = 0.0
            carried[env] += per_step[segment.start : segment.end, env].sum(dtype=np.float64)
            if segment.end < self.buffer_size or dones[env]:
                totals.append(carried[env])
        return np.array(totals)

    def _rescore(self) -> float | None:
        """Put the log-probabilities of the tokens as an update computes them for the sampler's.

        :return: the mean distance of the two in nats; None where there is none.
        """
        log_probs_of = Exchange.of(self.observation_space).log_probs_of
        if log_probs_of is None:
            return None
        drawn = self.log_probs.copy()
        for index, packed, chosen in self._groups():
            self.log_probs.reshape(-1)[index] = log_probs_of(packed, chosen).cpu().numpy()
        return float(np.abs(self.log_probs - drawn).mean())

    def _groups(self) -> Iterator[tuple[np.ndarray, PackedSegments, torch.Tensor]]:
        """All segments, some 2,048 tokens at a time: places in the flat arrays, tokens, actions."""
        for places in budget_groups([len(segment.tokens) for segment in self.segments], 2048):
            part = np.array(places)
            index = self._flat_index(part)
            chosen = torch.as_tensor(self.actions.reshape(-1)[index], device=self.device)
            yield index, self._pack(part), chosen

    def _add_kl(self, kl: "KLPenalty") -> None:
        """Subtract the weighted KL of every acted token from its reward.

        :raises InputError: if the reference has another vocabulary.
        """
        assert isinstance(self.action_space, spaces.Discrete)
        kl.check_vocabulary(int(self.action_space.n), torch.device(self.device))
        for index, packed, chosen in self._groups():
            log_probs = torch.as_tensor(self.log_probs.reshape(-1)[index], device=self.device)
            raw = kl.per_token(packed, chosen, log_probs)
            self.kl_raw.reshape(-1)[index] = raw.cpu().numpy()
        self.rewards -= kl.coefficient * self.kl_raw

    def state_dict(self) -> dict[str, Any]:
        """What outlasts a rollout: KL of the open episodes, the generator of the minibatches."""
        return {
            "carried_kl": self._carried_kl.copy(),
            "carried_weighted_kl": self._carried_weighted_kl.copy(),
            "rng": generator_state(self.rng),
        }

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none.
        """
        fields, shape = SavedFields(state, "state of the rollout buffer"), (self.n_envs,)
        carried = fields.array("carried_kl", "float64", shape)
        weighted = fields.array("carried_weighted_kl", "float64", shape)
        load_generator_state(self.rng, fields.value("rng"), fields.path)
        self._carried_kl, self._carried_weighted_kl = carried.copy(), weighted.copy()

    def get(self, batch_size: int | None = None) -> Iterator[RolloutBufferSamples]:  # type: ignore[override]
        """Shuffled minibatches of whole segments; `observations` are `PackedSegments`."""
        assert self.full, "the rollout is not complete"
        total = self.buffer_size * self.n_envs
        order = self.rng.permutation(len(self.segments))
        for part in self._parts(order, batch_size or total):
            yield self._samples(part)

    def _parts(self, order: np.ndarray, batch_size: int) -> list[np.ndarray]:
        """Cut an order of segments into minibatches of nearly equal counts of acted tokens."""
        sizes = np.array([self.segments[i].end - self.segments[i].start for i in order])
        return [order[part] for part in equal_parts(sizes, batch_size)]

    def _flat_index(self, part: np.ndarray) -> np.ndarray:
        """Where the transitions of segments stand in the arrays `[steps, n_envs]`, flattened."""
        chosen = [self.segments[i] for i in part]
        return np.concatenate([np.arange(s.start, s.end) * self.n_envs + s.env for s in chosen])

    def _pack(self, part: np.ndarray) -> PackedSegments:
        chosen = [self.segments[i] for i in part]
        acted = [self.lengths[s.start : s.end, s.env] - 1 for s in chosen]
        return pack_segments([s.tokens for s in chosen], acted).to(self.device)

    def _samples(self, part: np.ndarray) -> RolloutBufferSamples:
        longest_first = np.argsort([-len(self.segments[i].tokens) for i in part], kind="stable")
        part = part[longest_first]  # the attention then pads little
        index = self._flat_index(part)
        packed = self._pack(part)
        self.tokens_forwarded += len(packed.tokens)
        if self.recorder is not None:
            self.recorder.learned(len(index))

        def take(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array.reshape(-1)[index], device=self.device)

        return RolloutBufferSamples(
            observations=packed,  # type: ignore[arg-type]
            actions=take(self.actions)[:, None],
            old_values=take(self.values),
            old_log_prob=take(self.log_probs),
            advantages=take(self.advantages),
            returns=take(self.returns),
        )


def pad_token_of(
    observation_space: spaces.Space[Any], pad_token_id: int | None, *, keeper: str
) -> int:
    """The id that fills an environment's rows of token ids.

    :param pad_token_id: counts where the space does not say it.
    :param keeper: "rollout_buffer" or "replay_buffer", for errors.
    :raises InputError: if the space is no row of token ids, or nobody says the id.
    """
    is_row = isinstance(observation_space, spaces.Box) and len(observation_space.shape) == 1
    if not is_row or not np.issubdtype(observation_space.dtype, np.integer):
        name = "".join(word.title() for word in keeper.split("_"))
        raise InputError(
            f"Episode{name} keeps rows of token ids: expected a one-dimensional integer Box, got "
            f"{observation_space!r:.60} (VecNormalize needs norm_obs=False)"
        )
    pad = getattr(observation_space, "pad_token_id", pad_token_id)
    if pad is None:
        raise InputError(
            "the observation space does not say which token is padding: pass "
            f"{keeper}_kwargs={{'pad_token_id': ...}}"
        )
    return int(pad)
