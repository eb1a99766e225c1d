"""Which test notices which mistake: every known breakage, one at a time, in a copy of the source.

    python benchmarks/mutations.py [--table reverted_mends] [--only kl] [--check] [--out FILE.md]

There are two tables: the mistakes of `breakages.py`, which training survives, and the faults of
`reverted_mends.py`, which were found in use and mended.
Nothing in the checkout is touched. The named tests have to pass in the untouched copy first.
`--check` only looks whether each edit still finds its place in the source.
"""

import argparse
import gc
import importlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from breakages import BREAKAGES, Breakage
from machine import where
from reverted_mends import REVERTED_MENDS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = (
    "matplotlib.pyplot",
    "rich.table",
    "sb3_contrib",
    "stable_baselines3.common.callbacks",
    "tokenizers",
    "torch.utils.tensorboard",
    "tqdm.auto",
    "typer",
)
COPIED = ("src", "tests", "docs", "pyproject.toml", "README.md", "README.zh-CN.md")


@dataclass(frozen=True)
class Table:
    """A set of breakages and the page that tells of them.

    :param heading, word, source: of the page: its title, what a breakage is called, where they are.
    """

    breakages: tuple[Breakage, ...]
    heading: str
    word: str
    source: str
    page: Path


TABLES = {
    "breakages": Table(
        BREAKAGES,
        "Which test notices which mistake",
        "mistake",
        "benchmarks/breakages.py",
        RESULTS / "mutations.md",
    ),
    "reverted_mends": Table(
        REVERTED_MENDS,
        "Which test notices a mend that is taken back",
        "fault",
        "benchmarks/reverted_mends.py",
        RESULTS / "reverted_mends.md",
    ),
}


@dataclass(frozen=True)
class Verdict:
    """What came of one breakage.

    :param red: the tests that failed.
    :param passed: how many passed all the same.
    :param seconds: wall-clock time.
    """

    breakage: Breakage
    red: list[str]
    passed: int
    seconds: float


class EditError(ValueError):
    """An edit does not find its place exactly once."""


def mutated(source: str, breakage: Breakage) -> str:
    """The source with the mistake in it.

    :raises EditError: if a text to replace is not there exactly once.
    """
    for old, new in breakage.edits:
        if source.count(old) != 1:
            raise EditError(
                f"{breakage.what}: expected {old!r:.70} once in {breakage.file}, found it "
                f"{source.count(old)} times: bring the edit up to date"
            )
        source = source.replace(old, new)
    return source


def load_libraries() -> None:
    """Import what the package stands on, once for all forks; the package itself comes from a copy.

    :raises RuntimeError: if the package was imported with them.
    """
    for name in LIBRARIES:
        importlib.import_module(name)
    if "textgym" in sys.modules:
        raise RuntimeError("textgym is imported already: its mistakes would not be seen")
    gc.freeze()


def run_tests(copy: Path, breakage: Breakage) -> tuple[int, str]:
    """Exit code and output of pytest in the copy, on the breakage's tests, in a fork."""
    arguments = ["-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", *breakage.tests]
    arguments += ["-k", breakage.keyword] if breakage.keyword else []
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            os._exit(_pytest_there(copy, arguments))
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read().decode("utf-8", "replace")


