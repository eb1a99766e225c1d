"""Cells of a comparison: combinations, labels, folders, command lines."""

import shlex

import pytest

from textgym.agents.comparison.cells import (
    LONGEST_SLUG,
    AgentChoice,
    cells_of,
    command_words,
    differing,
    shell_line,
    slug_of,
)
from textgym.agents.comparison.seeds import seeds_of, written_seeds
from textgym.errors import InputError

PPO, GRPO = AgentChoice("ppo", "ppo"), AgentChoice("grpo", "grpo")
WEAK = AgentChoice("ppo,kl_coef=0.01", "ppo", {"kl_coef": 0.01})
STRONG = AgentChoice("ppo,kl_coef=0.3", "ppo", {"kl_coef": 0.3})


def test_every_combination_is_a_cell_in_the_order_given():
    cells = cells_of(["runs/a", "runs/b"], [PPO, GRPO], ["crowd", "runs/rm"])
    assert [cell.label for cell in cells] == [
        "a · ppo · crowd",
        "a · ppo · rm",
        "a · grpo · crowd",
        "a · grpo · rm",
        "b · ppo · crowd",
        "b · ppo · rm",
        "b · grpo · crowd",
        "b · grpo · rm",
    ]
    assert cells[-1].slug == "runs-b--grpo--runs-rm"
    assert differing(cells) == ["policy", "agent", "reward"]


def test_a_label_says_only_what_differs():
    assert [c.label for c in cells_of(["runs/a"], [PPO], ["crowd", "length"])] == [
        "crowd",
        "length",
    ]
    by_beta = cells_of(["runs/a"], [WEAK, STRONG], ["crowd"])
    assert [cell.label for cell in by_beta] == ["ppo,kl_coef=0.01", "ppo,kl_coef=0.3"]
    assert differing(by_beta) == ["kl_coef"]
    assert [cell.label for cell in cells_of([None], [PPO], [None])] == ["ppo"]
    both = cells_of([None, "runs/a"], [PPO], [None])
    assert [cell.label for cell in both] == ["fresh", "a"]
    alike = cells_of(["one/best", "two/best"], [PPO], ["crowd"])
    assert [cell.label for cell in alike] == ["one/best", "two/best"]
    functions = cells_of([None], [PPO], ["my.rewards:short,most=9", "my.rewards:polite", "length"])
    assert [cell.label for cell in functions] == ["short", "polite", "length"]
    namesakes = cells_of([None], [PPO], ["my:short,most=9", "my:short,most=5"])
    assert [cell.label for cell in namesakes] == ["my:short,most=9", "my:short,most=5"]
    # What stands in every study says nothing of a policy.
    runs = cells_of(["c/cells/ppo/seed-0", "c/lm/checkpoints/last", "seed-1", "/"], [PPO], [None])
    assert [cell.label for cell in runs] == ["ppo/seed-0", "lm/checkpoints/last", "seed-1", "/"]


def test_a_study_that_grows_finds_its_folders_again():
    small = cells_of(["runs/a"], [PPO], ["crowd"])
    large = cells_of(["runs/a", "runs/b"], [PPO, WEAK], ["crowd", "length,target=40"])
    assert small[0].slug == large[0].slug == "runs-a--ppo--crowd"
    assert len({cell.slug for cell in large}) == len(large) == 8


def test_a_cell_that_is_there_twice_is_refused():
    with pytest.raises(InputError, match=r"the cell 'ppo · crowd' is there twice: leave one out"):
        cells_of([None], [PPO, PPO], ["crowd", "length"])


def test_slugs_are_plain_short_and_different():
    assert slug_of(["~/模型/lm", "ppo", None]) != slug_of(["~/語言/lm", "ppo", None])
    long = slug_of(["x" * 300, "ppo"])
    assert len(long) <= LONGEST_SLUG and slug_of(["x" * 301, "ppo"]) != long
    for slug in (slug_of(["影评"]), slug_of(["..", "."]), slug_of(["a/../../b", "ppo"]), long):
        assert set(slug) <= {*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=-"}
        assert slug and slug[0] not in ".-"
    one, two = cells_of(["a/b", "a,b"], [PPO], ["crowd"])
    assert one.slug != two.slug and one.slug.startswith("a-b--ppo--crowd-")


def test_settings_become_the_words_of_a_command_line():
    settings = {
        "env": "me/It's-v0",
        "kl_coef": 1e-05,
        "policy": None,
        "normalize_advantage": False,
        "gold": ["critic", "a b"],
        "env_kwargs": {"max_new_tokens": 8, "stop": "\n"},
    }
    words = command_words(settings)
    assert words == [
        "me/It's-v0",
        *("--kl-coef", "1e-05", "--no-normalize-advantage"),
        *("--gold", "critic", "--gold", "a b"),
        *("--env-kwargs", "max_new_tokens=8", "--env-kwargs", 'stop="\\n"'),
    ]
    line = shell_line(["python", *words], {"OMP_NUM_THREADS": "1"})
    assert shlex.split(line) == ["OMP_NUM_THREADS=1", "python", *words]


def test_seeds_are_so_many_or_those():
    assert seeds_of(3) == seeds_of("3") == [0, 1, 2]
    assert seeds_of("3,8") == seeds_of([3, 8]) == [3, 8]
    assert seeds_of("7,") == [7]
    for seeds in ([0, 1], [4], [3, 8]):
        assert seeds_of(written_seeds(seeds)) == seeds
    for wrong in (0, -1, True, "", "a", "1,1", [2, 2], [], [-1], [2**32], [1.5], None, "1,,2"):
        with pytest.raises(InputError, match=r"seeds must be .*'3,8', got"):
            seeds_of(wrong)
