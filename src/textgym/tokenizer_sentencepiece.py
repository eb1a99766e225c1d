"""SentencePiece's BPE as a tokenizer of the library `tokenizers`: tokens with scores, no merges.

SentencePiece joins the two neighbours whose text is the token of the best score, again and again,
spaces written as "▁" and words not cut apart (Kudo and Richardson 2018, "SentencePiece"). What it
has no token for becomes its bytes.
"""

from collections.abc import Mapping

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers

SPACE = "▁"


def sentencepiece_backend(
    vocabulary: Mapping[str, int],
    scores: Mapping[str, float],
    *,
    unk_token: str | None = None,
    space_prefix: bool = True,
) -> Backend:
    """The tokenizer of a vocabulary, without its special tokens.

    :param vocabulary: ids of all tokens; those of bytes are "<0x00>" to "<0xFF>".
    :param scores: of the tokens that are made of others; the best comes first.
    :param unk_token: stands for what is neither a token nor bytes.
    :param space_prefix: a space stands in front of each text, and is dropped when one is decoded.
    """
    model = models.BPE(
        dict(vocabulary),
        merges_by_score(vocabulary, scores),
        unk_token=unk_token,
        fuse_unk=True,
        byte_fallback=True,
    )
    backend = Backend(model)
    spaces = normalizers.Replace(" ", SPACE)
    # Always one more, as SentencePiece does; Metaspace adds none to a text that begins with one.
    # Behind an added token inside a text it stands too, where SentencePiece itself has none.
    backend.normalizer = (
        normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if space_prefix else spaces
    )
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if space_prefix:
        parts.append(decoders.Strip(" ", 1, 0))
    backend.decoder = decoders.Sequence(parts)
    return backend


def merges_by_score(
    vocabulary: Mapping[str, int], scores: Mapping[str, float]
) -> list[tuple[str, str]]:
    """All pairs of tokens that make a token with a score, in the order in which they are joined.

    Of the pairs that make one token, that with the longer left half comes first.
    """
    found = []
    for token in sorted(scores, key=lambda token: -scores[token]):
        halves = ((token[:at], token[at:]) for at in range(len(token) - 1, 0, -1))
        found += [
            (left, right) for left, right in halves if left in vocabulary and right in vocabulary
        ]
    return found
