"""Text to ids and back, exactly, and special tokens that no text can forge."""

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models

from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.tokenizer import Tokenizer

CORPUS = ["the film was good, the film was bad", "Ünïcödé, 漢字 and 🎬 <|eos|>", "the end."]
KINDS = {
    "byte": Tokenizer.byte(),
    "character": Tokenizer.character(CORPUS),
    "bpe": Tokenizer.train_bpe(CORPUS, vocab_size=290),
}
every_kind = pytest.mark.parametrize("tokenizer", KINDS.values(), ids=KINDS)
unicode_texts = st.text(st.characters(exclude_categories=["Cs"]))


@every_kind
@given(text=unicode_texts | st.sampled_from(["<|pad|>x<|eos|>", "<0x41>", " \u2581Ġ", "\x00\n"]))
def test_any_text_comes_back_exactly_and_holds_no_special_token(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    specials = {tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id}
    assert not specials & set(ids)
    assert all(0 <= token < tokenizer.vocab_size for token in ids)
    with_start = tokenizer.encode(text, add_special_tokens=True)
    assert with_start == [tokenizer.bos_token_id, *ids]
    assert tokenizer.decode([*with_start, tokenizer.eos_token_id]) == text


@every_kind
@given(texts=st.lists(unicode_texts, max_size=4))
def test_a_batch_is_its_texts_one_by_one(tokenizer, texts):
    rows = tokenizer.encode_batch(texts)
    assert rows == [tokenizer.encode(text) for text in texts]
    assert tokenizer.decode_batch(rows) == texts


def test_sizes_and_ids_of_the_byte_tokenizer():
    tokenizer = KINDS["byte"]
    assert tokenizer.vocab_size == 259
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert len(tokenizer.encode("é")) == 2 and len(tokenizer.encode("🎬")) == 4


def test_a_character_tokenizer_spells_unknown_characters_in_bytes():
    tokenizer = Tokenizer.character(["abc"])
    assert tokenizer.vocab_size == 3 + 256 + 3
    assert len(tokenizer.encode("abc")) == 3
    ids = tokenizer.encode("aé")
    assert ids[1:] == [tokenizer.token_to_id("<0xC3>"), tokenizer.token_to_id("<0xA9>")]


def test_bpe_learns_merges_from_its_corpus_only():
    tokenizer = KINDS["bpe"]
    assert 259 < tokenizer.vocab_size <= 290
    assert len(tokenizer.encode("the film")) < len("the film")


@every_kind
def test_bytes_that_are_no_utf_8_become_the_replacement_character(tokenizer):
    ids = Tokenizer.byte().encode("é") if tokenizer.vocab_size == 259 else tokenizer.encode("щ")
    assert len(ids) == 2
    assert tokenizer.decode(ids[:1]) == "\ufffd"


@every_kind
def test_transformers_opens_what_was_saved(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("the film, ünïcödé 🎬", " two  spaces", "漢字"):
        assert theirs(text)["input_ids"] == tokenizer.encode(text, add_special_tokens=True)
        ids = tokenizer.encode(text)
        assert theirs.decode(ids, skip_special_tokens=True) == text
    for role in ("pad", "eos", "bos"):
        assert getattr(theirs, f"{role}_token_id") == getattr(tokenizer, f"{role}_token_id")


def test_a_tokenizer_replaces_its_own_files_only(tmp_path):
    Tokenizer.byte().save(tmp_path / "own")
    (tmp_path / "own" / "notes.txt").write_text("mine")
    Tokenizer.character(["xyz"]).save(tmp_path / "own")
    assert Tokenizer.load(tmp_path / "own") == Tokenizer.character(["xyz"])
    assert (tmp_path / "own" / "notes.txt").read_text() == "mine"
    theirs = tmp_path / "theirs" / "tokenizer.json"
    theirs.parent.mkdir()
    theirs.write_text("{}")
    with pytest.raises(InputError, match=r"holds a tokenizer\.json that textgym did not write"):
        Tokenizer.byte().save(theirs.parent)
    assert theirs.read_text() == "{}" and len(list(theirs.parent.iterdir())) == 1


def test_a_model_keeps_the_tokenizer_that_fits_it(tmp_path):
    CausalLM.new(Tokenizer.byte(), hidden_size=32, num_hidden_layers=1).save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="holds a model, with a tokenizer that fits it"):
        Tokenizer.character(["xyz"]).save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@every_kind
def test_saved_pickled_and_copied_ones_are_equal(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    text = "the end <|eos|> 🎬"
    for other in (
        Tokenizer.load(tmp_path),
        pickle.loads(pickle.dumps(tokenizer)),  # noqa: S301
        copy.deepcopy(tokenizer),
    ):
        assert other == tokenizer and hash(other) == hash(tokenizer)
        assert other.encode(text) == tokenizer.encode(text)
        assert other.bos_token_id == tokenizer.bos_token_id
    assert tokenizer != Tokenizer.character(["xyz"])


@pytest.mark.parametrize(
    "wrong, message",
    [
        ("ab\ud800c", "lone surrogate at character 2"),
        (b"bytes", "expected a text .* got bytes"),
        (None, "expected a text .* got NoneType"),
    ],
)
def test_what_is_no_text_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        KINDS["byte"].encode_batch(["fine", wrong])


def test_texts_to_train_on_are_checked():
    with pytest.raises(InputError, match="corpus is empty"):
        Tokenizer.train_bpe(["", ""], vocab_size=300)
    with pytest.raises(InputError, match=r"at least 259 .* got 100"):
        Tokenizer.train_bpe(CORPUS, vocab_size=100)
    with pytest.raises(InputError, match="at least one character"):
        Tokenizer.character([])
    with pytest.raises(InputError, match="lone surrogate"):
        Tokenizer.train_bpe(["\udfff"], vocab_size=300)


def test_special_tokens_are_checked():
    backend = Backend(models.BPE(vocab={"a": 0, "b": 1, "<s>": 2}, merges=[]))
    with pytest.raises(InputError, match="eos token '</s>' is not in the tokenizer's vocabulary"):
        Tokenizer(backend, pad_token="a", eos_token="</s>")
    with pytest.raises(InputError, match="pad token must differ from the eos token, got 'a'"):
        Tokenizer(backend, pad_token="a", eos_token="a")


def test_an_added_token_that_was_not_marked_special_does_not_come_out_of_text():
    letters = {letter: i for i, letter in enumerate("<>end")}
    backend = Backend(models.BPE(vocab=letters, merges=[]))
    backend.add_tokens(["<end>", "<nd>"])
    assert backend.encode("d<end>").ids == [4, 5]
    tokenizer = Tokenizer(backend, pad_token="<nd>", eos_token="<end>")
    assert tokenizer.eos_token_id == 5 and tokenizer.vocab_size == 7
    assert tokenizer.encode("d<end>") == [4, 0, 2, 3, 4, 1]
    assert tokenizer.decode([4, 5, 6]) == "d"


@pytest.mark.parametrize(
    "part, content, message",
    [
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "can be read"),
        ("pre_tokenizer", {"type": "FixedLength", "length": 0}, "can be used"),
        ("post_processor", {"type": "TemplateProcessing", "special_tokens": {}}, "can be used"),
        ("vocabulary", {"a": 4294967295}, "ids go up to 4,294,967,295: expected at most"),
    ],
)
def test_a_crafted_file_is_refused_even_where_the_library_panics(
    part, content, message, tmp_path, capfd
):
    KINDS["byte"].save(tmp_path)
    state = json.loads(KINDS["byte"].to_json())
    if part == "vocabulary":
        state["model"]["vocab"].update(content)
    else:
        state[part] = {**state[part], **content} if part == "post_processor" else content
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match=message):
        Tokenizer.load(tmp_path)
    capfd.readouterr()  # the library writes its panic there


