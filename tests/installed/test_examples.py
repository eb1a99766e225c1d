"""Every example runs in seconds with a small `--steps`, and prints what it is there to show.

Works in the checkout and in a copy of `examples`, `README.md` and this folder beside a wheel.
"""

import re
from pathlib import Path

import pytest

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "README.md").is_file())

CASES = [
    (
        "01_register_and_train.py",
        ["--steps", "512"],
        [r"stable_baselines3\.ppo\.ppo\.PPO", r"before: 0\.\d+", r"after: 0\.\d+", r"'Sing: ' ->"],
    ),
    (
        "01_register_and_train.py",
        ["--steps", "256", "--agent", "a2c"],
        [r"stable_baselines3\.a2c\.a2c\.A2C", r"after: 0\.\d+"],
    ),
    (
        "02_long_form.py",
        ["--steps", "512"],
        [r"KL to the start: -?\d+\.\d+ nats per text", r"Spell: '"],
    ),
    (
        "03_whole_road.py",
        ["--steps", "4"],
        [
            r"texts kept +\d+ of \d+",
            r"held-out pair accuracy +0\.\d+",
            r"saved after 1,280 tokens",
            r"ppo: judge -?\d+\.\d+ ± \d+\.\d+, KL",
        ],
    ),
    (
        "04_custom_reward.py",
        ["--steps", "512"],
        [
            r"'geese see trees' +total 1\.06",  # 7/8 for the letter, half of 6/16 for the variety
            r"length \(shadow\)\n +512",
            r"'a tree!' earns 0\.250; by token \[0\.0, 0\.0, 0\.0, 0\.0, 0\.125, 0\.125, 0\.0",
        ],
    ),
    (
        "05_multi_turn.py",
        ["--steps", "512"],
        [
            r"3 no\. Again: 5 no\. Again: 7': reward 0\.56",
            r"'Which digit\? 7': reward 1\.00",
            r"after: mean reward -?\d",
        ],
    ),
    (
        "06_text_actions.py",
        ["--steps", "3"],
        [r"takes TextSpace", r"(?:.*by tokens the same: True\)\n){3}"],
    ),
    (
        "07_transformers.py",
        ["--steps", "4"],
        [
            r"is not installed"
            r"|opened as LlamaForCausalLM\nsame tokens: True\n.*logits: (0\.0e\+00|\d\.\de-0[5-9])"
        ],
    ),
    (
        "08_chinese.py",
        ["--steps", "512"],
        [r"手机 is 2 of them", r"after: reward \d\.\d\d\n +清单："],
    ),
    (
        "09_masks.py",
        ["--steps", "512"],
        [
            r"before: 48 texts parse, agreement 0\.\d\d\n.*-> \{.mood.:.(good|bad).,.stars.:[1-5]",
            r"after: 48 texts parse",
            r"without the constraint: ",
        ],
    ),
    (
        "10_own_algorithm.py",
        ["--steps", "512"],
        [r"rwr: 0\.\d+ of .*RewardWeightedRegression\nbest_of_n: 0\.\d+ of .*BestOfN"],
    ),
    (
        "11_apple_phone.py",
        ["--steps", "10", "--timesteps", "512"],
        [
            r"6540 lists of 20 words to learn from, 300 held out",
            r"z alone: \[苹果，手机，苹果手机\] → .*, held-out lists right: \d",
            r"policy, after PPO: .*right: \d",
        ],
    ),
    (
        "12_guess_the_number.py",
        ["--steps", "512"],
        [r"reward 0\.\d+ ± 0\.\d+", r"(?m)^'Guess\? [0-6]( (More|Less)\? [0-6]){0,2} (Yes|No)\.'$"],
    ),
]


def test_every_example_has_a_case():
    assert sorted(p.name for p in (ROOT / "examples").glob("*.py")) == sorted({c[0] for c in CASES})


@pytest.mark.parametrize(("name", "arguments", "expected"), CASES)
def test_the_example_runs_and_prints(run_words, name, arguments, expected, tmp_path):
    words = [str(ROOT / "examples" / name), *arguments]
    code, output, error = run_words(words, tmp_path)
    assert code == 0, error
    assert "Warning" not in error, error
    for pattern in expected:
        assert re.search(pattern, output), output
    assert list(tmp_path.iterdir()) == []  # an example leaves nothing behind
