"""Command lines that must be refused, generated from the flags that the verbs have.

A verb's smallest run is written down once (`smallest_runs`); every one of its flags is then given
values that make no sense for its kind. A new flag is in the table as soon as a verb has it.
"""

import contextlib
import faulthandler
import inspect
import json
import os
import shutil
import signal
from dataclasses import dataclass, fields

from front_door import ENV, byte_lm, run_cli
from made_studies import made_study, write_made_study

from textgym import registry
from textgym.checks import RANGES
from textgym.command_line.cli import LISTINGS
from textgym.command_line.options import flags_of
from textgym.command_line.verbs import VERBS, verb_flags
from textgym.envs.task import Task
from textgym.policies import TextVAE
from textgym.tokenizer import Tokenizer

QUIET = "--no-progress-bar"
LONG = "x" * 5000
NO_NUMBERS = ("abc", "nan", "", "inf", "1,5", "-inf", "1" + "0" * 30, "9" * 400, "0x10", "½")
NO_TABLES = ("oops", "=1", "no_such_key=1", "", "=")
NO_PATHS = ("", "a\0b", LONG, " ", "\ud800", "a/" * 3000)
# Texts that name something or choose: nothing is called so.
NO_NAMES = ("no such name", "", "a\0b", LONG, "a:b", "\n\x1b[31m", "(╯°□°)╯")
FREE_TEXTS = frozenset("column prompt pad_token separator name invite known_as host".split())
NEW_FILES = frozenset({"out", "store", "export"})  # that need not be there
# Where a large number is only long work, or a limit that is never met.
MAY_BE_LARGE = frozenset(
    """steps timesteps checkpoint_tokens patience evaluate_every samples seed min_characters
    max_characters context top_k learning_starts target_update_interval max_completion_length
    buffer_size n_prompts n_texts micro_batch_tokens
    """.split()
)
LATENTS_ONLY = ("sac", "td3", "tqc", "ars")  # with every flag that such words have
# The same as YAML, by kind of flag.
NO_YAML = {
    "integer": ("[1]", "true", ".nan", "1.5", "{}", "abc", "-.inf", "&a [*a]"),
    "number": ("[1]", "true", ".nan", "{}", "abc", ".inf", "&a [*a]"),
    "text": ("[]", "{}", "true", "[a]", "&a [*a]"),
    "texts": ("{}", "[[a]]", "[]", "[1]", "&a [*a]"),
    "table": ("3", "[1]", "&a {x: *a}", "abc", "{1: 2}"),
    "switch": ("3", "maybe", "[]", "{}"),
}
NO_JSON = ("-1", "NaN", "Infinity", "1" + "0" * 22, '""', "[]", "[1]", '{"a": 1}', "5", "1.5")
GOOD_FIELDS = {
    "unfinished_score": ("-1", "5", "1.5"),
    "reward_retries": ("5",),
    "stop": tuple(value for value in NO_JSON if value not in ('""', "[1]")),  # texts, or none
    "constraint": ('""',),
}


@dataclass(frozen=True)
class Case:
    """A command line that must be refused.

    :param shown: what of it the error must name, one of these.
    """

    verb: str
    words: tuple[str, ...]
    shown: tuple[str, ...]

    @property
    def id(self):
        """Short enough for a report."""
        return f"{self.verb}: {' '.join(map(repr, self.words))[-90:]}"


