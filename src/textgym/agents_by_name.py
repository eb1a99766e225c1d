"""What one writes at the front door: agents by name, training, evaluation, generation.

Names (environments, reward models, agents, directories) are resolved here; below, objects are
passed.
"""

import re
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgym import registry
from textgym.checks import check_memory, check_numbers
from textgym.environments_by_id import NOT_OF_A_TASK, get_task, make_vec
from textgym.errors import InputError, TextGymError
from textgym.paths import is_directory
from textgym.rewards import Reward, reward_name
from textgym.rewards_by_name import resolve_reward
from textgym.tokenizer import Tokenizer

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.vector import VectorEnv
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

    from textgym.agents.evaluation.readers import Reader
    from textgym.agents.evaluation.report import EvaluationReport
    from textgym.agents.runs.run import Run
    from textgym.envs.task import Task
    from textgym.policies.language_model.language_model import LanguageModel

DEFAULT_N_ENVS = 32
# Three words of plain letters.
_ENGLISH = re.compile(r"\W*[A-Za-z']+(\W+[A-Za-z']+){2}[\x00-\x7f]*$")


def make_agent(
    agent: str,
    env: "str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv",
    *,
    policy: "str | Path | LanguageModel | BaseAlgorithm | None" = None,
    reward: Reward | str | Path | None = None,
    n_envs: int = DEFAULT_N_ENVS,
    seed: int | None = None,
    out: "str | Path | Run | None" = None,
    reference: "str | Path | LanguageModel | BaseAlgorithm | None" = None,
    env_kwargs: dict[str, Any] | None = None,
    pad_token: str | None = None,
    checkpoint_seconds: float = 300.0,
    **keywords: Any,
) -> "BaseAlgorithm":
    """An unmodified Stable-Baselines3 agent on a registered environment, defaults filled in.

    :param agent: a registered name; `textgym agents` lists them.
    :param env: an environment's id, or "module:id"; or an environment of a task: what `make_vec`,
        `gymnasium.make` or `gymnasium.make_vec` gave, or Stable-Baselines3's own `VecEnv` of them.
        Then `reward`, `env_kwargs` and `n_envs` are its own.
    :param policy: the language model to start from: a directory, "start" for the bundled model, a
        `CausalLM` or an agent; None: a small fresh one on the environment's own tokenizer.
    :param reward: a reward model or its name; None: the environment's own.
    :param out: run directory for settings, metrics, samples, TensorBoard and checkpoints, which is
        this agent's as long as there is one; where it holds a run, the next free name (`out-2`).
    :param reference: the model of the KL term (default: the starting policy).
    :param env_kwargs: overrides of the task's fields.
    :param pad_token: a token of the policy's vocabulary that no text needs, to fill up rows where
        its directory names none that can.
    :param checkpoint_seconds: time between two checkpoints in `out`; each `learn` saves at its
        start and its end besides.
    :param keywords: `kl_coef`, `kl_estimator`, `kl_target`, `temperature`, `top_k`, `top_p`,
        `value_trunk`, `value_lr_scale`, `value_warmup_rollouts`, `final_learning_rate`, and every
        keyword of the algorithm itself.
    :raises UnknownNameError: for a name or keyword that does not exist, with the nearest known.
    """
    from textgym.agents.building.build import build_agent, record_agent
    from textgym.agents.building.checkpoint import environment_record
    from textgym.agents.building.specs import spec_of
    from textgym.agents.rollouts.vec_env import as_vec_env, row_seed
    from textgym.agents.runs.directory import open_to_write
    from textgym.agents.runs.fingerprints import inputs_of_agent
    from textgym.policies.language_model.causal_lm import CausalLM
    from textgym.policies.language_model.models_by_name import open_policy

    check_numbers({"n_envs": n_envs, "seed": seed, "checkpoint_seconds": checkpoint_seconds})
    spec = spec_of(agent)
    overrides = _task_fields(env_kwargs)
    if reward is not None:
        _check_given_once("reward", overrides)
        overrides["reward"] = resolve_reward(reward)
    lm = None if policy is None else open_policy(policy, pad_token=pad_token)
    if reference is not None and not (isinstance(reference, str | Path) and pad_token is None):
        named = isinstance(reference, str | Path)
        reference = open_policy(
            reference, pad_token=pad_token if named else None, label="reference"
        )
    if lm is None and pad_token is not None:
        raise InputError("pad_token goes with policy=, a checkpoint directory: leave it out")
    if isinstance(env, str):
        if lm is not None:
            _check_tokenizer(overrides.get("tokenizer"), lm)
            overrides["tokenizer"] = lm.tokenizer
        generations = spec.num_generations(n_envs, keywords)
        vec_env: VecEnv = make_vec(env, n_envs, seed=seed, num_generations=generations, **overrides)
    else:
        _check_unused(env, reward=reward, env_kwargs=env_kwargs)
        vec_env = as_vec_env(env)
        if n_envs not in (DEFAULT_N_ENVS, vec_env.num_envs):
            raise InputError(
                f"the environment given has {vec_env.num_envs} rows, not n_envs={n_envs}: leave "
                "n_envs out"
            )
    task = vec_env.get_attr("task")[0]
    if lm is not None and lm.tokenizer != task.tokenizer:
        raise InputError(
            "the environment given has another tokenizer than the policy: make it with "
            "tokenizer=lm.tokenizer, or pass its id"
        )
    shown = sample_prompts(task)
    if lm is None:
        width = vec_env.observation_space.shape[0]  # type: ignore[index]
        _warn_of_a_fresh_model(task, shown)
        lm = CausalLM.new(task.tokenizer, seed=seed or 0, max_position_embeddings=max(256, width))
    environment = environment_record(
        env if isinstance(env, str) else task.id,
        reward=reward,
        env_kwargs=env_kwargs,
        lost=() if isinstance(env, str) else ("env",),
    )
    with open_to_write(out) as run:
        built = build_agent(
            agent,
            spec,
            vec_env,
            lm,
            reference=reference,
            directory=run,
            sample_prompts=shown,
            environment=environment,
            checkpoint_seconds=checkpoint_seconds,
            seed=seed,
            **keywords,
        )
        if seed is not None and not isinstance(env, str):
            assert built.env is not None
            built.env.seed(row_seed(vec_env, seed))  # SB3 has seeded it with the run's own seed
        if run is not None:
            record_agent(
                run,
                built,
                {
                    "policy": policy,
                    "reference": reference,
                    "checkpoint_seconds": checkpoint_seconds,
                },
                inputs=inputs_of_agent(
                    environment["id"], reward, {**(env_kwargs or {}), **keywords}, task.prompts
                ),
                start={"policy": policy, "reference": reference},
            )
    return built


