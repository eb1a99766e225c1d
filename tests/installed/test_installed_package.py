"""What is installed is whole: data, start model, demo; and importing it is light."""

import json
import os
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest

PACKAGE = Path(str(resources.files("textgym")))
ROOT = next(p for p in Path(__file__).resolve().parents if (p / "README.md").is_file())
IS_CHECKOUT = (ROOT / "src").is_dir()  # else a copy of this folder beside a wheel
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}


def python(*arguments, cwd):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
        timeout=400,
    )


def test_importing_textgym_imports_no_torch_and_registers_its_ids(tmp_path):
    code = (
        "import sys, textgym, gymnasium\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'textgym/MovieReview-v0' in gymnasium.registry\n"
        "env = gymnasium.make('textgym/Keyword-v0')\n"
        "env.reset(seed=0)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = python("-W", "error", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_page_of_a_study_has_its_template():
    from textgym.agents.comparison.page.write import SCRIPTS, read, script_text

    assert all(read(name).strip() for name in (*SCRIPTS, "page.html", "page.css"))
    assert "DecompressionStream" in script_text()


def test_the_labelling_page_is_there():
    from importlib.resources import files

    room = files("textgym.labelling")
    for name in ("templates/label.html", "static/label.js", "static/page.css", "words/zh.json"):
        assert room.joinpath(name).read_text(encoding="utf-8").strip(), name


def test_the_data_files_and_their_licences_are_there():
    expected = {
        "envs/data": [
            "movie_reviews.jsonl.gz",
            "amazon.jsonl.gz",
            "editorials.jsonl.gz",
            "tweets.jsonl.gz",
            "critic_snippets.jsonl.gz",
            "public_domain.txt.gz",
            "quatrains.jsonl.gz",
            "sources.json",
            "LICENSES.md",
        ],
        "reward_models/data": ["vader_lexicon.txt.gz", "pingshui.txt.gz", "LICENSES.md"],
        "": ["py.typed"],
    }
    missing = [
        f"{folder}/{name}"
        for folder, names in expected.items()
        for name in names
        if not (PACKAGE / folder / name).is_file()
    ]
    assert missing == []
    from textgym.envs.tasks import movie_reviews

    assert len(movie_reviews.load_movie_reviews()) == 10_596
    packed = sum(path.stat().st_size for path in (PACKAGE / "envs" / "data").iterdir())
    assert packed < 4_000_000  # reviews 1.6 MB, quatrains 1.2


@pytest.mark.parametrize(
    ("folder", "prompt"), [("start", "The film is"), ("chinese_start", "故人西辭黃鶴樓，")]
)
def test_the_start_models_are_there_and_write(folder, prompt):
    start = PACKAGE / "policies" / folder
    names = {path.name for path in start.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert sum(path.stat().st_size for path in start.iterdir()) <= 8 * 2**20
    from textgym.policies import CausalLM

    lm = CausalLM.from_pretrained(start)
    text = lm.generate([prompt], max_new_tokens=20, temperature=0.8, seed=0)[0]
    assert len(text.split()) >= 3 or len(text) >= 15


def test_the_only_top_level_name_is_textgym_and_the_command_is_installed():
    distribution = metadata.distribution("textgym")
    scripts = {e.name: e.value for e in distribution.entry_points if e.group == "console_scripts"}
    assert scripts == {"textgym": "textgym.command_line.cli:main"}
    installed = {str(path).partition("/")[0] for path in distribution.files or []}
    assert not installed & {"envs", "agents", "policies", "reward_models", "tests", "examples"}


@pytest.mark.skipif(IS_CHECKOUT, reason="tests/test_demonstration.py runs both here; .ci/run these")
@pytest.mark.parametrize("flags", [[], ["--from-scratch"]], ids=["start model", "from scratch"])
def test_the_quick_demo_runs(tmp_path, flags):
    done = python("-m", "textgym", "demo", "--quick", "--out", "demo", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "demo" / "report.json").read_text(encoding="utf-8"))
    assert report["before"]["episodes"] == report["after"]["episodes"] == 16
    assert set(report["after"]["judges"]) == {"critic", "other_raters"}
    page = tmp_path / "demo" / "comparison" / "report.html"
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype")
    assert "Eight prompts" in done.stdout and "tensorboard" in done.stdout
