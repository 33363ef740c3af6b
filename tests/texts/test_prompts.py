from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Trained
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from clbench.errors import ConfigError, IncompatibleError
from clbench.models import small_llama
from clbench.models.tokenizer import Tokenizer
from clbench.texts.corpora import TextExample
from clbench.texts.prompts import Rows, Shorten

CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}<assistant>"
SENTENCES = [
    "the quick brown fox jumps over the lazy dog and runs away from the old bear",
    "a bear sat by the river and ate honey while the fox was watching the quick birds",
]


def subwords(**special: Any) -> Tokenizer:
    """A byte-level BPE, as GPT-2's, trained on two sentences."""
    made = Trained(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet))
    fast = PreTrainedTokenizerFast(tokenizer_object=made, **{"eos_token": "<eos>", "bos_token": "<bos>"} | special)
    return Tokenizer(fast, "a BPE")


def characters() -> Tokenizer:
    return Tokenizer(small_llama.tokenizer(), "characters")


def rows(words: Tokenizer, shorten: Shorten = Shorten.INPUT, **values: Any) -> Rows:
    settings: dict[str, Any] = {
        "template": "{instruction}: {input}=",
        "chat": False,
        "longest": 40,
        "max_answer": 8,
    } | values
    return Rows(words=words, shorten=shorten, **settings)


def row(made: Rows, instruction: str, input: str, answer: str = "yes") -> tuple[list[int], list[int]]:
    """Token ids of one row's prompt and answer."""
    batch = made.columns([TextExample(instruction, input, (answer,))], ["a task"])
    tokens, prompt, length = (batch[name][0] for name in ("tokens", "prompt", "length"))
    return tokens[: int(prompt)].tolist(), tokens[int(prompt) : int(length)].tolist()


def test_a_row_is_bos_prompt_answer_eos() -> None:
    words = characters()
    made = rows(words)
    prompt, answer = row(made, "add", "1 2", "3")
    assert prompt == [*words.start, *words.encode(["add: 1 2="])[0]]
    assert answer == [*words.encode(["3"])[0], words.eos]
    assert not made.shortened


def test_an_empty_answer_is_eos_alone() -> None:
    words = characters()
    assert row(rows(words), "add", "1 2", "")[1] == [words.eos]


def test_of_characters_exactly_as_much_of_the_input_is_kept_as_there_is_room_for() -> None:
    words = characters()
    made = rows(words)
    prompt, _ = row(made, "reverse", "abcdefghijklmnopqrstuvwxyz0123456789")
    # 40 tokens less 8 of the answer, BOS, "reverse: " and "="
    assert words.decode([prompt])[0] == "reverse: " + "abcdefghijklmnopqrstuvwxyz0123456789"[-21:] + "="
    assert made.shortened == {"a task": 1}


@pytest.mark.parametrize("special", [{}, {"bos_token": None}])
@pytest.mark.parametrize("longest", range(32, 48, 3))
def test_of_subwords_instruction_and_template_stay_whole(longest: int, special: dict[str, Any]) -> None:
    words = subwords(**special)
    made = rows(words, longest=longest, template="{instruction}\n\nText: {input}\nAnswer:\n")
    input = " ".join(SENTENCES * 3)
    prompt, answer = row(made, "the bear", input)
    said = words.decode([prompt])[0]
    head, tail = "the bear\n\nText: ", "\nAnswer:\n"
    assert said.startswith(head)
    assert said.endswith(tail)
    kept = said.removeprefix(head).removesuffix(tail)
    assert input.endswith(kept)
    assert len(prompt) + 8 <= longest
    assert answer == [*words.encode(["yes"])[0], words.eos]
    longer = words.encode([head + input[-len(kept) - 8 :] + tail])[0]
    assert len(longer) > made.room  # eight characters more would not have fitted


