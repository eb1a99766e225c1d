"""The verbs of the command line that are functions: where each is, and which flags it has."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from textgym import registry
from textgym.command_line.options import Flag, flag_of, flags_of, with_default
from textgym.paths import expand
from textgym.run_files import CONFIG


@dataclass(frozen=True)
class Verb:
    """A verb that calls a function with its flags as keywords.

    :param target: "module:function".
    :param documented_by: "module:name" of what documents parameters that the function only passes
        on.
    :param hidden: parameters that are for Python only.
    :param extra: flags for the command line only.
    """

    help: str
    target: str
    documented_by: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    extra: tuple[Flag, ...] = ()

    @property
    def function(self) -> Any:
        """The function, imported now."""
        return _import(self.target)


_CONFIG = Flag(
    "config", "text", "a YAML file of flags; those given beside it win", None, is_path=True
)

VERBS = {
    "prepare": Verb("clean, filter, segment, augment and split texts", "textgym.preparing:prepare"),
    "fetch": Verb("fetch a language model that reads well", "textgym.fetching:fetch"),
    "demo": Verb(
        "the whole road on real text, in minutes",
        "textgym.demonstration.run:run_demo",
        hidden=("settings", "console", "split", "person"),
    ),
    "pretrain": Verb(
        "train a tokenizer and a language model on a corpus",
        "textgym.agents.fitting.language_modelling:pretrain",
        documented_by=(
            "textgym.policies.pretraining.loop:train_language_model",
            "textgym.optimization:build_optimizer",
        ),
    ),
    "pretrain-vae": Verb(
        "train a text variational autoencoder on a corpus",
        "textgym.agents.fitting.vae_fitting:pretrain_vae",
        documented_by=(
            "textgym.policies.pretraining.loop:train_language_model",
            "textgym.policies.vae.objective:AgainstCollapse",
            "textgym.optimization:build_optimizer",
        ),
    ),
    "sft": Verb(
        "fine-tune on prompt-completion pairs",
        "textgym.agents.fitting.fine_tuning:sft",
        documented_by=(
            "textgym.policies.pretraining.loop:train_language_model",
            "textgym.optimization:build_optimizer",
            "textgym.agents.fitting.language_modelling:pretrain",
        ),
    ),
    "fit-reward": Verb(
        "fit a reward model to ratings or preferences",
        "textgym.agents.fitting.reward_fitting:fit_reward",
        documented_by=(
            "textgym.reward_models.learned.fitting:fit_bradley_terry",
            "textgym.optimization:build_optimizer",
            "textgym.agents.fitting.language_modelling:pretrain",
        ),
    ),
    "audit-reward": Verb(
        "audit a reward model before anything is trained on it",
        "textgym.auditing.run:audit_reward",
        extra=(Flag("json", "switch", "print the findings as JSON", False),),
    ),
    "train": Verb(
        "train a policy with an RL algorithm",
        "textgym.training:train",
        documented_by=("textgym.agents_by_name:make_agent",),
        hidden=("callback",),
    ),
    "compare": Verb(
        "compare reward models, agents and starting policies, each with several seeds",
        "textgym.comparing:compare",
        documented_by=("textgym.training:train", "textgym.agents_by_name:make_agent"),
        hidden=("report",),
    ),
    "evaluate": Verb(
        "let a policy write, and judge what it wrote",
        "textgym.evaluating:evaluate",
        hidden=("vocabulary",),
        extra=(
            Flag("json", "switch", "print the figures as JSON", False),
            Flag("samples", "integer", "how many texts to show", 4),
        ),
    ),
    "generate": Verb("continue prompts", "textgym.evaluating:generate"),
    "export": Verb(
        "write a run's best model to give away, with a card", "textgym.exporting:export"
    ),
    "report": Verb("report on runs from what they recorded", "textgym.reporting:report"),
    "rescore": Verb("score stored texts with another reward model", "textgym.reporting:rescore"),
    "diff": Verb(
        "show how two runs differ",
        "textgym.reporting:diff",
        extra=(Flag("samples", "integer", "how many texts to show", 4),),
    ),
}

# What a file of prompts is to a verb.
_PROMPTS = {
    "audit-reward": "a file of prompts for the policy; without it, the task's held-out ones",
    "evaluate": "a file of prompts, each played once",
    "compare": "a file of held-out prompts (.txt, .jsonl, .csv); without it, the task's own",
    "train": "a file of held-out prompts (.txt, .jsonl, .csv); without it, the task's own",
}
_TASK = "textgym.envs.task:Task"  # whose fields are given as `env_kwargs`
# Of no use in a shell.
_NOT_IN_A_SHELL = ("tensorboard_log", "use_sde", "sde_sample_freq")


def verb_flags(name: str, arguments: Sequence[str]) -> list[Flag]:
    """The flags of a verb; those of `train` depend on the algorithm that `arguments` choose.

    :raises UnknownNameError: for an agent that is not known.
    """
    verb = VERBS[name]
    documents = [_import(reference) for reference in verb.documented_by]
    flags = [
        replace(flag, entries_of=_import(_TASK)) if flag.name == "env_kwargs" else flag
        for flag in flags_of(verb.function, documented_by=documents, hidden=verb.hidden)
    ]
    if name in _PROMPTS:
        flags = [
            _as_path(flag, _PROMPTS[name]) if flag.name == "prompts" else flag for flag in flags
        ]
    if name == "train":
        taken = {flag.name for flag in flags}
        agent = chosen_agent(arguments)
        if has_decoder(arguments) or is_of_latents_only(agent):
            flags += _latent_flags(agent, taken)
        else:
            flags += _algorithm_flags(agent, taken)
    if name == "compare":
        from textgym.planning.names import check_tokens_only

        agents = compared_agents(arguments)
        check_tokens_only(agents, _peek(arguments, "--decoder"))
        flags = [_as_text(flag) if flag.name == "seeds" else flag for flag in flags]
        for agent in agents:
            flags += _algorithm_flags(agent, {flag.name for flag in flags})
    return [*flags, *verb.extra, _CONFIG]


def _as_path(flag: Flag, text: str) -> Flag:
    """On the command line, prompts are a file."""
    return Flag(flag.name, "text", text, flag.default, is_path=True)


def _as_text(flag: Flag) -> Flag:
    return Flag(flag.name, "text", flag.help, flag.default)


def _algorithm_flags(agent: str, taken: set[str]) -> list[Flag]:
    """What `make_agent` passes on: to `build_agent`, to the policy and to the algorithm."""
    from textgym.agents.building.build import VALUE_LR_SCALE, build_agent
    from textgym.agents.building.keywords import keywords_of
    from textgym.agents.building.specs import CriticSpec, spec_of

    spec = spec_of(agent)
    known = keywords_of(spec, build_agent)
    defaults = _defaults(spec.defaults)
    if isinstance(spec, CriticSpec):
        defaults["value_lr_scale"] = VALUE_LR_SCALE
    flags = [
        flag_of(keyword.parameter, keyword.help)
        for name, keyword in known.items()
        if name not in taken and name not in _NOT_IN_A_SHELL
    ]
    return [with_default(f, defaults.get(f.name, f.default)) for f in flags if f is not None]


def _latent_flags(agent: str, taken: set[str]) -> list[Flag]:
    """The keywords of an algorithm that plays latent actions."""
    from textgym.agents.building.latent_agents import latent_keywords, latent_spec_of

    spec = latent_spec_of(agent)
    defaults = _defaults(spec.defaults)
    flags = [
        flag_of(keyword.parameter, keyword.help)
        for name, keyword in latent_keywords(spec).items()
        if name not in taken and name not in _NOT_IN_A_SHELL
    ]
    return [with_default(f, defaults.get(f.name, f.default)) for f in flags if f is not None]


def is_of_latents_only(agent: str) -> bool:
    """Whether a word plays latent actions and no tokens."""
    return agent in registry.latent_agents and agent not in registry.agents


def has_decoder(arguments: Sequence[str]) -> bool:
    """Whether a command line of `train`, its configuration file or the run to resume has one."""
    if _peek(arguments, "--decoder") is not None:
        return True
    return any(content.get("decoder") is not None for content in _settings_named(arguments))


def _defaults(defaults: Callable[[int, int], dict[str, Any]]) -> dict[str, Any]:
    """An algorithm's defaults; those that depend on the task are described."""
    small, large = defaults(32, 16), defaults(64, 32)
    return {k: v if large[k] == v else "fits the task and n_envs" for k, v in small.items()}


