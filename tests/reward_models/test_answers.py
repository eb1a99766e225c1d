"""Numbers in texts, and JSON that fits a schema."""

import json

import pytest

from textgym.errors import InputError, RewardError
from textgym.reward_models import JsonSchema, NumericAnswer
from textgym.reward_models.rules.answers import number_in
from textgym.rewards import call_reward


def score(reward, *completions, **columns):
    return list(call_reward(reward, ["p"] * len(completions), completions, columns).scores)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It is 12, so 7 remain", 7),
        ("1,234,567.5 people", 1234567.5),
        ("12,34 and nothing", 34),
        ("-3", -3),
        ("−3 degrees", -3),
        ("10-15", 15),
        ("(-2)", -2),
        ("3/4 of it", 0.75),
        ("2e3", 2000),
        (".5", 0.5),
        ("It costs $5.", 5),
        ("50%", 50),
        ("１２．５", 12.5),
        ("答案是42。", 42),
        ("first 3 #### 1,000 apples in 2 bags", 1000),
        (r"so \boxed{17} of 20", 17),
        (r"\boxed{1} no, \boxed{\frac{3}{4}} then 9", 0.75),
        (r"\boxed{10{,}000}", 10000),
        ("no number", None),
        ("", None),
        ("5 before #### none", None),
        ("1e9999", None),
        ("1/0", 0),
    ],
)
def test_the_number_of_a_text(text, number):
    assert number_in(text) == (None if number is None else pytest.approx(number))


def test_numeric_answers():
    texts = ("so 72", "#### 72", "72.1", "none")
    assert score(NumericAnswer(72), *texts) == [1.0, 1.0, 0.0, 0.0]
    assert score(NumericAnswer(72, tolerance=0.01), *texts) == [1.0, 1.0, 1.0, 0.0]
    answers = {"answer": ["16 - 3 = 13 #### 13", 0.5, 3]}
    assert score(NumericAnswer(), "13", "1/2", "4", **answers) == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("value", [None, "none", True, [3], float("nan")])
def test_an_answer_without_a_number_names_its_row(value):
    with pytest.raises(RewardError, match=r"^reward model 'numeric_answer' got .*\(prompt 'b'\)$"):
        call_reward(NumericAnswer(), ["a", "b"], ["1", "2"], {"answer": [1, value]})


def test_numeric_answer_refuses_bad_arguments():
    with pytest.raises(InputError, match="tolerance must be 0 or above"):
        NumericAnswer(1, tolerance=-1)
    with pytest.raises(InputError, match="got the answer 'many'"):
        NumericAnswer("many")


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def test_json_that_fits_other_json_and_none():
    texts = ['{"name": "Ann", "age": 3}', ' {"name": "Ann"}\n', '{"age": 3}', "[]", "{", ""]
    assert score(JsonSchema(SCHEMA), *texts) == [1, 1, 0, 0, 0, 0]
    assert score(JsonSchema(SCHEMA, parsed=0.25), *texts) == [1, 1, 0.25, 0.25, 0, 0]
    assert score(JsonSchema(True), "NaN", "[1, Infinity]", "[1]", "[" * 100_000) == [0, 0, 1, 0]


def test_fences_count_only_where_asked_for():
    texts = ['```json\n{"name": "Ann"}\n```', 'Here: ```json\n{"name": "Ann"}\n```']
    assert score(JsonSchema(SCHEMA), *texts) == [0, 0]
    assert score(JsonSchema(SCHEMA, fences=True), *texts) == [1, 0]


def test_a_schema_comes_from_a_column_a_text_or_a_file(tmp_path):
    number = {"type": "number"}
    rows = {"schema": [number, json.dumps(SCHEMA), number]}
    assert score(JsonSchema(), "3", '{"name": "B"}', '"3"', **rows) == [1, 1, 0]
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(number), encoding="utf-8")
    for given in (str(file), file, json.dumps(number)):
        assert score(JsonSchema(given), "3", "[]") == [1, 0]


def test_the_dialect_is_what_the_schema_says():
    old = {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3}
    assert score(JsonSchema({**old, "exclusiveMinimum": True}), "3", "4") == [0, 1]
    assert score(JsonSchema({"exclusiveMinimum": 3}), "3", "4") == [0, 1]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (None, "expected a JSON schema"),
        ({"type": "objekt"}, "no JSON schema: 'objekt' is not valid"),
        ({"$ref": "https://example.com/other.json"}, "references cannot be followed"),
        ("{", "this text is no JSON"),
        ([1], "expected a JSON schema"),
    ],
)
def test_a_bad_schema_names_its_row_and_nothing_is_fetched(schema, expected, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("fetched"))
    with pytest.raises(RewardError) as caught:
        call_reward(JsonSchema(), ["a", "b"], ["1", "2"], {"schema": [True, schema]})
    message = str(caught.value)
    assert expected in message and message.endswith("(prompt 'b')") and "\n" not in message
    if schema is not None:
        with pytest.raises(InputError, match=r"^json_schema: "):
            JsonSchema(schema)


def test_a_reference_that_only_some_values_meet_is_an_error_too():
    schema = {"properties": {"a": {"$ref": "#/$defs/none"}}}
    assert score(JsonSchema(schema), "3") == [1]
    with pytest.raises(RewardError, match=r"cannot follow a reference of the schema.*prompt 'p'"):
        score(JsonSchema(schema), '{"a": 1}')


def test_a_schema_file_that_is_none(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        JsonSchema(str(tmp_path / "none.json"))
    with pytest.raises(InputError, match="parsed must be from 0 to 1"):
        JsonSchema(True, parsed=2)
