"""A continuation is decoded and encoded where it stands, with tokenizers of every family."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textgym_tokenizers import families, sentencepiece_bpe, unigram, wordpiece
from tokenizers import Tokenizer as Backend
from tokenizers import processors

from textgym.errors import InputError
from textgym.tokenizer import Tokenizer
from textgym.tokenizer_context import start_ids

FAMILIES = families()
every_family = pytest.mark.parametrize("name", FAMILIES)


@every_family
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_prefix_and_continuation_are_the_text_of_both(name, data):
    tokenizer = FAMILIES[name]
    prefix = data.draw(st.sampled_from(["The film", "The film is ", "Nobody", "the ending, it"]))
    before = tokenizer.encode(prefix, add_special_tokens=data.draw(st.booleans()))
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=5))
    text = tokenizer.decode_continuation(before, ids)
    assert tokenizer.decode(before) + text == tokenizer.decode([*before, *ids])
    assert text == tokenizer.decode_continuation(np.array(before), ids)


@every_family
def test_a_word_that_goes_on_keeps_its_space(name):
    tokenizer = FAMILIES[name]
    before, ids = (
        tokenizer.encode("The film"),
        tokenizer.encode_continuation("The film", " is good"),
    )
    assert tokenizer.decode_continuation(before, ids) == " is good"
    assert tokenizer.decode([*before, *ids]).strip() == "The film is good"
    assert tokenizer.decode_continuation([], []) == ""


@every_family
def test_whatever_the_tokenizer_can_write_there_comes_back(name):
    """Where words are joined by spaces, what joins no word is beyond some of them."""
    tokenizer = FAMILIES[name]
    spaced = ("wordpiece, no cleanup", "word ends", "words")
    texts = [" is good"] + ([] if name in spaced else [", and it is", "s are not", " the ending!"])
    if "wordpiece" not in name and name not in spaced:
        texts += ["ing is", "\u2009good", "  is"][: 1 if name.startswith("unigram") else 3]
    rows = tokenizer.encode_continuations(["The film"] * len(texts), texts)
    before = tokenizer.encode("The film")
    assert tokenizer.decode_continuations([before] * len(texts), rows) == texts


def test_by_hand():
    tokenizer = sentencepiece_bpe()
    name = tokenizer.backend.id_to_token
    assert [name(i) for i in tokenizer.encode("The film")] == ["▁The", "▁film"]
    assert [name(i) for i in tokenizer.encode_continuation("The", " film")] == ["▁film"]
    spelled = [name(i) for i in tokenizer.encode_continuation("The ", "film")]
    assert "".join(spelled) == "film"  # no mark, as none is asked for
    film = tokenizer.encode_continuation("The", " film")
    assert tokenizer.decode(film) == "film"
    assert tokenizer.decode_continuation(tokenizer.encode("The"), film) == " film"
    assert tokenizer.decode_continuation([tokenizer.bos_token_id], film) == "film"


def test_a_prompt_that_is_spelled_in_bytes_is_a_prefix_like_any_other():
    tokenizer = sentencepiece_bpe()
    before = tokenizer.encode("你好")
    assert all(tokenizer.backend.id_to_token(i).startswith("<0x") for i in before[1:])
    assert tokenizer.decode_continuation(before, tokenizer.encode("film")) == " film"
    characters = tokenizer.encode_continuation("你好", "吗 film")
    assert tokenizer.decode_continuation(before, characters) == "吗 film"


def test_wordpiece_joins_a_word_where_it_can_be_told():
    tokenizer = wordpiece()
    joined = tokenizer.encode("films")
    assert joined[:-1] == tokenizer.encode("film")
    assert tokenizer.encode_continuation("the film", "s") == joined[-1:]


@pytest.mark.parametrize(
    "single, start, kept",
    [
        ("<|bos|> $A <|eos|>", ["<|bos|>"], True),
        ("$A <|eos|>", [], True),
        ("<|bos|> $A <|pad|> <|eos|> <|eos|>", ["<|bos|>"], True),
        ("<|eos|> <|bos|> $A", ["<|eos|>", "<|bos|>"], True),
        ("$A", [], True),
    ],
)
def test_what_a_template_puts_behind_a_text_is_left_out(single, start, kept, tmp_path):
    backend = Tokenizer.byte().backend
    names = [(name, backend.token_to_id(name)) for name in ("<|pad|>", "<|bos|>", "<|eos|>")]
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=names)
    tokenizer = Tokenizer(backend, pad_token="<|pad|>", eos_token="<|eos|>", bos_token="<|bos|>")
    expected = [*map(backend.token_to_id, start), *tokenizer.encode("ab")]
    assert tokenizer.encode("ab", add_special_tokens=True) == expected
    tokenizer.save(tmp_path)  # the template itself stays as it was
    again = Backend.from_file(str(tmp_path / "tokenizer.json"))
    assert again.encode("ab").tokens == backend.encode("ab").tokens


def test_the_start_of_every_kind_of_post_processor():
    bert = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    roberta = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
    both = {"type": "Sequence", "processors": [bert, {"type": "ByteLevel"}, roberta]}
    assert [start_ids(part) for part in (bert, roberta, both, None)] == [[2], [0], [0, 2], []]
    tokenizer = wordpiece()
    ids = tokenizer.encode("film", add_special_tokens=True)
    assert ids == [tokenizer.bos_token_id, *tokenizer.encode("film")]
    assert unigram().encode("film", add_special_tokens=True)[-1] != unigram().eos_token_id


@every_family
def test_copies_say_the_same(name):
    tokenizer = FAMILIES[name]
    for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):  # noqa: S301
        assert other == tokenizer
        ids = other.encode_continuation("The film", " is good")
        assert ids == tokenizer.encode_continuation("The film", " is good")


def test_a_continuation_that_is_no_text_is_refused():
    for tokenizer in (sentencepiece_bpe(), Tokenizer.byte()):
        with pytest.raises(InputError, match="expected a text"):
            tokenizer.encode_continuation("The film", None)
        with pytest.raises(InputError, match="lone surrogate"):
            tokenizer.encode_continuation("The film", "\ud800")


def test_a_special_token_written_in_a_continuation_is_its_characters():
    for tokenizer in FAMILIES.values():
        ids = tokenizer.encode_continuation("The film", f" is {tokenizer.eos_token} good")
        assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & set(ids)
