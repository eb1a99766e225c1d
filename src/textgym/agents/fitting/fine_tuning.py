"""From pairs of prompt and completion, or conversations, to a model that answers so."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from textgym.agents.fitting.training_in_run import (
    BUDGET,
    loop_settings,
    own_model,
    recorded,
    train_in_run,
)
from textgym.agents.runs.directory import run_for_verb
from textgym.agents.runs.resuming import resumable
from textgym.chat_templates import ChatTemplate, check_chat
from textgym.checks import check_numbers
from textgym.counts import count_of
from textgym.directories import holds
from textgym.envs.texts.conversations import Conversation, read_conversations
from textgym.envs.texts.corpus import files_of
from textgym.envs.texts.labelled_rows import Pair, Rows, read_pairs
from textgym.errors import InputError
from textgym.near_copies import equal_text_groups
from textgym.optimization import muon_rate
from textgym.policies.language_model.adapters import ALL_LINEAR, LoRA
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.pretraining.documents import Document, pair_documents
from textgym.policies.pretraining.loop import TrainingReport
from textgym.splits import split_rows

T = TypeVar("T")


@resumable(may_change=BUDGET)
def sft(
    data: Rows,
    *,
    policy: "str | Path | LanguageModel | BaseAlgorithm",
    out: str | Path,
    chat: bool = False,
    system: str | None = None,
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
    lora_rank: int | None = None,
    lora_alpha: float | None = None,
    lora_targets: str = ALL_LINEAR,
    use_dora: bool = False,
    resume: bool = False,
    force_resume: bool = False,
    progress_bar: bool = True,
    report: Callable[[str], None] = print,
) -> TrainingReport:
    """Fine-tune on prompt-completion pairs; only the completions are learned.

    :param data: .jsonl or .csv (also .gz), or rows given in Python (a list or dataset), with the
        columns `prompt` and `completion`; with `chat` also with `messages`.
    :param policy: the checkpoint or run directory to start from, "start" for the bundled model, a
        model or an agent (copied).
    :param chat: prompts are a user's messages and completions the answers, as the policy's chat
        template writes them; of `messages` every answer is learned, its end of turn included.
    :param system: with chat: the system message in front of each conversation.
    :param steps: optimizer steps at most.
    :param seconds: wall-clock time at most.
    :param epochs: the budget where neither `steps` nor `seconds` is given.
    :param out: run directory; `CausalLM.from_pretrained(out)` opens its best checkpoint.
    :param heldout: share of the pairs held out, with near-copies and a prompt's pairs on one side.
    :raises InputError: for bad data, naming file and line, or a pair that exceeds the context.
    :raises StorageError: if `out` cannot be written or is in use.
    """
    muon_learning_rate = muon_rate(optimizer, muon_learning_rate, 2e-3)
    settings = {"verb": "sft", **recorded(locals())}
    check_numbers(settings)
    check_chat(chat, system)
    if not chat:  # as the records of runs before there was one
        del settings["chat"], settings["system"]
    lora = LoRA.of(lora_rank, lora_alpha, lora_targets, use_dora)
    rows: list[Pair | Conversation] = [*(read_conversations if chat else read_pairs)(data)]
    chosen, kept, note = divided(rows, [row.texts for row in rows], heldout, seed)
    inputs = {"data": files_of(data), **({} if lora is None else {"policy": policy})}
    with run_for_verb(out, settings, inputs=inputs, start={"policy": policy}, resume=resume) as run:
        # Else it was killed before the first of these.
        is_begun = resume and holds(run.last, "trainer.json")
        lm = own_model(policy, pad_token, lora, seed, last=run.last if is_begun else None)
        template = None
        if chat:
            template = ChatTemplate(lm.tokenizer, system=system).checked(answers=True)
        documents = _documents(chosen, lm, template)
        what = "conversation" if chat else "pair"
        report(f"{count_of(len(chosen), what)} to learn from, {len(kept)} held out")
        if note:
            report(note)
        if steps is None and seconds is None:
            steps = max(1, round(epochs * len(documents) / (batch_size * accumulate)))
        result = train_in_run(
            lm,
            documents,
            _documents(kept, lm, template),
            run,
            device=device,
            report=report,
            progress_bar=progress_bar,
            **{**loop_settings(settings), "steps": steps, "resume": is_begun},
        )
        if result.heldout:
            report(f"held-out perplexity {result.perplexity:.1f} per completion token")
    return result


def _documents(
    rows: Sequence[Pair | Conversation], lm: LanguageModel, template: ChatTemplate | None
) -> list[Document]:
    """Rows as token ids.

    :param template: what writes them, if they are conversations.
    """
    context = lm.config.max_position_embeddings
    if template is None:
        return list(pair_documents([row.texts for row in rows], lm.tokenizer, context=context))
    return list(chat_documents(rows, template, context=context))  # type: ignore[arg-type]


def chat_documents(
    conversations: Sequence[Conversation], template: ChatTemplate, *, context: int
) -> Iterator[Document]:
    """A document for each answer that is learned: what the model sees where it is to give it.

    :param context: tokens of a document at most.
    :raises InputError: for a conversation that the template refuses or that does not fit the
        context, naming its row.
    """
    front = [] if template.system is None else [{"role": "system", "content": template.system}]
    for conversation in conversations:
        if front and conversation.messages[0]["role"] == "system":
            raise InputError(
                f"{conversation.place}: has a system message of its own, and system= is given: "
                "leave one out"
            )
        for end in conversation.answers:
            messages = [*front, *conversation.messages[: end + 1]]
            try:
                tokens, first = template.encode_answer(messages)
            except InputError as error:
                raise InputError(f"{conversation.place}: {error}") from None
            if len(tokens) > context:
                raise InputError(
                    f"{conversation.place}: prompt and answer are {len(tokens)} tokens, chat "
                    f"template included, but the model's context is {context}: shorten them or "
                    "drop the row"
                )
            yield Document(tokens, first)


def divided(
    rows: Sequence[T], pairs: Sequence[tuple[str, str]], heldout: float, seed: int
) -> tuple[list[T], list[T], str]:
    """Rows to learn from, held-out ones, and a note; none held out where all are one pair.

    :param pairs: the prompt and the completion of each row.
    """
    if heldout == 0 or len(set(equal_text_groups([f"{p}{c}" for p, c in pairs]).tolist())) < 2:
        return list(rows), [], ""
    split = split_rows(
        [prompt for prompt, _ in pairs],
        [(completion,) for _, completion in pairs],
        heldout,
        np.random.default_rng(seed),
        by_prompt=True,
    )
    return (*split.divide(rows), split.note)
