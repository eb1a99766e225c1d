"""SentencePiece's BPE in a GGUF file, against transformers on the same file and by hand."""

import gguf
import pytest
import transformers
from textgym_gguf import SHAPE, model_of, write_gguf
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers

from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.tokenizer import Tokenizer
from textgym.tokenizer_sentencepiece import merges_by_score, sentencepiece_backend

SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
TEXTS = [
    "the cat sat on the mat",
    "a  b   two  spaces\n\n\ttabs",
    "中文文本，好看！",
    "é 🤖👩‍👧 naïve\u00a0x",
    "x = foo(bar)[0] # c\r\n",
    "trailing ",
    "the cat\nthe mat <0x41>",
]
LEADING = [" the cat", "  two", "\u3000中", " \n x"]


def vocabulary():
    """Tokens, types and scores as llama.cpp writes them: bytes, joined tokens, then characters."""
    texts = ["the cat sat on the mat", "that cat, the mat and two spaces", "看看中文 tabs"] * 3
    learned = Backend(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=90, show_progress=False)
    learned.train_from_iterator(texts, trainer)
    in_order = sorted(learned.get_vocab(), key=learned.get_vocab().get)
    characters = [token for token in in_order if len(token) == 1]
    joined = [token for token in in_order if len(token) > 1]
    tokens = [*SPECIAL, *BYTES, *joined, *characters]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * (len(tokens) - 259)]
    scores = [0.0] * 259 + [-float(i) for i in range(len(tokens) - 259)]
    return tokens, types, scores


def write(path, *, architecture="llama", leave_out=(), scores=None, **flags):
    """A file of a tokenizer and of no weights."""
    tokens, types, own = vocabulary()
    writer = gguf.GGUFWriter(path, architecture)
    sizes = {
        "context_length": 64,
        "embedding_length": 32,
        "block_count": 1,
        "feed_forward_length": 64,
        "attention.head_count": 4,
    }
    for key, value in sizes.items():
        writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if "scores" not in leave_out:
        writer.add_token_scores(own if scores is None else scores)
    ids = {"unknown": 0, "bos": 1, "eos": 2, "padding": 0}
    for key, value in ids.items():
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", value)
    for key, value in flags.items():
        writer.add_bool(f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read_by_transformers(path):
    return transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def test_tokens_are_those_of_transformers_on_the_same_file(tmp_path):
    path = write(tmp_path / "m.gguf")
    ours, theirs = Tokenizer.load(path), read_by_transformers(path)
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, add_special_tokens=True) == theirs(text)["input_ids"] == [1, *ids]
        assert ours.decode(ids) == theirs.decode(ids) == text
    # Of Phi-3's files it adds a space to each text, as SentencePiece does.
    with_space = read_by_transformers(write(tmp_path / "p.gguf", architecture="phi3"))
    for text in LEADING + TEXTS:
        ids = ours.encode(text)
        assert ids == with_space(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(ids) == text
    assert ours.encode(" the") != theirs(" the", add_special_tokens=False)["input_ids"]
    assert len(ours.encode("the cat")) < len("the cat")  # merges apply
    assert (ours.bos_token, ours.eos_token, ours.pad_token) == ("<s>", "</s>", "<unk>")


def test_what_goes_on_has_no_space_of_its_own(tmp_path):
    ours = Tokenizer.load(write(tmp_path / "m.gguf"))
    prompt, text = "the cat", "s sat\n中"
    before, behind = ours.encode(prompt), ours.encode_continuation(prompt, text)
    assert ours.decode([*before, *behind]) == prompt + text
    assert ours.decode_continuation(before, behind) == text
    assert ours.decode_continuation(before, ours.encode_continuation(prompt, " sat")) == " sat"


def test_a_file_may_say_that_no_space_is_put_in_front(tmp_path):
    with_space = Tokenizer.load(write(tmp_path / "m.gguf"))
    without = Tokenizer.load(
        write(tmp_path / "n.gguf", add_space_prefix=False, add_bos_token=False)
    )
    assert without.start_ids == []
    for text in (*TEXTS, *LEADING):
        assert without.encode(f" {text}") == with_space.encode(text)
        assert without.decode(without.encode(text)) == text


def test_the_best_score_is_joined_first_by_hand():
    vocabulary = {token: i for i, token in enumerate(["a", "b", "c", "ab", "bc", "abc", "d"])}
    scores = {"abc": -3.0, "ab": -2.0, "bc": -1.0, "a": -4.0, "b": -5.0}
    assert merges_by_score(vocabulary, scores) == [
        ("b", "c"),
        ("a", "b"),
        ("ab", "c"),
        ("a", "bc"),
    ]
    backend = sentencepiece_backend(vocabulary, scores, space_prefix=False)
    written = {text: backend.encode(text).tokens for text in ("abc", "abb", "abcc")}
    assert written == {"abc": ["abc"], "abb": ["ab", "b"], "abcc": ["abc", "c"]}
    without = sentencepiece_backend(vocabulary, {"ab": 0.0, "bc": -1.0}, space_prefix=False)
    assert without.encode("abc").tokens == ["ab", "c"]


def test_a_model_with_it_writes_and_is_saved_as_transformers_opens_it(tmp_path):
    tokens, types, scores = vocabulary()
    keys = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": None}
    ids = {"unknown": 0, "bos": 1, "eos": 2, "padding": 0}
    keys |= {f"tokenizer.ggml.{name}_token_id": i for name, i in ids.items()}
    path = write_gguf(
        tmp_path / "m.gguf",
        model_of("llama", vocab_size=len(tokens), tie_word_embeddings=True, **SHAPE),
        metadata=keys,
        vocab=(tokens, types, None),
        scores=scores,
    )
    lm = CausalLM.from_pretrained(path)
    text = "the cat"
    (written,) = lm.generate(text, max_new_tokens=6, seed=0)
    lm.save_pretrained(tmp_path / "lm")
    assert CausalLM.from_pretrained(tmp_path / "lm").generate(text, max_new_tokens=6, seed=0) == [
        written
    ]
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path / "lm")
    for text in TEXTS + LEADING:
        assert saved(text)["input_ids"] == [1, *lm.tokenizer.encode(text)]


NO_NUMBERS = [*vocabulary()[2][1:], float("nan")]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"leave_out": ["scores"]}, "the key 'tokenizer.ggml.scores' is missing"),
        ({"scores": [0.0, 1.0]}, "tokenizer.ggml.scores must be a list of 3"),
        ({"scores": NO_NUMBERS}, "tokenizer.ggml.scores must be a list of finite numbers"),
        ({"architecture": "gemma2"}, "Gemma's SentencePiece tokenizer is not read from a GGUF"),
    ],
)
def test_what_is_not_read_is_one_line(fields, message, tmp_path):
    path = write(tmp_path / "m.gguf", **fields)
    with pytest.raises(InputError, match=message) as caught:
        Tokenizer.load(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
