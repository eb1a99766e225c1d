"""The evaluation report: everything worth knowing of the texts that a policy wrote."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from textgym.agents.evaluation.judging import PlayedTexts, named_judges
from textgym.agents.evaluation.play import Episode
from textgym.agents.evaluation.readers import Reader
from textgym.agents.rollouts.kl import kl_estimate
from textgym.agents.runs.figures import EVALUATION, Figure, figures
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.log_probs import token_log_probs
from textgym.policies.language_model.packing import PackedSegments, pack_segments
from textgym.policies.language_model.sampling import Sampling
from textgym.policies.language_model.token_masks import TokenMasks
from textgym.rewards import Reward, call_reward
from textgym.text_metrics.metrics import (
    commonest_bigram_share,
    distinct_n,
    duplicate_share,
    made_up_words,
    repetition,
)

PLAIN = Sampling()


def episode_log_probs(
    lm: LanguageModel,
    episodes: Sequence[Episode],
    sampling: Sampling,
    *,
    masks: TokenMasks | None = None,
    batch_size: int = 64,
) -> list[np.ndarray]:
    """Log-probability of each chosen token under a model, float64, one array per episode.

    :param masks: of the constraint that the tokens were chosen under, if there was one.
    """
    order = sorted(range(len(episodes)), key=lambda i: len(episodes[i].tokens))
    result: dict[int, np.ndarray] = {}
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        packed, actions = _pack([episodes[i] for i in part], lm.device)
        states = None if masks is None else _states(masks, [episodes[i] for i in part])
        flat = token_log_probs(lm, packed, actions, sampling, masks=masks, states=states)
        chosen = flat.double().cpu().numpy()
        sizes = [len(episodes[i].acted) for i in part]
        for i, values in zip(part, np.split(chosen, np.cumsum(sizes)[:-1]), strict=True):
            result[i] = values
    return [result[i] for i in range(len(episodes))]


def _states(masks: TokenMasks, episodes: Sequence[Episode]) -> list[int]:
    """The state of the constraint's automaton before each chosen token."""
    states = []
    for episode in episodes:
        walk = masks.automaton.row_states(episode.tokens.tolist(), int(episode.acted[0]) + 1)
        states += [walk[place] for place in episode.acted]
    return [state for state in states if state is not None]


def _pack(episodes: Sequence[Episode], device: torch.device) -> tuple[PackedSegments, torch.Tensor]:
    packed = pack_segments([e.tokens for e in episodes], [e.acted for e in episodes]).to(device)
    return packed, packed.tokens[packed.acted_index + 1]


