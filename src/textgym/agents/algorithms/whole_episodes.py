"""Collecting whole episodes: rollouts that last until whole groups have ended, and no critic.

Open episodes go on in the next rollout. `learn`, callbacks, schedules, logging and saving are
Stable-Baselines3's; a subclass says what is made of the episodes, and how it learns.
"""

from abc import abstractmethod
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.rollouts.episode_collector import CollectedEpisode, EpisodeCollector
from textgym.agents.rollouts.recording_vec_env import follow_env
from textgym.agents.rollouts.rollout_scores import scores_of
from textgym.agents.runs.recording import Recorder
from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.policies.language_model.packing import PackedSegments
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.policies.sb3.exchange import Exchange
from textgym.saved_fields import SavedFields


class WholeEpisodeAlgorithm(OnPolicyAlgorithm):
    """Plays whole groups of episodes; the base of `CriticFreeAlgorithm`.

    :param policy: `TextActorCriticPolicy`; its value head is left alone.
    :param env: a `VecEnv` of text that deals groups (`make_vec(..., num_generations=...)`).
    :param learning_rate: a number or a schedule, as SB3's.
    :param num_generations: episodes of one prompt, which make a group.
    :param n_groups: groups of a rollout; None: as many as the environment's rows hold.
    :param max_grad_norm: the gradient's norm is clipped to it.
    :raises InputError: for a number of environments that is no multiple of `num_generations`.
    """

    policy: TextActorCriticPolicy
    min_generations = 1
    extra_state: tuple[str, ...] = ("rng_state",)  # that a checkpoint keeps: JSON values

    def __init__(
        self,
        policy: str | type[TextActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        *,
        num_generations: int = 8,
        n_groups: int | None = None,
        max_grad_norm: float = 0.5,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        sizes = {"num_generations": num_generations, "n_groups": n_groups}
        check_numbers({**sizes, "max_grad_norm": max_grad_norm})
        if num_generations < self.min_generations:
            raise InputError(
                f"{type(self).__name__} compares the completions of a prompt: num_generations must "
                f"be at least {self.min_generations}, got {num_generations}"
            )
        self.num_generations, self.n_groups = num_generations, n_groups
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
        self.rng = np.random.default_rng(int(torch.randint(2**62, ())))
        self.rollout_buffer = None  # type: ignore[assignment]
        self.episodes: list[CollectedEpisode] = []
        self.sampler_gap: float | None = None
        self._obs_followed: object = None  # the last rows that the collector knows of
        self._collector = EpisodeCollector(
            self.n_envs, self.num_generations, self.policy.lm.tokenizer.pad_token_id
        )

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
        self.sampler_gap = self._rescore()
        self.episodes = self._collector.take(wanted)
        self._rollout_played()
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _rescore(self) -> float | None:
        """Log-probabilities as an update computes them for the sampler's; None: they are the same.

        :return: the mean distance of the two in nats.
        """
        log_probs_of = Exchange.of(self.observation_space).log_probs_of
        if log_probs_of is None:
            return None

        def of_arrays(packed: PackedSegments, actions: np.ndarray) -> np.ndarray:
            chosen = torch.as_tensor(actions, device=self.device)
            return log_probs_of(packed.to(self.device), chosen).cpu().numpy()

        return self._collector.rescore(np.asarray(self._last_obs), of_arrays)

    @abstractmethod
    def _rollout_played(self) -> None:
        """`self.episodes` are whole groups, group by group: score them."""

    @property
    def plays_groups(self) -> bool:
        """Whether rollouts are played (True) or read from a file."""
        return True

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

    def _excluded_save_params(self) -> list[str]:
        names = ("_collector", "_obs_followed", "episodes", "recorder")
        return [*super()._excluded_save_params(), *names]
