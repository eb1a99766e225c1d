"""BLEU, chrF, ROUGE and error rates: the libraries' own values, hand-computed ones, Chinese."""

import math

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_bleu, sentence_chrf

import textgym
from textgym.errors import InputError, RewardError
from textgym.reward_models import (
    Bleu,
    CharacterErrorRate,
    Chrf,
    ExactMatch,
    JsonSchema,
    Keyword,
    NumericAnswer,
    Rouge,
    WeightedSum,
    WordErrorRate,
)
from textgym.rewards import call_reward, check_arguments

ALL = (Bleu, Chrf, Rouge, WordErrorRate, CharacterErrorRate, ExactMatch)
SENTENCE = "The cat sat on the mat, and it was warm."
OTHER = "A cat was sitting on a warm mat."


def score(reward, *completions, **columns):
    return list(call_reward(reward, ["p"] * len(completions), completions, columns).scores)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize(
    "text", [SENTENCE, "猫坐在垫子上。", "好", "今日はいい天気です", "नमस्ते दुनिया"]
)
def test_the_reference_itself_scores_one_in_any_script(make, text):
    assert score(make(text), text) == [pytest.approx(1.0, abs=1e-12)]


@pytest.mark.parametrize("make", ALL)
def test_an_empty_text_scores_nothing(make):
    assert score(make(SENTENCE), "") == [0.0]


def test_bleu_is_sacrebleus():
    values = score(Bleu(), OTHER, "猫在垫子上", reference=[SENTENCE, "猫坐在垫子上。"])
    english = sentence_bleu(OTHER, [SENTENCE], use_effective_order=True).score
    chinese = sentence_bleu(
        "猫在垫子上", ["猫坐在垫子上。"], tokenize="zh", use_effective_order=True
    )
    assert values == [pytest.approx(english / 100), pytest.approx(chinese.score / 100)]


def test_bleu_by_hand():
    # unigrams 3 of 3, bigrams 1 of 2, trigrams 0 of 1 smoothed to 1/2; brevity exp(1 - 4/3)
    expected = math.exp(1 - 4 / 3) * (1 * 1 / 2 * 1 / 2) ** (1 / 3)
    assert score(Bleu("a b c d"), "a b d") == [pytest.approx(expected)]


def test_chrf_is_sacrebleus():
    assert score(Chrf(SENTENCE), OTHER) == [
        pytest.approx(sentence_chrf(OTHER, [SENTENCE]).score / 100)
    ]
    assert score(Chrf(SENTENCE, word_order=2), OTHER) == [
        pytest.approx(sentence_chrf(OTHER, [SENTENCE], word_order=2).score / 100)
    ]


def test_rouge_is_rouge_scores_where_its_tokenizer_knows_the_script():
    ours, theirs = (OTHER, SENTENCE), RougeScorer(["rouge1", "rouge2", "rougeL"])
    for kind, expected in theirs.score(SENTENCE, OTHER).items():
        for measure in ("fmeasure", "precision", "recall"):
            reward = Rouge(ours[1], kind=kind, measure=measure)
            assert score(reward, ours[0]) == [pytest.approx(getattr(expected, measure))]


def test_rouge_counts_chinese_by_the_character():
    assert RougeScorer(["rougeL"]).score("一只猫", "一只猫")["rougeL"].fmeasure == 0
    # three of four characters in order, of three written: P 1, R 3/4
    assert score(Rouge("一只白猫"), "一只猫") == [pytest.approx(2 * 1 * 0.75 / 1.75)]


def test_error_rates_by_hand():
    # one substitution and one insertion over three words; a floor where much was added
    assert score(WordErrorRate("the cat sat"), "The dog sat down", "x " * 20) == [
        pytest.approx(1 - 2 / 3),
        -1.0,
    ]
    assert score(WordErrorRate("一只猫"), "一只狗") == [pytest.approx(2 / 3)]
    assert score(CharacterErrorRate("kitten"), " sitting ", "Kitten") == [
        pytest.approx(1 - 3 / 6),
        pytest.approx(5 / 6),
    ]


