"""Episodes in which an action is a point of a continuous space, from which a decoder writes.

One action writes a whole turn: the text, or in a dialogue the player's next words. All rows are
decoded at once, and then played token by token on the same rules as every other environment's, so
that the same words earn the same reward. The reward model is asked once for all texts that end.
"""

from collections.abc import Sequence
from numbers import Real
from typing import Literal

import numpy as np
from gymnasium import spaces

from textgym.envs.episode_rows import EpisodeRows
from textgym.envs.step_result import StepResult
from textgym.errors import InputError, unknown_name
from textgym.latent_decoders import LatentDecoder, check_latents

Decoding = Literal["greedy", "sampled"]
DECODINGS = ("greedy", "sampled")
# Keywords of environments with latent actions, and what `LatentRows` calls them.
OF_LATENTS = {"latent_limit": "limit", "decoding": "decoding", "prior_coef": "prior_coef"}
OBSERVATION_LIMIT = 10.0  # an encoder's means are of the order of 1


class LatentRows:
    """n rows of a task that are written by a decoder.

    :param episodes: rows of a task with the decoder's tokenizer; nobody else steps them.
    :param decoder: writes a text from z; its prior is a standard normal distribution.
    :param limit: components of z are cut to [-limit, limit], in standard deviations of the prior.
    :param decoding: "greedy": the likeliest token each time; "sampled": drawn.
    :param prior_coef: each action costs prior_coef · ½‖z‖², the negative log-density of z under the
        prior but for a constant: far from where it was trained a decoder writes nonsense.
    :raises InputError: for a number out of range, a decoder of another vocabulary, or one whose
        context is too small for the task's longest text.
    """

    def __init__(
        self,
        episodes: EpisodeRows,
        decoder: LatentDecoder,
        *,
        limit: float = 3.0,
        decoding: Decoding = "greedy",
        prior_coef: float = 0.0,
    ) -> None:
        if not (_is_number(limit) and 0 < limit <= 100):
            raise InputError(
                f"latent_limit must be a number above 0, at most 100, got {limit!r:.60}"
            )
        if not (_is_number(prior_coef) and 0 <= prior_coef < float("inf")):
            raise InputError(f"prior_coef must be a number from 0, got {prior_coef!r:.60}")
        if decoding not in DECODINGS:
            raise unknown_name("decoding", str(decoding), DECODINGS)
        task = episodes.task
        if task.chat:
            raise InputError(
                "chat is of a language model as policy, and a latent decoder writes its text from "
                "z: leave chat out"
            )
        if task.tokenizer != decoder.tokenizer:
            raise InputError(
                f"the decoder has another vocabulary ({decoder.tokenizer.vocab_size} tokens) than "
                f"the task's tokenizer ({task.tokenizer.vocab_size}): leave tokenizer out, and the "
                "task takes the decoder's"
            )
        _check_context(episodes, decoder)
        self.task, self.decoder = task, decoder
        self.limit, self.decoding, self.prior_coef = float(limit), decoding, float(prior_coef)
        self.episodes, self.size = episodes, len(episodes.lengths)

    @property
    def action_space(self) -> spaces.Box:
        """Of one row: `Box(-limit, limit, [latent_size])`, float32."""
        return spaces.Box(-self.limit, self.limit, (self.decoder.latent_size,), np.float32)

    @property
    def observation_space(self) -> spaces.Box:
        """Of one row: `Box(-10, 10, [observation_size])`, float32."""
        shape = (self.decoder.observation_size,)
        return spaces.Box(-OBSERVATION_LIMIT, OBSERVATION_LIMIT, shape, np.float32)

    def observations(self, rows: Sequence[int]) -> np.ndarray:
        """float32 [len(rows), observation_size]: what the encoder makes of the texts so far."""
        texts = [self.episodes.text(row) for row in rows]
        found = self.decoder.encode_prompts(texts)
        clipped = np.clip(found, -OBSERVATION_LIMIT, OBSERVATION_LIMIT)
        return np.asarray(clipped, np.float32)

    def step(self, actions: np.ndarray, rng: np.random.Generator) -> StepResult:
        """Write one turn in every row.

        :param actions: float [n, latent_size], cut to the limit.
        :param rng: of what is drawn, if anything is.
        :return: a row that ended has an ending, as `EpisodeRows.step` gives it, with the component
            `prior` where it costs anything.
        :raises InputError: for actions of another shape or that are not finite, or if an episode is
            over; nothing has changed then.
        :raises RewardError: from the reward model; nothing has changed then either.
        """
        latents = check_latents(actions, self.decoder.latent_size, self.size)
        latents = np.clip(latents, -self.limit, self.limit)
        texts = [self.episodes.text(row) for row in range(self.size)]
        written = self.decoder.decode_latents(
            latents,
            texts,
            rng=rng if self.decoding == "sampled" else None,
            max_new_tokens=self.task.max_new_tokens,
        )
        result = self._play(written)
        self._price(latents, result)
        return result

    def _play(self, written: list[list[int]]) -> StepResult:
        """The tokens of each row and a stop token, until its turn or its episode ends."""
        episodes, scores = self.episodes, self.episodes.scores
        saved, was_open = episodes.save(), scores.is_open
        turns = [episodes.turn_count(row) for row in range(self.size)]
        columns = [[*ids, self.task.tokenizer.eos_token_id] for ids in written]
        n = self.size
        total = StepResult(np.zeros(n), np.zeros(n, bool), np.zeros(n, bool), {}, {})
        playing, place = list(range(n)), 0
        if not was_open:
            scores.open()
        try:
            while playing:
                actions = np.array([columns[row][place] for row in playing])
                result = episodes.step_some(playing, actions)
                for array, found in zip(total[:3], result[:3], strict=True):
                    array[:] = array + found
                total.endings.update(result.endings)
                total.waiting.update(result.waiting)
                place += 1
                playing = [
                    row
                    for row in playing
                    if row not in result.endings and episodes.turn_count(row) == turns[row]
                ]
            if not was_open:
                scores.settle()
                for row, text in total.waiting.items():
                    total.rewards[row] = text.reward
                total.waiting.clear()
                scores.latest = {}
        except BaseException:
            episodes.restore(saved)
            raise
        finally:
            if not was_open:
                scores.close()
        return total

    def _price(self, latents: np.ndarray, result: StepResult) -> None:
        """What the latents cost, in rewards and, at an end, among the components."""
        if not self.prior_coef:
            return
        costs = self.prior_coef * 0.5 * (latents.astype(np.float64) ** 2).sum(axis=1)
        result.rewards[:] -= costs
        for row, ending in result.endings.items():
            ending["reward_components"]["prior"] = -float(costs[row])


def _check_context(episodes: EpisodeRows, decoder: LatentDecoder) -> None:
    """Raises unless the decoder can write behind every text of the task, before any is written.

    :raises InputError: saying how many tokens there are, and how many it takes.
    """
    task, context = episodes.task, getattr(decoder, "context", None)
    # Each turn of a dialogue may ask for the whole budget, wherever it begins.
    longest = episodes.width + (task.max_new_tokens if task.reply is not None else 0)
    if context is not None and longest > context:
        what, advice = "prompt and budget", "max_new_tokens or the prompts' length"
        if task.reply is not None:
            what, advice = "max_context and a turn", "max_context or max_new_tokens"
        raise InputError(
            f"{what} together take {longest} tokens, but the decoder's context is {context}: lower "
            f"{advice}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
