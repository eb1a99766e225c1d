"""The record of a run's held-out evaluations: what it wrote on prompts that it never trained on.

Three files of the run directory. `held_out.json` says once what is evaluated and how, and
`held_out_prompts.jsonl` holds the prompts with their columns. `held_out.jsonl` grows: one row for
each evaluation and prompt. Whatever compares runs reads nothing else.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from textgym.agents.runs.later_scores import read_later_scores, scores_by_step
from textgym.errors import InputError
from textgym.json_lines import append_line, read_rows
from textgym.run_files import HELD_OUT, HELD_OUT_PROMPTS, HELD_OUT_SETTINGS
from textgym.saved_fields import SavedFields
from textgym.storage import json_text, read_json, write_json_atomically, write_text_atomically

FORMAT = 1
Role = Literal["reward", "shadow", "gold"]


@dataclass(frozen=True)
class Judge:
    """Who scores the held-out texts.

    :param role: "reward", what the run is trained on; "shadow", another reward model that only
        looks on; "gold", an independent judge that no run of the comparison trains on.
    :param spec: what it was called at the front door (`length,target=40`); "" for an object.
    """

    role: Role
    spec: str = ""


@dataclass(frozen=True)
class HeldOutSettings:
    """What a run evaluates, and how; runs are comparable where prompts and environment are equal.

    :param prompts_sha256: of the prompts and their columns (`prompts_digest`).
    :param seed: of the draws; a prompt's own do not depend on the other prompts.
    :param judges: by name, each once; the names of `HeldOutText.scores`.
    """

    env: str
    prompts_sha256: str
    n_prompts: int
    seed: int
    evaluations: int
    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    judges: Mapping[str, Judge] = field(default_factory=dict)


@dataclass(frozen=True)
class HeldOutText:
    """What a policy wrote on one prompt at one step.

    :param step: completion tokens that its weights have learned from.
    :param prompt: index of the prompt.
    :param token_ends: for each token the policy chose, the character of `completion` at which it
        ends (a stop token ends where the text does). Of a dialogue, those of the joined turns.
    :param log_probs: nats, of each token under the distribution that it was drawn from.
    :param reference_log_probs: the same under the frozen model of the start.
    :param start_nll: nats, Σ −log p of the tokens under the start at temperature 1 (for the
        perplexity).
    :param scores: by judge; None where it says nothing of this text.
    :param token_rewards: by judge, one number a token, where it says what each is worth.
    """

    step: int
    prompt: int
    completion: str
    finish_reason: str
    token_ends: Sequence[int]
    log_probs: Sequence[float]
    reference_log_probs: Sequence[float]
    start_nll: float
    scores: Mapping[str, float | None]
    token_rewards: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def kl(self) -> float:
        """Nats, Σ log π − log π_ref of the tokens (the estimator k1)."""
        return float(sum(self.log_probs) - sum(self.reference_log_probs))

    @property
    def length(self) -> int:
        """Tokens, the stop token counted."""
        return len(self.token_ends)


@dataclass(frozen=True)
class HeldOutRecord:
    """All held-out evaluations of a run.

    :param prompts: rows with the key `prompt`, and its columns.
    :param texts: by step, in the order of the prompts. Evaluations that are not whole are left out.
    :param lost: steps of evaluations that are left out although later ones are whole, 0 for a start
        that is not there: no run leaves such a record, and what is left says something else.
    """

    settings: HeldOutSettings
    prompts: Sequence[Mapping[str, Any]]
    texts: Mapping[int, Sequence[HeldOutText]]
    lost: Sequence[int] = ()

    @property
    def steps(self) -> list[int]:
        """The steps of the evaluations, in order."""
        return sorted(self.texts)


def perplexity(texts: Sequence[HeldOutText]) -> float:
    """Of the tokens of texts, under the frozen start at temperature 1; 1 where there are none."""
    tokens = sum(text.length for text in texts)
    return math.exp(sum(text.start_nll for text in texts) / max(tokens, 1))


def prompts_digest(prompts: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of prompts with their columns, in order."""
    text = "\n".join(json_text(dict(row), sort_keys=True) for row in prompts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def write_settings(
    run: Path, settings: HeldOutSettings, prompts: Sequence[Mapping[str, Any]]
) -> None:
    """Write what a run evaluates.

    :param run: its directory.
    :raises StorageError: if it cannot be written.
    """
    lines = "".join(json_text(dict(row)) + "\n" for row in prompts)
    write_text_atomically(run / HELD_OUT_PROMPTS, lines)
    write_json_atomically(run / HELD_OUT_SETTINGS, {"format": FORMAT, **asdict(settings)})


def append_texts(run: Path, texts: Sequence[HeldOutText]) -> None:
    """Append the rows of an evaluation; they are on the disk before a later checkpoint is.

    :raises StorageError: if they cannot be written.
    """
    lines = "\n".join(json_text(_row(text)) for text in texts)
    append_line(run / HELD_OUT, lines, sync=True)


def read_settings(run: Path) -> HeldOutSettings | None:
    """What a run evaluates; None for one that evaluates nothing.

    :raises InputError: for a file that holds something else.
    """
    path = run / HELD_OUT_SETTINGS
    return _settings(read_json(path), path) if path.is_file() else None


def read_held_out(run: Path) -> HeldOutRecord | None:
    """The record of a run; None where it has none.

    Torn lines, evaluations that are not whole, and rows that a resumed run wrote again are passed
    over: of two rows for one step and prompt the later counts. What `later_scores` holds of the
    texts is among their scores, and its judges among the record's.

    :raises InputError: for files that are not such a record.
    """
    settings = read_settings(run)
    if settings is None:
        return None
    prompts = read_rows(run / HELD_OUT_PROMPTS)
    if len(prompts) != settings.n_prompts or prompts_digest(prompts) != settings.prompts_sha256:
        raise InputError(
            f"{run / HELD_OUT_PROMPTS}: not the prompts that {HELD_OUT_SETTINGS} names; put the "
            "file back, or leave this run out"
        )
    by_step: dict[int, dict[int, HeldOutText]] = {}
    for row in read_rows(run / HELD_OUT) if (run / HELD_OUT).is_file() else ():
        text = _text(row, run / HELD_OUT)
        if text.prompt < settings.n_prompts:
            by_step.setdefault(text.step, {})[text.prompt] = text
    whole = {
        step: [texts[k] for k in range(settings.n_prompts)]
        for step, texts in sorted(by_step.items())
        if len(texts) == settings.n_prompts
    }
    last = max(whole, default=-1)
    lost = tuple(sorted({s for s in (0, *by_step) if s < last and s not in whole}))
    return _with_later_scores(HeldOutRecord(settings, prompts, whole, lost), run)


def _with_later_scores(record: HeldOutRecord, run: Path) -> HeldOutRecord:
    own = record.settings.judges
    later = [row for row in read_later_scores(run) if row.judge not in own]
    if not later:
        return record
    completions = {step: [t.completion for t in texts] for step, texts in record.texts.items()}
    texts = {
        step: [
            replace(text, scores={**text.scores, **{j: s[k] for j, s in scores.items()}})
            for k, text in enumerate(record.texts[step])
        ]
        for step, scores in scores_by_step(later, completions).items()
    }
    judges = {row.judge: Judge(row.role, row.spec) for row in later}  # type: ignore[arg-type]
    settings = replace(record.settings, judges={**own, **judges})
    return replace(record, settings=settings, texts={**record.texts, **texts})


def _row(text: HeldOutText) -> dict[str, Any]:
    row = asdict(text)
    for name in ("log_probs", "reference_log_probs"):
        row[name] = [round(float(value), 5) for value in row[name]]
    row["start_nll"] = round(float(text.start_nll), 5)
    if not text.token_rewards:
        del row["token_rewards"]
    return row


def _settings(content: Any, path: Path) -> HeldOutSettings:
    fields = SavedFields(content, path)
    if fields.whole("format") != FORMAT:
        raise InputError(f"{path}: of another version of textgym; read it with that one")
    table = fields.table("judges")
    judges = {}
    for name in table.content:
        judge = table.table(name)
        role = judge.text("role")
        if role not in get_args(Role):
            raise judge.error("role", f"one of {', '.join(get_args(Role))}")
        judges[name] = Judge(role, judge.text("spec"))  # type: ignore[arg-type]
    whole = ("n_prompts", "seed", "evaluations", "max_new_tokens", "top_k")
    return HeldOutSettings(
        env=fields.text("env"),
        prompts_sha256=fields.text("prompts_sha256"),
        **{name: fields.whole(name) for name in whole},
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        judges=judges,
    )


def _text(content: Any, path: Path) -> HeldOutText:
    fields = SavedFields(content, path)
    completion = fields.value("completion")
    if not isinstance(completion, str):
        raise fields.error("completion", "a text")
    scores = fields.table("scores")
    rewards = fields.table("token_rewards") if fields.has("token_rewards") else None
    return HeldOutText(
        step=fields.whole("step"),
        prompt=fields.whole("prompt"),
        completion=completion,
        finish_reason=fields.text("finish_reason"),
        token_ends=_numbers(fields, "token_ends"),
        log_probs=_numbers(fields, "log_probs"),
        reference_log_probs=_numbers(fields, "reference_log_probs"),
        start_nll=fields.number("start_nll"),
        scores={k: scores.number(k) if scores.has(k) else None for k in scores.content},
        token_rewards={k: _numbers(rewards, k) for k in rewards.content} if rewards else {},
    )


def _numbers(fields: SavedFields, name: str) -> list[Any]:
    values = fields.items(name)
    if not {*map(type, values)} <= {int, float}:  # bool is neither
        raise fields.error(name, "a list of numbers")
    return values
