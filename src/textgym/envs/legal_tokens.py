"""A task's constraint, compiled for its tokenizer, its stop tokens and its prompts."""

import numpy as np

from textgym.constraints.token_automaton import TokenAutomaton
from textgym.envs.stopping import StopRule
from textgym.envs.task import Task
from textgym.envs.texts.prompts import PromptSource
from textgym.errors import InputError


def compile_constraint(task: Task, source: PromptSource, stop: StopRule) -> TokenAutomaton | None:
    """The automaton over tokens that says what is legal; None for a task without a constraint.

    :param source: the task's prompts; those of a function stay unknown.
    :raises InputError: see `TokenAutomaton`; also for stop strings, whose texts would end where the
        constraint does not say so.
    """
    if task.constraint is None:
        return None
    if stop.strings:
        raise InputError(
            f"a text under a constraint ends with a stop token where it matches, so leave stop="
            f"{stop.strings!r:.40} out: write that ending into the constraint"
        )
    return TokenAutomaton(
        task.constraint,
        task.tokenizer,
        stop_token_ids=np.flatnonzero(stop.is_stop_token).tolist(),
        prompts=[prompt.ids for prompt in source.all()],
    )
