"""The vocabularies of llama2.c, and the tokenizer that cuts texts as llama2.c does.

A vocabulary (github.com/karpathy/llama2.c) is that of a SentencePiece BPE: pieces with scores. The first three are
special, then come the 256 bytes, for characters that are no piece. A text begins with a space and is cut by joining,
again and again, the two neighbours whose union is the piece of best score. A BPE whose merges stand in the order of
these scores cuts it in the same way. What differs: ``<s>`` in a text is the token here, and three characters there.

A text begins with ``<s>`` and is not ended with ``</s>``, as in llama2.c's training. It is padded with ``<unk>``, which
no text gives, since there are bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, processors

from clbench.errors import DataError
from clbench.models.checkpoint import one_line

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
RESERVED = (UNKNOWN, BEGIN, END, *(f"<0x{byte:02X}>" for byte in range(256)))
"""The first tokens of every vocabulary. No merge leads to them."""


def read_vocabulary(path: Path) -> tuple[list[str], list[float]]:
    """Pieces by token, a space standing for SentencePiece's mark, and the score of each; the first are `RESERVED`.

    Args:
        path: a tokenizer.bin: 4 bytes, then for each piece its score (float32), its length in bytes (int32), and itself
            in UTF-8; little-endian. Or a .json file that holds the lists ``pieces`` and ``scores``.

    Raises:
        DataError: the file cannot be read, or is no such vocabulary.
    """
    try:
        content = path.expanduser().read_bytes()
        pieces, scores = _of_json(content) if path.suffix == ".json" else _of_binary(content)
    except OSError as error:
        raise DataError(f"cannot read the tokenizer {str(path)!r} ({error.strerror}); give an existing file") from error
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise DataError(f"{path} is no vocabulary of llama2.c ({type(error).__name__}: {one_line(error)})") from error
    if tuple(pieces[3 : len(RESERVED)]) != RESERVED[3:] or len(pieces) != len(scores):
        raise DataError(f"{path} is no vocabulary of llama2.c: expected 3 special pieces, 256 bytes, a score for each")
    pieces = [*RESERVED, *pieces[len(RESERVED) :]]  # there the special ones are spelt with line breaks around them
    if len(set(pieces)) < len(pieces):
        raise DataError(f"{path} is no vocabulary of llama2.c: a piece is in it twice")
    return pieces, scores


def _of_json(content: bytes) -> tuple[list[str], list[float]]:
    found = json.loads(content)
    return [str(piece) for piece in found["pieces"]], [float(score) for score in found["scores"]]


def _of_binary(content: bytes) -> tuple[list[str], list[float]]:
    pieces, scores, place = [], [], 4
    while place < len(content):
        score, length = struct.unpack_from("<fi", content, place)
        (piece,) = struct.unpack_from(f"{length}s", content, place + 8)
        pieces.append(piece.decode())
        scores.append(score)
        place += 8 + length
    return pieces, scores


def build_tokenizer(pieces: Sequence[str], scores: Sequence[float]) -> Tokenizer:
    """The tokenizer of a vocabulary.

    Args:
        pieces: by token, see `read_vocabulary`.
        scores: of each; the higher, the earlier it is joined.
    """
    vocabulary = {piece: token for token, piece in enumerate(pieces)}
    merges = [
        (piece[:cut], piece[cut:])
        for _, piece in sorted(zip(scores, pieces, strict=True), key=lambda pair: -pair[0])
        for cut in range(1, len(piece))
        if piece not in RESERVED and piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=UNKNOWN, byte_fallback=True))
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B", special_tokens=[(BEGIN, vocabulary[BEGIN])]
    )
    tokenizer.add_special_tokens([UNKNOWN, BEGIN, END])
    return tokenizer