def test_of_several_references_the_best_counts():
    for make in ALL:
        assert score(make(["nothing alike", SENTENCE]), SENTENCE) == [pytest.approx(1.0)]
        column = {make().column: [["nothing alike", SENTENCE], "xyz"]}
        first, second = score(make(), SENTENCE, SENTENCE, **column)
        assert first == pytest.approx(1.0) and second < 0.5


def test_exact_match_forgives_case_space_and_marks_at_the_ends_only():
    texts = ("  paris. ", "“Paris”", "Pari s", "Paris, France")
    assert score(ExactMatch("Paris"), *texts) == [1.0, 1.0, 0.0, 0.0]
    assert score(ExactMatch("5"), "-5", "5.") == [0.0, 1.0]
    assert score(ExactMatch("..."), "...", "!!!") == [1.0, 0.0]
    assert score(ExactMatch("caf\u00e9", strict=True), " cafe\u0301", "Caf\u00e9") == [1.0, 0.0]


@pytest.mark.parametrize("make", ALL)
def test_a_missing_column_is_named_with_the_way_out(make):
    reward = make(column="gold")
    expected = (
        rf"^reward model '{reward.name}' needs the prompt column 'gold', got columns: 'other': "
        r"add it to the prompts, say which it is with column=..., or pass reference=... "
        r"\(prompt 'p'\)$"
    )
    with pytest.raises(RewardError, match=expected):
        score(reward, "a", other=["x"])


def test_a_missing_column_is_found_before_anything_is_played():
    for reward in (Bleu(), WeightedSum([(JsonSchema(), 1.0)]), Keyword(), NumericAnswer()):
        with pytest.raises(InputError, match=r"needs the prompt column '\w+', got columns: none"):
            textgym.make_vec("textgym/Length-v0", 1, reward=reward)
    check_arguments(Bleu(), ["reference"])
    for reward in (Bleu("a"), JsonSchema(True), Keyword("a"), Chrf(column="prompts")):
        check_arguments(reward, [])


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "expected a text or a list of texts"),
        (3, "expected a text or a list of texts"),
        (["a", None], "expected a text or a list of texts"),
        ([], "expected a text that is not blank"),
        (" \n", "expected a text that is not blank"),
    ],
)
def test_a_bad_reference_is_one_line_with_its_rows_prompt(make, value, expected):
    reward = make(column="gold")
    with pytest.raises(RewardError) as caught:
        call_reward(reward, ["one", "two"], ["a", "b"], {"gold": ["fine", value]})
    message = str(caught.value)
    assert message.startswith(f"reward model '{reward.name}' got {value!r} in the column 'gold': ")
    assert expected in message and message.endswith("or drop the row (prompt 'two')")
    assert "\n" not in message
    if value is not None:
        with pytest.raises(InputError, match=f"{reward.name}: got the reference"):
            make(value if isinstance(value, str | list) else [value])


def test_what_a_reward_model_cannot_do_anything_with_is_refused():
    with pytest.raises(RewardError, match=r"a text with a word in it.*\(prompt 'p'\)"):
        score(Rouge(), "a", reference=["?!"])
    with pytest.raises(RewardError, match=r"completion of type list, expected a text.*'p'"):
        call_reward(Bleu("a"), ["p"], [[{"role": "assistant", "content": "a"}]], {})
    with pytest.raises(InputError, match="tokenize must be one of 'auto'"):
        Bleu("a", tokenize="mecab")
    with pytest.raises(InputError, match="kind must be one of 'rouge1'"):
        Rouge("a", kind="rouge7")


def test_the_prompt_can_be_the_reference():
    outputs = call_reward(Chrf(column="prompts"), ["the cat"], ["the cat"], {})
    assert list(outputs.scores) == [pytest.approx(1.0)]
