"""DPO: learning from pairs of completions, one better than the other, without a reward model.

Rafailov et al. (2023), "Direct Preference Optimization: Your Language Model is Secretly a Reward
Model". Offline the pairs come from a file; online the policy writes them and the environment's
reward model says which is better (Guo et al. 2024, "Direct Language Model Alignment from Online AI
Feedback").
"""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from textgym.agents.algorithms.critic_free import CriticFreeAlgorithm
from textgym.agents.algorithms.losses import best_and_worst, preference_loss
from textgym.agents.rollouts.episode_collector import (
    CollectedEpisode,
    EpisodeBatch,
    collate_episodes,
    minibatches,
    pack_episodes,
)
from textgym.agents.runs.rollout_figures import RolloutFigures
from textgym.checks import check_numbers
from textgym.envs.task import Task
from textgym.envs.texts.labelled_rows import Preference, Rows, read_ratings
from textgym.envs.texts.prompts import Prompt, PromptSource
from textgym.errors import InputError
from textgym.policies.language_model.generation import never_sampled
from textgym.reward_answers import shorten
from textgym.tokenizer import Tokenizer


class DPO(CriticFreeAlgorithm):
    """Direct preference optimisation, offline or online.

    :param preferences: a .jsonl or .csv file, or rows given in Python (a list or dataset of
        mappings, or of `Preference`), with `prompt`, `chosen` and `rejected`; None: pairs are drawn
        from the policy, the best and the worst of each group.
    :param n_groups: pairs of a rollout.
    :param kl: its coefficient is DPO's β, its reference the model that the policy stays near.
    :param loss_type: "sigmoid", or "ipo", which does not run off where all pairs agree.
    :param label_smoothing: share of pairs taken to be labelled the wrong way round.
    :raises InputError: for a tie, a pair of equal texts, or one that exceeds the model's context.

    The others are those of `CriticFreeAlgorithm`; `learn(total_timesteps)` counts the completion
    tokens of the pairs.
    """

    min_generations = 2
    extra_state = (*CriticFreeAlgorithm.extra_state, "_queue")

    def __init__(
        self,
        policy: Any,
        env: Any,
        learning_rate: Any = 1e-4,
        *,
        preferences: Rows | None = None,
        loss_type: str = "sigmoid",
        label_smoothing: float = 0.0,
        num_generations: int = 2,
        **keywords: Any,
    ) -> None:
        if loss_type not in ("sigmoid", "ipo"):
            raise InputError(f"loss_type must be sigmoid or ipo, got {loss_type!r}")
        check_numbers({"label_smoothing": label_smoothing})
        self.loss_type, self.label_smoothing = loss_type, label_smoothing
        self.preferences = preferences
        self._pairs: list[tuple[CollectedEpisode, CollectedEpisode]] = []
        self._queue: list[int] = []
        super().__init__(policy, env, learning_rate, num_generations=num_generations, **keywords)

    def _setup_model(self) -> None:
        if self.kl is None or self.kl.coefficient == 0:
            raise InputError(
                "DPO needs a reference: give kl_coef (its β, 0.1 say), or kl=KLPenalty(...)"
            )
        if self.kl.target is not None:
            raise InputError("DPO's β is fixed: leave kl_target out")
        super()._setup_model()
        self._pairs = []
        if self.preferences is None:
            return
        lm, where = self.policy.lm, _where(self.preferences)
        context = lm.config.max_position_embeddings
        cut = 0
        for number, pair in enumerate(read_preferences(self.preferences), start=1):
            prompt = self._prompt(pair.prompt, f"{where}, pair {number}")
            cut += prompt.cut > 0
            chosen, rejected = (
                _episode(prompt, text, lm.tokenizer, context, f"{where}, pair {number}")
                for text in (pair.chosen, pair.rejected)
            )
            for episode in (chosen, rejected):
                self._check_written(episode, f"{where}, pair {number}")
            self._pairs.append((chosen, rejected))
        if cut:
            warnings.warn(
                f"{where}: the prompts of {cut} of {len(self._pairs)} pairs are longer than the "
                "environment takes, and are cut at their start (truncate_prompt)",
                stacklevel=2,
            )

    def _prompt(self, text: str, where: str) -> Prompt:
        """Encoded, and cut or refused, as the environment does it."""
        try:
            if self.env is None:  # an agent that SB3 loads without one
                return PromptSource([text], self.policy.lm.tokenizer).all()[0]
            task = cast(Task, self.env.get_attr("task")[0])
            return replace(task, prompts=[text]).prompt_source().all()[0]
        except InputError as error:
            reason = str(error).removeprefix("prompts[0]: ")
            raise InputError(f"{where}: {reason}") from None

    def _check_written(self, episode: CollectedEpisode, where: str) -> None:
        """Raises unless the policy may write such a text.

        :raises InputError: naming the pair.
        """
        actions = torch.as_tensor(episode.actions)
        is_written = ~torch.isin(actions, never_sampled(self.policy.lm).cpu())
        if self.policy.masks is not None:
            is_legal = self.policy.masks.is_legal(pack_episodes([episode]))
            is_written &= is_legal[torch.arange(len(actions)), actions]
        if not is_written.all():
            raise InputError(
                f"{where}: completion {shorten(episode.completion)!r} holds a token that the "
                "policy never writes (padding, or one against the environment's constraint): drop "
                "the pair"
            )

    # ---- where pairs come from ---------------------------------------------

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int
    ) -> bool:
        """Online: play groups. Offline: take the next pairs of the file, in a random order."""
        if not self._pairs:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        assert self.kl is not None
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        if self.recorder is not None:
            self.recorder.step_begins()
        wanted = self.n_groups or self.n_envs
        queue = [i for i in self._queue if i < len(self._pairs)]  # a resumed run's file may differ
        while len(queue) < wanted:
            queue += self.rng.permutation(len(self._pairs)).tolist()
        taken, self._queue = queue[:wanted], queue[wanted:]
        self.episodes = [episode for i in taken for episode in self._pairs[i]]
        self.advantages = np.tile([1.0, -1.0], wanted)
        self.reference_log_probs = self._ask_reference(self.kl)
        tokens = sum(len(episode.actions) for episode in self.episodes)
        self.num_timesteps += tokens
        callback.update_locals(locals())
        if not callback.on_step():
            return False
        if self.recorder is not None:
            self.recorder.rollout_done(RolloutFigures(tokens, None))
        callback.on_rollout_end()
        return True

    @property
    def plays_groups(self) -> bool:
        """Not offline."""
        return self.preferences is None

    @property
    def kl_is_in_reward(self) -> bool:
        """No: it is in the loss."""
        return False

    def compute_advantages(self, totals: np.ndarray) -> np.ndarray:
        """1 for the best of a group, -1 for the worst, 0 for the others and for equal ones."""
        sides = np.zeros_like(totals)
        groups = np.arange(len(totals))
        best, worst, is_equal = best_and_worst(totals)
        sides[groups, best] = 1.0
        sides[groups, worst] = -1.0
        sides[is_equal] = 0.0
        return sides

    def _rollout_scored(self) -> None:
        """Keep the pairs: the better text of each, then the worse."""
        sides = self.advantages.reshape(-1, self.num_generations)
        pairs = [g for g in range(len(sides)) if sides[g].any()]
        places = [(sides[g].argmax(), sides[g].argmin()) for g in pairs]
        kept = [
            g * self.num_generations + int(i)
            for g, both in zip(pairs, places, strict=True)
            for i in both
        ]
        assert self.reference_log_probs is not None
        self.episodes = [self.episodes[i] for i in kept]
        self.advantages = self.advantages[kept]
        self.reference_log_probs = [self.reference_log_probs[i] for i in kept]

    # ---- learning ----------------------------------------------------------

    def _batches(self) -> Iterator[EpisodeBatch]:
        """Minibatches of whole pairs."""
        better = self.episodes[::2]
        if not better:
            return
        total = sum(len(episode.actions) for episode in self.episodes)
        size = (self.batch_size or total) * sum(len(e.actions) for e in better) / total
        assert self.reference_log_probs is not None
        for part in minibatches(better, max(1, round(size)), self.rng):
            both = [2 * i + side for i in part for side in (0, 1)]
            yield collate_episodes(
                [self.episodes[i] for i in both],
                self.advantages[both],
                [self.reference_log_probs[i] for i in both],
                device=self.device,
            )

    def compute_loss(
        self, log_prob: Tensor, batch: EpisodeBatch
    ) -> tuple[Tensor, dict[str, float]]:
        """The mean preference loss of the pairs."""
        assert self.kl is not None and batch.reference_log_prob is not None
        gains = batch.episode_sums(log_prob - batch.reference_log_prob)
        chosen, rejected = gains[::2], gains[1::2]
        beta = self.kl.coefficient
        losses = preference_loss(
            chosen,
            rejected,
            beta,
            loss_type=self.loss_type,
            label_smoothing=self.label_smoothing,
        )
        with torch.no_grad():
            margin = beta * (chosen - rejected)
            figures = {
                "preference_accuracy": float((margin > 0).float().mean()),
                "preference_margin": float(margin.mean()),
                "chosen_reward": float(beta * chosen.mean()),
                "rejected_reward": float(beta * rejected.mean()),
            }
        return losses.mean(), figures

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_pairs"]  # read again from `preferences`


