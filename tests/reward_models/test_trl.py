"""Against the real package: TRL's rewards run here, and ours in its trainers."""

import json
import math
import warnings

import numpy as np
import pytest
from textgym_testing import tiny_lm

import textgym
from textgym.reward_models import Length, Lexicon, Repetition, WeightedSum, from_trl, to_trl
from textgym.reward_models.people.preference_rows import Judgement, preference_rows
from textgym.rewards import call_reward, check_reward
from textgym.rewards_by_name import resolve_reward
from textgym.tokenizer import Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL's and transformers' own

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    rewards = pytest.importorskip("trl.rewards")

THOUGHT = "<think>\nTwo halves.\n</think>\n"
TEXTS = [
    THOUGHT + r"It is \boxed{\frac{1}{2}}.",
    r"It is \boxed{\frac{1}{3}}.",
    THOUGHT + "a a a a a a",
    "",
]
PROMPTS = [f"Question {row}: " for row in range(len(TEXTS))]
SOLUTIONS = [r"\frac{1}{2}", r"\frac{1}{2}", r"\frac{1}{2}", r"\frac{1}{2}"]
IDS = [[1, 2, 3, 4], [5, 5, 5, 5, 5], list(range(12)), []]
MESSAGES = [[{"role": "assistant", "content": text}] for text in TEXTS]

SHIPPED = {
    "think_format_reward": lambda: rewards.think_format_reward,
    "get_repetition_penalty_reward": lambda: rewards.get_repetition_penalty_reward(2),
    "get_soft_overlong_punishment": lambda: rewards.get_soft_overlong_punishment(10, 5),
    "accuracy_reward": lambda: rewards.accuracy_reward,
    "reasoning_accuracy_reward": lambda: rewards.reasoning_accuracy_reward,
    "get_cosine_scaled_reward": lambda: rewards.get_cosine_scaled_reward(20),
}


def needs_math(name):
    if "accuracy" in name or "cosine" in name:
        pytest.importorskip("math_verify")