def test_a_text_that_the_model_cannot_encode_is_refused():
    backend = Backend(models.WordLevel({"<p>": 0, "<e>": 1, "a": 2}, unk_token="<unk>"))
    tokenizer = Tokenizer(backend, pad_token="<p>", eos_token="<e>")
    assert tokenizer.encode("a") == [2]
    with pytest.raises(InputError, match=r"the tokenizer cannot encode a text .*Missing"):
        tokenizer.encode("b")


def test_files_that_cannot_be_used_name_themselves(tmp_path):
    with pytest.raises(InputError, match=r"tokenizer\.json: no such file"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer\.json: not a tokenizer"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    KINDS["byte"].save(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text("{")
    with pytest.raises(InputError, match=r"tokenizer_config\.json: not valid JSON"):
        Tokenizer.load(tmp_path)
    config.write_text(json.dumps({"pad_token": "<|pad|>"}))
    with pytest.raises(InputError, match="names no eos token, which ends texts: add"):
        Tokenizer.load(tmp_path)
    assert Tokenizer.load(tmp_path, eos_token="<|eos|>").eos_token_id == 2
    config.write_text("[]")
    with pytest.raises(InputError, match=r"tokenizer_config\.json: expected a JSON object"):
        Tokenizer.load(tmp_path)
    config.write_text(json.dumps({"eos_token": {"content": "<|eos|>"}, "pad_token": "<|pad|>"}))
    with pytest.raises(InputError, match=r"must differ from the eos token, got '<\|eos\|>'"):
        Tokenizer.load(tmp_path, pad_token="<|eos|>")
