"""`textgym audit-reward`: outcome, exit code, files, and texts in them that do nothing."""

import json
import re

import pytest
from front_door import byte_lm, run_cli
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import textgym
from textgym.auditing.files import audit_markdown
from textgym.auditing.page import page_html
from textgym.errors import InputError

NASTY = "<script>alert(1)</script> | [x](http://e) \u202e"


def by_number(prompts, completions, **columns):
    """The last number of a text."""
    return [float((re.findall(r"\d+", text) or [0])[-1]) for text in completions]


def pairs(n=24, mark=""):
    return [
        {"prompt": f"p{k}", "chosen": f" better {k + 100}{mark}", "rejected": f" worse {k}{mark}"}
        for k in range(n)
    ]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in pairs()), encoding="utf-8")
    return path


def test_the_command_line_fails_where_a_check_fails_and_writes_its_files(tmp_path, file):
    out = tmp_path / "audit"
    code, shown, error = run_cli("audit-reward", "length", "--pairs", file, "--out", out, "--json")
    audit = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert json.loads(shown) == audit and error == ""
    verdicts = {row["name"]: row["verdict"] for row in audit["findings"]}
    assert verdicts["determinism"] == "pass" and verdicts["one right, three wrong"] == "skip"
    assert (code, audit["verdict"]) == (int("fail" in verdicts.values()), "fail")
    assert "| human pairs |" in (out / "audit.md").read_text(encoding="utf-8")
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    [point] = events.Scalars("audit/human_pairs")
    [row] = [row for row in audit["findings"] if row["name"] == "human pairs"]
    assert point.value == pytest.approx(row["value"])
    assert "audit/table" in events.Tags()["tensors"]
    code, shown, _ = run_cli("audit-reward", "length", "--pairs", file)
    assert code == 1 and "human pairs" in shown and "FAIL" in shown


def test_strict_counts_warnings(file):
    audits = [textgym.audit_reward(by_number, pairs=pairs(), strict=s) for s in (False, True)]
    assert [audit["human pairs"].value for audit in audits] == [1.0, 1.0]
    expected = 0 if not audits[0].of("fail") else 1
    assert [audit.exit_code for audit in audits] == [expected, 1]
    assert audits[0]["prompt swap"].verdict == "warn"  # it does not look at the prompt


def test_a_policys_own_texts_are_audited(tmp_path):
    audit = textgym.audit_reward(
        "length",
        env="textgym/Length-v0",
        policy=byte_lm(),
        gold=[by_number],
        n_prompts=4,
        samples=4,
        env_kwargs={"max_new_tokens": 8},
    )
    names = [finding.name for finding in audit.findings]
    assert len(names) == 4 and all(name.startswith("own texts") for name in names)
    assert {judge: list(curve) for judge, curve in audit.best_of_n.items()} == {
        "by_number": [1, 2, 4]
    }
    assert "4 × 4 texts" in audit.about


def test_columns_of_the_environment_reach_the_reward():
    def exact(prompts, completions, answer):
        return [float(text.strip() == a) for text, a in zip(completions, answer, strict=True)]

    rows = [{"prompt": f"{k} + 1 =", "answer": f" {k + 1}".strip()} for k in range(12)]
    textgym.register("test/Sums-v0", prompts=rows, reward=exact, max_new_tokens=4)
    audit = textgym.audit_reward(exact, env="test/Sums-v0")
    for name in ("human pairs", "one right, three wrong"):
        assert (audit[name].verdict, audit[name].value) == ("pass", 1.0)
    assert audit["prompt swap"].value == audit["probe: empty"].value == 0.0


def test_texts_do_nothing_in_page_and_markdown():
    def likes(prompts, completions):
        return [len(text) + ord(text[-1:] or " ") / 1000 for text in completions]

    likes.name = NASTY
    audit = textgym.audit_reward(likes, pairs=pairs(mark=NASTY))
    page, markdown = page_html(audit), audit_markdown(audit)
    assert "<script" not in page and "&lt;script&gt;" in page and "\u202e" not in page
    assert "default-src 'none'" in page and "http-equiv" in page
    assert "<script" not in markdown and "](http" not in markdown


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"env": "textgym/Length-v0"}, "no texts that people judged"),
        ({"pairs": pairs(3)}, "at least, got 3"),
        ({"pairs": pairs(), "n_texts": 4}, "n_texts must be a whole number from 16"),
        ({"pairs": pairs(), "gold": "lexicon"}, "give policy too"),
        ({"policy": "nowhere", "gold": "length"}, "gold judge 'length' is the reward model"),
    ],
)
def test_what_makes_no_sense_is_said(keywords, message):
    with pytest.raises(InputError, match=message):
        textgym.audit_reward("length", **keywords)