def test_these_are_all_that_it_ships():
    names = [name for module in rewards._import_structure.values() for name in module]
    assert sorted(names) == sorted(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_reward_says_what_it_says_there(name):
    needs_math(name)
    reward = SHIPPED[name]()
    there = reward(
        prompts=PROMPTS,
        completions=MESSAGES,
        completion_ids=IDS,
        solution=SOLUTIONS,
        trainer_state=None,
        log_extra=lambda column, values: None,
        log_metric=lambda name, value: None,
    )
    here = call_reward(
        check_reward(reward), PROMPTS, TEXTS, {"solution": SOLUTIONS}, completion_ids=IDS
    )
    assert here.scores.tolist() == there
    assert len(set(there)) > 1


def test_an_answer_that_cannot_be_read_is_none_and_its_columns_are_kept():
    pytest.importorskip("math_verify")
    solutions = [SOLUTIONS[0], "words", *SOLUTIONS[2:]]
    reward = from_trl(rewards.accuracy_reward, none=-1.0)
    output = call_reward(reward, PROMPTS, TEXTS, {"solution": solutions})
    assert output.scores.tolist() == [1.0, -1.0, 0.0, 0.0]
    assert output.extra["solution"] == solutions
    assert output.extra["answer_parsed"][1:3] == ["[skipped]", "[unparseable]"]


@pytest.mark.parametrize(
    ("spec", "text", "score"),
    [
        ("trl.rewards:think_format_reward", TEXTS[0], 1.0),
        (
            "trl.rewards:get_soft_overlong_punishment,max_completion_len=10,soft_punish_cache=5",
            TEXTS[1],
            -0.8,
        ),
        ("trl.rewards:get_repetition_penalty_reward,ngram_size=1", TEXTS[1], -8 / 9),
    ],
)
def test_a_shipped_reward_has_a_name_on_the_command_line(spec, text, score):
    ids = [[5] * 9]
    output = call_reward(resolve_reward(spec), [PROMPTS[0]], [text], {}, completion_ids=ids)
    assert output.scores.tolist() == pytest.approx([score])


def test_a_shipped_reward_pays_in_an_environment():
    punish = rewards.get_soft_overlong_punishment(8, 8)  # -n / 8
    env = textgym.make_vec(
        "textgym/Length-v0",
        n_envs=2,
        max_new_tokens=5,
        reward=WeightedSum({"long": (punish, 1.0), "form": (rewards.think_format_reward, 1.0)}),
    )
    env.seed(0)
    env.reset()
    for _ in range(5):
        _, paid, dones, infos = env.step(np.full(2, 40))
    assert dones.all() and paid.tolist() == [-5 / 8] * 2
    assert infos[0]["reward_components"]["form"] == 0.0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A directory of a tiny random model of ours, which transformers opens."""
    place = tmp_path_factory.mktemp("model")
    tiny_lm(Tokenizer.byte(), spread=2.0, max_position_embeddings=96).save_pretrained(place)
    return place


def opened(checkpoint):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return {
        "model": AutoModelForCausalLM.from_pretrained(checkpoint),
        "processing_class": AutoTokenizer.from_pretrained(checkpoint),
    }


SETTINGS = {
    "max_steps": 2,
    "use_cpu": True,
    "bf16": False,
    "report_to": [],
    "logging_steps": 1,
    "save_strategy": "no",
    "disable_tqdm": True,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 4,
}


def test_three_of_ours_run_in_its_grpo_trainer(checkpoint, tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    length, lexicon = Length(6, unit="characters"), Lexicon()
    total = WeightedSum({"short": (Length(2, unit="characters"), 1.0), "new": (Repetition(1), 0.5)})
    batches = []

    def watch(prompts, completions, **kwargs):
        batches.append((prompts, completions))
        return [0.0] * len(prompts)

    settings = {**SETTINGS, "num_generations": 4, "max_completion_length": 8}
    trainer = GRPOTrainer(
        reward_funcs=[length, lexicon, to_trl(total), watch],
        args=GRPOConfig(output_dir=str(tmp_path), **settings),
        train_dataset=Dataset.from_list([{"prompt": "A good "}, {"prompt": "It was "}] * 4),
        **opened(checkpoint),
    )
    before = [weight.clone() for weight in trainer.model.parameters()]
    trainer.train()
    assert any(
        not old.equal(new) for old, new in zip(before, trainer.model.parameters(), strict=True)
    )
    rows = [row for row in trainer.state.log_history if "reward" in row]
    assert len(rows) == len(batches) == 2
    for row, (prompts, completions) in zip(rows, batches, strict=True):
        sums = call_reward(total, prompts, completions, {})
        expected = {
            "rewards/Length/mean": np.mean(length(prompts, completions)),
            "rewards/Lexicon/mean": np.mean(lexicon(prompts, completions)),
            "rewards/weighted_sum/mean": np.mean(sums.scores),
            "weighted_sum/new/weighted": np.mean(sums.components["new/weighted"]),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6)
        assert math.isfinite(row["loss"])


@pytest.mark.parametrize("chat", [False, True])
def test_an_exported_file_trains_its_dpo_trainer(checkpoint, tmp_path, chat):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    said = [
        Judgement(f"Prompt {n} ", "good ones", "bad ones", ("first", "second", "tie")[n % 3], "x")
        for n in range(9)
    ]
    rows = list(preference_rows(said, chat=chat, ties=False))
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    parts = opened(checkpoint)
    if chat:
        parts[
            "processing_class"
        ].chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    trainer = DPOTrainer(
        args=DPOConfig(output_dir=str(tmp_path / "run"), max_length=96, **SETTINGS),
        train_dataset=Dataset.from_json(str(path), cache_dir=str(tmp_path / "cache")),
        **parts,
    )
    before = [weight.clone() for weight in trainer.model.parameters()]
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 2 and losses[0] == pytest.approx(math.log(2), abs=1e-3)
    assert losses[1] != losses[0] and all(map(math.isfinite, losses))
    after = trainer.model.parameters()
    assert any(not old.equal(new) for old, new in zip(before, after, strict=True))
