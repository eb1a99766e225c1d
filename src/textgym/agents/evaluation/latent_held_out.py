"""Held-out evaluations of a training with latent actions, beside z drawn from the prior.

At points of a run the policy's best z for each held-out prompt is decoded, and every judge scores
the text. At the first of them z from the prior is decoded too, once: a decoder that does not learn
writes the same from it ever after. That is what training has to beat.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.evaluation.held_out_callback import evaluation_points, left_alone
from textgym.agents.evaluation.held_out_prompts import HeldOutPrompts
from textgym.agents.evaluation.judging import PlayedTexts, ask_judge
from textgym.agents.evaluation.latent_play import (
    Choose,
    play_latents,
    policy_latents,
    prior_latents,
)
from textgym.agents.evaluation.play import Episode
from textgym.agents.evaluation.report import Interval
from textgym.agents.runs.run import Run
from textgym.json_lines import append_line, cut_rows
from textgym.rewards import Reward
from textgym.run_files import LATENT_HELD_OUT
from textgym.saved_fields import SavedFields
from textgym.storage import json_text
from textgym.text_metrics.metrics import distinct_n

POLICY, PRIOR = "policy", "prior"


class LatentHeldOut(BaseCallback):
    """Evaluates a run at `evaluations` points of it, into TensorBoard and a record of its own.

    Each text is a row of `latent_held_out.jsonl`: `step` (texts that the policy has learned from),
    `z` ("policy" or "prior"), `prompt`, `completion`, and the `scores` by judge.

    :param run: that is held.
    :param env: with latent actions, on `prompts`; nobody reads its reward.
    :param prompts: the held-out ones.
    :param judges: reward models by name, each asked once an evaluation.
    :param evaluations: points, 2 at least, start and end among them.
    :param timesteps: texts of the run in all.
    :param seed: of the prior's z.
    """

    def __init__(
        self,
        run: Run,
        env: VecEnv,
        prompts: HeldOutPrompts,
        judges: Mapping[str, Reward],
        *,
        evaluations: int,
        timesteps: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.run, self.env, self.prompts, self.judges = run, env, prompts, dict(judges)
        self.points = evaluation_points(evaluations, timesteps)
        self.timesteps, self.seed = timesteps, seed
        self.last_step = -1
        self.scores: dict[str, dict[str, Interval]] = {}
        """Of the latest evaluation, by whose z it was ("policy", "prior") and by judge."""

    def state_dict(self) -> dict[str, Any]:
        """JSON values that `load_state_dict` goes on from."""
        prior = self.scores.get(PRIOR, {})
        known = {name: [score.mean, score.half_width] for name, score in prior.items()}
        return {"last_step": self.last_step, "prior": known}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`: later rows are taken out of the record.

        :raises InputError: if it is none.
        """
        fields = SavedFields(state, "state of the held-out evaluations")
        self.last_step = fields.whole("last_step", -1)
        known = fields.table("prior")
        found = {name: [_number(x) for x in known.items(name, 2)] for name in known.content}
        if found:
            self.scores[PRIOR] = {name: Interval(*numbers) for name, numbers in found.items()}
        cut_rows(self.run.directory / LATENT_HELD_OUT, self.last_step)

    def _on_rollout_start(self) -> None:
        self.evaluate_if_due(self.model)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        if self.model.num_timesteps >= self.timesteps:
            self.evaluate_if_due(self.model)

    def evaluate_if_due(self, agent: BaseAlgorithm) -> None:
        """Evaluate, if a point lies between the last evaluation and here.

        :raises RewardError: from a judge, naming it, the prompt and the step.
        """
        step = agent.num_timesteps
        if not any(self.last_step < point <= step for point in self.points):
            return
        self.last_step = step
        with left_alone(self.judges):
            if PRIOR not in self.scores:
                size = int(np.prod(self.env.action_space.shape or (1,)))
                self._judge(PRIOR, prior_latents(size, self.seed), step)
            texts = self._judge(POLICY, policy_latents(agent), step)
        figures = {
            "held_out/length": float(np.mean([e.info["completion_length"] for e in texts])),
            "held_out/distinct_2": distinct_n([e.completion for e in texts], 2),
            **{f"held_out_scores/{k}": v.mean for k, v in self.scores[POLICY].items()},
            **{f"held_out_prior/{k}": v.mean for k, v in self.scores[PRIOR].items()},
        }
        for output in self.logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                for tag, value in figures.items():
                    output.writer.add_scalar(tag, value, step)

    def _judge(self, whose: str, choose: Choose, step: int) -> Sequence[Episode]:
        """Write the texts of somebody's z, and have them judged."""
        self.prompts.begin()
        self.env.seed(self.seed)  # what is drawn is the same each time, whatever came before
        episodes = play_latents(choose, self.env, len(self.prompts.prompts))
        texts = PlayedTexts.of(episodes)
        scores = {
            name: np.asarray(ask_judge(judge, texts, step=step).scores, np.float64)
            for name, judge in self.judges.items()
        }
        rows = [
            {
                "step": step,
                "z": whose,
                "prompt": episode.prompt,
                "completion": episode.completion,
                "scores": {name: float(values[i]) for name, values in scores.items()},
            }
            for i, episode in enumerate(episodes)
        ]
        append_line(self.run.directory / LATENT_HELD_OUT, "\n".join(map(json_text, rows)))
        self.scores[whose] = {name: _mean_of_known(values) for name, values in scores.items()}
        return episodes


def _number(value: Any) -> float:
    """A number of a state, in which null is one that was not finite."""
    return float(value) if isinstance(value, int | float) else math.nan


def _mean_of_known(scores: np.ndarray) -> Interval:
    """Of the texts that a judge says something of."""
    known = scores[~np.isnan(scores)]
    return Interval.of(known) if len(known) else Interval(math.nan, math.nan)