def _warn_of_a_fresh_model(task: "Task", prompts: Sequence[str]) -> None:
    """Where prompts are English, and many, a model that knows no word has far to go.

    :param prompts: some of the task's.
    """
    is_byte = task.tokenizer.vocab_size == Tokenizer.byte().vocab_size
    is_small = isinstance(task.prompts, list | tuple) and len(task.prompts) < 100
    is_english = sum(bool(_ENGLISH.match(prompt)) for prompt in prompts) > len(prompts) / 2
    if is_byte and not is_small and is_english:
        warnings.warn(
            f"{task.id} has English prompts, but without policy= a small fresh model begins, which "
            "knows no word: policy='start' is the English model that comes with textgym",
            stacklevel=3,
        )


def _check_given_once(name: str, env_kwargs: Mapping[str, Any]) -> None:
    """Raises if a keyword of its own stands among the fields of the task too.

    :raises InputError: naming it.
    """
    if name in env_kwargs:
        raise InputError(f"{name} is given twice, by itself and in env_kwargs: leave one out")


def _check_tokenizer(given: object, lm: "LanguageModel") -> None:
    """Raises if a tokenizer was given beside a policy that writes with another one.

    :raises InputError: saying so.
    """
    tokenizer = Tokenizer.load(given) if isinstance(given, str | Path) else given
    if tokenizer is not None and tokenizer != lm.tokenizer:
        raise InputError(
            "the tokenizer in env_kwargs is not the policy's, which writes the texts: leave it out"
        )


def _task_fields(env_kwargs: object) -> dict[str, Any]:
    """A copy of `env_kwargs`; empty for None.

    :raises InputError: if it is no table.
    """
    if env_kwargs is not None and not isinstance(env_kwargs, dict):
        raise InputError(f"env_kwargs must be a table of a task's fields, got {env_kwargs!r:.60}")
    return dict(env_kwargs or {})


def _check_unused(env: object, **given: object) -> None:
    """Raises if something was given that an environment has already.

    :raises InputError: naming it.
    """
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name} goes with an environment's id, but a {type(env).__name__} was given, "
                f"which has its own: leave {name} out, or pass the id"
            )


