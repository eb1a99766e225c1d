"""Screenshots of a study's pages in TensorBoard, for the documents.

    python benchmarks/screenshots.py [STUDY] [--out docs/images]

Opens each link that `textgym tensorboard STUDY` prints in a real Chromium, waits until the page is
drawn and writes `tensorboard_curves.png`, `_bands.png`, `_table.png`, `_pictures.png` and
`_texts.png`. Without STUDY they show a made one with known figures.
"""

import argparse
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import launched  # noqa: E402
from made_studies import made_study, write_made_study  # noqa: E402

from textgym.agents.comparison.study_events import write_study_events  # noqa: E402

SIZE = {"width": 1280, "height": 860}
CELLS = (("ppo", "crowd"), ("ppo", "lexicon"), ("grpo", "crowd"), ("grpo", "length"))
JUDGES = {"crowd": "reward", "lexicon": "reward", "length": "reward", "critic": "gold"}
EFFECTS = {
    "ppo · crowd": {"crowd": 1.2, "lexicon": 0.4, "length": 0.1, "critic": 0.6},
    "ppo · lexicon": {"crowd": 0.2, "lexicon": 1.8, "length": 0.3, "critic": -0.4},
    "grpo · crowd": {"crowd": 1.0, "lexicon": 0.3, "length": 0.0, "critic": 0.8},
    "grpo · length": {"crowd": -0.2, "lexicon": 0.0, "length": 1.5, "critic": -0.2},
}
# What stands on a page once it is drawn.
DRAWN = {
    "curves": "scalar-card line-chart",
    "bands": "tf-custom-scalar-margin-chart-card path.area",
    "table": "vaadin-grid-cell-content",
    "pictures": "tf-image-loader img",
    "texts": "tf-text-loader table",
}


def links_of(study: Path) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """TensorBoard on a study, and the links that it prints by what they show."""
    command = [sys.executable, "-m", "textgym", "tensorboard", str(study), "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None and process.stderr is not None
    lines = [process.stdout.readline().split() for _ in range(len(DRAWN) + 1)]
    for line in process.stderr:
        if "http://" in line:
            break
    return process, dict(lines[1:])  # type: ignore[arg-type]


def take(study: Path, out: Path) -> None:
    """Write a screenshot of every page, in 256 colours."""
    out.mkdir(parents=True, exist_ok=True)
    process, links = links_of(study)
    try:
        time.sleep(10)  # TensorBoard reads the event files once it listens
        with launched() as browser:
            for name, link in links.items():
                context = browser.new_context(viewport=SIZE)
                page = context.new_page()
                page.set_default_timeout(60_000)
                page.goto(link)
                if name == "pictures":
                    page.get_by_text("Show actual image size").click()
                if name == "texts":  # below the prompts on which most was lost
                    page.get_by_role("button", name="most_regressed").click()
                page.locator(DRAWN[name]).first.wait_for(state="attached")
                page.wait_for_timeout(6000)
                picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                path = out / f"tensorboard_{name}.png"
                picture.quantize(256).save(path, optimize=True)
                print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
                context.close()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def made(out: Path) -> Path:
    """A made study in a directory; returns it."""
    study = made_study(
        CELLS, judges=JUDGES, effects=EFFECTS, seeds=5, prompts=12, evaluations=9, strange=False
    )
    write_made_study(study, out)
    write_study_events(study, out)
    return out


def main() -> None:
    """Take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    if options.study is not None:
        take(options.study, options.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        take(made(Path(folder) / "cmp"), options.out)


if __name__ == "__main__":
    main()
