import itertools
import json
import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from clbench.errors import DataError
from clbench.models.llama2c_tokenizer import RESERVED, build_tokenizer, read_vocabulary

STORY = 'Once upon a time, Lily had a ball. "It is red," she said.\nTim\'s dog was happy — very happy!'
FOREIGN = ("naïve café", "日本 and 😀", "tab\tline\r\n", "  two  spaces ", "", "<0x41>", "x" * 300)


def cut_as_llama2c_does(text: str, pieces: list[str], scores: list[float]) -> list[int]:
    """Join the neighbours of best score, the leftmost of equals, until there are none."""
    known = {piece: token for token, piece in enumerate(pieces)}
    tokens: list[int] = []
    for character in f" {text}" if text else "":
        tokens += [known[character]] if character in known else [byte + 3 for byte in character.encode()]
    while True:
        unions = [known.get(pieces[a] + pieces[b], -1) for a, b in itertools.pairwise(tokens)]
        best = max(
            (place for place, token in enumerate(unions) if token >= 0), key=lambda p: scores[unions[p]], default=-1
        )
        if best < 0:
            return tokens
        tokens[best : best + 2] = [unions[best]]


def drawn_vocabulary(draws: random.Random) -> tuple[list[str], list[float]]:
    """Random joins of a few characters; scores fall with each join, as a BPE's do."""
    pieces = [*" abé."]
    while len(pieces) < 60:
        union = draws.choice(pieces) + draws.choice(pieces)
        if union not in pieces and len(union) < 9:
            pieces.append(union)
    joins = pieces[5:]
    order = draws.sample(range(60), 60)
    scored = [*zip(pieces, [*(-1000.0 - n for n in range(5)), *(-float(n) for n in range(len(joins)))], strict=True)]
    shuffled = [scored[place] for place in order]
    return [*RESERVED, *(p for p, _ in shuffled)], [*[0.0] * len(RESERVED), *(s for _, s in shuffled)]


def data_file(name: str) -> Path:
    path = Path(os.environ.get("CLBENCH_DATA", "/nonexistent")) / "weights" / name
    if not path.is_file():
        pytest.skip(f"CLBENCH_DATA names no folder with weights/{name}")
    return path


@pytest.mark.parametrize("seed", range(20))
def test_texts_are_cut_as_by_joining_the_best_neighbours(seed: int) -> None:
    draws = random.Random(seed)
    pieces, scores = drawn_vocabulary(draws)
    tokenizer = build_tokenizer(pieces, scores)
    for length in (*range(12), 50, 200):
        text = "".join(draws.choices(" abé.ö", k=length))
        found = tokenizer.encode(text)
        assert found.ids == [1, *cut_as_llama2c_does(text, pieces, scores)]
        assert tokenizer.decode(found.ids) == text


def test_the_published_vocabulary_cuts_and_restores_any_text() -> None:
    pieces, scores = read_vocabulary(data_file("tok512.json"))
    tokenizer = build_tokenizer(pieces, scores)
    draws = random.Random(0)
    mixed = ["".join(draws.choices(pieces[259:], k=80)) for _ in range(50)]
    for text in (STORY, *FOREIGN, *mixed):
        found = tokenizer.encode(text)
        assert found.ids == [1, *cut_as_llama2c_does(text, pieces, scores)]
        assert tokenizer.decode(found.ids) == text


def test_special_tokens_in_a_text_are_read_and_left_out_when_it_is_restored() -> None:
    tokenizer = build_tokenizer(*drawn_vocabulary(random.Random(0)))
    found = tokenizer.encode("a</s>")
    assert (found.ids[0], found.ids[-1]) == (1, 2)
    assert tokenizer.decode(found.ids) == "a"
    assert tokenizer.decode(found.ids, skip_special_tokens=False) == "<s> a</s>"


def test_two_texts_begin_anew() -> None:
    tokenizer = build_tokenizer(*drawn_vocabulary(random.Random(0)))
    first, second = tokenizer.encode("ab").ids, tokenizer.encode("ba").ids
    assert tokenizer.encode("ab", "ba").ids == first + second


def test_a_binary_vocabulary_is_the_same_as_its_json(tmp_path: Path) -> None:
    pieces, scores = drawn_vocabulary(random.Random(0))
    spelt = ["<unk>", "\n<s>\n", "\n</s>\n", *pieces[3:]]
    records = [(piece.encode(), score) for piece, score in zip(spelt, scores, strict=True)]
    binary = b"".join(struct.pack("<fi", score, len(text)) + text for text, score in records)
    (tmp_path / "tokenizer.bin").write_bytes(struct.pack("<i", 9) + binary)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"pieces": spelt, "scores": scores}))
    assert read_vocabulary(tmp_path / "tokenizer.bin") == (pieces, scores)
    assert read_vocabulary(tmp_path / "tokenizer.json") == (pieces, scores)


PIECES = [*RESERVED, "a", "b"]
SCORES = [0.0] * len(PIECES)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ({"pieces": PIECES}, "KeyError: 'scores'"),
        ({"pieces": PIECES, "scores": ["high"]}, "could not convert string to float: 'high'"),
        ({"pieces": PIECES, "scores": SCORES[1:]}, "a score for each"),
        ({"pieces": PIECES[:200], "scores": SCORES[:200]}, "256 bytes"),
        ({"pieces": PIECES[::-1], "scores": SCORES}, "256 bytes"),
        ({"pieces": [*PIECES[:-1], "a"], "scores": SCORES}, "a piece is in it twice"),
        (b"", "256 bytes"),
        (struct.pack("<ifi", 9, 0.0, 5) + b"abc", "error: unpack_from requires"),
        (struct.pack("<ifi", 9, 0.0, 1) + b"\xff", "UnicodeDecodeError"),
        (b"SentencePiece or anything else", "is no vocabulary of llama2.c"),
    ],
)
def test_what_is_no_vocabulary_is_refused_in_one_line(content: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / ("tokenizer.bin" if isinstance(content, bytes) else "tokenizer.json")
    text = content if isinstance(content, str) else "" if isinstance(content, bytes) else json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else text.encode())
    with pytest.raises(DataError) as caught:
        read_vocabulary(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is no vocabulary of llama2.c")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["none.bin", "none.json", ""])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the tokenizer"):
        read_vocabulary(tmp_path / name)
