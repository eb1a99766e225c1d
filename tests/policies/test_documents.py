"""What is learned from a text, a pair, a batch: worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from textgym_testing import EOS, letter_tokenizer

from textgym.errors import InputError
from textgym.policies.pretraining.documents import (
    Document,
    batches,
    collate,
    pair_documents,
    text_documents,
)
from textgym.tokenizer import Tokenizer

LETTERS, BYTE = letter_tokenizer(), Tokenizer.byte()
A, B, C, D = 3, 4, 5, 6


def test_a_text_is_its_tokens_between_start_and_stop():
    (document,) = text_documents(["ab"], BYTE, context=10)
    a, b = BYTE.encode("ab")
    assert document == Document([BYTE.bos_token_id, a, b, BYTE.eos_token_id], 1)


def test_a_long_text_is_cut_and_every_token_but_the_first_is_learned_once():
    documents = list(text_documents(["abcdab"], LETTERS, context=4))
    assert documents == [Document([A, B, C, D], 1), Document([D, A, B, EOS], 1)]
    documents = list(text_documents(["abcda"], LETTERS, context=4))
    assert documents == [Document([A, B, C, D], 1), Document([D, A, EOS], 1)]
    with pytest.raises(InputError, match="context of at least 2 tokens is needed, got 1"):
        list(text_documents(["ab"], LETTERS, context=1))


@given(texts=st.lists(st.text("abcd", max_size=30), max_size=6), context=st.integers(2, 9))
def test_pieces_lose_and_repeat_nothing(texts, context):
    documents = list(text_documents(texts, BYTE, context=context, chunk=2))
    assert all(2 <= len(document.tokens) <= context for document in documents)
    learned = [token for document in documents for token in document.tokens[1:]]
    expected = [token for text in texts for token in (*BYTE.encode(text), BYTE.eos_token_id)]
    assert learned == expected


def test_of_a_pair_only_the_completion_and_its_stop_are_learned():
    (document,) = pair_documents([("ab", "cd")], LETTERS, context=5)
    assert document == Document([A, B, C, D, EOS], 2)
    batch = collate([document])
    assert batch.source.tolist() == [1, 2, 3] and batch.targets.tolist() == [C, D, EOS]
    (document,) = pair_documents([("é", "x")], BYTE, context=9)
    assert document.first_target == 3  # start token and two bytes
    (document,) = pair_documents([("a", "")], LETTERS, context=9)
    assert collate([document]).targets.tolist() == [EOS]


def test_pairs_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="prompt 'ab' and its completion are 5 tokens"):
        list(pair_documents([("ab", "cd")], LETTERS, context=4))
    for tokenizer in (LETTERS, BYTE):
        with pytest.raises(InputError, match="an empty prompt in the fine-tuning data"):
            list(pair_documents([("a", "b"), ("", "cd")], tokenizer, context=9))


def test_a_batch_by_hand():
    batch = collate([Document([A, B, EOS], 1), Document([C, D, D, EOS], 3)])
    assert batch.tokens.tolist() == [A, B, EOS, C, D, D, EOS]
    assert batch.lengths.tolist() == [3, 4]
    assert batch.source.tolist() == [0, 1, 5]
    assert batch.targets.tolist() == [B, EOS, EOS]
    assert batch.tokens.dtype == batch.lengths.dtype == batch.source.dtype == torch.int64


@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=50),
    size=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_an_epoch_holds_every_document_once_in_full_batches(lengths, size, seed):
    documents = [Document([i + 100, *[3] * (n - 1)], 1) for i, n in enumerate(lengths)]

    def epoch(number):
        return list(batches(documents, batch_size=size, seed=seed, epoch=number, buffer=20))

    first = epoch(0)
    starts = [b.lengths.cumsum(0) - b.lengths for b in first]
    found = [int(b.tokens[s]) - 100 for b, ss in zip(first, starts, strict=True) for s in ss]
    assert sorted(found) == list(range(len(documents)))
    parts = [min(20, len(lengths) - start) for start in range(0, len(lengths), 20)]
    assert len(first) == sum(-(-part // size) for part in parts)
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(first, epoch(0), strict=True))


def test_epochs_differ_in_order_and_like_lengths_stand_together():
    rng = np.random.default_rng(0)
    documents = [Document([3] * int(n), 1) for n in rng.integers(2, 200, 256)]
    epochs = [
        [b.lengths.tolist() for b in batches(documents, batch_size=8, seed=0, epoch=e)]
        for e in range(2)
    ]
    assert epochs[0] != epochs[1]
    padded = sum(max(lengths) * len(lengths) for lengths in epochs[0])
    assert padded < 1.25 * sum(map(sum, epochs[0]))  # unsorted it is about 1.8