def test_every_character_may_take_several_tokens() -> None:
    words = subwords()
    made = rows(words, longest=30)
    prompt, _ = row(made, "the bear", "熊は魚を食べる" * 9)
    said = words.decode([prompt])[0]
    assert said.startswith("the bear: ")
    assert ("熊は魚を食べる" * 9 + "=").endswith(said.removeprefix("the bear: "))
    assert len(said) > len("the bear: =")


def test_an_instruction_that_is_too_long_loses_its_beginning_and_the_input_nothing() -> None:
    words = characters()
    made = rows(words)
    prompt, _ = row(made, "abcdefghijklmnopqrstuvwxyz0123456789", "1 2")
    assert words.decode([prompt])[0] == "abcdefghijklmnopqrstuvwxyz0123456789: 1 2="[-31:]
    assert made.shortened == {"a task": 1}


def test_prompts_can_be_cut_in_place_of_inputs() -> None:
    words = subwords()
    made = rows(words, Shorten.PROMPT)
    text = "the bear: " + SENTENCES[0] * 2 + "="
    prompt, _ = row(made, "the bear", SENTENCES[0] * 2)
    assert prompt == [*words.start, *words.encode([text])[0][-31:]]


@pytest.mark.parametrize("shorten", [Shorten.INPUT, Shorten.PROMPT])
def test_an_answer_that_is_too_long_loses_its_end_and_eos(shorten: Shorten) -> None:
    words = characters()
    made = rows(words, shorten)
    assert row(made, "add", "1 2", "1234567")[1] == [*words.encode(["1234567"])[0], words.eos]
    prompt, answer = row(made, "add", "1 2", "12345678")
    assert answer == words.encode(["12345678"])[0]
    assert words.decode([prompt])[0] == "add: 1 2="
    assert made.shortened == {"a task": 1}


@pytest.mark.parametrize(("input", "answer"), [("x" * 40, "yes"), ("x", "12345678")])
def test_where_nothing_may_be_lost_it_is_an_error(input: str, answer: str) -> None:
    made = rows(characters(), Shorten.NOTHING)
    with pytest.raises(IncompatibleError, match=r"a row of a task has \d+ tokens of prompt and \d of answer") as error:
        row(made, "add", input, answer)
    assert "\n" not in str(error.value)
    assert row(made, "add", "1 2", "1234567")


def test_inside_a_chat_template_the_input_is_cut() -> None:
    words = characters()
    words.fast.chat_template = CHAT.replace("<", "").replace(">", " ").replace("/", "")
    made = rows(words, chat=True, longest=60)
    prompt, _ = row(made, "reverse", "abcdefghijklmnopqrstuvwxyz0123456789")
    said = words.decode([prompt])[0]
    assert said.startswith("user reverse: ")
    assert said.endswith("789=user assistant ")
    assert len(prompt) == 60 - 8


def test_a_tokenizer_that_cannot_tell_where_tokens_begin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    words = characters()
    monkeypatch.setattr(type(words.fast), "is_fast", False)
    with pytest.raises(ConfigError, match=r"characters does not tell where tokens begin.*scenario\.shorten=prompt"):
        row(rows(words), "reverse", "x" * 50)


@pytest.mark.parametrize("special", [{}, {"bos_token": None}])
def test_plain_texts_are_cut_into_rows_and_nothing_is_lost(special: dict[str, Any]) -> None:
    words = subwords(**special)
    batch = rows(words).texts([*SENTENCES, ""], 7)
    start = len(words.start)
    expected = [ids[i : i + 7 - start] for ids in words.encode(SENTENCES) for i in range(0, len(ids), 7 - start)]
    expected = [ids for ids in expected if start or len(ids) > 1]  # a token alone is asked of nobody
    assert batch["prompt"].tolist() == [1] * len(expected)
    assert batch["length"].tolist() == [start + len(ids) for ids in expected]
    for tokens, ids in zip(batch["tokens"], expected, strict=True):
        assert tokens[: start + len(ids)].tolist() == [*words.start, *ids]
        assert torch.all(tokens[start + len(ids) :] == words.pad)