def _pytest_there(copy: Path, arguments: list[str]) -> int:
    """pytest's exit code in the copy; -1 if the package did not come from there."""
    os.environ |= {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    sys.path[:] = [str(copy / "src"), *(p for p in sys.path if Path(p) != Path(__file__).parent)]
    for name in ("breakages", "reverted_mends", "machine"):  # a test loads them itself
        sys.modules.pop(name, None)
    os.chdir(copy)
    code = int(pytest.main(arguments))
    import textgym

    sys.stdout.flush()
    return code if Path(textgym.__file__).is_relative_to(copy) else -1


def judge(copy: Path, breakage: Breakage) -> Verdict:
    """Break, test, mend.

    :raises RuntimeError: if pytest itself could not run.
    """
    path = copy / "src" / "textgym" / breakage.file
    source = path.read_text(encoding="utf-8")
    began = time.perf_counter()
    try:
        path.write_text(mutated(source, breakage), encoding="utf-8")
        code, output = run_tests(copy, breakage)
    finally:
        path.write_text(source, encoding="utf-8")
    if code not in (0, 1):
        raise RuntimeError(f"{breakage.what}: pytest ended with {code}:\n{output[-2000:]}")
    return Verdict(breakage, *read(output), time.perf_counter() - began)


def read(output: str) -> tuple[list[str], int]:
    """The tests that failed, without their parameters and in order, and how many passed."""
    red = re.findall(r"^(?:FAILED|ERROR) (\S+?::\w+)", output, re.M)
    passed = re.search(r"(\d+) passed", output)
    return list(dict.fromkeys(red)), int(passed.group(1)) if passed else 0


def check_copy(copy: Path, breakages: Sequence[Breakage]) -> None:
    """Raises unless the tests are green in the copy before it is broken.

    :raises RuntimeError: naming those that are not.
    """
    for tests in dict.fromkeys(b.tests for b in breakages):
        keywords = list(dict.fromkeys(b.keyword for b in breakages if b.tests == tests))
        keyword = "" if "" in keywords else " or ".join(f"({word})" for word in keywords)
        code, output = run_tests(copy, Breakage("none", "", (), tests, keyword))
        if code != 0:
            raise RuntimeError(
                f"{tests} -k {keyword!r}: red without any mistake:\n{output[-2000:]}"
            )
        print(f"green: {' '.join(tests)} -k {keyword!r}", file=sys.stderr, flush=True)


def page(table: Table, verdicts: Sequence[Verdict]) -> str:
    """The table."""
    lines = [
        f"# {table.heading}",
        "",
        *where(1),
        "",
        f"{sum(bool(v.red) for v in verdicts)} of {len(verdicts)} {table.word}s turn a test red. "
        f"Each is an edit of the source (`{table.source}`) in a copy; only the tests that are "
        "to notice it are run, and these pass without it.",
        "",
        f"| {table.word} | file | tests that turn red | s |",
        "|---|---|---|---|",
    ]
    for verdict in verdicts:
        breakage = verdict.breakage
        red = "<br>".join(
            f"`{Path(t.split('::')[0]).stem}::{t.split('::')[1]}`" for t in verdict.red
        )
        lines.append(
            f"| {breakage.what} | {breakage.file} | {red or '**none**'} | {verdict.seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all and write the page; 1 if a mistake went unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=TABLES, default="breakages")
    parser.add_argument("--only", default="", help="breakages whose description holds this")
    parser.add_argument("--check", action="store_true", help="look for the edits' places only")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    table = TABLES[arguments.table]
    out = arguments.out or table.page
    chosen = [b for b in table.breakages if arguments.only in b.what]
    lost = 0
    for breakage in chosen:
        source = (ROOT / "src" / "textgym" / breakage.file).read_text(encoding="utf-8")
        try:
            broken = mutated(source, breakage)
            if breakage.file.endswith(".py"):
                compile(broken, breakage.file, "exec")
        except EditError as error:
            print(error, file=sys.stderr)
            lost += 1
    if lost or arguments.check:
        print(f"{len(chosen) - lost} of {len(chosen)} breakages find their places")
        return 1 if lost else 0
    with tempfile.TemporaryDirectory(prefix="textgym-mutations-") as folder:
        copy = Path(folder).resolve()
        for name in COPIED:
            source_path = ROOT / name
            if source_path.is_dir():
                skipped = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source_path, copy / name, ignore=skipped)
            else:
                shutil.copy2(source_path, copy / name)
        load_libraries()
        check_copy(copy, chosen)
        verdicts = []
        for breakage in chosen:
            verdicts.append(judge(copy, breakage))
            noticed = f"{len(verdicts[-1].red)} red" if verdicts[-1].red else "UNNOTICED"
            print(f"{noticed}: {breakage.what}", file=sys.stderr, flush=True)
    text = page(table, verdicts)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(verdict.red for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
