"""From a corpus to a language model."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from textgym.agents.fitting.fresh_models import (
    FRESH,
    check_fresh,
    check_unused,
    fresh_model,
    fresh_shape,
)
from textgym.agents.fitting.training_in_run import (
    BUDGET,
    loop_settings,
    own_model,
    recorded,
    train_in_run,
)
from textgym.agents.runs.directory import run_for_verb
from textgym.agents.runs.resuming import resumable
from textgym.checks import check_numbers
from textgym.counts import count_of
from textgym.directories import holds
from textgym.envs.texts.corpus import files_of, read_texts, split_heldout
from textgym.envs.texts.preparation.pipeline import Cleaner, default_rules
from textgym.errors import InputError
from textgym.optimization import muon_rate
from textgym.policies.language_model.adapters import ALL_LINEAR, LoRA
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.models_by_name import open_last
from textgym.policies.pretraining.documents import Document, text_documents
from textgym.policies.pretraining.loop import TrainingReport
from textgym.tokenizer import Tokenizer


class TextDocuments:
    """The documents of a corpus, read anew at every iteration.

    :param texts: each of which may be iterated again.
    :param context: tokens of a document; a longer text becomes several.
    """

    def __init__(self, texts: Iterable[str], tokenizer: Tokenizer, context: int) -> None:
        self.texts, self.tokenizer, self.context = texts, tokenizer, context
        self.counts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Document]:
        self.counts = Counter()
        return text_documents(self.texts, self.tokenizer, context=self.context, counts=self.counts)

    def __str__(self) -> str:
        """How many of the texts of the last pass were cut, as a line of output; "" for none."""
        cut, total = self.counts["cut"], self.counts["texts"]
        if not cut:
            return ""
        return (
            f"note: {cut:,} of {total:,} texts are longer than the context of {self.context} "
            "tokens and were learned in pieces"
        )


@resumable(may_change=BUDGET)
def pretrain(
    corpus: str | Path | Sequence[str | Path] | Iterable[Any],
    *,
    out: str | Path,
    policy: "str | Path | LanguageModel | BaseAlgorithm | None" = None,
    steps: int | None = None,
    seconds: float | None = None,
    heldout: float = 0.05,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    architecture: str | None = None,
    hidden_size: int | None = None,
    num_hidden_layers: int | None = None,
    context: int = 256,
    column: str = "text",
    min_characters: int = 1,
    max_characters: int = 10_000,
    batch_size: int = 16,
    accumulate: int = 1,
    optimizer: str = "muon",
    learning_rate: float = 3e-3,
    muon_learning_rate: float | None = None,
    weight_decay: float = 0.0,
    dropout: float = 0.0,
    patience: int | None = None,
    evaluate_every: int | None = None,
    autocast: bool = False,
    checkpoint_seconds: float = 300.0,
    seed: int = 0,
    device: str = "auto",
    pad_token: str | None = None,
    lora_rank: int | None = None,
    lora_alpha: float | None = None,
    lora_targets: str = ALL_LINEAR,
    use_dora: bool = False,
    resume: bool = False,
    force_resume: bool = False,
    progress_bar: bool = True,
    report: Callable[[str], None] = print,
) -> TrainingReport:
    """Train a tokenizer and a language model on a corpus, or go on with a model's training.

    :param corpus: .txt, .jsonl or .csv (also .gz), streamed; in Python also a list of texts, or a
        list or dataset of mappings.
    :param out: run directory; `CausalLM.from_pretrained(out)` opens its best checkpoint.
    :param policy: a checkpoint to start from (with its tokenizer) instead of fresh weights, "start"
        for the bundled model, a model or an agent (copied).
    :param steps: optimizer steps at most (2,000 where `seconds` is not given either).
    :param seconds: wall-clock time at most.
    :param heldout: share of the texts held out, with near-copies on one side; of a corpus of over
        20,000 texts about that share, and near-copies of those texts are not learned from.
    :param tokenizer: `"bpe"` (trained; the default), `"byte"`, `"character"` or `"word"` (the
        commonest words; Chinese needs the extra "prepare"); of a fresh model, as the next four.
    :param vocab_size: tokens of a trained tokenizer; 2,048 unless said.
    :param architecture: `"transformer"` (the default) or `"lstm"`, which only textgym opens.
    :param hidden_size: width of the model; 128 unless said.
    :param num_hidden_layers: depth of the model; 4 unless said, 2 of an lstm.
    :param context: tokens that the model can see; a longer text is cut into pieces.
    :param column: where .jsonl and .csv files hold the text.
    :param min_characters: shorter texts are left out.
    :param max_characters: longer texts are left out.
    :param accumulate: batches of an optimizer step.
    :param learning_rate: of AdamW, highest value.
    :param muon_learning_rate: of Muon, for the block matrices; 0.02 unless said (`sft`: 0.002).
    :param weight_decay: of the optimizer.
    :param dropout: on both residual branches while training; of an lstm variational, one mask a
        sequence.
    :param seed: of the weights, the order of the texts and the dropout.
    :param resume: go on with the run in `out`; what is not given is as it was.
    :param force_resume: resume although inputs, settings or versions are not as they were.
    :param device: `"auto"` (the GPU where there is one), `"cpu"`, `"cuda"` or `"cuda:1"`.
    :param pad_token: a token of the policy's vocabulary that no text needs, to fill up rows where
        its directory names none that can.
    :param lora_rank: rank of a LoRA adapter on the policy, which is then all that learns; the run's
        model is the merged one, and the adapter alone stands in `adapter/` of its checkpoints.
    :param lora_alpha: what the adapter's matrices are multiplied by, times the rank; twice the rank
        unless said.
    :param lora_targets: the linear layers that get an adapter, with commas between ("q_proj,
        v_proj"), or "all-linear": all but the head.
    :param use_dora: DoRA: the length of a weight's rows learns apart from their direction.
    :param progress_bar: show one.
    :param report: shows a line of text, such as the cleaning's counts.
    :raises InputError: for an empty corpus, or one that cannot be read, naming file and line.
    :raises StorageError: if `out` cannot be written or is in use.
    :return: what was done; `diverged` says what was no longer finite, if anything. Then the run
        holds what was saved before, and the command line ends with exit code 2.

    The other keywords are those of `train_language_model`.
    """
    muon_learning_rate = muon_rate(optimizer, muon_learning_rate, 0.02)
    settings = {"verb": "pretrain", **recorded(locals())}
    if policy is None:
        settings |= fresh_shape(settings)
    check_numbers(settings)
    lora = LoRA.of(lora_rank, lora_alpha, lora_targets, use_dora)
    if policy is None:
        check_fresh(settings, pad_token)
    else:
        check_unused({name: settings[name] for name in FRESH})
    rules = default_rules(min_characters=min_characters, max_characters=max_characters)
    texts = Cleaner(rules).clean(read_texts(corpus, column=column))
    training, held = split_heldout(texts, heldout, seed, report=report)
    if steps is None and seconds is None:
        steps = 2000
    inputs = {"corpus": files_of(corpus), **({} if lora is None else {"policy": policy})}
    with run_for_verb(out, settings, inputs=inputs, start={"policy": policy}, resume=resume) as run:
        held_texts = list(held)  # one pass over the corpus, which also counts for the report
        report(str(texts.report))
        # Else it was killed before the first of these.
        is_begun = resume and holds(run.last, "trainer.json")
        if policy is None:
            lm: LanguageModel = open_last(run.last) if is_begun else fresh_model(settings, training)
        else:
            lm = own_model(policy, pad_token, lora, seed, last=run.last if is_begun else None)
        if lm.tokenizer.ends_prompts:
            raise InputError(
                "pretrain learns from whole texts, and the policy is an encoder with a decoder, "
                "which reads a prompt: use sft, with pairs"
            )
        width = min(context, lm.config.max_position_embeddings)
        documents = TextDocuments(training, lm.tokenizer, width)
        held_documents = list(text_documents(held_texts, lm.tokenizer, context=width))
        result = train_in_run(
            lm,
            documents,
            held_documents,
            run,
            device=device,
            report=report,
            progress_bar=progress_bar,
            **{**loop_settings(settings), "steps": steps, "resume": is_begun},
        )
        if str(documents):
            report(str(documents))
        if result.heldout:
            report(_heldout_line(result, held_documents, held_texts))
    return result


def _heldout_line(
    result: TrainingReport, documents: Sequence[Document], texts: Sequence[str]
) -> str:
    """Perplexity per token, and bits per character, which other tokenizers' models share."""
    tokens = sum(len(document.tokens) - 1 for document in documents)
    characters = max(1, sum(len(text) for text in texts))
    bits = math.log(result.perplexity) * tokens / characters / math.log(2)
    return (
        f"held-out perplexity {result.perplexity:.1f} per token, "
        f"{bits:.2f} bits per character ({count_of(len(texts), 'text')})"
    )