def load_agent(
    directory: str | Path,
    *,
    env: "gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv | None" = None,
    reward: Reward | str | Path | None = None,
    n_envs: int | None = None,
    seed: int | None = None,
    out: "str | Path | Run | None" = None,
    reference: "str | Path | LanguageModel | BaseAlgorithm | None" = None,
    env_kwargs: dict[str, Any] | None = None,
    checkpoint_seconds: float = 300.0,
    exact: bool = False,
    **keywords: Any,
) -> "BaseAlgorithm":
    """Bring an agent back from its checkpoint or run directory, with KL term and logging.

    It goes on as if it had not been away: `learn(..., reset_num_timesteps=False)` gives to the last
    bit what the agent that was saved would have given.

    Whatever is given wins over what was saved: in the algorithm, the optimizer, the generators and
    the KL term.

    :param env: needed where the agent was trained on an environment rather than an id.
    :param reward: needed where the agent was trained on an object rather than a name.
    :param seed: draw anew from this seed instead of going on with the saved generators.
    :param out: the run that the checkpoint belongs to goes on there in the same record; another
        directory begins a run of its own, as in `make_agent`.
    :param reference: the model of the KL term, instead of the saved one.
    :param env_kwargs: replace or add to the saved ones; needed for those that were objects.
    :param checkpoint_seconds: as `make_agent`'s.
    :param exact: raise where going on could not be exact, as in another environment or from a
        checkpoint of an earlier version. Otherwise `out` or such a checkpoint makes a warning of
        it.
    :param keywords: override the saved ones.
    :raises InputError: if the directory holds no agent, or what it needs is not there.
    """
    from textgym.agents.building.checkpoint import NOT_THIS_STATE, read_agent, restore_agent
    from textgym.agents.building.named_files import check_named_files
    from textgym.agents.building.saved_state import check_saved_keywords
    from textgym.agents.building.specs import spec_of
    from textgym.agents.runs.directory import goes_on_with, open_to_write
    from textgym.agents.runs.settings import plain

    for name in ("agent", "env", "policy"):
        if name in keywords or (name == "env" and isinstance(env, str)):
            raise InputError(
                f"load_agent brings {name} back from {directory}: leave {name}=... out, or make "
                "another agent with make_agent"
            )
    lm, saved_reference, state = read_agent(directory)
    settings, environment = state["settings"], state["environment"]
    saved_reward, saved_fields = environment["reward"], dict(environment["env_kwargs"])
    if reward is not None or "reward" in (env_kwargs or {}):
        saved_reward = None
        saved_fields.pop("reward", None)
    named = {"env": env, "reward": reward, "n_envs": n_envs, "seed": seed, "reference": reference}
    named = {name: value for name, value in named.items() if value is not None}
    given = {*keywords, *(env_kwargs or {}), *named}
    for name in (*environment.get("not_saved", ()), *settings.get("not_saved", ())):
        if name not in given:
            raise InputError(
                f"{directory}: the agent was made with an object as {name!r}, which a checkpoint "
                f"does not hold: pass {name}=... again"
            )
    _check_names_no_code(directory, environment, given)
    check_named_files(directory, state, given)
    kept = {k: v for k, v in settings["keywords"].items() if k not in given}
    check_saved_keywords(kept, spec_of(settings["agent"]), directory)
    saved = {k: settings[k] for k in ("kl_coef", "kl_estimator", "kl_target")}
    saved |= {"final_learning_rate": settings["final_learning_rate"], **settings["keywords"]}
    settled = {**saved, **keywords}
    if not settled["kl_coef"] and settled["kl_target"] is None:  # else they would be refused
        saved_reference = None
        settled = {k: v for k, v in settled.items() if k != "kl_estimator" or k in keywords}
    with open_to_write(out, resume=goes_on_with(out, directory)) as run:
        if run is not None:
            run.step_offset = int(settings.get("step_offset", 0)) if run.is_resumed else 0
            run.config.update({name: plain(value) for name, value in {**keywords, **named}.items()})
        try:
            agent = make_agent(
                settings["agent"],
                environment["id"] if env is None else env,
                policy=lm,
                reward=saved_reward if reward is None else reward,
                n_envs=settings["n_envs"] if n_envs is None else n_envs,
                seed=settings["seed"] if seed is None else seed,
                out=run,
                reference=saved_reference if reference is None else reference,
                env_kwargs={**saved_fields, **(env_kwargs or {})} or None,
                checkpoint_seconds=checkpoint_seconds,
                **settled,
            )
        except TextGymError:
            raise
        except NOT_THIS_STATE as error:
            raise InputError(
                f"{directory}: its settings make no agent ({type(error).__name__}: "
                f"{' '.join(str(error).split()):.120})"
            ) from error
        differences = restore_agent(agent, state, given=given)
        is_told = out is not None and run is out  # by the verb, which was asked for it
        is_asked_for = bool(env_kwargs) or not named.keys() <= {"reward", "reference"}
        matters = state.get("training") is None or (run is not None and not is_asked_for)
        if differences and (exact or (matters and not is_told)):
            _tell_differences(differences, directory, exact=exact)
    return agent