@dataclass(frozen=True)
class Interval:
    """A mean with the half-width of its 95% normal interval."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> "Interval":
        """Of independent values."""
        array = np.asarray(values, dtype=np.float64)
        spread = float(array.std(ddof=1)) if len(array) > 1 else math.nan
        return cls(float(array.mean()), 1.96 * spread / math.sqrt(len(array)))

    @classmethod
    def of_ratio(cls, above: Sequence[float] | np.ndarray, below: Sequence[float]) -> "Interval":
        """Of Σ above / Σ below over independent pairs, linearised; NaN if nothing is below."""
        a, b = np.asarray(above, np.float64), np.asarray(below, np.float64)
        total = float(b.sum())
        if not total:
            return cls(math.nan, math.nan)
        ratio = float(a.sum()) / total
        rest = (a - ratio * b) * (len(a) / total)
        return cls(ratio, cls.of(rest).half_width)

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half_width:.3f}"


@dataclass(frozen=True)
class EvaluationReport:
    """What a policy wrote on held-out prompts, in figures.

    :param reward: training reward per text.
    :param judges: score of each independent judge, by name.
    :param perplexity: per chosen token, under the reference model at temperature 1 (None without).
    :param kl: nats per episode to the reference model (None without).
    :param length: tokens per completion, the stop token counted.
    :param bigram_share: occurrences per text of the commonest bigram with a content word.
    :param made_up: share of words that the given vocabulary does not hold (None without one).
    :param bits_per_character: of all completions together under a reader
        (`agents/evaluation/readers.py`); None without one. Lower is more
        fluent, up to a point: read it beside `distinct_2`.
    :param prompts_cut: share of texts whose prompt was cut at its start (`truncate_prompt`).
    """

    episodes: list[Episode] = field(repr=False)
    reward: Interval
    judges: dict[str, Interval]
    perplexity: float | None
    kl: Interval | None
    distinct_2: float
    length: Interval
    repetition: float
    duplicates: float
    bigram_share: float
    made_up: float | None
    finish: dict[str, float]
    prompts_cut: float = 0.0
    bits_per_character: Interval | None = None

    def rows(self) -> list[tuple[Figure, str, Interval | float]]:
        """What is known, in the order of the table of figures: figure, title, value."""
        rows: list[tuple[Figure, str, Interval | float]] = []
        for figure in figures(EVALUATION):
            value = getattr(self, figure.tag.split("/")[1])
            if isinstance(value, dict):
                rows += [
                    (figure, figure.title.replace("NAME", name), part)
                    for name, part in value.items()
                ]
            elif value is not None and (value or figure.tag != "evaluation/prompts_cut"):
                rows.append((figure, figure.title, value))
        return rows

    def figures(self) -> dict[str, Any]:
        """Everything but the texts, as JSON values."""

        def pair(value: Interval | None) -> list[float] | None:
            return None if value is None else [value.mean, value.half_width]

        return {
            "episodes": len(self.episodes),
            "reward": pair(self.reward),
            "judges": {name: pair(score) for name, score in self.judges.items()},
            "perplexity": self.perplexity,
            "kl": pair(self.kl),
            "distinct_2": self.distinct_2,
            "length": pair(self.length),
            "repetition": self.repetition,
            "duplicates": self.duplicates,
            "bigram_share": self.bigram_share,
            "made_up": self.made_up,
            "finish": self.finish,
            "prompts_cut": self.prompts_cut,
            "bits_per_character": pair(self.bits_per_character),
        }


def evaluate_texts(
    episodes: Sequence[Episode],
    *,
    lm: LanguageModel | None = None,
    sampling: Sampling = PLAIN,
    judges: Sequence[Reward] | Mapping[str, Reward] = (),
    reference: LanguageModel | None = None,
    masks: TokenMasks | None = None,
    vocabulary: frozenset[str] | None = None,
    reader: Reader | None = None,
) -> EvaluationReport:
    """The figures of played episodes.

    :param lm: the policy that played, `sampling` how it drew; None: it was no language model, and
        there is no KL.
    :param judges: reward models that training never used, or a mapping that names them.
    :param reference: the frozen starting model.
    :param masks: of the constraint that the texts were written under (for the KL).
    :param vocabulary: known words, lower case.
    :param reader: says how surprising the texts are; one that no training used.
    """
    prompts = [e.prompt for e in episodes]
    texts = [e.completion for e in episodes]
    perplexity, kl = None, None
    if reference is not None:
        plain = np.concatenate(episode_log_probs(reference, episodes, Sampling()))
        perplexity = float(np.exp(-plain.mean()))
    if reference is not None and lm is not None:
        drawn = sampling if sampling.temperature > 0 else Sampling()
        own = episode_log_probs(lm, episodes, drawn, masks=masks)
        theirs = episode_log_probs(reference, episodes, drawn, masks=masks)
        pairs = zip(own, theirs, strict=True)
        kl = Interval.of(
            [
                float(kl_estimate(torch.as_tensor(a), torch.as_tensor(b), "k1").sum())
                for a, b in pairs
            ]
        )
    asked = PlayedTexts.of(episodes)
    scores: dict[str, Interval] = {}
    by_name = judges if isinstance(judges, Mapping) else named_judges(judges)
    for name, judge in by_name.items():
        output = call_reward(
            judge, prompts, texts, asked.columns, completion_ids=asked.completion_ids
        )
        scores[name] = Interval.of(np.asarray(output.scores, dtype=np.float64))
    reasons = [e.finish_reason for e in episodes]
    return EvaluationReport(
        episodes=list(episodes),
        reward=Interval.of([e.reward for e in episodes]),
        judges=scores,
        perplexity=perplexity,
        kl=kl,
        distinct_2=distinct_n(texts, 2),
        length=Interval.of([float(e.info["completion_length"]) for e in episodes]),
        repetition=float(np.mean([repetition(text) for text in texts])),
        duplicates=duplicate_share(texts),
        bigram_share=commonest_bigram_share(texts),
        made_up=None if vocabulary is None else made_up_words(texts, vocabulary),
        finish={reason: reasons.count(reason) / len(reasons) for reason in sorted(set(reasons))},
        prompts_cut=sum("prompt_cut" in e.info for e in episodes) / len(episodes),
        bits_per_character=None
        if reader is None
        else Interval.of_ratio(reader.bits(prompts, texts), [float(len(text)) for text in texts]),
    )
