"""Each step of preparation on hand-made texts, and that doing it twice changes nothing more."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from textgym.envs.texts.preparation import (
    ChineseVariant,
    Duplicates,
    Language,
    Length,
    Markup,
    NearDuplicates,
    Normalize,
    Quality,
    Repair,
    Segment,
    Segmenter,
    StopWords,
    TextPipeline,
    Whitespace,
)
from textgym.errors import InputError

MANY = settings(max_examples=40, deadline=None)


def outcome(step, *texts):
    """The texts that a step leaves, and its count."""
    prepared = TextPipeline([step]).texts(texts)
    left = list(prepared)
    return left, prepared.report.steps[0]


@pytest.mark.parametrize(
    ("step", "text", "expected"),
    [
        (Repair(), "cafÃ© “quoted”", "café “quoted”"),
        (Repair(), "æˆ‘çˆ±ä½\xa0", "我爱你"),
        (Repair(), "already fine: café, 我爱你 &amp;", "already fine: café, 我爱你 &amp;"),
        (ChineseVariant(), "漢字轉換，頭髮與發現", "汉字转换，头发与发现"),
        (ChineseVariant("traditional"), "头发与发现", "頭髮與發現"),
        (ChineseVariant("taiwan"), "鼠标", "滑鼠"),
        (ChineseVariant(), "no Chinese at all", "no Chinese at all"),
        (Markup(), "a <b>bold</b> word &amp; more", "a bold word & more"),
        (Markup(), "<p>one</p><p>two<br/>three</p>", "\none\n\ntwo\nthree\n"),
        (Markup(), "x<script type='a'>if (a<b) {}</script>y<!-- <b> -->z", "x y z"),
        (Markup(), "if a < b and c > d: 2 < 3", "if a < b and c > d: 2 < 3"),
        (Markup(), "&amp;lt;b&amp;gt;twice&lt;/b&gt;", "twice"),
        (Markup(), "&#20013;&#x6587; &nosuch; &copy;", "中文 &nosuch; ©"),
        (Markup(links=True), "see https://a.b/c?d=e. and www.x.org，好", "see  and ，好"),
        (Markup(), "see https://a.b/c", "see https://a.b/c"),
        (Segment(), "Don't stop: 我喜欢苹果手机。", "Don't stop : 我 喜欢 苹果 手机 。"),
        (Segment(punctuation=False), "“Well,” 他说：好！", "Well 他 说 好"),
        (Segment(characters=True), "苹果 phone", "苹 果 phone"),
        (Segment(), "one  line\n两行字", "one line\n两行 字"),
        (StopWords("en"), "The film is a story about The Sea", "film story Sea"),
        (StopWords("zh"), "我 喜欢 的 电影 和 书", "喜欢 电影 书"),
        (StopWords(), "我 love the 电影", "love 电影"),
    ],
)
def test_a_step_does_what_it_is_named_for(step, text, expected):
    assert step.start()(text) == expected


TEXT_STEPS = [
    *(Repair(), Markup(), Markup(links=True), Normalize(), Normalize("NFKC"), Whitespace()),
    *(Whitespace(keep_lines=True), Segment(characters=True), StopWords()),
]
MESSY = st.text(st.sampled_from("aB &<>/b;lt#1 \n\t“’é中文，。\u0301Ã©\x00!-"), max_size=30)


@pytest.mark.parametrize("step", TEXT_STEPS, ids=repr)
@MANY
@given(text=st.one_of(st.text(max_size=20), MESSY))
@example("<<b>b>&amp;amp;lt;i>")
def test_a_step_done_twice_changes_nothing_more(step, text):
    function = step.start()
    once = function(text)
    assert function(once) == once


@pytest.mark.parametrize("text", ["我来到北京清华大学。", "The 电影 isn't 坏, 3.5 stars"])
def test_segmenting_twice_changes_nothing_more(text):
    function = Segment().start()
    assert function(function(text)) == function(text)


@MANY
@given(st.one_of(st.text(max_size=30), st.text("我来到北京清华大学a' ,。\u0301", max_size=20)))
def test_the_pieces_of_a_text_are_the_text(text):
    for segmenter in (SEGMENTER, Segmenter(characters=True)):
        assert "".join(segmenter.pieces(text)) == text


SEGMENTER = Segmenter()


def test_a_dictionary_of_ones_own_is_obeyed(tmp_path):
    assert "云计算" not in SEGMENTER.words("他是云计算方面的专家")
    file = tmp_path / "words.txt"
    file.write_text("# ours\n云计算\n专家 5 n\n", encoding="utf-8")
    assert Segmenter(file).words("他是云计算方面的专家") == [
        "他",
        "是",
        "云计算",
        "方面",
        "的",
        "专家",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(range(256)), "line 1: expected UTF-8, found byte 0x80"),
        (b"a\0b\n", "line 1: expected {what} as text, found a NUL"),
        (b"\n# nothing\n", "expected {what}, one a line, found none"),
    ],
)
@pytest.mark.parametrize(
    ("step", "what"),
    [
        (lambda f: Segment(dictionary=f), "words of a dictionary"),
        (lambda f: StopWords("", words=f), "stop words"),
    ],
)
def test_a_list_that_is_no_text_is_refused(tmp_path, step, what, content, message):
    file = tmp_path / "list.txt"
    file.write_bytes(content if b"\x80" not in content else content[128:])
    with pytest.raises(InputError, match=message.format(what=what)):
        outcome(step(file), "a text")


def test_a_dictionary_line_that_is_none_is_named(tmp_path):
    file = tmp_path / "d.txt"
    file.write_text("好\n苹果 3 n surplus\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"d.txt, line 2: expected WORD \[FREQUENCY \[TAG\]\]"):
        Segmenter(file)


def test_stop_words_of_ones_own_join_the_bundled_ones(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("Film\n", encoding="utf-8")
    assert outcome(StopWords("en", words=file), "the film of Anna")[0] == ["Anna"]
    assert outcome(StopWords("", words=file), "the film of Anna")[0] == ["the of Anna"]


def test_a_text_of_stop_words_alone_is_removed_and_counted():
    left, count = outcome(StopWords(), "of the and", "a film")
    assert left == ["film"]
    assert (count.changed, count.removed, dict(count.reasons)) == (1, 1, {"nothing left": 1})


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("A film that is neither good nor bad.", ""),
        ("一部不好也不坏的电影。", ""),
        ("", "few letters"),
        ("== 12 == -- !!", "few letters"),
        ("abcdef $$$ +++", "many symbols"),  # 6 of 12 are symbols, 6 letters
        ("abcdef 12345", "many digits"),  # 5 of 11
        ("so " + "o" * 21, "a long run of one character"),
        ("so " + "o" * 20, ""),
        ("one\ntwo\none\none", "repeated lines"),  # 2 of 4
        ("one\ntwo\nthree\none", ""),  # 1 of 4
        ("spam " * 4 + "a b c d e f", "repeated words"),  # 4 of 10
        ("spam " * 3 + "a b c d e f g", ""),  # 3 of 10
        ("spam " * 9, ""),  # too short to tell
    ],
)
def test_quality_names_the_rule_that_a_text_breaks(text, broken):
    assert Quality().broken_rule(text) == broken


def test_quality_counts_by_rule():
    left, count = outcome(Quality(), "a fine text", "12 34", "!!!", "so " + "o" * 30)
    assert left == ["a fine text"]
    assert dict(count.reasons) == {"few letters": 2, "a long run of one character": 1}


def test_length_counts_characters_and_words():
    assert outcome(Length(3, 5), "ab", "abc", "abcde", "abcdef")[0] == ["abc", "abcde"]
    step = Length(min_words=2, max_words=3)
    assert outcome(step, "one", "one two", "一二三", "one two three four")[0] == [
        "one two",
        "一二三",
    ]


def test_language_keeps_what_it_is_told_and_counts_the_rest():
    german = "Das ist ein deutscher Satz über das Wetter in dieser Stadt."
    english = "This is an English sentence about the weather in this town."
    chinese = "今天天气很好，我们去公园散步。"
    left, count = outcome(Language("en+zh"), german, english, chinese)
    assert left == [english, chinese]
    assert dict(count.reasons) == {"de": 1}
    assert outcome(Language("de", confidence=1.0), german)[1].reasons["de, unsure"] == 1


def test_near_duplicates_go_and_the_first_stays():
    base = "a thoughtful, slow and rather beautiful film about two sisters by the sea"
    near = base.replace("two", "three")
    other = "nothing like it at all: a comedy of manners in a small town up north"
    assert outcome(NearDuplicates(0.6), base, other, near, base.upper())[0] == [base, other]
    assert outcome(Duplicates(), base, near, base.upper())[0] == [base, near]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normalize("NFX"), "normalize: form must be one of 'NFC', .* got 'NFX'"),
        (lambda: ChineseVariant("klingon"), "chinese: to must be one of .* got 'klingon'"),
        (lambda: Language(""), "language: keep must be codes like 'en\\+zh', got ''"),
        (lambda: Language("en", 2), "language: confidence must be a finite number from 0 to 1"),
        (lambda: Length(5, 3), "length: expected min_characters <= max_characters, got 5 and 3"),
        (lambda: Length(1.5), "length: min_characters must be a whole number"),
        (lambda: NearDuplicates(0.3), "near_duplicates: threshold must be .* from 0.5 to 1"),
        (lambda: Quality(max_symbols=-1), "quality: max_symbols must be .* got -1"),
        (lambda: StopWords("de"), "unknown language of stop words 'de'"),
        (lambda: StopWords(""), "stop_words: expected a language"),
        (lambda: outcome(Language("xx"), "text"), "unknown language 'xx'"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_missing_library_names_the_extra(monkeypatch):
    import sys

    for module, step in (
        ("ftfy", Repair()),
        ("opencc", ChineseVariant()),
        ("py3langid.langid", Language("en")),
        ("rjieba", Segment()),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(InputError, match=r"not installed: pip install 'textgym\[prepare\]'"):
            outcome(step, "一个 text")
