"""Old names of modules, and in them: what was asked for still comes, with a deprecation.

The old names go in version 0.2.0.
"""

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "agents.best_of_n": "agents.algorithms.best_of_n",
    "agents.callbacks": "agents.runs.callbacks",
    "agents.dpo": "agents.algorithms.dpo",
    "agents.fingerprints": "agents.runs.fingerprints",
    "agents.finished_episodes": "agents.rollouts.episode_collector",
    "agents.flat_rewards": "agents.runs.flat_rewards",
    "agents.group_algorithm": "agents.algorithms.critic_free",
    "agents.grpo": "agents.algorithms.grpo",
    "agents.json_lines": "json_lines",
    "agents.judges": "agents.evaluation.bundled_rewards",
    "agents.kl": "agents.rollouts.kl",
    "agents.language_modelling": "agents.fitting.language_modelling agents.fitting.fine_tuning "
    "agents.fitting.fresh_models "
    "agents.fitting.training_in_run",
    "agents.loading": "agents.building.checkpoint agents.building.environment_record "
    "agents.building.reward_checkpoint",
    "agents.markdown": "agents.runs.markdown",
    "agents.maskable_rollout_buffer": "agents.rollouts.maskable_rollout_buffer",
    "agents.nlpo": "agents.algorithms.nlpo",
    "agents.oracle": "agents.evaluation.oracle",
    "agents.policy_losses": "agents.algorithms.losses",
    "agents.readers": "agents.evaluation.readers",
    "agents.recording": "agents.runs.recording agents.runs.rollout_figures "
    "agents.rollouts.recording_vec_env",
    "agents.reinforce": "agents.algorithms.reinforce",
    "agents.replay_buffer": "agents.rollouts.replay_buffer",
    "agents.resuming": "agents.runs.resuming",
    "agents.reward_fitting": "agents.fitting.reward_fitting",
    "agents.rloo": "agents.algorithms.rloo",
    "agents.rollout_buffer": "agents.rollouts.rollout_buffer",
    "agents.rollout_memory": "agents.rollouts.memory",
    "agents.run_directory": "agents.runs.directory agents.runs.run",
    "agents.run_learning": "agents.building.learning",
    "agents.run_settings": "agents.runs.settings",
    "agents.runs.json_lines": "json_lines",
    "agents.saved_state": "agents.building.saved_state",
    "agents.split_rewards": "agents.rollouts.split_rewards",
    "agents.vec_env": "agents.rollouts.vec_env",
    "cli": "command_line.cli",
    "cli_imports": "command_line.imports",
    "cli_listings": "command_line.listings",
    "cli_options": "command_line.options",
    "cli_output": "command_line.output",
    "cli_verbs": "command_line.verbs",
    "config_file": "command_line.config_file",
    "demo_report": "demonstration.report",
    "demo_reward": "demonstration.reward",
    "demo_settings": "demonstration.settings",
    "doctor": "command_line.doctor",
    "envs.corpus": "envs.texts.corpus envs.texts.labelled_rows",
    "envs.csv_rows": "envs.texts.csv_rows",
    "envs.movie_reviews": "envs.tasks.movie_reviews",
    "envs.oracle_tasks": "envs.tasks.oracle_tasks",
    "envs.prepare": "envs.texts.preparation",
    "envs.prompts": "envs.texts.prompts",
    "envs.records": "envs.texts.records",
    "envs.small_tasks": "envs.tasks.small_tasks",
    "envs.texts.prepare": "envs.texts.preparation",
    "making": "environments_by_id",
    "policies.actor_critic": "policies.sb3.actor_critic",
    "policies.attention": "policies.language_model.attention",
    "policies.cached_decoder": "policies.language_model.cached_decoder",
    "policies.causal_lm": "policies.language_model.causal_lm policies.language_model.decoder",
    "policies.checkpoint": "policies.language_model.checkpoint "
    "policies.language_model.models_by_name",
    "policies.documents": "policies.pretraining.documents",
    "policies.generation": "policies.language_model.generation",
    "policies.maskable": "policies.sb3.maskable",
    "policies.opening": "policies.sb3.model_and_spaces",
    "policies.packing": "policies.language_model.packing",
    "policies.published": "policies.language_model.published",
    "policies.q_network": "policies.sb3.q_network",
    "policies.q_policy": "policies.sb3.q_policy",
    "policies.quantile_network": "policies.sb3.quantile_network",
    "policies.run_checkpoints": "policies.language_model.run_checkpoints",
    "policies.sampling": "policies.language_model.sampling",
    "policies.shared_backward": "policies.sb3.shared_backward",
    "policies.token_masks": "policies.language_model.token_masks",
    "policies.top_p_mask": "policies.sb3.top_p_mask",
    "reward_models.bradley_terry": "reward_models.learned.bradley_terry",
    "reward_models.comparisons": "reward_models.learned.comparisons",
    "reward_models.ensemble": "reward_models.learned.ensemble",
    "reward_models.features": "reward_models.learned.features",
    "reward_models.fitting": "reward_models.learned.fitting",
    "reward_models.fitting_loop": "reward_models.learned.fitting_loop",
    "reward_models.lexicon": "reward_models.rules.lexicon",
    "reward_models.linear": "reward_models.learned.linear",
    "reward_models.metrics": "text_metrics.metrics",
    "reward_models.ngram_reader": "reward_models.learned.ngram_reader",
    "reward_models.ngrams": "reward_models.learned.ngrams",
    "reward_models.pairs": "reward_models.learned.pairs",
    "reward_models.words": "text_metrics.words",
    "reward_names": "rewards_by_name",
    "verbs": "agents_by_name saved_agents evaluating",
}
"""Old module → the modules that hold its names now, all below `textgym`."""


class MovedModules:
    """An importer (PEP 451) that knows the old names, and is asked when no other knows one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Python's protocol: a specification where `fullname` is an old name, else None."""
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == "textgym" and name in MOVED else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Python's protocol: a module of the usual kind."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module: whatever it is asked for comes from where it is now."""
        places = [f"textgym.{place}" for place in MOVED[module.__name__.partition(".")[2]].split()]
        warnings.warn(
            f"{module.__name__} is {' and '.join(places)} now; the old name goes in 0.2.0",
            DeprecationWarning,
            stacklevel=2,  # Python leaves importlib's own frames out
        )

        def find(name: str) -> Any:
            if not name.startswith("__"):
                for place in places:
                    found = getattr(importlib.import_module(place), name, places)
                    if found is not places:
                        return found
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__getattr__ = find  # type: ignore[method-assign]


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__`, which knows the old names of what it holds.

    :param module: its `__name__`.
    :param names: old name → new one.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(
            f"{name} is {module}.{names[name]} now; the old name goes in 0.2.0",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(sys.modules[module], names[name])

    return find


def know_moved_modules() -> None:
    """Let Python's import find the old names, last of all."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
