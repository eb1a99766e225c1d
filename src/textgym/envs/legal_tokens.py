"""A task's constraint, compiled for its tokenizer, its stop tokens and its prompts."""

import numpy as np

from textgym.constraints import GrammarConstraint
from textgym.constraints.automaton import Automaton
from textgym.constraints.grammar_automaton import GrammarAutomaton
from textgym.constraints.token_automaton import TokenAutomaton
from textgym.envs.stopping import StopRule
from textgym.envs.task import Task
from textgym.envs.texts.prompts import PromptSource
from textgym.errors import InputError


def compile_constraint(task: Task, source: PromptSource, stop: StopRule) -> Automaton | None:
    """The automaton over tokens that says what is legal; None for a task without a constraint.

    :param source: the task's prompts; those of a function stay unknown.
    :raises InputError: see `Automaton`; also for stop strings, whose texts would end where the
        constraint does not say so.
    """
    if task.constraint is None:
        return None
    if stop.strings:
        raise InputError(
            f"a text under a constraint ends with a stop token where it matches, so leave stop="
            f"{stop.strings!r:.40} out: write that ending into the constraint"
        )
    is_grammar = isinstance(task.constraint, GrammarConstraint)
    kind: type[Automaton] = GrammarAutomaton if is_grammar else TokenAutomaton
    automaton = kind(
        task.constraint,
        task.tokenizer,
        stop_token_ids=np.flatnonzero(stop.is_stop_token).tolist(),
        prompts=[prompt.ids for prompt in source.all()],
    )
    automaton.check_budget(task.max_new_tokens)
    return automaton
