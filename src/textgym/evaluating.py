"""`textgym.evaluate` and `textgym.generate`: what a policy, given by name, writes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgym.chat_templates import with_chat
from textgym.checks import check_memory, check_numbers
from textgym.environments_by_id import NOT_OF_A_TASK, get_task, make_vec
from textgym.envs.latent_rows import OF_LATENTS
from textgym.errors import InputError
from textgym.rewards import Reward
from textgym.rewards_by_name import named_rewards, resolve_reward, reward_list
from textgym.task_arguments import check_given_once, check_tokenizer, task_fields

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecMonitor

    from textgym.agents.evaluation.readers import Reader
    from textgym.agents.evaluation.report import EvaluationReport
    from textgym.latent_decoders import LatentDecoder
    from textgym.policies.language_model.language_model import LanguageModel


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
    chat: bool | None = None,
    system: str | None = None,
    vocabulary: frozenset[str] | None = None,
    reader: "str | Path | LanguageModel | Reader | None" = None,
    pad_token: str | None = None,
    decoder: "LatentDecoder | str | Path | None" = None,
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
    :param chat: each prompt is a user's message, which the policy answers, by its own chat
        template; the same as chat=true in `env_kwargs`.
    :param system: with chat: the system message in front of each prompt.
    :param vocabulary: known words in lower case, to count made-up ones.
    :param reader: who says how surprising the texts are, in bits per character: a language model
        that never trained here, or "reviews", n-grams of the bundled reviews that none has seen.
    :param pad_token: a token of the policy's vocabulary that no text needs, to fill up rows where
        its directory names none that can.
    :param decoder: of a run with latent actions, instead of the one that it was trained with, or of
        an agent with latent actions. There is no drawing then (`temperature`, ...) and no KL; the
        perplexity is that of the text encoded again.
    :raises InputError: if a name, a directory or a prompt is wrong.
    """
    check_numbers(locals())
    from textgym.agents.evaluation.play import masks_of, play
    from textgym.agents.evaluation.readers import resolve_reader
    from textgym.agents.evaluation.report import evaluate_texts
    from textgym.latent_evaluating import latent_player, of_latents
    from textgym.learned_chats import warn_unless_asked_so
    from textgym.policies.language_model.models_by_name import open_policy
    from textgym.policies.language_model.sampling import Sampling

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    latent, lm = None, None
    writer: LatentDecoder | LanguageModel
    if decoder is not None or of_latents(policy):
        latent = latent_player(policy, decoder, sampling=sampling, pad_token=pad_token)
        writer = latent.decoder
    else:
        writer = lm = open_policy(policy, pad_token=pad_token)
    if reference is not None:
        token = pad_token if isinstance(reference, str | Path) else None
        reference = open_policy(reference, pad_token=token, label="reference")
    judges = named_rewards(reward_list(gold))
    reading = None if reader is None else resolve_reader(reader)
    fields = task_fields(with_chat(env_kwargs, chat, system))
    check_tokenizer(fields.get("tokenizer"), writer)
    fields["tokenizer"] = writer.tokenizer
    for name, value in (("reward", reward), ("prompts", prompts)):
        if value is not None:
            check_given_once(name, fields)
    if reward is not None:
        fields["reward"] = resolve_reward(reward)
    if prompts is not None:
        listed = _prompts_in_order(env, {**fields, "prompts": prompts}, n_episodes)
        fields |= {"prompts": prompts, **listed}
        n_episodes = len(listed["prompts"].prompts) if listed else n_episodes
    n_episodes = 500 if n_episodes is None else n_episodes
    masks = None
    if latent is not None:
        latent.check_reference(reference)
        episodes = latent.play(env, n_episodes, n_envs=n_envs, seed=seed, fields=fields)
    else:
        assert lm is not None
        vec_env = _vec_env_to_play(env, n_envs, n_episodes, seed, fields, lm)
        task = vec_env.get_attr("task")[0]
        warn_unless_asked_so(policy, chat=task.chat, system=task.system)
        episodes = play(lm, vec_env, n_episodes, sampling=sampling, seed=seed)
        masks = masks_of(vec_env)
    return evaluate_texts(
        episodes,
        lm=lm,
        sampling=sampling,
        judges=judges,
        reference=reference,
        masks=masks,
        vocabulary=vocabulary,
        reader=reading,
    )


def _prompts_in_order(
    env: str, fields: Mapping[str, Any], n_episodes: int | None
) -> dict[str, Any]:
    """The fields of a task that plays each of its prompts once; empty where they are drawn.

    :param fields: the task's, among them the prompts.
    :param n_episodes: as the caller gave it.
    :raises InputError: if it is given though the prompts are listed.
    """
    from textgym.agents.evaluation.play import SequentialPrompts

    others = (*NOT_OF_A_TASK, *OF_LATENTS)
    task = get_task(env, **{k: v for k, v in fields.items() if k not in others})
    source = task.prompt_source()  # with the task's limits
    source.warn_of_cuts(env)
    if not len(source):  # a function, which is drawn from as in training
        return {}
    if n_episodes is not None:
        raise InputError(
            f"n_episodes={n_episodes} is for prompts that are drawn, but each of those given is "
            "played once: leave one out"
        )
    return {"prompts": SequentialPrompts(source.all()), "max_prompt_tokens": source.max_tokens}


def _vec_env_to_play(
    env: str,
    n_envs: int,
    n_episodes: int,
    seed: int,
    fields: Mapping[str, Any],
    lm: "LanguageModel",
) -> "VecMonitor":
    """The rows that play at a time.

    :raises InputError: where memory or the model's context are too small.
    """
    check_memory(1000 * n_envs, f"n_envs={n_envs}", "take fewer")
    check_memory(1000 * n_episodes, f"n_episodes={n_episodes}", "write fewer texts")
    vec_env = make_vec(env, min(n_envs, n_episodes), seed=seed, **fields)
    width, context = vec_env.observation_space.shape[0], lm.config.max_position_embeddings  # type: ignore[index]
    if width > context:
        raise InputError(
            f"prompt and budget together take {width} tokens, but the model's context is "
            f"{context}: lower max_new_tokens or shorten the prompts"
        )
    return vec_env


def generate(
    policy: "str | Path | LanguageModel | BaseAlgorithm",
    *,
    prompt: str | Sequence[str],
    max_new_tokens: int = 40,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    chat: bool = False,
    system: str | None = None,
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
    :param chat: each prompt is a user's message, and the policy answers it, by its own chat
        template.
    :param system: with chat: the system message in front of each prompt.
    :param seed: of what is drawn; without it, each call draws anew.
    :param pad_token: a token of the policy's vocabulary that no text needs, to fill up rows where
        its directory names none that can.
    :return: the continuations without their prompts.
    :raises InputError: for an empty prompt, one that the tokenizer cannot write, or one that does
        not fit the context.
    """
    check_numbers(locals())
    from textgym.envs.texts.prompts import PromptSource
    from textgym.learned_chats import warn_unless_asked_so
    from textgym.policies.language_model.models_by_name import open_policy

    lm = open_policy(policy, pad_token=pad_token)
    if isinstance(prompt, bytes) or not isinstance(prompt, Iterable):
        raise InputError(f"prompt must be a text or several, got {type(prompt).__name__}")
    warn_unless_asked_so(policy, chat=chat, system=system)
    prompts = [prompt] if isinstance(prompt, str | Mapping) else list(prompt)
    source = PromptSource(prompts, lm.tokenizer)  # refuses what an environment would
    return lm.generate(
        [row.text for row in source.all()],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        chat=chat,
        system=system,
        seed=seed,
    )
