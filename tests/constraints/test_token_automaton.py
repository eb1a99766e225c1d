"""Legal tokens state by state, against brute force over all sequences of a tiny vocabulary."""

import copy
import functools
import itertools
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textgym_testing import letter_tokenizer
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers

from textgym import constraints
from textgym.constraints.prompt_ends import PromptEnds
from textgym.constraints.token_automaton import LEFT, TokenAutomaton
from textgym.constraints.token_bytes import token_bytes
from textgym.errors import InputError
from textgym.tokenizer import Tokenizer

CHINESE = ["苹果", "手机", "苹果手机", "果"]
EOS = 2


def tokenizer_of(*tokens):
    """pad 0, bos 1, eos 2, then these tokens."""
    return letter_tokenizer(tokens)


def tokenizers():
    texts = ["今天天气很好，苹果手机！ naïve 😀 the film"] * 20
    return {
        "byte": Tokenizer.byte(),
        "character": Tokenizer.character(texts),
        "bpe": Tokenizer.train_bpe(texts, vocab_size=300),
    }


every_tokenizer = pytest.mark.parametrize("name", list(tokenizers()))

PIECES = st.recursive(
    st.sampled_from(["a", "b", "[ab]"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from("*+?")).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=4,
)


@settings(max_examples=25, deadline=None)
@given(PIECES, st.sampled_from([("a", "b", "ab", "bba"), ("a", "ab"), ("ab", "ba"), ("aa", "b")]))
def test_masks_allow_exactly_the_beginnings_of_texts_that_can_be_written(pattern, tokens):
    """Without single letters a text may be left over that no token can end: no such beginning."""

    @functools.cache
    def can_end(text, left):
        if re.fullmatch(pattern, text):
            return True
        return left > 0 and any(can_end(text + token, left - 1) for token in tokens)

    if not can_end("", 6):
        with pytest.raises(InputError, match="no text that this tokenizer can write satisfies"):
            TokenAutomaton(constraints.regex(pattern), tokenizer_of(*tokens))
        return
    automaton = TokenAutomaton(constraints.regex(pattern), tokenizer_of(*tokens))
    for count in range(4):
        for ids in itertools.product(range(len(tokens)), repeat=count):
            text = "".join(tokens[i] for i in ids)
            if not can_end(text, 6):
                continue
            state = automaton.states([i + 3 for i in ids])[-1]
            legal = {i + 3 for i, token in enumerate(tokens) if can_end(text + token, 6)}
            legal |= {EOS} if re.fullmatch(pattern, text) else set()
            assert set(np.flatnonzero(automaton.is_legal(state)).tolist()) == legal, text
            successors = automaton.successors(state)
            assert [automaton.advance(state, i) for i in range(len(successors))] == list(successors)


def test_by_hand():
    automaton = TokenAutomaton(constraints.regex("ab|abc"), tokenizer_of("a", "b", "c", "bc"))
    legal = [np.flatnonzero(automaton.is_legal(s)).tolist() for s in automaton.states([3, 4, 5])]
    a, b, c, bc = 3, 4, 5, 6
    assert legal == [[a], [b, bc], [EOS, c], [EOS]]


def test_a_text_that_left_may_only_stop():
    automaton = TokenAutomaton(constraints.regex("ab"), letter_tokenizer())
    for wrong in ([4], [3, 3], [3, 4, 5], [0], [1], [EOS], [3, 4, EOS]):
        assert automaton.states(wrong)[-1] == LEFT
        assert np.flatnonzero(automaton.is_legal(LEFT)).tolist() == [EOS]
        assert automaton.states([*wrong, 3])[-1] == LEFT


def test_an_empty_text_may_be_legal():
    automaton = TokenAutomaton(constraints.regex("(ab)*"), letter_tokenizer())
    assert np.flatnonzero(automaton.is_legal(automaton.start)).tolist() == [EOS, 3]


def test_several_stop_tokens():
    automaton = TokenAutomaton(constraints.regex("a"), letter_tokenizer(), stop_token_ids=[2, 6])
    states = automaton.states([3])
    assert [np.flatnonzero(automaton.is_legal(s)).tolist() for s in states] == [[3], [2, 6]]


@every_tokenizer
def test_the_bytes_of_tokens_spell_the_text(name):
    tokenizer = tokenizers()[name]
    pieces = token_bytes(tokenizer)
    assert len(pieces) == tokenizer.vocab_size
    for special in (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id):
        assert pieces[special] == b""

    @settings(max_examples=60, deadline=None)
    @given(st.text(max_size=12) | st.text(alphabet="今天气苹果 thefilm😀\n", max_size=12))
    def check(text):
        assert b"".join(pieces[i] for i in tokenizer.encode(text)) == text.encode()

    check()


@every_tokenizer
def test_chinese_words_whatever_the_tokenizer(name):
    """Characters of several tokens, and tokens of several characters."""
    tokenizer = tokenizers()[name]
    automaton = TokenAutomaton(constraints.words(CHINESE, separator="，"), tokenizer)
    for text in ("苹果", "果，苹果手机", "苹果手机，手机"):
        ids = [*tokenizer.encode(text), tokenizer.eos_token_id]
        for state, token_id in zip(automaton.states(ids), ids, strict=False):
            assert automaton.is_legal(state)[token_id]
    for text, wrong in (("苹果", "苹"), ("苹果，", "，"), ("手机", "手机")):
        state = automaton.states(tokenizer.encode(text))[-1]
        assert not automaton.is_legal(state)[tokenizer.encode(wrong)[0]]
    if name == "byte":
        assert len(tokenizer.encode("果")) == 3
        middle = automaton.states(tokenizer.encode("果")[:2])[-1]
        assert np.flatnonzero(automaton.is_legal(middle)).tolist() == tokenizer.encode("果")[2:]


@every_tokenizer
def test_a_walk_at_random_writes_the_language(name):
    tokenizer, pattern = tokenizers()[name], "(今天|the film)( [a-zé]{1,3}|很好)*[！😀]"
    automaton = TokenAutomaton(constraints.regex(pattern), tokenizer)
    rng = np.random.default_rng(0)
    for _ in range(50):
        state, ids = automaton.start, []
        while len(ids) < 200:
            token_id = int(rng.choice(np.flatnonzero(automaton.is_legal(state))))
            if token_id == tokenizer.eos_token_id:
                break
            ids.append(token_id)
            state = automaton.advance(state, token_id)
        assert re.fullmatch(pattern, tokenizer.decode(ids)), tokenizer.decode(ids)


def test_sentencepiece_and_others():
    vocabulary = {"<unk>": 0, "</s>": 1, "<pad>": 2, "▁the": 3, "▁": 4, "a": 5, "<0xE5>": 6}
    backend = Backend(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    backend.normalizer = normalizers.Prepend("▁")
    tokenizer = Tokenizer(backend, pad_token="<pad>", eos_token="</s>")
    assert token_bytes(tokenizer)[3:] == [b" the", b" ", b"a", b"\xe5"]
    backend.decoder = decoders.Metaspace()
    assert token_bytes(tokenizer)[3:6] == [b" the", b" ", b"a"]
    for decoder in (decoders.WordPiece(), decoders.BPEDecoder(), None):
        backend.decoder = decoder
        with pytest.raises(InputError, match="needs a tokenizer whose tokens are laid end to end"):
            token_bytes(tokenizer)


def test_copies_and_pickles_number_their_states_alike():
    constraint = constraints.words(CHINESE, after=": ")
    automaton = TokenAutomaton(
        constraint, Tokenizer.byte(), prompts=[Tokenizer.byte().encode("x: ")]
    )
    other = pickle.loads(pickle.dumps(automaton))  # noqa: S301
    ids = Tokenizer.byte().encode("苹果手机")
    assert other.states(ids) == automaton.states(ids) and other.constraint == constraint
    assert copy.deepcopy(automaton) is automaton
    assert len(pickle.dumps(automaton)) < 20_000


def test_a_vocabulary_that_cannot_write_it_is_one_line():
    for pattern, tokenizer in (("b+x", letter_tokenizer("ab")), (r"[^\s\S]", Tokenizer.byte())):
        with pytest.raises(InputError, match="no text that this tokenizer can write") as caught:
            TokenAutomaton(constraints.regex(pattern), tokenizer)
        assert "\n" not in str(caught.value)


# ---- Where the prompt ends ---------------------------------------------------------------------


def test_known_prompts():
    ends = PromptEnds.of_prompts([[3, 4], np.array([5]), [3, 3, 3]])
    for row, length in (([3, 4, 3], 2), ([5], 1), ([5, 5], 1), ([3, 3, 3, 4], 3)):
        assert ends.find(row) == ends.find(np.array(row)) == length
    for row in ([3], [3, 3], [4, 5], []):
        assert ends.find(row) is None
    nested = PromptEnds.of_prompts([[3, 4], [5], [3, 4, 5, 6]])
    assert list(nested.nested()) == [([3, 4], [5, 6])]
    assert [nested.find(row) for row in ([3, 4], [3, 4, 5], [3, 4, 5, 6, 6])] == [2, 2, 4]


def test_prompts_that_begin_others():
    """The prompts "a" and "abc": fine unless a completion may go on as "bc" does."""
    prompts = [[3], [3, 4, 5]]
    for pattern in ("d+", "bd", "(c|d)*"):
        automaton = TokenAutomaton(constraints.regex(pattern), letter_tokenizer(), prompts=prompts)
        lengths = [automaton.prompt_length(row) for row in ([3, 6], [3, 4, 6], [3, 4, 5, 6])]
        assert lengths == [1, 1, 3]
    for pattern in ("bc", "b+c?d", "[bcd]*"):
        with pytest.raises(InputError, match="two prompts: 'a' is one, and with 'bc', which the"):
            TokenAutomaton(constraints.regex(pattern), letter_tokenizer(), prompts=prompts)


def test_a_marker_is_found_whatever_the_tokens():
    """Also where a token holds its end and a piece of what went before."""
    pieces = [b"", b"A:", b"x", b" ", b"xA", b": ", b"A: "]
    ends = PromptEnds.of_marker("A: ", pieces)
    for row, length in (([2, 1, 3, 2], 3), ([4, 5], 2), ([6], 1), ([0, 2, 2, 6, 6], 4)):
        assert ends.find(row) == length
    assert ends.find([1, 2, 3]) is None


def test_rows_whose_prompt_is_unknown_are_refused():
    constraint, tokenizer = constraints.regex("a"), letter_tokenizer()
    known = TokenAutomaton(constraint, tokenizer, prompts=[[4, 5]])
    assert known.prompt_length([4, 5, 3]) == 2
    with pytest.raises(InputError, match="the row 'cb' begins with no prompt of the task"):
        known.prompt_length([5, 4])
    with pytest.raises(InputError, match="only the constraint can say so: give it after="):
        TokenAutomaton(constraint, tokenizer).prompt_length([4, 5])
    marked = constraints.regex("a", after="d")
    with pytest.raises(InputError, match="the row 'bc' holds no 'd', which ends every prompt"):
        TokenAutomaton(marked, tokenizer).prompt_length([4, 5])
    with pytest.raises(
        InputError, match=r"must end every prompt and occur only there, got .*'dbd'"
    ):
        TokenAutomaton(marked, tokenizer, prompts=[[4, 6], [6, 4, 6]])