def _tell_differences(differences: Sequence[str], directory: str | Path, *, exact: bool) -> None:
    """Say why going on from a checkpoint is not exact.

    :raises InputError: with `exact`.
    """
    reasons = "; ".join(differences)
    if exact:
        raise InputError(
            f"{directory}: going on would not be exact: {reasons}; go on all the same with "
            "--force-resume"
        )
    warnings.warn(f"{directory}: going on is not exact: {reasons}", stacklevel=3)


def _check_names_no_code(
    directory: str | Path, environment: dict[str, Any], given: Collection[str]
) -> None:
    """A checkpoint is data: nothing that it names may be imported because of it.

    :param given: what the caller passed himself, and so trusts.
    :raises InputError: if it names a module, saying how to allow it.
    """
    module, separator, _ = str(environment["id"]).rpartition(":")
    if separator and module not in sys.modules:
        raise InputError(
            f"{directory}: its environment is {environment['id']!r}, and a checkpoint imports no "
            f"code: import {module} first if you trust it"
        )
    for reward in (environment["reward"], environment["env_kwargs"].get("reward")):
        name = str(reward).partition(",")[0]
        is_code = ":" in name and name not in registry.rewards and not is_directory(str(reward))
        if reward is not None and is_code and "reward" not in given:
            raise InputError(
                f"{directory}: its reward is {reward!r}, and a checkpoint imports no code: pass "
                "reward=... yourself if you trust it"
            )


def evaluate(
    env: str,
    *,
    policy: "str | Path | LanguageModel | BaseAlgorithm",
    reward: Reward | str | Path | None = None,
    gold: Sequence[Reward | str] | Reward | str = (),
    reference: "str | Path | LanguageModel | BaseAlgorithm | None" = None,
    prompts: str | Path | Sequence[Any] | None = None,
    n_episodes: int | None = None,
    n_envs: int = 64,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    env_kwargs: dict[str, Any] | None = None,
    vocabulary: frozenset[str] | None = None,
    reader: "str | Path | LanguageModel | Reader | None" = None,
    pad_token: str | None = None,
) -> "EvaluationReport":
    """Let a policy play and report on its texts.

    :param env: an environment's id, or "module:id".
    :param policy: the checkpoint or run directory to judge, "start" for the bundled model, a model
        or an agent.
    :param reward: a reward model or its name; without it, the environment's own.
    :param gold: independent judges, by name or object.
    :param reference: the frozen starting model, for perplexity and KL.
    :param prompts: a list or a file, each played once, cut or refused as the environment's own are
        (`max_prompt_tokens`, `truncate_prompt`); a function, which is drawn from; without it,
        `n_episodes` are drawn from the environment's own.
    :param n_episodes: texts to write where no prompts are listed (500 unless said).
    :param n_envs: rows that play at a time.
    :param temperature, top_k, top_p: how the policy draws; temperature 0 takes the likeliest token.
    :param seed: of the prompts and of what is drawn.
    :param env_kwargs: fields of the task to replace, such as max_new_tokens=24.
    :param vocabulary: known words in lower case, to count made-up ones.
    :param reader: who says how surprising the texts are, in bits per character: a language model
        that never trained here, or "reviews", n-grams of the bundled reviews that none has seen.
    :param pad_token: a token of the policy's vocabulary that no text needs, to fill up rows where
        its directory names none that can.
    :raises InputError: if a name, a directory or a prompt is wrong.
    """
    check_numbers(locals())
    from textgym.agents.evaluation.readers import resolve_reader
    from textgym.agents.evaluation.report import InOrder, evaluate_texts, masks_of, play
    from textgym.policies.language_model.models_by_name import open_policy
    from textgym.policies.language_model.sampling import Sampling

    lm = open_policy(policy, pad_token=pad_token)
    if reference is not None:
        given = isinstance(reference, str | Path)
        reference = open_policy(
            reference, pad_token=pad_token if given else None, label="reference"
        )
    is_single = isinstance(gold, str | Path) or not isinstance(gold, Iterable)
    named: list[Any] = [gold] if is_single else list(gold)  # type: ignore[arg-type]
    judges = _judges_by_name(named)
    reading = None if reader is None else resolve_reader(reader)
    overrides = _task_fields(env_kwargs)
    _check_tokenizer(overrides.get("tokenizer"), lm)
    overrides["tokenizer"] = lm.tokenizer
    for name, value in (("reward", reward), ("prompts", prompts)):
        if value is not None:
            _check_given_once(name, overrides)
    if reward is not None:
        overrides["reward"] = resolve_reward(reward)
    if prompts is not None:
        overrides["prompts"] = prompts
        fields = {k: v for k, v in overrides.items() if k not in NOT_OF_A_TASK}
        source = get_task(env, **fields).prompt_source()  # with the task's limits
        source.warn_of_cuts(env)
        if len(source):  # else a function, which is drawn from as in training
            overrides |= {
                "prompts": InOrder(source.all()),
                "max_prompt_tokens": source.max_tokens,
            }
            if n_episodes is not None:
                raise InputError(
                    f"n_episodes={n_episodes} is for prompts that are drawn, but each of those "
                    "given is played once: leave one out"
                )
            n_episodes = len(source)
    n_episodes = 500 if n_episodes is None else n_episodes
    check_memory(1000 * n_envs, f"n_envs={n_envs}", "take fewer")
    check_memory(1000 * n_episodes, f"n_episodes={n_episodes}", "write fewer texts")
    vec_env = make_vec(env, min(n_envs, n_episodes), seed=seed, **overrides)
    width, context = vec_env.observation_space.shape[0], lm.config.max_position_embeddings  # type: ignore[index]
    if width > context:
        raise InputError(
            f"prompt and budget together take {width} tokens, but the model's context is "
            f"{context}: lower max_new_tokens or shorten the prompts"
        )
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    episodes = play(lm, vec_env, n_episodes, sampling=sampling, seed=seed)
    return evaluate_texts(
        episodes,
        lm=lm,
        sampling=sampling,
        judges=judges,
        reference=reference,
        masks=masks_of(vec_env),
        vocabulary=vocabulary,
        reader=reading,
    )


