"""What the algorithms without a critic share: whole groups are played, scored and learned from.

A subclass says how rewards become advantages and what the loss of a batch is. Everything else is
Stable-Baselines3's: `learn`, callbacks, schedules, logging, saving.
"""

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from textgym.agents.algorithms.losses import best_and_worst, kept_mean, kept_std
from textgym.agents.rollouts.episode_collector import (
    Episode,
    EpisodeBatch,
    EpisodeCollector,
    collate_episodes,
    minibatches,
    pack_episodes,
)
from textgym.agents.rollouts.kl import KLPenalty, kl_estimate
from textgym.agents.rollouts.recording_vec_env import follow_env
from textgym.agents.rollouts.rollout_scores import scores_of
from textgym.agents.runs.recording import KLFigures, Recorder, RolloutFigures
from textgym.checks import check_numbers
from textgym.divergence import check_arrays
from textgym.errors import InputError
from textgym.policies.language_model.packing import PackedSegments, budget_groups
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.saved_fields import SavedFields


class CriticFreeAlgorithm(OnPolicyAlgorithm):
    """Base of GRPO, RLOO, REINFORCE, best-of-n and DPO. Not an algorithm by itself.

    :param policy: `TextActorCriticPolicy`; its value head is left alone.
    :param env: a `VecEnv` of text that deals groups (`make_vec(..., num_generations=...)`).
    :param learning_rate: a number or a schedule, as SB3's.
    :param num_generations: episodes of one prompt, which make a group.
    :param n_groups: groups of a rollout; None: as many as the environment's rows hold.
    :param batch_size: completion tokens of a minibatch, about; None: all of the rollout.
    :param n_epochs: passes over each rollout.
    :param kl: the KL term to a reference.
    :param max_grad_norm: the gradient's norm is clipped to it.
    :param mask_truncated: leave a text out that an outer limit or a full context truncated. It
        counts in no mean and nothing is learned from it; otherwise it counts with reward 0, which
        beats every negative score.
    :raises InputError: for a number of environments that is no multiple of `num_generations`.
    """

    policy: TextActorCriticPolicy
    min_generations = 1
    also_saved: tuple[str, ...] = ("rng_state",)  # that a checkpoint keeps: JSON values

    def __init__(
        self,
        policy: str | type[TextActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        *,
        num_generations: int = 8,
        n_groups: int | None = None,
        batch_size: int | None = None,
        n_epochs: int = 1,
        kl: KLPenalty | None = None,
        max_grad_norm: float = 0.5,
        mask_truncated: bool = False,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_numbers(
            {
                "num_generations": num_generations,
                "n_groups": n_groups,
                "batch_size": batch_size,
                "n_epochs": n_epochs,
                "max_grad_norm": max_grad_norm,
            }
        )
        if num_generations < self.min_generations:
            raise InputError(
                f"{type(self).__name__} compares the completions of a prompt: num_generations must "
                f"be at least {self.min_generations}, got {num_generations}"
            )
        self.num_generations, self.n_groups = num_generations, n_groups
        self.batch_size, self.n_epochs, self.kl = batch_size, n_epochs, kl
        self.mask_truncated = mask_truncated
        self.recorder: Recorder | None = None
        super().__init__(
            policy,
            env,
            learning_rate,
            n_steps=1,
            gamma=1.0,
            gae_lambda=1.0,
            ent_coef=0.0,
            vf_coef=0.0,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
            supported_action_spaces=(spaces.Discrete,),
        )

    def _setup_model(self) -> None:
        """SB3's, without its rollout buffer."""
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        if self.plays_groups and self.n_envs % self.num_generations:
            raise InputError(
                f"n_envs ({self.n_envs}) must be a multiple of num_generations "
                f"({self.num_generations}), so that a rollout is whole groups"
            )
        policy = self.policy_class(
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        )
        if not isinstance(policy, TextActorCriticPolicy):
            raise InputError(
                f"{type(self).__name__} trains a TextActorCriticPolicy, got {type(policy).__name__}"
            )
        self.policy = policy.to(self.device)
        if self.kl is not None:
            self.kl.fit_to(self.observation_space)
        self.rng = np.random.default_rng(int(torch.randint(2**62, ())))
        self.rollout_buffer = None  # type: ignore[assignment]
        self.episodes: list[Episode] = []
        self.reference_log_probs: list[np.ndarray] | None = None
        self.advantages = np.zeros(0)
        self.tokens_forwarded = 0
        self._kl_measured: tuple[float, int] | None = None  # nats per episode, episodes
        self._obs_followed: object = None  # the last rows that the collector knows of
        self._collector = EpisodeCollector(
            self.n_envs, self.num_generations, self.policy.lm.tokenizer.pad_token_id
        )

    # ---- playing -----------------------------------------------------------

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int
    ) -> bool:
        """Play until the wanted number of groups is whole; see `EpisodeCollector`.

        :return: False if a callback stopped the training.
        """
        assert self._last_obs is not None and self._last_episode_starts is not None
        self.policy.set_training_mode(False)
        if self.recorder is not None:
            follow_env(self.recorder)
        if self._last_obs is not self._obs_followed:  # the environment was reset since
            self._collector.forget_open_rows()
        wanted = self.n_groups or max(1, self.n_envs // self.num_generations)
        scores = scores_of(env)
        if scores is not None:
            scores.open()
        callback.on_rollout_start()
        while self._collector.whole_groups < wanted:
            obs = np.asarray(self._last_obs)
            with torch.no_grad():
                actions, _, log_probs = self.policy(torch.as_tensor(obs, device=self.device))
            chosen = actions.cpu().numpy()
            new_obs, rewards, dones, infos = env.step(chosen)
            self.num_timesteps += env.num_envs
            # Before the callback, unlike SB3: whoever stops here and goes on loses no token.
            waiting = {} if scores is None else scores.latest
            drawn = obs, chosen, log_probs.cpu().numpy()
            self._collector.add(*drawn, rewards, dones, infos, waiting)
            self._last_obs, self._last_episode_starts = new_obs, dones  # type: ignore[assignment]
            self._obs_followed = new_obs
            callback.update_locals(locals())
            if not callback.on_step():
                if scores is not None:
                    scores.settle()
                    scores.close()
                return False
            self._update_info_buffer(infos, dones)
        if scores is not None:
            scores.settle()
            scores.close()
        self.episodes = self._collector.take(wanted)
        self._score()
        self._rollout_scored()
        self._leave_out()
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

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
            drawn = RolloutFigures(log_probs.size, float(log_probs.mean()), figures, total)
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
    def rng_state(self) -> dict[str, Any]:
        """The state of the generator that shuffles minibatches."""
        return dict(self.rng.bit_generator.state)

    @rng_state.setter
    def rng_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.rng.bit_generator.state = state

    def rollout_state(self) -> dict[str, Any]:
        """The episodes that a rollout's end found open, as a checkpoint holds them."""
        return {
            "episodes": self._collector.state_dict(),
            "is_followed": self._last_obs is not None and self._last_obs is self._obs_followed,
        }

    def load_rollout_state(self, state: Any) -> None:
        """Go on from a state of `rollout_state`, with the environment's rows as they were then.

        :raises InputError: if it is none.
        """
        assert isinstance(self.action_space, spaces.Discrete)
        fields = SavedFields(state, "state of the rollout")
        size = int(self.action_space.n)
        self._collector.load_state_dict(fields.value("episodes"), vocab_size=size)
        self._obs_followed = self._last_obs if fields.flag("is_followed") else None

    @property
    def plays_groups(self) -> bool:
        """Whether rollouts are played (True) or read from a file."""
        return True

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

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """SB3's; TensorBoard's folder is named for the class."""
        return super().learn(
            total_timesteps,
            callback,
            log_interval,
            tb_log_name or type(self).__name__,
            reset_num_timesteps,
            progress_bar,
        )

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
        of_a_rollout = ("_collector", "_obs_followed", "episodes", "advantages")
        names = (*of_a_rollout, "reference_log_probs", "recorder")
        return [*super()._excluded_save_params(), *names]


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


def __getattr__(name: str) -> Any:
    """The name that the base had before 0.1; it goes with 0.2."""
    if name != "GroupAlgorithm":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "GroupAlgorithm is textgym.agents.CriticFreeAlgorithm now, and goes with 0.2",
        DeprecationWarning,
        stacklevel=2,
    )
    return CriticFreeAlgorithm