def read_preferences(source: Rows) -> list[Preference]:
    """The pairs of a file, or of rows given in Python, none of them a tie.

    :raises InputError: for ratings instead of pairs, a tie, or equal texts, naming file and pair.
    """
    where = _where(source)
    rows = list(read_ratings(source, what="preferences"))
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Preference):
            raise InputError(
                f"{where}: expected pairs (prompt, chosen, rejected), found ratings: fit-reward "
                "learns from those"
            )
        if row.is_tie or row.chosen == row.rejected:
            raise InputError(
                f"{where}, pair {number}: a tie (prompt {shorten(row.prompt)!r}), but DPO needs a "
                "better and a worse text: remove it"
            )
    return rows  # type: ignore[return-value]


def _where(source: object) -> str:
    """The name of a source of pairs, for errors."""
    return str(source) if isinstance(source, str | Path) else "the list of preferences"


def _episode(
    prompt: Prompt, completion: str, tokenizer: Tokenizer, context: int, where: str
) -> CollectedEpisode:
    """A given text as if the policy had written it, the stop token included."""
    start = prompt.ids.tolist()
    written = tokenizer.encode_continuation(prompt.text, completion)
    actions = np.array([*written, tokenizer.eos_token_id])
    if not start or len(start) + len(actions) > context:
        raise InputError(
            f"{where}: expected a prompt, and with its completion at most {context} tokens, the "
            f"model's context; got {len(start)} and {len(actions)} (prompt "
            f"{shorten(prompt.text)!r}): shorten them or drop the pair"
        )
    acted = np.arange(len(actions)) + len(start) - 1
    tokens = np.array([*start, *actions[:-1]], dtype=np.int64)
    unknown = np.zeros(len(actions), dtype=np.float32)
    return CollectedEpisode(tokens, acted, actions, unknown, 0.0, 0, prompt.text, completion)
