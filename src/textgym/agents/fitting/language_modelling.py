"""From a corpus to a language model."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from textgym.agents.fitting.training_in_run import loop_settings, recorded, train_in_run
from textgym.agents.runs.directory import run_for_verb
from textgym.agents.runs.resuming import resumable
from textgym.checks import check_numbers
from textgym.counts import count_of
from textgym.directories import holds
from textgym.envs.texts.corpus import files_of, read_texts, split_heldout
from textgym.envs.texts.preparation.pipeline import Cleaner, default_rules
from textgym.envs.texts.preparation.words import Segmenter
from textgym.errors import InputError
from textgym.optimization import muon_rate
from textgym.policies.language_model.adapters import ALL_LINEAR, LoRA, add_adapter
from textgym.policies.language_model.architectures import LSTM, TRANSFORMER, filled_in
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.models_by_name import open_last, own_policy
from textgym.policies.pretraining.documents import Document, text_documents
from textgym.policies.pretraining.loop import TrainingReport
from textgym.tokenizer import Tokenizer

TOKENIZERS = ("bpe", "byte", "character", "word")
# What a fresh model is made of, unless said.
FRESH = {
    "tokenizer": "bpe",
    "vocab_size": 2048,
    "architecture": TRANSFORMER,
    "hidden_size": 128,
    "num_hidden_layers": 4,
}
LSTM_LAYERS = 2
BUDGET = ("steps", "seconds", "epochs", "patience", "evaluate_every", "checkpoint_seconds")


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
        if architecture == LSTM and num_hidden_layers is None:
            settings["num_hidden_layers"] = LSTM_LAYERS
        settings |= {k: v if settings[k] is None else settings[k] for k, v in FRESH.items()}
    check_numbers(settings)
    lora = LoRA.of(lora_rank, lora_alpha, lora_targets, use_dora)
    if policy is None:
        _check_fresh(settings, pad_token)
    else:
        check_unused({name: settings[name] for name in FRESH})
    rules = default_rules(min_characters=min_characters, max_characters=max_characters)
    texts = Cleaner(rules).clean(read_texts(corpus, column=column))
    training, held = split_heldout(texts, heldout, seed, report=report)
    if steps is None and seconds is None:
        steps = 2000
    with run_for_verb(
        out, settings, inputs={"corpus": files_of(corpus)}, start={"policy": policy}, resume=resume
    ) as run:
        held_texts = list(held)  # one pass over the corpus, which also counts for the report
        report(str(texts.report))
        # Else it was killed before the first of these.
        is_begun = resume and holds(run.last, "trainer.json")
        if policy is None:
            lm: LanguageModel = (
                open_last(run.last) if is_begun else _fresh_model(settings, training)
            )
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


def check_unused(shape: Mapping[str, Any]) -> None:
    """Raises if something of a fresh model was given beside a policy.

    :raises InputError: naming it.
    """
    for name, value in shape.items():
        if value is not None:
            raise InputError(
                f"{name} is of a fresh model, but policy= brings its own: leave one of them out"
            )


def _check_fresh(settings: Mapping[str, Any], pad_token: str | None) -> None:
    """Raises unless a fresh model can be made.

    :raises InputError: for a kind of tokenizer that there is not, a pad token, or a model that
        does not fit this machine's memory.
    """
    if settings["tokenizer"] not in TOKENIZERS:
        raise InputError(
            f"tokenizer must be one of {', '.join(TOKENIZERS)}, got {settings['tokenizer']!r}"
        )
    if pad_token is not None:
        raise InputError("pad_token goes with policy=, a checkpoint directory: leave it out")
    if settings["lora_rank"] is not None:
        raise InputError("lora_rank goes with policy=: a fresh model has to learn all its weights")
    filled_in(vocab_size=settings["vocab_size"], **_shape(settings)).check_memory(copies=4)


def own_model(
    policy: "str | Path | LanguageModel | BaseAlgorithm",
    pad_token: str | None,
    lora: LoRA | None,
    seed: int,
    *,
    last: Path | None,
) -> LanguageModel:
    """The model that learns: a policy's own, or the one that a training goes on with.

    :param last: the checkpoint that it goes on from; an adapter goes on upon the policy itself.
    """
    if last is not None and lora is None:
        return open_last(last)
    lm = own_policy(policy, pad_token=pad_token)
    if lora is not None:
        add_adapter(lm, lora, seed=seed)
    return lm


def _fresh_model(settings: Mapping[str, Any], texts: Iterable[str]) -> CausalLM:
    """A tokenizer of its own kind for the texts, and a model with random weights."""
    tokenizer = make_tokenizer(settings["tokenizer"], texts, settings["vocab_size"])
    return CausalLM.new(tokenizer, seed=settings["seed"], **_shape(settings))


def _shape(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Architecture, width, depth and context, in the words of `CausalLM.new`."""
    names = ("architecture", "hidden_size", "num_hidden_layers")
    return {
        **{name: settings[name] for name in names},
        "max_position_embeddings": settings["context"],
    }


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


def make_tokenizer(kind: str, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of one of `TOKENIZERS` for the texts, as far as that kind depends on them."""
    if kind == "byte":
        return Tokenizer.byte()
    if kind == "character":
        return Tokenizer.character(texts)
    if kind == "word":
        segmenter = Segmenter()
        segmented = (" ".join(segmenter.words(text)) for text in texts)
        return Tokenizer.words(segmented, vocab_size=vocab_size)
    return Tokenizer.train_bpe(texts, vocab_size=vocab_size)
