"""What a judge's answer says: a number, or which of two texts is the better one."""

import re

_NUMBER = re.compile(
    r"(?:(?:final )?(?:score|rating|grade)\s*[:=]?\s*)?(-?\d+(?:\.\d+)?)(?:\s*/\s*(\d+))?\.?",
    re.ASCII | re.IGNORECASE,
)
_CHOICE = re.compile(r"(?:(?:final )?answer\s*[:=]?\s*)?\(?\[{0,2}(a|b|tie)\]{0,2}\)?\.?", re.I)


def read_score(answer: str, low: float, high: float) -> float | None:
    """The number that an answer's last line consists of, or None.

    Before it may stand "Score:", behind it "/ 10" if that is the range's end. A sentence with
    numbers in it is no score, and neither is a number outside the range.

    :returns: in [low, high].
    """
    match = _NUMBER.fullmatch(_last_line(answer))
    if match is None or (match[2] is not None and float(match[2]) != high):
        return None
    score = float(match[1])
    return score if low <= score <= high else None


def read_choice(answer: str) -> float | None:
    """1 for "A", 0 for "B", .5 for "tie", None if the last line of the answer is none of them."""
    match = _CHOICE.fullmatch(_last_line(answer))
    return None if match is None else {"a": 1.0, "b": 0.0, "tie": 0.5}[match[1].lower()]


def _last_line(answer: str) -> str:
    lines = [line.strip(" \t\r*`_#\"'") for line in answer.splitlines()]
    return next((line for line in reversed(lines) if line), "")
