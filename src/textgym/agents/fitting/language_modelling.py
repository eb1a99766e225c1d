"""From files to a language model: pretraining on a corpus, fine-tuning on pairs."""

import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch.utils.tensorboard import SummaryWriter

from textgym.agents.runs.directory import run_for_verb
from textgym.agents.runs.resuming import resumable
from textgym.agents.runs.run import Run
from textgym.agents.runs.settings import is_json, to_json
from textgym.checks import check_device, check_numbers
from textgym.directories import holds
from textgym.envs.texts.corpus import are_files, files_of, read_texts, split_heldout
from textgym.envs.texts.labelled_rows import Rows, read_pairs
from textgym.envs.texts.prepare import Cleaner, default_rules
from textgym.errors import DivergenceError, InputError
from textgym.near_copies import equal_text_groups
from textgym.optimization import muon_rate
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.decoder import CausalLMConfig
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.models_by_name import open_last, own_policy
from textgym.policies.language_model.published import publish
from textgym.policies.pretraining.documents import Document, pair_documents, text_documents
from textgym.policies.pretraining.loop import TrainingReport, train_language_model
from textgym.run_files import CHECKPOINTS
from textgym.splits import split_rows
from textgym.tokenizer import Tokenizer

TOKENIZERS = ("bpe", "byte", "character")
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
    :param tokenizer: `"bpe"` (trained; the default), `"byte"` or `"character"`; of a fresh model,
        as the next three.
    :param vocab_size: tokens of a trained tokenizer; 2,048 unless said.
    :param hidden_size: width of the model; 128 unless said.
    :param num_hidden_layers: depth of the model; 4 unless said.
    :param context: tokens that the model can see; a longer text is cut into pieces.
    :param column: where .jsonl and .csv files hold the text.
    :param min_characters: shorter texts are left out.
    :param max_characters: longer texts are left out.
    :param accumulate: batches of an optimizer step.
    :param learning_rate: of AdamW, highest value.
    :param muon_learning_rate: of Muon, for the block matrices; 0.02 unless said (`sft`: 0.002).
    :param weight_decay: of the optimizer.
    :param dropout: on both residual branches while training.
    :param seed: of the weights, the order of the texts and the dropout.
    :param resume: go on with the run in `out`; what is not given is as it was.
    :param force_resume: resume although inputs, settings or versions are not as they were.
    :param device: `"auto"` (the GPU where there is one), `"cpu"`, `"cuda"` or `"cuda:1"`.
    :param pad_token: a token of the policy's vocabulary that no text needs, to fill up rows where
        its directory names none that can.
    :param progress_bar: show one.
    :param report: shows a line of text, such as the cleaning's counts.
    :raises InputError: for an empty corpus, or one that cannot be read, naming file and line.
    :raises StorageError: if `out` cannot be written or is in use.
    :return: what was done; `diverged` says what was no longer finite, if anything. Then the run
        holds what was saved before, and the command line ends with exit code 2.

    The other keywords are those of `train_language_model` and `CausalLMConfig`.
    """
    shape = {"tokenizer": tokenizer, "vocab_size": vocab_size, "hidden_size": hidden_size}
    shape |= {"num_hidden_layers": num_hidden_layers}
    unused = [name for name, value in shape.items() if value is not None]
    if policy is not None and unused:
        raise InputError(
            f"{unused[0]} is of a fresh model, but policy= brings its own: leave one of them out"
        )
    tokenizer, vocab_size = tokenizer or "bpe", 2048 if vocab_size is None else vocab_size
    hidden_size = 128 if hidden_size is None else hidden_size
    num_hidden_layers = 4 if num_hidden_layers is None else num_hidden_layers
    muon_learning_rate = muon_rate(optimizer, muon_learning_rate, 0.02)
    if tokenizer not in TOKENIZERS:
        raise InputError(f"tokenizer must be one of {', '.join(TOKENIZERS)}, got {tokenizer!r}")
    if pad_token is not None and policy is None:
        raise InputError("pad_token goes with policy=, a checkpoint directory: leave it out")
    settings = {"verb": "pretrain", **_recorded(locals())}
    if policy is not None:
        settings |= dict.fromkeys(shape)
    check_numbers(settings)
    CausalLMConfig.filled_in(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        max_position_embeddings=context,
    ).check_memory(copies=4)
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
        if is_begun:
            lm: LanguageModel = open_last(run.last)
        elif policy is not None:
            lm = own_policy(policy, pad_token=pad_token)
        else:
            lm = CausalLM.new(
                _make_tokenizer(tokenizer, training, vocab_size),
                seed=seed,
                hidden_size=hidden_size,
                num_hidden_layers=num_hidden_layers,
                max_position_embeddings=context,
            )
        width = min(context, lm.config.max_position_embeddings)
        documents = TextDocuments(training, lm.tokenizer, width)
        held_documents = list(text_documents(held_texts, lm.tokenizer, context=width))
        result = _train(
            lm,
            documents,
            held_documents,
            run,
            device=device,
            report=report,
            progress_bar=progress_bar,
            **{**_loop_settings(settings), "steps": steps, "resume": is_begun},
        )
        if str(documents):
            report(str(documents))
        if result.heldout:
            report(_heldout_line(result, held_documents, held_texts))
    return result


@resumable(may_change=BUDGET)
def sft(
    data: Rows,
    *,
    policy: "str | Path | LanguageModel | BaseAlgorithm",
    out: str | Path,
    steps: int | None = None,
    seconds: float | None = None,
    epochs: float = 3.0,
    heldout: float = 0.05,
    batch_size: int = 16,
    accumulate: int = 1,
    optimizer: str = "adamw",
    learning_rate: float = 3e-4,
    muon_learning_rate: float | None = None,
    weight_decay: float = 0.0,
    dropout: float = 0.0,
    patience: int | None = 3,
    evaluate_every: int | None = None,
    checkpoint_seconds: float = 300.0,
    seed: int = 0,
    device: str = "auto",
    pad_token: str | None = None,
    resume: bool = False,
    force_resume: bool = False,
    progress_bar: bool = True,
    report: Callable[[str], None] = print,
) -> TrainingReport:
    """Fine-tune on prompt-completion pairs; only the completions are learned.

    :param data: .jsonl or .csv (also .gz), or rows given in Python (a list or dataset), with the
        columns `prompt` and `completion`.
    :param policy: the checkpoint or run directory to start from, "start" for the bundled model, a
        model or an agent (copied).
    :param steps: optimizer steps at most.
    :param seconds: wall-clock time at most.
    :param epochs: the budget where neither `steps` nor `seconds` is given.
    :param out: run directory; `CausalLM.from_pretrained(out)` opens its best checkpoint.
    :param heldout: share of the pairs held out, with near-copies and a prompt's pairs on one side.
    :raises InputError: for bad data, naming file and line, or a pair that exceeds the context.
    :raises StorageError: if `out` cannot be written or is in use.
    """
    muon_learning_rate = muon_rate(optimizer, muon_learning_rate, 2e-3)
    settings = {"verb": "sft", **_recorded(locals())}
    check_numbers(settings)
    pairs = [(pair.prompt, pair.completion) for pair in read_pairs(data)]
    chosen, kept, note = _divided(pairs, heldout, seed)
    with run_for_verb(
        out, settings, inputs={"data": files_of(data)}, start={"policy": policy}, resume=resume
    ) as run:
        # Else it was killed before the first of these.
        is_begun = resume and holds(run.last, "trainer.json")
        lm = open_last(run.last) if is_begun else own_policy(policy, pad_token=pad_token)
        context = lm.config.max_position_embeddings
        documents = list(pair_documents(chosen, lm.tokenizer, context=context))
        report(f"{len(chosen)} pairs to learn from, {len(kept)} held out")
        if note:
            report(note)
        if steps is None and seconds is None:
            steps = max(1, round(epochs * len(documents) / (batch_size * accumulate)))
        result = _train(
            lm,
            documents,
            list(pair_documents(kept, lm.tokenizer, context=context)),
            run,
            device=device,
            report=report,
            progress_bar=progress_bar,
            **{**_loop_settings(settings), "steps": steps, "resume": is_begun},
        )
        if result.heldout:
            report(f"held-out perplexity {result.perplexity:.1f} per completion token")
    return result


def _divided(
    pairs: Sequence[tuple[str, str]], heldout: float, seed: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]], str]:
    """Pairs to learn from, held-out ones, and a note; none held out where all are one pair."""
    if heldout == 0 or len(set(equal_text_groups([f"{p}{c}" for p, c in pairs]).tolist())) < 2:
        return list(pairs), [], ""
    split = split_rows(
        [prompt for prompt, _ in pairs],
        [(completion,) for _, completion in pairs],
        heldout,
        np.random.default_rng(seed),
        by_prompt=True,
    )
    return (*split.divide(pairs), split.note)


def _heldout_line(
    result: TrainingReport, documents: Sequence[Document], texts: Sequence[str]
) -> str:
    """Perplexity per token, and bits per character, which other tokenizers' models share."""
    tokens = sum(len(document.tokens) - 1 for document in documents)
    characters = max(1, sum(len(text) for text in texts))
    bits = math.log(result.perplexity) * tokens / characters / math.log(2)
    return (
        f"held-out perplexity {result.perplexity:.1f} per token, "
        f"{bits:.2f} bits per character ({len(texts)} texts)"
    )


