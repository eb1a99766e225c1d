"""From files to a text variational autoencoder: `pretrain_vae`."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.tensorboard import SummaryWriter

from textgym.agents.fitting.fine_tuning import divided
from textgym.agents.fitting.fresh_models import TOKENIZERS, check_unused, make_tokenizer
from textgym.agents.fitting.training_in_run import BUDGET, loop_settings, recorded, train_in_run
from textgym.agents.runs.directory import run_for_verb
from textgym.agents.runs.markdown import markdown_table
from textgym.agents.runs.resuming import resumable
from textgym.agents.runs.run import Run
from textgym.checks import check_numbers
from textgym.directories import holds
from textgym.envs.texts.corpus import files_of, read_texts, split_heldout
from textgym.envs.texts.labelled_rows import read_pairs
from textgym.envs.texts.preparation.pipeline import Cleaner, default_rules
from textgym.errors import InputError
from textgym.optimization import muon_rate
from textgym.paths import is_directory
from textgym.policies.language_model.models_by_name import open_policy
from textgym.policies.pretraining.loop import TrainingReport
from textgym.policies.vae.checkpoint import open_last_vae
from textgym.policies.vae.config import TextVAEConfig
from textgym.policies.vae.documents import (
    LatentDocument,
    autoencoding_documents,
    conditional_documents,
)
from textgym.policies.vae.figures import bound_parts, importance_weighted_perplexity
from textgym.policies.vae.objective import AgainstCollapse, EvidenceLowerBound
from textgym.policies.vae.specimens import specimens
from textgym.policies.vae.text_vae import TextVAE
from textgym.tokenizer import Tokenizer

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from textgym.policies.language_model.language_model import LanguageModel

# What is of fresh weights, and goes with no policy.
FRESH: dict[str, Any] = {
    "architecture": "lstm",
    "tokenizer": "bpe",
    "vocab_size": 2048,
    "hidden_size": None,
    "num_hidden_layers": None,
}
MEASURED_TEXTS = 100  # whose importance-weighted perplexity is taken, by 100 draws each


@dataclass
class VAEReport(TrainingReport):
    """What a training did, and how good the autoencoder is on held-out texts.

    :param figures: of the weights that it ends with, as the record's last row holds them.
    """

    figures: dict[str, float] = field(default_factory=dict)


class LatentDocuments:
    """The documents of texts or pairs, made anew at every iteration."""

    def __init__(
        self, examples: Iterable[Any], tokenizer: Tokenizer, context: int, *, conditional: bool
    ) -> None:
        self.examples, self.tokenizer, self.context = examples, tokenizer, context
        self.make: Any = conditional_documents if conditional else autoencoding_documents

    def __iter__(self) -> Iterator[LatentDocument]:
        made: Iterator[LatentDocument] = self.make(
            self.examples, self.tokenizer, context=self.context
        )
        return made


@resumable(may_change=BUDGET)
def pretrain_vae(
    corpus: str | Path | Sequence[str | Path] | Iterable[Any],
    *,
    out: str | Path,
    policy: "str | Path | LanguageModel | BaseAlgorithm | None" = None,
    steps: int = 4000,
    heldout: float = 0.05,
    architecture: str | None = None,
    latent_size: int = 16,
    mean_scale: float = 0.6,
    conditional: bool = False,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    hidden_size: int | None = None,
    num_hidden_layers: int | None = None,
    context: int = 128,
    column: str = "text",
    min_characters: int = 1,
    max_characters: int = 10_000,
    batch_size: int = 32,
    accumulate: int = 1,
    optimizer: str = "adamw",
    learning_rate: float = 2e-3,
    muon_learning_rate: float | None = None,
    weight_decay: float = 0.0,
    dropout: float = 0.0,
    kl_schedule: str = "linear",
    kl_warmup: float = 0.3,
    kl_cycles: int = 4,
    free_bits: float = 0.2,
    decorrelation: float = 1.0,
    word_dropout: float = 0.0,
    patience: int | None = None,
    evaluate_every: int | None = None,
    autocast: bool = False,
    checkpoint_seconds: float = 300.0,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    force_resume: bool = False,
    progress_bar: bool = True,
    report: Callable[[str], None] = print,
) -> VAEReport:
    """Train a text variational autoencoder on a corpus; what is best on held-out texts is kept.

    :param corpus: files of texts (.txt, .jsonl, .csv, also .gz), a list of texts, or a dataset;
        with `conditional`, rows with the columns `prompt` and `completion`.
    :param out: run directory; `TextVAE.from_pretrained(out)` opens its best checkpoint.
    :param policy: a transformer language model as which encoder and decoder begin instead of fresh
        weights: a checkpoint, "start" for the bundled one, a model or an agent (copied).
    :param steps: optimizer steps at most.
    :param heldout: share of the texts held out, with near-copies on one side.
    :param architecture: of encoder and decoder: `lstm` (the default) or `transformer`; of fresh
        weights, as the next four that say so.
    :param latent_size: dimensions of z.
    :param mean_scale: standard deviation over texts at which the posterior means are kept, against
        collapse; 0: whatever the encoder makes of them.
    :param conditional: learn p(completion | z, prompt).
    :param tokenizer: `bpe` (the default), `byte`, `character` or `word`, made for the corpus, or a
        checkpoint directory whose vocabulary is taken; of fresh weights.
    :param vocab_size: tokens of a BPE tokenizer, 2,048 unless said; of fresh weights.
    :param hidden_size: width; 256 of an LSTM and 128 of a transformer unless said; as above.
    :param num_hidden_layers: depth; 1 of an LSTM and 4 of a transformer unless said; as above.
    :param context: tokens of a text at most, start and stop included; a longer one is refused.
    :param column: where .jsonl and .csv files hold the text.
    :param min_characters: shorter texts are left out.
    :param max_characters: longer texts are left out.
    :param accumulate: batches of an optimizer step.
    :param learning_rate: of AdamW, highest value.
    :param muon_learning_rate: of Muon, for the block matrices; 0.02 unless said.
    :param weight_decay: of the optimizer.
    :param dropout: while training; of an LSTM variational, one mask a sequence.
    :param seed: of the weights, the order of the texts, z and dropout.
    :param resume: go on with the run in `out`; what is not given is as it was.
    :param force_resume: resume although inputs, settings or versions are not as they were.
    :param device: `"auto"` (the GPU where there is one), `"cpu"`, `"cuda"` or `"cuda:1"`.
    :param progress_bar: show one.
    :param report: shows a line of text, such as the cleaning's counts.
    :raises InputError: for a corpus that cannot be read or has but one text, an empty text, or one
        that is longer than the context.
    :raises StorageError: if `out` cannot be written or is in use.

    The other keywords are those of `train_language_model` and `AgainstCollapse`.
    """
    muon_learning_rate = muon_rate(optimizer, muon_learning_rate, 0.02)
    settings = {"verb": "pretrain_vae", **recorded(locals())}
    if policy is None:
        settings |= {k: v if settings[k] is None else settings[k] for k, v in FRESH.items()}
    else:
        check_unused({name: settings[name] for name in FRESH})
    check_numbers(settings)
    measures = AgainstCollapse(
        **{name: settings[name] for name in AgainstCollapse.__dataclass_fields__}
    )
    if policy is None:
        _check_fresh(settings)
    training, held, cleaned = _divided(corpus, settings, report)
    with run_for_verb(
        out,
        settings,
        inputs={"corpus": files_of(corpus)},
        start=_start(policy, settings["tokenizer"]),
        resume=resume,
    ) as run:
        held = list(held)  # one pass over the corpus, which also counts for the report
        if cleaned is not None:
            report(str(cleaned.report))
        _check_several(training, held)
        is_begun = resume and holds(run.last, "trainer.json")
        if is_begun:
            vae = open_last_vae(TextVAE, run.last)
        elif policy is not None:
            shape = _shape(settings)
            vae = TextVAE.from_language_model(open_policy(policy), seed=seed, **shape)
        else:
            vae = _fresh(settings, training)
        width = vae.config.max_position_embeddings
        documents = LatentDocuments(training, vae.tokenizer, width, conditional=conditional)
        count = sum(1 for _ in documents)  # so that a text that is too long is found at the start
        held_documents = list(LatentDocuments(held, vae.tokenizer, width, conditional=conditional))
        report(f"{count:,} texts to learn from, {len(held_documents):,} held out")
        shown = held_documents or list(itertools.islice(documents, 16))
        result = train_in_run(
            EvidenceLowerBound(vae, measures),
            documents,
            held_documents,
            run,
            device=device,
            report=report,
            progress_bar=progress_bar,
            prefix="vae",
            show=_Shown(vae, shown, run),
            **{**loop_settings(settings), "steps": steps, "resume": is_begun},
        )
        figures = _last_figures(vae, held_documents, result, run)
    if figures:
        report(_line(figures, vae.latent_size))
    return VAEReport(**vars(result), figures=figures)


def _check_fresh(settings: Mapping[str, Any]) -> None:
    """Raises unless a fresh autoencoder can be made.

    :raises InputError: for a kind of tokenizer that there is not, or a model that does not fit this
        machine's memory.
    """
    tokenizer = settings["tokenizer"]
    if tokenizer not in TOKENIZERS and not is_directory(tokenizer):
        raise InputError(
            f"tokenizer must be one of {', '.join(TOKENIZERS)}, or a checkpoint directory with a "
            f"tokenizer, got {tokenizer!r:.60}"
        )
    shape = TextVAEConfig.filled_in(vocab_size=settings["vocab_size"], **_shape(settings))
    shape.check_memory(copies=4)


def _start(policy: Any, tokenizer: str | None) -> dict[str, Any]:
    """What the run begins from, for its fingerprint."""
    if policy is not None:
        return {"policy": policy}
    return {} if tokenizer in TOKENIZERS else {"tokenizer": tokenizer}


def _divided(
    corpus: Any, settings: Mapping[str, Any], report: Callable[[str], None]
) -> tuple[Iterable[Any], Iterable[Any], Any]:
    """Examples to learn from, held-out ones, and cleaned texts that count what was left out."""
    heldout, seed = settings["heldout"], settings["seed"]
    if settings["conditional"]:
        pairs = [(pair.prompt, pair.completion) for pair in read_pairs(corpus)]
        training, held, note = divided(pairs, pairs, heldout, seed)
        if note:
            report(note)
        return training, held, None
    rules = default_rules(
        min_characters=settings["min_characters"], max_characters=settings["max_characters"]
    )
    texts = Cleaner(rules).clean(read_texts(corpus, column=settings["column"]))
    return *split_heldout(texts, heldout, seed, report=report), texts


def _shape(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `TextVAEConfig` but for the vocabulary, without what follows the architecture."""
    size = ("latent_size", "hidden_size", "num_hidden_layers")
    names = ("architecture", *size, "conditional", "mean_scale")
    given = {name: settings[name] for name in names if settings[name] is not None}
    return {**given, "max_position_embeddings": settings["context"]}