def write_inputs(here):
    """The files and the model that the smallest runs read, and what stands in for them."""
    (here / "corpus.txt").write_text("".join(f"the cat number {i}\n" for i in range(20)))
    pairs = [{"prompt": "the cat", "completion": f" number {i}"} for i in range(4)]
    ratings = [{"prompt": f"a{i}", "chosen": "good", "rejected": "bad"} for i in range(12)]
    for name, rows in (("pairs", pairs), ("ratings", ratings)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (here / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (here / "binary.txt").write_bytes(bytes(range(256)) * 4)
    os.mkfifo(here / "fifo.jsonl")
    (here / "folder.txt").mkdir()
    (here / "loop.txt").symlink_to("loop.txt")
    (here / "events").mkdir()
    (here / "events" / "events.out.tfevents.1").write_bytes(b"")
    (here / "yaml").mkdir()
    byte_lm().save_pretrained(here / "lm")
    shape = {"hidden_size": 16, "latent_size": 2, "max_position_embeddings": 96}
    TextVAE.new(Tokenizer.byte(), **shape).save_pretrained(here / "vae")
    write_made_study(made_study((("ppo", "crowd"),), seeds=2, prompts=2), here / "cmp")


def smallest_runs(here, agent="ppo"):
    """For each verb the words of a run that ends within a second where it is not refused."""
    lm = here / "lm"
    policy = f"--decoder {here}/vae" if agent in LATENTS_ONLY else f"--policy {lm}"
    runs = {
        "prepare": f"{here}/corpus.txt --out out {QUIET}",
        "fetch": "",
        "export": f"{lm} --out out",
        "demo": f"--out out --quick {QUIET}",
        "pretrain": f"{here}/corpus.txt --out out --steps 1 --tokenizer byte --hidden-size 16 "
        f"--num-hidden-layers 1 --context 32 {QUIET}",
        "pretrain-vae": f"{here}/corpus.txt --out out --steps 1 --tokenizer byte --hidden-size 16 "
        f"--num-hidden-layers 1 --context 32 {QUIET}",
        "sft": f"{here}/pairs.jsonl --policy {lm} --out out --steps 1 {QUIET}",
        "fit-reward": f"{here}/ratings.jsonl --policy {lm} --out out --batch-size 2 {QUIET}",
        "train": f"{ENV} --agent {agent} {policy} --out out --timesteps 1 --n-envs 2 {QUIET}",
        "compare": f"{ENV} --policy {lm} --out out --timesteps 1 --n-envs 2 --dry-run",
        "evaluate": f"{ENV} --policy {lm} --n-episodes 1 --n-envs 1",
        "audit-reward": f"length,target=20 --pairs {here}/ratings.jsonl --n-texts 16",
        "label": f"labels.db --texts {here}/ratings.jsonl --no-serve",
        "generate": f"{lm} --prompt cat --max-new-tokens 1",
        "tensorboard": f"{here}/events",
        "report": f"{here}/cmp --out out",
        "rescore": f"{here}/cmp --reward keyword,words=film",
        "diff": f"{here}/cmp/cells/ppo-crowd/seed-0 {here}/cmp/cells/ppo-crowd/seed-1",
    }
    return {verb: words.split() for verb, words in runs.items()}


def bad_cases(here):
    """Every flag of every verb with values that make no sense for it.

    A flag that several algorithms share is tried with one of them, and the many ways to be no
    number or no name take turns from flag to flag.
    """
    cases, seen, turn = [], set(), 0
    for verb, agent, flags in _flags_by_verb():
        run = smallest_runs(here, agent).get(verb, [])
        if agent in (None, "ppo"):
            cases += _strangers(verb, run)
        for flag in flags:
            if (verb, flag.name, flag.word) in seen:
                continue
            seen.add((verb, flag.name, flag.word))
            turn += 1
            for value in _bad_values(flag, here, turn):
                words = (verb, *_with(run, flag, value))
                cases.append(Case(verb, words, _names(flag.name, flag.option, value)))
            if flag.name != "config" and verb in VERBS:
                cases.append(_yaml_case(verb, run, flag, here, turn))
    for i, field in enumerate(f.name for f in fields(Task) if f.name not in ("id", "tokenizer")):
        cases += _field_cases(smallest_runs(here)["evaluate"], field, i)
    return cases


def _flags_by_verb():
    """(verb, agent or None, flags) of every verb and listing; of `train` once an algorithm."""
    for verb in VERBS:
        own = inspect.signature(VERBS[verb].function).parameters
        for agent in (*registry.agents.names(), *LATENTS_ONLY) if verb == "train" else [None]:
            flags = verb_flags(verb, ["--agent", agent] if agent else [])
            if verb == "compare":  # those of the agents are train's
                flags = [flag for flag in flags if flag.name in (*own, "config")]
            yield verb, agent, flags
    for verb, (_, target) in LISTINGS.items():
        yield verb, None, flags_of(registry.import_reference(target))


def _strangers(verb, run):
    """Flags and arguments that no verb has."""
    return [
        Case(verb, (verb, *run, *more), (more[0], "unexpected"))
        for more in (["--no-such-flag", "1"], ["surplus", "surplus"], ["-z"])
    ]


def _bad_values(flag, here, turn):
    if flag.kind == "switch":
        return ["maybe"]
    if flag.kind == "table":
        return list(NO_TABLES)
    if flag.kind in ("integer", "number"):
        return _bad_numbers(flag.name, turn) + (["automatic", "auto_", "auto_0"] * bool(flag.word))
    if flag.is_path:
        names = ["fifo.jsonl", "loop.txt"]
        if flag.name not in NEW_FILES:
            names += ["folder.txt", "binary.txt", "nowhere.txt"]
        chosen = [names[turn % len(names)], names[(turn + 1) % len(names)], "fifo.jsonl"]
        return [*_turns(NO_PATHS, turn, 2), *(str(here / name) for name in dict.fromkeys(chosen))]
    return ["a\0b"] if flag.name in FREE_TEXTS else _turns(NO_NAMES, turn, 3)


def _bad_numbers(name, turn):
    allowed = RANGES[name]
    step = 1 if allowed.is_whole else 0.5
    low = allowed.low if allowed.edges[0] == "(" else allowed.low - step
    high = allowed.high if allowed.edges[1] == ")" else 2 * allowed.high + step
    ends = [str(int(end)) if allowed.is_whole else repr(float(end)) for end in (low, high)]
    large = allowed.is_whole and allowed.high >= 10**9 and name not in MAY_BE_LARGE
    return [*_turns(NO_NUMBERS, turn, 2), *ends, *([str(10**9)] if large else [])]


def _turns(values, turn, count):
    return [values[(turn * count + i) % len(values)] for i in range(count)]


def _with(run, flag, value):
    """The words of a run with one value replaced."""
    if flag.is_argument:
        return [value, *run[1:]]
    if flag.kind == "texts" and flag.option in run:
        at = run.index(flag.option)
        run = [*run[:at], *run[at + 2 :]]
    return [*run, f"{flag.option}={value}"]


def _names(name, option, value):
    """What an error may call a value: its flag, or the value itself."""
    shown = repr(value.partition("=")[0] or value)[1:-1][:40]
    return (option, f"{name} ", f" {name}", *([shown] if shown else ["''", "empty"]))


def _yaml_case(verb, run, flag, here, turn):
    """The same through `--config`."""
    choices = NO_YAML[flag.kind]
    value = choices[turn % len(choices)]
    if flag.kind == "text" and flag.name == "scale_rewards":
        value = "[]"
    if flag.kind == "texts" and flag.default == () and value == "[]":  # none is a good list
        value = "{}"
    file = here / "yaml" / f"{verb}-{flag.name}.yaml"
    file.write_text(f"{flag.name}: {value}\n", encoding="utf-8")
    return Case(verb, (verb, *run, "--config", str(file)), (str(file),))


def _field_cases(run, field, turn):
    """Fields of a task, through `--env-kwargs`."""
    values = [v for v in _turns(NO_JSON, turn, 5) if v not in GOOD_FIELDS.get(field, ())]
    return [
        Case(
            "evaluate",
            ("evaluate", *run, "--env-kwargs", f"{field}={value}"),
            (field, "''", "prompts", f"{value}: expected a file"),
        )
        for value in values
    ]


class Hang(BaseException):
    """A call that did not come back in time."""


@contextlib.contextmanager
def watchdog(seconds):
    """Raises `Hang` inside after so many seconds; ends the process where that is not heard."""

    def ring(number, frame):
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(3 * seconds, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def what_is_wrong(case, code, error, left):
    """Why an answer to a bad command line is a bad answer; empty where it is a good one."""
    faults = []
    if code not in (2, 3):
        faults.append(f"exit code {code}")
    if not error.startswith("textgym: error: ") or error.count("\n") != 1 or len(error) > 1100:
        faults.append("not one line")
    if not any(name in error for name in case.shown):
        faults.append(f"names none of {case.shown}")
    if left:
        faults.append(f"left {left} behind")
    return f"{case.id}: {', '.join(faults)}: {error[-300:]!r}" if faults else ""


def answers(cases, folder, monkeypatch):
    """What is wrong with the answers to command lines that are run here, in an empty folder."""
    monkeypatch.chdir(folder)
    wrong = []
    for case in cases:
        try:
            with watchdog(30):
                code, _, error = run_cli(*case.words)
        except Hang:
            code, error = "none: it hangs", ""
        left = os.listdir(folder)
        for name in left:
            if (folder / name).is_dir():
                shutil.rmtree(folder / name, ignore_errors=True)
            else:
                (folder / name).unlink()
        wrong.append(what_is_wrong(case, code, error, left))
    return [fault for fault in wrong if fault]
