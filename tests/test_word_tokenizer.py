"""The word tokenizer: which tokens it has, how it cuts, and that every text comes back."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from textgym.errors import InputError
from textgym.tokenizer import Tokenizer

SEGMENTED = [
    "我 来到 北京 清华大学 ， 他 是 主任 。",
    "The film was a great story , isn't it ?",
    "我 喜欢 苹果 手机 and the film",
    "我 喜欢 北京",
]


@pytest.fixture(scope="module")
def words():
    return Tokenizer.words(SEGMENTED, vocab_size=450)


def tokens(tokenizer, text):
    return [tokenizer.decode([i]) for i in tokenizer.encode(text)]


def test_chinese_without_spaces_is_cut_into_words(words):
    expected = ["我", "来到", "北京", "清华大学", "，", "他", "喜欢", "苹果", "手机"]
    assert tokens(words, "我来到北京清华大学，他喜欢苹果手机") == expected


def test_words_of_a_spaced_script_carry_the_space_before_them(words):
    assert tokens(words, "The film was a story, 我喜欢 it") == [
        *("The", " film", " was", " a", " story", ",", " ", "我", "喜欢", " it")
    ]


def test_the_likelier_cut_is_taken():
    # ab|c: (3/10)(1/10); a|bc: (1/10)(5/10).
    tokenizer = Tokenizer.words(["好事 好事 好事 多 好 事多 事多 事多 事多 事多"], vocab_size=400)
    assert tokens(tokenizer, "好事多") == ["好", "事多"]


@pytest.mark.parametrize("unk", [False, True])
def test_the_commonest_words_fill_the_vocabulary(unk):
    least = 3 + (1 if unk else 256) + 97
    texts = ["common " * 5 + "twice twice once 常 常 常 常 常 常"]
    tokenizer = Tokenizer.words(texts, vocab_size=least + 2, unk=unk)
    assert tokenizer.vocab_size == least + 2
    assert tokenizer.token_to_id("常") is not None
    assert tokenizer.token_to_id(" common") is not None  # 4: the first stands alone
    assert tokenizer.token_to_id(" twice") is None
    with pytest.raises(InputError, match=f"vocab_size must be at least {least + 1} "):
        Tokenizer.words(texts, vocab_size=least, unk=unk)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=30), st.text("我来北京film <0x41>|eos\n'", max_size=20)))
@example("<0x41><|eos|><|pad|><|bos|>")
@example(" \n\n  a\t\u3000\r\n")
def test_any_text_comes_back_exactly_and_holds_no_special_token(text):
    ids = WORDS.encode(text)
    assert WORDS.decode(ids) == text
    assert not {WORDS.pad_token_id, WORDS.eos_token_id, WORDS.bos_token_id} & {*ids}
    assert WORDS.decode_continuation([], ids) == text


WORDS = Tokenizer.words(SEGMENTED, vocab_size=450)


def test_unknown_characters_are_one_token_where_wanted():
    tokenizer = Tokenizer.words(SEGMENTED, vocab_size=200, unk=True)
    assert tokens(tokenizer, "我漢来到") == ["我", "<|unk|>", "来到"]
    assert tokenizer.eos_token_id not in tokenizer.encode("<|eos|>")
    assert tokenizer.decode(tokenizer.encode("<|unk|> ")) == "<|unk|> "


def test_it_is_saved_as_transformers_opens_it(words, tmp_path):
    transformers = pytest.importorskip("transformers")
    words.save(tmp_path / "tok")
    assert Tokenizer.load(tmp_path / "tok") == words
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "tok")
    for text in ("我来到北京清华大学", "The film isn't 北京?", "ß\n漢"):
        ids = words.encode(text)
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids
        assert theirs.decode(ids) == text


def test_texts_without_a_word_are_refused():
    with pytest.raises(InputError, match="needs texts with at least one word"):
        Tokenizer.words(["", "  "], vocab_size=400)
