"""What the algorithms without a critic share: whole groups are scored and learned from.

A subclass says how rewards become advantages and what the loss of a batch is.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor

from textgym.agents.algorithms.losses import best_and_worst, kept_mean, kept_std
from textgym.agents.algorithms.whole_episodes import WholeEpisodeAlgorithm
from textgym.agents.rollouts.episode_collector import (
    EpisodeBatch,
    collate_episodes,
    minibatches,
    pack_episodes,
)
from textgym.agents.rollouts.kl import KLPenalty, kl_estimate
from textgym.agents.runs.rollout_figures import KLFigures, RolloutFigures
from textgym.checks import check_numbers
from textgym.divergence import check_arrays
from textgym.moved import renamed
from textgym.policies.language_model.packing import PackedSegments, budget_groups
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy


class CriticFreeAlgorithm(WholeEpisodeAlgorithm):
    """Base of GRPO, RLOO, REINFORCE, best-of-n and DPO. Not an algorithm by itself.

    :param batch_size: completion tokens of a minibatch, about; None: all of the rollout.
    :param n_epochs: passes over each rollout.
    :param kl: the KL term to a reference.
    :param mask_truncated: leave a text out that an outer limit or a full context truncated. It
        counts in no mean and nothing is learned from it; otherwise it counts with reward 0, which
        beats every negative score.

    The others are those of `WholeEpisodeAlgorithm`: `num_generations`, `n_groups`, and SB3's.
    """

    def __init__(
        self,
        policy: str | type[TextActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        *,
        batch_size: int | None = None,
        n_epochs: int = 1,
        kl: KLPenalty | None = None,
        mask_truncated: bool = False,
        **keywords: Any,
    ) -> None:
        check_numbers({"batch_size": batch_size, "n_epochs": n_epochs})
        self.batch_size, self.n_epochs, self.kl = batch_size, n_epochs, kl
        self.mask_truncated = mask_truncated
        super().__init__(policy, env, learning_rate, **keywords)

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.kl is not None:
            self.kl.fit_to(self.observation_space)
        self.reference_log_probs: list[np.ndarray] | None = None
        self.advantages = np.zeros(0)
        self.tokens_forwarded = 0
        self._kl_measured: tuple[float, int] | None = None  # nats per episode, episodes

    # ---- scoring -----------------------------------------------------------

    def _rollout_played(self) -> None:
        self._score()
        self._rollout_scored()
        self._leave_out()

    def _score(self) -> None:
        """KL terms and advantages of the rollout at hand, and its figures."""
        rewards = np.array([episode.reward for episode in self.episodes])
        check_arrays({"rewards": rewards})
        totals, figures = rewards, None
        self.reference_log_probs = None
        if self.kl is not None and self.kl.coefficient > 0:
            self.reference_log_probs = self._ask_reference(self.kl)
            pairs = zip(self.episodes, self.reference_log_probs, strict=True)
            per_token = [_estimate(e.log_probs, r, self.kl.estimator) for e, r in pairs]
            per_episode = np.array([part.sum() for part in per_token])
            weighted = self.kl.coefficient * per_episode
            figures = KLFigures(
                coefficient=self.kl.coefficient,
                per_token=float(np.concatenate(per_token).mean()),
                per_episode=float(per_episode.mean()),
                weighted=float(weighted.mean()),
            )
            if self.kl_is_in_reward:
                totals = rewards - weighted
        if self.mask_truncated:
            totals = np.where([e.is_truncated for e in self.episodes], np.nan, totals)
        groups = totals.reshape(-1, self.num_generations)
        advantages = self.compute_advantages(groups).reshape(-1)
        self.advantages = np.where(np.isnan(totals), 0.0, advantages)
        check_arrays({"advantages": self.advantages})
        if self.recorder is not None:
            log_probs = np.concatenate([episode.log_probs for episode in self.episodes])
            is_empty = bool(np.isnan(totals).all())
            total = None if is_empty else float(kept_mean(totals.reshape(1, -1))[0, 0])
            mean, gap = float(log_probs.mean()), self.sampler_gap
            drawn = RolloutFigures(log_probs.size, mean, figures, total, sampler_gap=gap)
            self.recorder.rollout_done(drawn)
        if self.num_generations > 1:
            deviation, (_, _, is_equal) = kept_std(groups, ddof=0), best_and_worst(groups)
            self.logger.record("rollout/group_reward_std", float(deviation.mean()))
            self.logger.record("rollout/equal_groups", float(is_equal.mean()))
        if figures is not None:
            self._kl_measured = float(per_episode.mean()), len(self.episodes)

    def _leave_out(self) -> None:
        """Drop the episodes that `mask_truncated` leaves out."""
        if not self.mask_truncated:
            return
        kept = [i for i, episode in enumerate(self.episodes) if not episode.is_truncated]
        self.episodes = [self.episodes[i] for i in kept]
        self.advantages = self.advantages[kept]
        if self.reference_log_probs is not None:
            self.reference_log_probs = [self.reference_log_probs[i] for i in kept]

    @property
    def kl_is_in_reward(self) -> bool:
        """Whether the KL term is subtracted from the reward (True) or stands in the loss."""
        return True

    def _ask_reference(self, kl: KLPenalty) -> list[np.ndarray]:
        """Log-probabilities under the reference, one float32 `[a]` an episode, in one pass."""
        assert isinstance(self.action_space, spaces.Discrete)
        kl.check_vocabulary(int(self.action_space.n), self.device)
        result: dict[int, np.ndarray] = {}
        for part in budget_groups([len(e.tokens) for e in self.episodes], 2048):
            chosen = [self.episodes[i] for i in part]
            actions = torch.as_tensor(np.concatenate([e.actions for e in chosen]))
            packed = pack_episodes(chosen).to(self.device)
            flat = kl.log_probs(packed, actions.to(self.device)).cpu().numpy()
            cuts = np.cumsum([len(e.actions) for e in chosen])[:-1]
            result |= dict(zip(part, np.split(flat, cuts), strict=True))
        return [result[i] for i in range(len(self.episodes))]

    # ---- learning ----------------------------------------------------------

    def train(self) -> None:
        """`n_epochs` passes over the rollout, one optimizer step a minibatch."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        figures: dict[str, list[float]] = {}
        for _ in range(self.n_epochs):
            for batch in self._batches():
                packed = batch.observations
                self.tokens_forwarded += len(packed.tokens)
                if self.recorder is not None:
                    self.recorder.learned(len(batch.actions))
                log_prob, entropy = self._evaluate(packed, batch.actions)
                loss, shown = self.compute_loss(log_prob, batch)
                self.policy.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                self.policy.optimizer.step()
                shown |= {"loss": float(loss.detach()), "grad_norm": float(norm)}
                shown["entropy_loss"] = -float(entropy.detach().mean())
                for name, value in shown.items():
                    figures.setdefault(name, []).append(value)
        if self.kl is not None and self._kl_measured is not None:  # not before: a loss may use β
            self.kl.update(*self._kl_measured)
            self._kl_measured = None
        self._n_updates += self.n_epochs
        for name, values in figures.items():
            self.logger.record(f"train/{name}", float(np.mean(values)))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _batches(self) -> Iterator[EpisodeBatch]:
        total = sum(len(episode.actions) for episode in self.episodes)
        if not total:
            return
        for part in minibatches(self.episodes, self.batch_size or total, self.rng):
            reference = self.reference_log_probs
            yield collate_episodes(
                [self.episodes[i] for i in part],
                self.advantages[part],
                None if reference is None else [reference[i] for i in part],
                device=self.device,
            )

    def _evaluate(self, packed: PackedSegments, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies `[A]` under the policy as it is."""
        _, log_prob, entropy = self.policy.evaluate_actions(packed, actions)
        return log_prob, entropy

    # ---- what a subclass says ----------------------------------------------

    def _rollout_scored(self) -> None:
        """A chance to leave episodes out before they are learned from."""

    @abstractmethod
    def compute_advantages(self, totals: np.ndarray) -> np.ndarray:
        """Advantages of episodes from their total rewards, both float `[G, num_generations]`.

        With `mask_truncated` the total of an episode that is left out is NaN; its advantage is not
        looked at.
        """

    @abstractmethod
    def compute_loss(
        self, log_prob: Tensor, batch: EpisodeBatch
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss (a scalar) and further figures to log.

        :param log_prob: `[A]`, of the batch's actions under the policy as it is.
        """

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "advantages", "reference_log_probs"]


def _estimate(log_probs: np.ndarray, reference: np.ndarray, estimator: str) -> np.ndarray:
    """KL in nats of each token `[a]`."""
    estimate = kl_estimate(torch.as_tensor(log_probs), torch.as_tensor(reference), estimator)
    return estimate.numpy()


def ratio_figures(log_ratio: Tensor, clip_low: float, clip_high: float) -> dict[str, float]:
    """SB3's `approx_kl` and `clip_fraction` of `[A]` log-ratios."""
    with torch.no_grad():
        ratio = log_ratio.exp()
        is_clipped = (ratio < 1 - clip_low) | (ratio > 1 + clip_high)
        return {
            "approx_kl": float((ratio - 1 - log_ratio).mean()),
            "clip_fraction": float(is_clipped.float().mean()),
        }


__getattr__ = renamed(__name__, {"GroupAlgorithm": "CriticFreeAlgorithm"})