def _recorded(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a verb as its `config.yaml` holds them."""
    left_out = {"report", "progress_bar", "resume", "force_resume", "shape", "unused"}
    kept = {k: to_json(v) for k, v in arguments.items() if k not in left_out}
    lost = {k for k, v in kept.items() if not is_json(v)}
    lost |= {k for k in ("corpus", "data") if k in arguments and not are_files(arguments[k])}
    kept = {k: v for k, v in kept.items() if k not in lost}
    return kept | ({"not_saved": sorted(lost)} if lost else {})


def _loop_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of a verb's settings that are keywords of `train_language_model`."""
    known = inspect.signature(train_language_model).parameters
    chosen = {key: value for key, value in settings.items() if key in known and key != "heldout"}
    if chosen.get("muon_learning_rate") is None:
        chosen.pop("muon_learning_rate", None)
    return chosen


def pick_device(device: str) -> torch.device:
    """`"auto"` is the GPU where there is one.

    :raises InputError: for a device that is not there.
    """
    check_device(device)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def _train(
    lm: LanguageModel,
    documents: Iterable[Document],
    heldout: Sequence[Document],
    run: Run,
    *,
    device: str,
    report: Callable[[str], None],
    **keywords: Any,
) -> TrainingReport:
    """`train_language_model` with its figures in the run directory; a divergence is reported."""
    lm.to(pick_device(device))
    with SummaryWriter(str(run.tensorboard_path)) as writer:

        def record(figures: dict[str, float]) -> None:
            run.add_metrics(figures)
            for key, value in figures.items():
                if key != "step":
                    writer.add_scalar(f"language_model/{key}", value, int(figures["step"]))
            publish(run.directory)

        try:
            result = train_language_model(
                lm,
                documents,
                heldout=heldout,
                checkpoints=run.directory / CHECKPOINTS,
                record=record,
                **keywords,
            )
        except DivergenceError as error:  # what was recorded and saved before it is worth keeping
            run.add_metrics({"diverged": str(error)})
            report(str(error))
            result = TrainingReport(diverged=str(error))
    publish(run.directory)
    return result


def _make_tokenizer(kind: str, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    if kind == "byte":
        return Tokenizer.byte()
    if kind == "character":
        return Tokenizer.character(texts)
    return Tokenizer.train_bpe(texts, vocab_size=vocab_size)