def _fresh(settings: Mapping[str, Any], examples: Iterable[Any]) -> TextVAE:
    """A tokenizer for the texts, or the one that was asked for, and a model with random weights."""
    texts = (part for text in examples for part in ([text] if isinstance(text, str) else text))
    kind = settings["tokenizer"]
    if kind in TOKENIZERS:
        tokenizer = make_tokenizer(kind, texts, settings["vocab_size"])
    else:
        tokenizer = Tokenizer.load(kind)
    return TextVAE.new(tokenizer, seed=settings["seed"], **_shape(settings))


def _check_several(training: Iterable[Any], held: Sequence[Any]) -> None:
    """Raises unless there are two different texts.

    :raises InputError: z has nothing to say about one text.
    """
    first: Any = None
    for text in itertools.chain(held, training):
        if first is None:
            first = text
        elif text != first:
            return
    raise InputError(
        "the corpus has only one text (or none): an autoencoder needs at least two, so that z has "
        "something to tell apart"
    )


class _Shown:
    """Draws, reconstructions and an interpolation, in the record and on TensorBoard's text page."""

    def __init__(self, vae: TextVAE, documents: Sequence[LatentDocument], run: Run) -> None:
        self.vae, self.documents, self.run = vae, documents, run
        self.room = vae.config.max_position_embeddings - max(d.first_target for d in documents)

    def __call__(self, writer: SummaryWriter, step: int) -> None:
        """Write, with the weights as they are, and record it under a step."""
        found = specimens(self.vae, self.documents, max_new_tokens=min(self.room, 64))
        for kind, rows in itertools.groupby(found, lambda specimen: specimen.kind):
            pairs = [(given, written) for _, given, written in rows]
            writer.add_text(f"samples/{kind}", markdown_table(["from", "written"], pairs), step)
            for given, written in pairs:
                self.run.add_sample(step, f"{kind}: {given}", written)


