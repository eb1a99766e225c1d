"""What people said of texts in Argilla or Label Studio, read from the exports of those tools.

Each function takes one exported record and gives what people said there; what is wrong is an
`InputError` that begins with the record's place. Nothing is guessed where a record could mean two
things: the names of the fields are asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from textgym.errors import InputError
from textgym.reward_models.people.preference_rows import Judgement, Score
from textgym.reward_models.people.records import Winner

_LEFT = {"left", "first", "a", "1", "response1", "response_1", "response-1", "answer1", "text1"}
_RIGHT = {"right", "second", "b", "2", "response2", "response_2", "response-2", "answer2", "text2"}
_TIES = {"tie", "equal", "same", "both", "both_good", "both good", "draw", "neither better"}
_BAD = {"both_bad", "both bad", "neither", "none"}
_PROMPTS = ("prompt", "instruction", "question", "input", "context")

Found = list[Judgement | Score]


def argilla_record(
    record: Mapping[str, Any],
    where: str,
    *,
    question: str | None = None,
    prompt: str | None = None,
    texts: Sequence[str] | None = None,
) -> Found:
    """Of a record of `dataset.records.to_list(...)` or `to_json`, nested or flattened.

    A label or ranking question about two texts gives choices (equal ranks are a tie), a rating
    question about one text gives scores. Answers that were not submitted are left out.

    :param question: its name; None: the only one that was answered.
    :param prompt: the field of the prompt; None: one of the usual names, or there is none.
    :param texts: the fields of the one or two texts, in order; None: all others.
    :raises InputError: beginning with `where`.
    """
    if isinstance(record.get("fields"), Mapping):
        fields, answers = record["fields"], _nested_answers(record, where)
    else:
        fields, answers = _flat_fields(record), _flat_answers(record, where)
    name = _only(answers, question, where, "question")
    if name is None:
        return []
    asked, shown, names = _texts(fields, where, prompt, texts)
    return [
        _said(value, rater, asked, shown, names, f"{where}: {name}")
        for rater, value in answers[name]
    ]


def label_studio_task(
    task: Mapping[str, Any],
    where: str,
    *,
    question: str | None = None,
    prompt: str | None = None,
    texts: Sequence[str] | None = None,
) -> Found:
    """Of a task of the JSON export, or a row of JSON-MIN.

    A `Pairwise` or `Choices` tag about two texts gives choices, a `Rating` (or `Number`) tag about
    one gives scores. Cancelled annotations are left out.

    :param question: the tag's name; None: the only one that was answered.
    :param prompt, texts: as `argilla_record`'s.
    :raises InputError: beginning with `where`.
    """
    if isinstance(task.get("data"), Mapping):
        fields, answers = task["data"], _annotations(task, where)
    else:
        fields, answers = _minimal(task, question, where)
    name = _only(answers, question, where, "tag")
    if name is None:
        return []
    asked, shown, names = _texts(fields, where, prompt, texts)
    return [
        _said(value, rater, asked, shown, names, f"{where}: {name}")
        for rater, value in answers[name]
    ]


Answers = dict[str, list[tuple[str, Any]]]


def _nested_answers(record: Mapping[str, Any], where: str) -> Answers:
    responses = record.get("responses") or {}
    answers: Answers = {}
    if isinstance(responses, Mapping):  # Argilla 2
        for name, given in responses.items():
            for one in _maps(given, f"{where}: responses of {name}"):
                if one.get("status") in (None, "submitted"):
                    answers.setdefault(name, []).append(
                        (str(one.get("user_id") or ""), one["value"])
                    )
        return answers
    for one in _maps(responses, f"{where}: responses"):  # Argilla 1
        if one.get("status") in (None, "submitted"):
            for name, value in (one.get("values") or {}).items():
                answers.setdefault(name, []).append((str(one.get("user_id") or ""), value["value"]))
    return answers


def _flat_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    own = ("id", "status", "_server_id", "external_id")
    return {name: value for name, value in record.items() if "." not in name and name not in own}


def _flat_answers(record: Mapping[str, Any], where: str) -> Answers:
    answers: Answers = {}
    for key, values in record.items():
        name, end, rest = key.partition(".responses")
        if not end or rest or values is None:
            continue
        users = record.get(f"{key}.users") or [""] * len(values)
        states = record.get(f"{key}.status") or ["submitted"] * len(values)
        if not len(users) == len(states) == len(values):
            raise InputError(f"{where}: {key} has {len(values)} values for {len(users)} users")
        for user, state, value in zip(users, states, values, strict=True):
            if state in (None, "submitted"):
                answers.setdefault(name, []).append((str(user), value))
    return answers


def _annotations(task: Mapping[str, Any], where: str) -> Answers:
    answers: Answers = {}
    for one in _maps(task.get("annotations") or [], f"{where}: annotations"):
        if one.get("was_cancelled"):
            continue
        by = one.get("completed_by")
        rater = by.get("email") or by.get("id") if isinstance(by, Mapping) else by
        for result in _maps(one.get("result") or [], f"{where}: result"):
            value = result.get("value")
            if not isinstance(value, Mapping):
                raise InputError(f"{where}: expected a value in each result, got {value!r:.40}")
            found = next(
                (value[k] for k in ("selected", "choices", "rating", "number") if k in value), None
            )
            if found is not None:
                name = str(result.get("from_name", ""))
                answers.setdefault(name, []).append(("" if rater is None else str(rater), found))
    return answers


def _minimal(
    row: Mapping[str, Any], question: str | None, where: str
) -> tuple[dict[str, Any], Answers]:
    own = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}
    if question is None:
        raise InputError(f"{where}: a row of JSON-MIN does not say what was asked: name the tag")
    fields = {name: value for name, value in row.items() if name not in {*own, question}}
    if row.get(question) is None:
        return fields, {}
    return fields, {question: [(str(row.get("annotator") or ""), row[question])]}


def _maps(values: Any, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        raise InputError(f"{where}: expected a list of objects, got {values!r:.60}")
    return values


def _only(answers: Answers, wanted: str | None, where: str, kind: str) -> str | None:
    if wanted is not None:
        return wanted if wanted in answers else None
    if len(answers) > 1:
        raise InputError(
            f"{where}: several {kind}s were answered ({', '.join(sorted(answers))}): name one"
        )
    return next(iter(answers), None)


def _texts(
    fields: Mapping[str, Any], where: str, prompt: str | None, texts: Sequence[str] | None
) -> tuple[str, list[str], list[str]]:
    """The prompt, the texts, and their names."""
    written = {name: value for name, value in fields.items() if isinstance(value, str)}
    if prompt is None:
        prompt = next(
            (name for name in _PROMPTS if name in written and name not in (texts or ())), None
        )
    names = [name for name in written if name != prompt] if texts is None else list(texts)
    missing = [
        name for name in [*([] if prompt is None else [prompt]), *names] if name not in written
    ]
    if missing or not 1 <= len(names) <= 2:
        raise InputError(
            f"{where}: expected one or two texts, and maybe a prompt, found the fields "
            f"{', '.join(sorted(fields)) or 'none'}: name the fields of the prompt and the texts"
        )
    return "" if prompt is None else written[prompt], [written[name] for name in names], names


def _said(
    value: Any, rater: str, prompt: str, texts: list[str], names: list[str], where: str
) -> Judgement | Score:
    if len(texts) == 1:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise InputError(f"{where}: expected a number for one text, got {value!r:.60}")
        return Score(prompt, texts[0], float(value), rater)
    winner = _ranked(value, names) if isinstance(value, list) else _winner(value, names)
    if winner is None:
        raise InputError(
            f"{where}: expected which of {names[0]} and {names[1]} is better, or a tie, got "
            f"{value!r:.60}"
        )
    return Judgement(prompt, texts[0], texts[1], winner, rater)


def _winner(value: Any, names: Sequence[str]) -> Winner | None:
    said = str(value).strip().lower()
    if said in (names[0].lower(), names[1].lower()):
        return "first" if said == names[0].lower() else "second"
    for words, winner in ((_LEFT, "first"), (_RIGHT, "second"), (_TIES, "tie"), (_BAD, "both_bad")):
        if said in words:
            return winner  # type: ignore[return-value]
    return None


def _ranked(values: list[Any], names: Sequence[str]) -> Winner | None:
    """A ranking: `{"value", "rank"}` each, 1 the best, or names in order; or the one choice."""
    if len(values) == 1 and not isinstance(values[0], Mapping):
        return _winner(values[0], names)
    if len(values) != 2:
        return None
    if all(isinstance(one, Mapping) and "value" in one and "rank" in one for one in values):
        ranks = {_winner(one["value"], names): one["rank"] for one in values}
        if set(ranks) != {"first", "second"}:
            return None
        if ranks["first"] == ranks["second"]:
            return "tie"
        return "first" if ranks["first"] < ranks["second"] else "second"
    best, other = (_winner(one, names) for one in values)
    return best if {best, other} == {"first", "second"} else None
