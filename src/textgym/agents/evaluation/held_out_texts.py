"""What a policy writes on held-out prompts, and what every reward model says of it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.evaluation.held_out_prompts import HeldOutPrompts
from textgym.agents.evaluation.judging import PlayedTexts, ask_judge
from textgym.agents.evaluation.play import Episode, masks_of, play_with
from textgym.agents.evaluation.report import episode_log_probs
from textgym.agents.runs.held_out import HeldOutText
from textgym.envs.dense_rewards import character_ends, token_rewards
from textgym.errors import RewardError
from textgym.policies.language_model.generation import NextTokens
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.sampling import Sampling
from textgym.policies.sb3.text_policy import TextPolicy
from textgym.reward_models.composition import PartScores
from textgym.reward_models.shadows import says_nothing, warn_of_shadow
from textgym.rewards import Reward
from textgym.tokenizer import Tokenizer

PLAIN = Sampling()
Part = tuple[str, list[int] | None]  # text, and the player's token ids; None: the environment's


class HeldOutTexts:
    """Continues the same prompts again and again, and has the texts judged.

    :param env: of the task, whose prompts are `prompts` and whose reward nobody reads.
    :param prompts: each with its own draws.
    :param judges: reward models by name; each is asked once an evaluation, about all texts.
    :param start: the frozen model that the policy was before it learned.
    :param lookers: names of those whose failure ends nothing: they say nothing of these texts.
    :param timeout, retries: of a judge, as `textgym.rewards.call_reward`'s.
    """

    def __init__(
        self,
        env: VecEnv,
        prompts: HeldOutPrompts,
        judges: Mapping[str, Reward],
        start: LanguageModel,
        *,
        lookers: Collection[str] = (),
        timeout: float | None = None,
        retries: int = 0,
    ) -> None:
        self.lookers = frozenset(lookers)
        self.env, self.prompts, self.judges, self.start = env, prompts, dict(judges), start
        self.timeout, self.retries = timeout, retries
        self.masks = masks_of(env)

    def write(self, policy: TextPolicy, step: int) -> list[HeldOutText]:
        """The texts of all prompts, in order, drawn as the policy draws in training.

        :param step: completion tokens that its weights have learned from.
        :raises RewardError: from a judge that does not only look on, naming it, prompt and step.
        """
        episodes, sampling = self.play(policy), policy.sampling
        texts = PlayedTexts.of(episodes)
        answers = {name: self._ask(name, texts, step) for name in self.judges}
        reference = episode_log_probs(self.start, episodes, sampling, masks=self.masks)
        plain = reference
        if self.masks is not None or sampling != PLAIN:
            plain = episode_log_probs(self.start, episodes, PLAIN)
        return [
            HeldOutText(
                step=step,
                prompt=i,
                completion=episode.completion,
                finish_reason=episode.finish_reason,
                log_probs=episode.log_probs.tolist(),
                reference_log_probs=reference[i].tolist(),
                start_nll=-float(plain[i].sum()),
                **_judged(episode, answers, i, policy.lm.tokenizer),
            )
            for i, episode in enumerate(episodes)
        ]

    def _ask(self, name: str, texts: PlayedTexts, step: int) -> PartScores:
        """What a judge says of texts; one that fails and only looks on says nothing."""
        judge = self.judges[name]
        try:
            return ask_judge(judge, texts, step=step, timeout=self.timeout, retries=self.retries)
        except RewardError as error:
            if name not in self.lookers:
                raise
            warn_of_shadow(error)
            return says_nothing(len(texts.prompts))

    def play(self, policy: TextPolicy) -> list[Episode]:
        """An episode of each prompt, with the prompt's own draws."""
        self.prompts.begin()
        choose = NextTokens(
            policy.lm, sampling=policy.sampling, masks=self.masks, narrow=policy.narrow
        )
        numbers = self.prompts.numbers
        return play_with(choose, self.env, len(self.prompts.prompts), numbers)


def _judged(
    episode: Episode, answers: Mapping[str, PartScores], place: int, tokenizer: Tokenizer
) -> dict[str, Any]:
    """The ends of an episode's tokens, and its part of the judges' answers."""
    parts, before = _parts(episode)
    ends: list[int] = []
    offset = 0
    for (text, ids), prefix in zip(parts, before, strict=True):
        if ids is not None:
            own = np.minimum(character_ends(ids, tokenizer, prefix), len(text))
            ends += (offset + own).tolist()
        offset += len(text)
    scores = {name: _known(answer.scores[place]) for name, answer in answers.items()}
    rewards = {
        name: token_rewards(score, answer.spans[place], parts, tokenizer, before)
        for name, answer in answers.items()
        if answer.spans is not None and (score := scores[name]) is not None
    }
    return {"token_ends": ends, "scores": scores, "token_rewards": rewards}


def _known(score: float) -> float | None:
    return None if np.isnan(score) else float(score)


def _parts(episode: Episode) -> tuple[list[Part], list[list[int]]]:
    """A completion's parts, and the ids in front of each."""
    tokens = episode.tokens.tolist()
    chosen = episode.acted + 1  # where the player's tokens stand
    runs = np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1)
    own = [[tokens[place] for place in run] for run in runs]
    before = [tokens[: run[0]] for run in runs]
    said = _joined(episode.info.get("turns") or ({"who": "player", "text": episode.completion},))
    players = [i for i, (is_player, _) in enumerate(said) if is_player]
    parts: list[Part] = [(text, None) for _, text in said]
    befores: list[list[int]] = [[] for _ in said]
    for place, ids, prefix in zip(players, own, before, strict=True):
        parts[place] = said[place][1], ids
        befores[place] = prefix
    return parts, befores


def _joined(turns: Sequence[Mapping[str, str]]) -> list[tuple[bool, str]]:
    """Turns as (is the player's, text); those of one side that no token parts are one."""
    joined: list[tuple[bool, str]] = []
    for turn in turns:
        is_player, text = turn["who"] == "player", turn["text"]
        if not is_player and not text:
            continue  # words of the environment that are none
        if joined and joined[-1][0] == is_player:
            joined[-1] = is_player, joined[-1][1] + text
        else:
            joined.append((is_player, text))
    return joined
