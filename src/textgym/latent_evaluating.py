"""`textgym.evaluate` of an agent with latent actions: its best z for each prompt is decoded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from textgym.agents.building.latent_checkpoint import (
    LatentCheckpoint,
    acting_agent,
    holds_latent_agent,
    read_latent_agent,
    trained_decoder,
)
from textgym.agents.evaluation.latent_play import play_latents, policy_latents
from textgym.agents.evaluation.play import Episode
from textgym.checks import check_memory
from textgym.environments_by_id import make_vec, open_decoder
from textgym.errors import InputError
from textgym.latent_decoders import LatentDecoder
from textgym.policies.language_model.sampling import Sampling


class LatentPlayer:
    """An agent with latent actions that is to be evaluated, and its decoder.

    :param agent: itself, or its checkpoint.
    """

    def __init__(
        self,
        agent: BaseAlgorithm | LatentCheckpoint,
        decoder: LatentDecoder,
    ) -> None:
        self.agent, self.decoder = agent, decoder

    def check_reference(self, reference: Any) -> None:
        """Raises unless a model can read what the decoder writes, token for token.

        :param reference: a language model, or None.
        :raises InputError: for one of another vocabulary.
        """
        if reference is not None and reference.tokenizer != self.decoder.tokenizer:
            raise InputError(
                "reference has another vocabulary than the decoder, so its perplexity would say "
                "nothing: leave it out"
            )

    def play(
        self, env: str, count: int, *, n_envs: int, seed: int, fields: Mapping[str, Any]
    ) -> list[Episode]:
        """Play `count` episodes.

        :param fields: of the task, that are replaced; those of latent actions are as in training
            unless they are among them.
        :raises InputError: where spaces or weights do not fit the decoder.
        """
        check_memory(1000 * n_envs, f"n_envs={n_envs}", "take fewer")
        check_memory(1000 * count, f"n_episodes={count}", "write fewer texts")
        saved = self.agent.saved.settings if isinstance(self.agent, LatentCheckpoint) else {}
        vec_env = make_vec(
            env, min(n_envs, count), seed=seed, decoder=self.decoder, **{**saved, **fields}
        )
        agent = self.agent
        if isinstance(agent, LatentCheckpoint):
            agent = acting_agent(agent, vec_env)
        return play_latents(policy_latents(agent), vec_env, count)


def of_latents(policy: object) -> bool:
    """Whether a path leads to an agent with latent actions."""
    return isinstance(policy, str | Path) and holds_latent_agent(policy)


def latent_player(
    policy: object,
    decoder: LatentDecoder | str | Path | None,
    *,
    sampling: Sampling,
    pad_token: str | None,
) -> LatentPlayer:
    """Who is to be evaluated.

    :param policy: a run or checkpoint directory, or the agent itself.
    :param decoder: None: the one that it was trained with.
    :param sampling, pad_token: of policies that choose tokens.
    :raises InputError: for a policy of another kind, or for these two.
    """
    if pad_token is not None or sampling != Sampling():
        raise InputError(
            "temperature, top_k, top_p and pad_token go with policies that choose tokens: leave "
            "them out with latent actions"
        )
    if isinstance(policy, str | Path):
        if not of_latents(policy):
            raise InputError(
                f"decoder goes with an agent with latent actions, but {policy} holds none: leave "
                "decoder out, or give the run of one as the policy"
            )
        checkpoint = read_latent_agent(policy)
        directory = trained_decoder(checkpoint.saved, policy) if decoder is None else decoder
        return LatentPlayer(checkpoint, open_decoder(directory))
    if not isinstance(policy, BaseAlgorithm) or decoder is None:
        raise InputError(
            "decoder goes with an agent with latent actions or its run directory as the policy, "
            f"got a {type(policy).__name__}"
        )
    return LatentPlayer(policy, open_decoder(decoder))