def _last_figures(
    vae: TextVAE, documents: Sequence[LatentDocument], result: TrainingReport, run: Run
) -> dict[str, float]:
    """Figures of the weights that the training ended with, as the record's last row."""
    if not documents or result.diverged or result.interrupted:
        return {}
    parts = bound_parts(vae, documents, torch.Generator().manual_seed(0))
    figures = {
        "best_step": float(result.best_step),
        **parts.figures(torch.Generator().manual_seed(1)),
        "importance_weighted_perplexity": importance_weighted_perplexity(
            vae, documents[:MEASURED_TEXTS], torch.Generator().manual_seed(2)
        ),
    }
    run.add_metrics({"step": result.steps, **figures})
    with SummaryWriter(str(run.tensorboard_path)) as writer:
        for name, value in figures.items():
            writer.add_scalar(f"vae/{name}", value, result.steps)
    return figures


def _line(figures: Mapping[str, float], latent_size: int) -> str:
    """What a training says at its end."""
    return (
        f"held-out texts: bound {figures['bound']:.1f} nats (reconstruction "
        f"{figures['reconstruction']:.1f}, KL {figures['kl']:.1f}), importance-weighted perplexity "
        f"{figures['importance_weighted_perplexity']:.1f} per token, {figures['active_units']:.0f} "
        f"of {latent_size} units active, mutual information {figures['mutual_information']:.1f} "
        "nats"
    )