def _judges_by_name(given: Sequence[Reward | str]) -> dict[str, Reward]:
    """Judges under their own names; those that share one, under what was written for them."""
    from textgym.agents.evaluation.report import named_judges

    judges = [resolve_reward(judge) for judge in given]
    names = [reward_name(judge) for judge in judges]
    labels = [
        str(spec) if isinstance(spec, str | Path) and names.count(name) > 1 else name
        for spec, name in zip(given, names, strict=True)
    ]
    return named_judges(judges, labels)


def generate(
    policy: "str | Path | LanguageModel | BaseAlgorithm",
    *,
    prompt: str | Sequence[str],
    max_new_tokens: int = 40,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int | None = None,
    pad_token: str | None = None,
) -> list[str]:
    """Continue one prompt or several.

    :param policy: a checkpoint or run directory, "start" for the bundled model, a model or an
        agent.
    :param prompt: what to continue; may be given several times (in Python rows with "prompt" too).
    :param max_new_tokens: tokens that are written at most.
    :param temperature: below 1 plays safe, above 1 dares; 0 takes the likeliest token. As in
        training and evaluation 1, the model's own distribution, unless said.
    :param top_k: draw from the k likeliest tokens only; 0 from all.
    :param top_p: draw from the likeliest tokens that make up this probability; 1 from all.
    :param seed: of what is drawn; without it, each call draws anew.
    :param pad_token: a token of the policy's vocabulary that no text needs, to fill up rows where
        its directory names none that can.
    :return: the continuations without their prompts.
    :raises InputError: for an empty prompt, one that the tokenizer cannot write, or one that does
        not fit the context.
    """
    check_numbers(locals())
    from textgym.envs.texts.prompts import PromptSource
    from textgym.policies.language_model.models_by_name import open_policy

    lm = open_policy(policy, pad_token=pad_token)
    if isinstance(prompt, bytes) or not isinstance(prompt, Iterable):
        raise InputError(f"prompt must be a text or several, got {type(prompt).__name__}")
    prompts = [prompt] if isinstance(prompt, str | Mapping) else list(prompt)
    source = PromptSource(prompts, lm.tokenizer)  # refuses what an environment would
    return lm.generate(
        [row.text for row in source.all()],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )


def sample_prompts(task: "Task", count: int = 8) -> list[str]:
    """The first different prompts that a task draws with seed 0."""
    import numpy as np

    source = task.prompt_source()
    rng = np.random.default_rng(0)
    drawn = [source.draw(rng) for _ in range(4 * count)]
    return list(dict.fromkeys(row.text for row in drawn))[:count]
