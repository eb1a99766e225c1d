"""The demo's held-out prompts and figures, from the record of a run's evaluations."""

import numpy as np

from textgym.agents.comparison.study import StudyRun
from textgym.agents.evaluation.play import Episode
from textgym.agents.evaluation.readers import Reader
from textgym.agents.evaluation.report import EvaluationReport, Interval
from textgym.agents.runs.held_out import perplexity
from textgym.envs.tasks import movie_reviews
from textgym.text_metrics.metrics import (
    commonest_bigram_share,
    distinct_n,
    duplicate_share,
    made_up_words,
    repetition,
    word_vocabulary,
)

_NO_TOKENS = np.zeros(0, dtype=np.int64)


def recorded_report(
    run: StudyRun, evaluation: int, *, vocabulary: frozenset[str], reader: Reader
) -> EvaluationReport:
    """What `textgym.evaluate` would say of the texts of an evaluation, nothing played again.

    Its episodes are without their tokens, which no record holds.

    :param evaluation: index among the run's; 0 is the start, -1 the last.
    :param vocabulary: known words, lower case.
    :param reader: says how surprising the texts are.
    """
    record = run.record
    assert record is not None
    written = record.texts[record.steps[evaluation]]
    prompts = [str(record.prompts[text.prompt]["prompt"]) for text in written]
    texts = [text.completion for text in written]
    names = {
        role: [n for n, j in record.settings.judges.items() if j.role == role]
        for role in ("reward", "gold")
    }
    rewards = [float(text.scores[names["reward"][0]] or 0.0) for text in written]
    reasons = [text.finish_reason for text in written]
    return EvaluationReport(
        episodes=[
            Episode(
                prompt,
                text.completion,
                reward,
                text.finish_reason,
                _NO_TOKENS,
                _NO_TOKENS,
                np.array(text.log_probs, np.float32),
                {},
            )
            for prompt, text, reward in zip(prompts, written, rewards, strict=True)
        ],
        reward=Interval.of(rewards),
        judges={
            name: Interval.of(
                [np.nan if (s := text.scores[name]) is None else s for text in written]
            )
            for name in names["gold"]
        },
        perplexity=perplexity(written),
        kl=Interval.of([text.kl for text in written]),
        distinct_2=distinct_n(texts, 2),
        length=Interval.of([float(text.length) for text in written]),
        repetition=float(np.mean([repetition(text) for text in texts])),
        duplicates=duplicate_share(texts),
        bigram_share=commonest_bigram_share(texts),
        made_up=made_up_words(texts, vocabulary),
        finish={reason: reasons.count(reason) / len(reasons) for reason in sorted(set(reasons))},
        bits_per_character=Interval.of_ratio(
            reader.bits(prompts, texts), [float(len(text)) for text in texts]
        ),
    )


def known_words() -> frozenset[str]:
    """Every word of the bundled texts."""
    others = movie_reviews.load_other_domains().values()
    return word_vocabulary(
        [
            *movie_reviews.review_texts(),
            *(snippet.text for snippet in movie_reviews.load_critic_snippets()),
            *(rated.text for items in others for rated in items),
        ]
    )


def held_out_prompts(split: str, count: int) -> list[str]:
    """Prompts to report on, or, of the split "validation", to choose settings on."""
    if split == "validation":
        return movie_reviews.validation_prompts(count)
    return movie_reviews.test_prompts(count)