def chosen_agent(arguments: Sequence[str]) -> str:
    """The `--agent` of a command line, of its configuration file or of the run to resume."""
    agent = _peek(arguments, "--agent")
    if agent is not None:
        return agent
    for content in _settings_named(arguments):
        if isinstance(content.get("agent"), str):
            return str(content["agent"])
    return str(inspect.signature(VERBS["train"].function).parameters["agent"].default)


def _settings_named(arguments: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What a configuration file holds, and the settings of the run to resume."""
    from textgym.yaml_files import read_yaml

    files = [_peek(arguments, "--config")]
    out = _peek(arguments, "--out")
    if {"--resume", "--force-resume"} & {*arguments} and out is not None:
        files.append(str(expand(out) / CONFIG))
    for file in files:
        if file is not None and expand(file).is_file():
            content = read_yaml(file)
            if isinstance(content, dict):
                yield content


def compared_agents(arguments: Sequence[str]) -> list[str]:
    """The names of the agents that a command line of `compare` gives, or its configuration file."""
    specs = _peek_all(arguments, "--agent")
    file = _peek(arguments, "--config")
    if not specs and file is not None and expand(file).is_file():
        from textgym.yaml_files import read_yaml

        content = read_yaml(file)
        given = content.get("agent") if isinstance(content, dict) else None
        items = given if isinstance(given, list) else [given]
        specs = [item for item in items if item and isinstance(item, str)]  # others: `from_file`
    default = inspect.signature(VERBS["compare"].function).parameters["agent"].default
    return list(dict.fromkeys(spec.partition(",")[0] for spec in specs or [default]))


def _peek(arguments: Sequence[str], option: str) -> str | None:
    return next(iter(_peek_all(arguments, option)), None)


def _peek_all(arguments: Sequence[str], option: str) -> list[str]:
    found = []
    for i, argument in enumerate(arguments):
        if argument == option and i + 1 < len(arguments):
            found.append(arguments[i + 1])
        elif argument.startswith(option + "="):
            found.append(argument.partition("=")[2])
    return found


def _import(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
