"""The README's Python runs as it stands, and so do its command lines marked with `<!-- run -->`.

Only the sizes are smaller: a few steps, rows and episodes.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "README.md").is_file())
README = (ROOT / "README.md").read_text(encoding="utf-8")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "COLUMNS": "120"}


def run(command, folder):
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_python_snippets_run_in_their_order(tmp_path):
    snippets = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)
    assert len(snippets) >= 2
    first = snippets[0].strip().splitlines()
    assert len([line for line in first if line.strip()]) <= 10  # what the README promises
    code = re.sub(r"learn\([\d_]+", "learn(512", "\n".join(snippets))
    (tmp_path / "snippets.py").write_text(code, encoding="utf-8")
    output = run([sys.executable, "-W", "error", "snippets.py"], tmp_path)
    assert "stable_baselines3.a2c.a2c.A2C" in output


def write_inputs(folder):
    """The three files that the README's road starts from."""
    openings = ["The film", "A story", "This comedy", "The plot", "An actor", "The music"]
    verdicts = ["is a joy to watch", "never finds its feet", "works very well", "is a dull mess"]
    texts = [f"{o} number {i} {v}." for i in range(10) for o in openings for v in verdicts]
    pairs = [{"prompt": t[:8], "completion": t[8:]} for t in texts[:40]]
    rated = [
        {"text": t, "ratings": [(i % 4) - 2, (i % 4) - 1, i % 3], "block": i // 24}
        for i, t in enumerate(texts)
    ]
    (folder / "corpus.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    for name, rows in (("pairs.jsonl", pairs), ("ratings.jsonl", rated)):
        lines = [json.dumps(row) for row in rows]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_marked_command_lines_run_in_their_order(run_words, tmp_path):
    blocks = re.findall(r"<!-- run -->\n```bash\n(.*?)^```$", README, re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [line for line in lines if line.startswith("textgym ")]
    verbs = [shlex.split(command)[1] for command in commands]
    road = ["pretrain", "sft", "fit-reward", "train", "evaluate", "generate"]
    assert [verb for verb in verbs if verb in road] == road
    write_inputs(tmp_path)
    for command in commands:
        command = re.sub(r"--timesteps [\d_]+", "--timesteps 64", command)
        command = re.sub(r"--steps [\d_]+", "--steps 4", command)
        words = shlex.split(command, comments=True)[1:]
        fewer = {"train": ["--n-envs", "2"], "evaluate": ["--n-episodes", "8"]}.get(words[0], [])
        code, output, error = run_words([*words, *fewer], tmp_path)
        assert code == 0, f"{command}\n{output}\n{error}"
    for name in ("lm", "sft", "ppo"):
        assert list((tmp_path / "runs" / name / "checkpoints").glob("*/config.json"))
    assert (tmp_path / "runs" / "ppo" / "metrics.jsonl").is_file()
