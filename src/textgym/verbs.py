"""What one writes at the front door: agents by name, training, evaluation, generation.

Names (environments, reward models, agents, directories) are resolved here; below, objects are
passed.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgym import registry
from textgym.errors import InputError
from textgym.making import get_task, make_vec
from textgym.reward_names import resolve_reward
from textgym.rewards import Reward

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback

    from textgym.agents.evaluation import EvaluationReport
    from textgym.policies.causal_lm import CausalLM

DEFAULT_N_ENVS = 32


def make_agent(
    agent: str,
    env: str,
    *,
    policy: "str | Path | CausalLM | None" = None,
    reward: Reward | str | None = None,
    n_envs: int = DEFAULT_N_ENVS,
    seed: int | None = None,
    out: str | Path | None = None,
    reference: "str | Path | CausalLM | None" = None,
    env_kwargs: dict[str, Any] | None = None,
    **keywords: Any,
) -> "BaseAlgorithm":
    """An unmodified Stable-Baselines3 agent on a registered environment, defaults filled in.

    :param agent: a registered name; `textgym agents` lists them.
    :param env: an environment's id, or "module:id".
    :param policy: the language model to start from; None: a small fresh one on the environment's
        own tokenizer.
    :param reward: a reward model or its name; None: the environment's own.
    :param out: run directory for metrics, samples and TensorBoard.
    :param reference: the model of the KL term (default: the starting policy).
    :param env_kwargs: overrides of the task's fields.
    :param keywords: `kl_coef`, `kl_estimator`, `kl_target`, `temperature`, `top_k`, `top_p`,
        `value_trunk`, `value_lr_scale`, `value_warmup_rollouts`, `final_learning_rate`, and every
        keyword of the algorithm itself.
    :raises UnknownNameError: for a name or keyword that does not exist, with the nearest known.
    """
    from textgym.agents.building import Algorithm, build_agent
    from textgym.policies.causal_lm import CausalLM

    algorithm = registry.agents.resolve(agent)
    if not isinstance(algorithm, Algorithm):
        raise InputError(f"agent {agent!r} is {algorithm!r:.60}, expected a textgym Algorithm")
    overrides = dict(env_kwargs or {})
    if reward is not None:
        overrides["reward"] = reward
    lm = policy
    if isinstance(lm, str | Path):
        lm = CausalLM.from_pretrained(lm)
    if lm is not None:
        overrides["tokenizer"] = lm.tokenizer
    vec_env = make_vec(env, n_envs, seed=seed, **overrides)
    task = vec_env.get_attr("task")[0]
    if lm is None:
        width = vec_env.observation_space.shape[0]  # type: ignore[index]
        lm = CausalLM.new(task.tokenizer, seed=seed or 0, max_position_embeddings=max(256, width))
    built = build_agent(
        agent,
        algorithm,
        vec_env,
        lm,
        reference=reference,
        directory=out,
        sample_prompts=sample_prompts(env, overrides),
        seed=seed,
        **keywords,
    )
    built.text_environment = {  # type: ignore[attr-defined]
        "id": env,
        "reward": reward if isinstance(reward, str) else None,
        "env_kwargs": {k: v for k, v in (env_kwargs or {}).items() if _is_plain(v)},
    }
    return built


def load_agent(
    directory: str | Path,
    *,
    reward: Reward | str | None = None,
    n_envs: int | None = None,
    out: str | Path | None = None,
    **keywords: Any,
) -> "BaseAlgorithm":
    """Bring an agent back from its checkpoint or run directory, with KL term and logging.

    :param reward: needed where the agent was trained on an object rather than a name.
    :param keywords: override the saved ones.
    :raises InputError: if the directory holds no agent, or what it needs is not there.
    """
    from textgym.agents.loading import read_agent, restore_agent

    lm, reference, state = read_agent(directory)
    settings, environment = state["settings"], state["environment"]
    saved = {k: settings[k] for k in ("kl_coef", "kl_estimator", "kl_target")}
    saved |= {"final_learning_rate": settings["final_learning_rate"], **settings["keywords"]}
    agent = make_agent(
        settings["agent"],
        environment["id"],
        policy=lm,
        reward=reward if reward is not None else environment["reward"],
        n_envs=n_envs or settings["n_envs"],
        seed=settings["seed"],
        out=out,
        reference=reference,
        env_kwargs=environment["env_kwargs"],
        **{**saved, **keywords},
    )
    restore_agent(agent, state)
    return agent


def train(
    env: str,
    *,
    agent: str = "ppo",
    policy: str | Path | None = None,
    reward: str | None = None,
    timesteps: int = 100_000,
    out: str | Path,
    n_envs: int = DEFAULT_N_ENVS,
    seed: int = 0,
    resume: bool = False,
    progress_bar: bool = True,
    callback: "BaseCallback | list[BaseCallback] | None" = None,
    report: Callable[[str], None] = print,
    **keywords: Any,
) -> "BaseAlgorithm":
    """Train an agent and save it in a run directory; Ctrl-C saves too.

    :param timesteps: completion tokens.
    :param resume: go on with the run in `out`.
    :param keywords: as `make_agent`'s.
    :raises KeyboardInterrupt: after an interrupt, once the agent has been saved.
    :raises StorageError: if `out` cannot be written or is in use.
    """
    from textgym.agents.loading import save_agent
    from textgym.agents.run_directory import open_run

    out = Path(out)
    settings = {
        "env": env,
        "agent": agent,
        "policy": None if policy is None else str(policy),
        "reward": reward,
        "timesteps": timesteps,
        "n_envs": n_envs,
        "seed": seed,
        **{k: v for k, v in keywords.items() if _is_plain(v)},
    }
    if resume:
        trained = load_agent(out, reward=reward, out=out, **keywords)
    else:
        trained = make_agent(
            agent, env, policy=policy, reward=reward, n_envs=n_envs, seed=seed, out=out, **keywords
        )
    interrupted = False
    with open_run(out, settings, resume=resume) as directory:
        remaining = max(timesteps - trained.num_timesteps, 0)
        try:
            if remaining:
                trained.learn(
                    remaining,
                    callback=callback,
                    tb_log_name=agent,
                    reset_num_timesteps=not resume,
                    progress_bar=progress_bar,
                )
        except KeyboardInterrupt:
            interrupted = True
        save_agent(
            trained,
            directory / "checkpoints" / "last",
            environment=trained.text_environment,  # type: ignore[attr-defined]
        )
        report(f"{directory}: saved after {trained.num_timesteps:,} tokens")
    if interrupted:
        raise KeyboardInterrupt
    return trained


def evaluate(
    env: str,
    *,
    policy: "str | Path | CausalLM",
    reward: Reward | str | None = None,
    gold: Sequence[Reward | str] | Reward | str = (),
    reference: "str | Path | CausalLM | None" = None,
    prompts: Sequence[Any] | None = None,
    n_episodes: int = 500,
    n_envs: int = 64,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    env_kwargs: dict[str, Any] | None = None,
    vocabulary: frozenset[str] | None = None,
) -> "EvaluationReport":
    """Let a policy play and report on its texts.

    :param gold: independent judges, by name or object.
    :param reference: the frozen starting model, for perplexity and KL.
    :param prompts: each is played once; None draws `n_episodes` from the environment's own.
    :param vocabulary: known words in lower case, to count made-up ones.
    :raises InputError: if a name, a directory or a prompt is wrong.
    """
    from textgym.agents.evaluation import InOrder, evaluate_texts, play
    from textgym.agents.vec_env import TextVecEnv
    from textgym.envs.vector_env import TextVectorEnv
    from textgym.policies.causal_lm import CausalLM
    from textgym.policies.sampling import Sampling

    lm = policy if isinstance(policy, CausalLM) else CausalLM.from_pretrained(policy)
    if isinstance(reference, str | Path):
        reference = CausalLM.from_pretrained(reference)
    named = [gold] if isinstance(gold, str) or callable(gold) else list(gold)
    judges = [resolve_reward(judge) for judge in named]
    overrides: dict[str, Any] = {**(env_kwargs or {}), "tokenizer": lm.tokenizer}
    if reward is not None:
        overrides["reward"] = reward
    if prompts is not None:
        texts = [p if isinstance(p, str) else p["prompt"] for p in prompts]
        rows = lm.tokenizer.encode_batch(texts, add_special_tokens=True)
        overrides |= {
            "prompts": InOrder(prompts),
            "max_prompt_tokens": max((len(row) for row in rows), default=1),
        }
        n_episodes = len(prompts)
    if n_episodes < 1:
        raise InputError("evaluation needs at least one prompt")
    vec_env = TextVecEnv(TextVectorEnv(get_task(env, **overrides), min(n_envs, n_episodes)))
    vec_env.seed(seed)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    episodes = play(lm, vec_env, n_episodes, sampling=sampling, seed=seed)
    return evaluate_texts(
        episodes,
        lm=lm,
        sampling=sampling,
        judges=judges,
        reference=reference,
        vocabulary=vocabulary,
    )


def generate(
    policy: "str | Path | CausalLM",
    *,
    prompt: str | Sequence[str],
    max_new_tokens: int = 40,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[str]:
    """Continue one prompt or several; returns the continuations without their prompts."""
    from textgym.policies.causal_lm import CausalLM

    lm = policy if isinstance(policy, CausalLM) else CausalLM.from_pretrained(policy)
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    return lm.generate(
        prompts,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )


def sample_prompts(env: str, overrides: dict[str, Any], count: int = 8) -> list[str]:
    """The first different prompts that an environment draws with seed 0."""
    import numpy as np

    from textgym.envs.prompts import PromptSource

    task = get_task(env, **overrides)
    source = PromptSource(
        task.prompts,
        task.tokenizer,
        max_prompt_tokens=task.max_prompt_tokens,
        truncate_prompt=task.truncate_prompt,
    )
    rng = np.random.default_rng(0)
    drawn = [source.draw(rng) for _ in range(4 * count)]
    return list(dict.fromkeys(row.text for row in drawn))[:count]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
