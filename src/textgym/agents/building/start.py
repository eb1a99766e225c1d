"""The frozen model of the start: what a run's policy was before it learned."""

from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from textgym.agents.building.checkpoint import kl_penalty, open_in_its_dtype
from textgym.agents.runs.run import Run
from textgym.errors import InputError
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.sb3.q_policy import SoftQPolicy
from textgym.run_files import START


def frozen_start(
    agent: BaseAlgorithm, run: Run, *, has_own_reference: bool
) -> tuple[LanguageModel, bool]:
    """The model that an agent's run started from; the one that the agent holds already, if any.

    :param agent: new, or brought back from the run's checkpoint.
    :param run: that is held.
    :param has_own_reference: its KL term is to another model than the start.
    :return: the model, and whether nobody else keeps it: it has to stand in `checkpoints/start`
        then, for a run that is resumed.
    :raises InputError: for a run that is gone on with and lacks it.
    """
    policy: Any = agent.policy
    if isinstance(policy, SoftQPolicy):
        return policy.prior, False
    kl = kl_penalty(agent)
    if kl is not None and not has_own_reference:
        return kl.reference(policy.lm.device), False
    if policy.lm.adapter is not None:
        return policy.lm.without_adapter(), False
    if agent.num_timesteps == 0:
        return policy.lm.frozen_reference(), True
    directory = run.checkpoint(START)
    if not directory.is_dir():
        raise InputError(
            f"{directory}: the model that the run started from is not there, so its evaluations "
            "cannot go on: put the directory back"
        )
    start = open_in_its_dtype(directory).requires_grad_(False)
    return start.to(policy.lm.device).eval(), True
