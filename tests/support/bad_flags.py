"""Command lines that must be refused, generated from the flags that the verbs have.

A verb's smallest run is written down once (`smallest_runs`); every one of its flags is then given
values that make no sense for its kind. A new flag is in the table as soon as the verb has it.
"""

import json
import os
from dataclasses import dataclass

from front_door import ENV, byte_lm

from textgym import registry
from textgym.checks import RANGES
from textgym.cli import LISTINGS
from textgym.cli_options import flags_of
from textgym.cli_verbs import VERBS, verb_flags

LONG = "x" * 5000
NO_NUMBERS = ("", "abc", "1,5", "nan", "inf", "-inf", "0x10", "\N{VULGAR FRACTION ONE HALF}")
NO_TABLES = ("oops", "=1", "no_such_key=1", "=", "")
NO_PATHS = ("", " ", "a\0b", LONG, "\ud800", "a/" * 3000)
# Texts that name something or choose: nothing is called so.
NO_NAMES = ("", "no such name", "a\0b", LONG, "a:b", "\n\x1b[31m", "(╯°□°)╯", "../..")
# Where a large number is only a long work, or a limit that is never met.
MAY_BE_LARGE = frozenset(
    {
        "steps",
        "timesteps",
        "patience",
        "evaluate_every",
        "samples",
        "seed",
        "min_characters",
        "max_characters",
        "context",
        "top_k",
        "learning_starts",
        "target_update_interval",
        "max_completion_length",
    }
)
ANY_TEXT = frozenset({"column"})


@dataclass(frozen=True)
class Case:
    """A command line that must be refused.

    :param flag: the flag whose value makes no sense.
    """

    verb: str
    flag: str
    option: str
    value: str
    words: tuple[str, ...]

    @property
    def id(self):
        """Short and readable, for a test's name."""
        return f"{self.verb} {self.option} {self.value!r:.40}"


def write_inputs(here):
    """The files and the model that the smallest runs read, and what stands in for them."""
    (here / "corpus.txt").write_text("".join(f"the cat number {i}\n" for i in range(20)))
    rows = [{"prompt": "the cat", "completion": f" number {i}"} for i in range(4)]
    write_rows(here / "pairs.jsonl", rows)
    rows = [{"prompt": f"a{i}", "chosen": "good", "rejected": "bad"} for i in range(12)]
    write_rows(here / "ratings.jsonl", rows)
    (here / "prompts.txt").write_text("the cat\n")
    (here / "binary.txt").write_bytes(bytes(range(256)) * 4)
    os.mkfifo(here / "fifo.jsonl")
    (here / "folder.txt").mkdir()
    (here / "loop.txt").symlink_to("loop.txt")
    (here / "self.yaml").write_text("seed: &a [*a]\n")
    (here / "events" / "tensorboard").mkdir(parents=True)
    (here / "events" / "tensorboard" / "events.out.tfevents.1").write_bytes(b"")
    byte_lm().save_pretrained(here / "lm")


def write_rows(path, rows):
    """A .jsonl file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def smallest_runs(here, agent="ppo"):
    """For each verb the words of a run that ends within a second where it is not refused."""
    lm, quiet = str(here / "lm"), "--no-progress-bar"
    return {
        "demo": ["--out", "out", "--quick", quiet],
        "pretrain": f"{here}/corpus.txt --out out --steps 1 --tokenizer byte --hidden-size 16 "
        f"--num-hidden-layers 1 --context 32 {quiet}".split(),
        "sft": f"{here}/pairs.jsonl --policy {lm} --out out --steps 1 {quiet}".split(),
        "fit-reward": f"{here}/ratings.jsonl --policy {lm} --out out --batch-size 2 "
        f"{quiet}".split(),
        "train": f"{ENV} --agent {agent} --policy {lm} --out out --timesteps 1 --n-envs 2 "
        f"{quiet}".split(),
        "evaluate": f"{ENV} --policy {lm} --n-episodes 1 --n-envs 1".split(),
        "generate": [lm, "--prompt", "the cat", "--max-new-tokens", "1"],
        "tensorboard": [str(here / "events")],
    }


def bad_values(flag, here):
    """Values that make no sense for a flag."""
    if flag.kind == "switch":
        return []
    if flag.kind == "table":
        return list(NO_TABLES)
    if flag.kind in ("integer", "number"):
        return _bad_numbers(flag)
    if flag.is_path:
        stand_ins = ["fifo.jsonl", "loop.txt"]
        if flag.name != "out":
            stand_ins += ["folder.txt", "binary.txt", "nowhere.txt"]
        return [*NO_PATHS, *(str(here / name) for name in stand_ins)]
    return [v for v in NO_NAMES if flag.name not in ANY_TEXT or "\0" in v]


def _bad_numbers(flag):
    allowed = RANGES[flag.name]
    values = [*NO_NUMBERS, "9" * 400, "1" + "0" * 30]
    step = 1 if allowed.is_whole else 0.5
    low = allowed.low if allowed.edges[0] == "(" else allowed.low - step
    high = allowed.high if allowed.edges[1] == ")" else allowed.high + step
    values += [_text(low, allowed), _text(high, allowed)]
    if allowed.is_whole:
        values.append("1.5")
        if flag.name not in MAY_BE_LARGE and allowed.high >= 10**9:
            values.append(str(10**9))
    return values


def _text(value, allowed):
    return str(int(value)) if allowed.is_whole else repr(float(value))


def flags_by_verb():
    """(verb, agent or None, flags) of every verb and listing; of `train` once an algorithm."""
    for verb in VERBS:
        if verb == "train":
            for agent in registry.agents.names():
                yield verb, agent, verb_flags(verb, ["--agent", agent])
        else:
            yield verb, None, verb_flags(verb, [])
    for verb, (_, target) in LISTINGS.items():
        yield verb, None, flags_of(registry.import_reference(target))


def bad_cases(here):
    """Every flag of every verb with every value that makes no sense for it.

    A flag that several algorithms share is tried with one of them.
    """
    cases, seen = [], set()
    for verb, agent, flags in flags_by_verb():
        for flag in flags:
            if (verb, flag.name) in seen:
                continue
            seen.add((verb, flag.name))
            for value in bad_values(flag, here):
                words = smallest_runs(here, agent).get(verb, [])
                words = _given(words, flag, value, flags)
                cases.append(Case(verb, flag.name, flag.option, value, (verb, *words)))
    return cases


def _given(words, flag, value, flags):
    """The words of a run with one value replaced."""
    if flag.is_argument:
        return [value, *words[1:]]
    if flag.kind == "texts" and flag.option in words:
        at = words.index(flag.option)
        return [*words[:at], f"{flag.option}={value}", *words[at + 2 :]]
    return [*words, f"{flag.option}={value}"]
