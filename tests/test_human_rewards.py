"""`--reward human,store=…` from the command line."""

import pytest
from front_door import ENV, read_lines, run_cli
from label_server import TOKEN, running_server

import textgym
from textgym.errors import InputError
from textgym.reward_models.people.records import NewItem, Text
from textgym.reward_models.people.simulated import JudgeRater, answer_open
from textgym.reward_models.people.store import LabelStore
from textgym.rewards_by_name import resolve_reward

TRAIN = ("train", ENV, "--n-steps", 32, "--batch-size", 64, "--n-envs", 4)
SHORT = JudgeRater(lambda prompts, completions: [-len(c) for c in completions], temperature=None)


def test_a_run_asks_learns_from_answers_and_goes_on_with_a_store_that_has_grown(tmp_path):
    store, run = tmp_path / "labels.db", tmp_path / "run"
    reward = f"human,store={store},first=4,every=4,prior=length,run=mine"
    words = (*TRAIN, "--reward", reward, "--out", run, "--timesteps")
    code, _, error = run_cli(*words, 256)
    assert code == 0, error
    with LabelStore(store) as opened:
        assert {item.texts[0].source["run"] for item in opened.items()} == {"mine"}
        lengths = range(1, 9)
        opened.add_items([NewItem("It ", (Text("a" * n), Text("b" * 9))) for n in lengths])
        assert len(answer_open(opened, SHORT)) >= 8
    code, _, error = run_cli("train", ENV, "--out", run, "--resume", "--timesteps", 512)
    assert code == 0, error
    rows = read_lines(run / "metrics.jsonl")
    assert rows[0]["human/labels"] == 0 and rows[-1]["human/labels"] >= 8
    with LabelStore(store, is_read_only=True) as opened:
        assert [refit.step for refit in opened.refits("mine")] == [384]


def test_a_server_is_asked_over_http_with_the_token(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTGYM_LABEL_TOKEN", TOKEN)
    with LabelStore(tmp_path / "labels.db") as store, running_server(store) as server:
        reward = resolve_reward(f"human,store={server.url},waiting=3,first=2,every=1")
        with pytest.warns(UserWarning, match="only collects"):
            reward.begin_rollout(0)
        reward(["The "] * 6, ["film", "cat sat", "end", "cat", "sea", "dog ran"])
        reward.end_rollout(64)
        assert len(store.items()) == 3
        answer_open(store, SHORT)
        reward.begin_rollout(64)
        assert reward.end_rollout(128).labels == 3
        assert [refit.step for refit in store.refits(reward.run)] == [128]
        reward.close()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("human", "reward 'human' needs a store of labels: 'human,store=labels.db'"),
        ("human,store={here}/no/labels.db", "labels.db"),
        ("human,store={here}/text.db", "not an SQLite file"),
        ("human,store={here}/new.db,queries=best", "queries must be 'disagreement' or 'random'"),
        ("human,store={here}/new.db,prior=crowds", "did you mean 'crowd'"),
        ("human,store=http://127.0.0.1:9", "expected the server's token in the variable"),
    ],
)
def test_what_is_wrong_is_one_line(spec, expected, tmp_path, monkeypatch):
    monkeypatch.delenv("TEXTGYM_LABEL_TOKEN", raising=False)
    (tmp_path / "text.db").write_text("no database")
    words = ("--reward", spec.format(here=tmp_path), "--out", tmp_path / "run")
    code, _, error = run_cli(*TRAIN, *words, "--timesteps", 128)
    assert code in (2, 3) and expected in error, error
    assert "Traceback" not in error and error.count("\n") == 1


def test_the_name_makes_the_reward_of_python(tmp_path):
    reward = textgym.rewards_by_name.resolve_reward(f"human,store={tmp_path}/a.db,hint=none")
    assert reward.features.name == "ngrams-2048"
    beside = resolve_reward(f"human,store={tmp_path}/a.db,prior=length")
    assert beside.features.name == "ngrams-2048+length+lexicon"
    with pytest.raises(InputError, match="members must be at least 1"):
        resolve_reward(f"human,store={tmp_path}/a.db,members=0")
