from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from clbench.errors import CheckpointError, ConfigError
from clbench.models import small_llama
from clbench.models.tokenizer import Tokenizer

CHAT = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[answer]{% endif %}"
)


def characters(**without: None) -> Any:
    """The character tokenizer, special tokens exchanged."""
    made = small_llama.tokenizer()
    for name, value in without.items():
        setattr(made, name, value)
    return made


def test_characters_survive_the_round_trip() -> None:
    words = Tokenizer(small_llama.tokenizer(), "characters")
    texts = ["reverse the word: abc=", small_llama.ALPHABET, " a  b ", "", "a1+2#|,.!?>-;:="]
    rows = words.encode(texts)
    assert words.decode(rows) == texts
    assert [len(row) for row in rows] == [len(text) for text in texts]
    assert words.encode([]) == []
    assert (
        words.size == 4 + len(small_llama.ALPHABET) == len({words.encode([c])[0][0] for c in small_llama.ALPHABET}) + 4
    )


def test_what_it_does_not_know_is_one_unknown_token_and_no_text() -> None:
    words = Tokenizer(small_llama.tokenizer(), "characters")
    (row,) = words.encode(["aÄb"])
    assert row[1] == words.fast.unk_token_id
    assert words.decode([row]) == ["ab"]


def test_special_tokens_are_no_part_of_an_answer() -> None:
    words = Tokenizer(small_llama.tokenizer(), "characters")
    assert (words.pad, words.start, words.eos) == (0, [1], 2)
    assert words.decode([[1, *words.encode(["abc"])[0], 2, 0]]) == ["abc"]


def test_without_an_end_no_answer_could_end() -> None:
    with pytest.raises(
        CheckpointError, match=r"^the tokenizer of mine has no EOS token, .*set eos_token in its"
    ) as told:
        Tokenizer(characters(eos_token=None), "mine")
    assert "\n" not in str(told.value)


def test_without_a_pad_token_the_end_fills_rows() -> None:
    assert Tokenizer(characters(pad_token=None), "mine").pad == 2


def test_without_a_beginning_rows_begin_with_the_prompt() -> None:
    assert Tokenizer(characters(bos_token=None), "mine").start == []


def test_the_digest_sees_the_vocabulary() -> None:
    first, same, other = (small_llama.tokenizer() for _ in range(3))
    other.add_tokens(["ß"])
    digests = [Tokenizer(fast, "mine").digest for fast in (first, same, other)]
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 64


def test_a_chat_template_is_filled_and_begins_without_a_second_bos() -> None:
    words = Tokenizer(characters(), "mine")
    words.fast.chat_template = CHAT
    assert words.chat("hello") == "[user]hello[answer]"
    with pytest.raises(ConfigError, match=r"^the tokenizer of mine has no chat template; leave scenario.chat out$"):
        Tokenizer(characters(), "mine").chat("hello")


def test_gpt2_s_tokenizer() -> None:
    folder = Path(os.environ.get("CLBENCH_DATA", "/nonexistent")) / "tokenizers" / "gpt2"
    if not folder.is_dir():
        pytest.skip("CLBENCH_DATA names no folder with tokenizers/gpt2")
    from tokenizers import Tokenizer as Fast
    from tokenizers import decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fast = Fast(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    ends = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    words = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=fast, **ends), "openai gpt2")
    assert words.size == 50257
    assert words.eos == words.pad == 50256
    assert words.start == [50256]
    texts = ["Hello world", " Grüße, 你好!\n", "a  b", ""]
    assert words.encode(texts[:1]) == [[15496, 995]]
    assert words.decode(words.encode(texts)) == texts
