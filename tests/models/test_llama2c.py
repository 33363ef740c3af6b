from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.errors import CheckpointError, ClbenchError, DataError
from clbench.models.checkpoint import Weights
from clbench.models.llama2c import convert, converted, halves
from clbench.models.llama2c_tokenizer import RESERVED
from clbench.record import write_atomically
from tests.models.test_llama2c_tokenizer import data_file, drawn_vocabulary

SIZES = {"dim": 48, "n_layers": 3, "n_heads": 6, "n_kv_heads": 2, "vocab_size": 319, "max_seq_len": 40}
HIDDEN = 56
STORY = (
    "Once there was a little cat. The cat liked to play in the sun with her friends. One day, she saw a big red ball."
)


def drawn_weights(tied: bool = True, **changes: Any) -> Weights:
    """Random weights under llama2.c's names; every logit depends on all of them."""
    sizes = SIZES | changes
    draws = torch.Generator().manual_seed(0)
    width, keys = sizes["dim"], sizes["dim"] // sizes["n_heads"] * (sizes["n_kv_heads"] or sizes["n_heads"])
    block = {
        "attention.wq": (width, width),
        "attention.wk": (keys, width),
        "attention.wv": (keys, width),
        "attention.wo": (width, width),
        "feed_forward.w1": (HIDDEN, width),
        "feed_forward.w2": (width, HIDDEN),
        "feed_forward.w3": (HIDDEN, width),
        "attention_norm": (width,),
        "ffn_norm": (width,),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "tok_embeddings": (sizes["vocab_size"], width),
        "norm": (width,),
        **{f"layers.{n}.{name}": shape for n in range(sizes["n_layers"]) for name, shape in block.items()},
        **({} if tied else {"output": (sizes["vocab_size"], width)}),
    }
    return {
        f"{name}.weight": torch.randn(shape, generator=draws) * (0.2 if len(shape) > 1 else 1.0)
        for name, shape in shapes.items()
    }


def rotated(x: Tensor, theta: float) -> Tensor:
    """Neighbouring numbers of (N, T, heads, d) as complex ones, turned by their place in the text."""
    places, pairs = torch.arange(x.shape[1], dtype=x.dtype), torch.arange(0, x.shape[3], 2, dtype=x.dtype)
    angles = places[:, None] / theta ** (pairs / x.shape[3])
    turns = torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.view_as_real(torch.view_as_complex(x.unflatten(3, (-1, 2))) * turns).flatten(3)


def logits_by_hand(weights: Weights, tokens: Tensor, arguments: dict[str, Any]) -> Tensor:
    """llama2.c's forward pass in float64: (N, T) tokens to (N, T, vocabulary) logits."""
    w = {name.removesuffix(".weight"): tensor.double() for name, tensor in weights.items()}
    heads, keys = arguments["n_heads"], arguments["n_kv_heads"] or arguments["n_heads"]
    epsilon, theta = float(arguments.get("norm_eps", 1e-5)), float(arguments.get("rope_theta", 10_000.0))
    count, length = tokens.shape
    future = torch.full((length, length), -math.inf, dtype=torch.float64).triu(1)

    def normed(x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt() * w[name]

    x = w["tok_embeddings"][tokens]
    for layer in (f"layers.{n}" for n in range(arguments["n_layers"])):
        inner = normed(x, f"{layer}.attention_norm")
        q, k, v = (
            (inner @ w[f"{layer}.attention.{name}"].T).view(count, length, number, -1)
            for name, number in (("wq", heads), ("wk", keys), ("wv", keys))
        )
        q, k = rotated(q, theta), rotated(k, theta)
        mixed = torch.empty_like(q)
        for head in range(heads):
            shared = head // (heads // keys)
            scores = q[:, :, head] @ k[:, :, shared].transpose(1, 2) / math.sqrt(q.shape[3]) + future
            mixed[:, :, head] = scores.softmax(-1) @ v[:, :, shared]
        x = x + mixed.flatten(2) @ w[f"{layer}.attention.wo"].T
        inner = normed(x, f"{layer}.ffn_norm")
        gate, up = inner @ w[f"{layer}.feed_forward.w1"].T, inner @ w[f"{layer}.feed_forward.w3"].T
        x = x + (gate * gate.sigmoid() * up) @ w[f"{layer}.feed_forward.w2"].T
    return normed(x, "norm") @ w.get("output", w["tok_embeddings"]).T


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    pieces, scores = drawn_vocabulary(random.Random(0))
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"pieces": pieces, "scores": scores}))
    assert len(pieces) == SIZES["vocab_size"]
    return path


def saved(folder: Path, weights: Weights, **content: Any) -> Path:
    torch.save({"model": weights, **content}, folder / "ckpt.pt")
    return folder / "ckpt.pt"


@pytest.mark.parametrize(
    ("changes", "tied"),
    [
        ({}, True),
        ({"n_kv_heads": None}, True),
        ({"n_kv_heads": 6}, False),
        ({"n_kv_heads": 1, "norm_eps": 0.05, "rope_theta": 100.0}, True),
    ],
)
def test_the_converted_model_computes_what_the_architecture_says(
    changes: dict[str, Any], tied: bool, tmp_path: Path, tokenizer: Path
) -> None:
    from transformers import AutoModelForCausalLM

    weights, arguments = drawn_weights(tied, **changes), SIZES | changes
    convert(saved(tmp_path, weights, model_args=arguments), tokenizer, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokens = torch.randint(SIZES["vocab_size"], (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = model(input_ids=tokens).logits
    expected = logits_by_hand(weights, tokens, arguments)
    assert float(expected.std()) > 0.5
    assert float((found - expected).abs().max()) < 1e-4
    assert sum(p.numel() for p in model.parameters()) == sum(w.numel() for w in weights.values())


def test_rows_of_a_head_are_put_into_halves() -> None:
    weight = torch.arange(12.0)[:, None]
    assert halves(weight, 2)[:, 0].tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


def test_what_the_trainer_adds_changes_nothing(tmp_path: Path, tokenizer: Path) -> None:
    weights = drawn_weights()
    plain = converted(saved(tmp_path, weights, config=SIZES | {"rope": "interleaved"}), tokenizer)
    compiled = {
        f"_orig_mod.{name}": w for name, w in (weights | {"output.weight": weights["tok_embeddings.weight"]}).items()
    }
    training = {"optimizer": {"state": {}}, "iter_num": 7, "config": {"batch_size": 3}}
    trainer = converted(saved(tmp_path, compiled, model_args=SIZES, **training), tokenizer)
    assert trainer == plain


def test_the_tokenizer_comes_along(tmp_path: Path, tokenizer: Path) -> None:
    from transformers import AutoTokenizer

    convert(saved(tmp_path, drawn_weights(), model_args=SIZES), tokenizer, tmp_path / "new" / "model")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "new" / "model")
    assert (len(loaded), loaded.model_max_length) == (SIZES["vocab_size"], SIZES["max_seq_len"])
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (
        0,
        1,
        1,
    )  # texts end where the next begins
    batch = loaded(["", "abba"], padding=True, return_tensors="pt")
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"][0, 0] == 1
    assert batch["attention_mask"][0].tolist() == [1, *[0] * (batch["input_ids"].shape[1] - 1)]
    assert loaded.batch_decode(batch["input_ids"], skip_special_tokens=True) == ["", "abba"]


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("stories")
    convert(data_file("stories260K.pt"), data_file("tok512.json"), folder)
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def perplexity(model: Any, tokenizer: Any, text: str) -> float:
    tokens = tokenizer(text, return_tensors="pt")["input_ids"]
    return math.exp(model(input_ids=tokens, labels=tokens).loss)


def test_the_published_model_expects_a_story_but_not_its_words_in_disorder(stories: tuple[Any, Any]) -> None:
    words = STORY.split()
    random.Random(0).shuffle(words)
    assert sum(p.numel() for p in stories[0].parameters()) == 260_032
    assert perplexity(*stories, STORY) < 4  # 2.99; 12.8 where the rows of wq and wk are left in their order
    assert perplexity(*stories, " ".join(words)) > 400


def test_the_published_model_tells_its_best_known_story(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    prompt = tokenizer("Once upon a time", return_tensors="pt")
    told = tokenizer.decode(model.generate(**prompt, max_new_tokens=40, do_sample=False)[0], skip_special_tokens=True)
    assert told == (
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
        "One day, she saw a big, red ball."
    )


def refused(error: type[ClbenchError], checkpoint: Path, tokenizer: Path, folder: Path) -> str:
    """The message, which must be one line; nothing may have been written."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(error) as caught:
        convert(checkpoint, tokenizer, folder)
    assert sorted(folder.parent.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": drawn_weights()}, "is no checkpoint of llama2.c (KeyError: 'config')"),
        (drawn_weights(), "is no checkpoint of llama2.c (KeyError: 'config')"),
        ({"model": {"fc.weight": torch.zeros(2, 2)}, "model_args": SIZES}, "(KeyError: 'tok_embeddings.weight')"),
        ({"model": drawn_weights(), "config": {"lr": 0.1}}, "(KeyError: 'n_layers')"),
        ({"model": drawn_weights(), "model_args": 3}, "is no checkpoint of llama2.c (TypeError"),
        ({"model": drawn_weights(), "model_args": SIZES | {"n_heads": 7}}, "3 layers, 7 heads, 2 of them for keys"),
        ({"model": drawn_weights(), "model_args": SIZES | {"n_heads": 0}}, "3 layers, 0 heads"),
        ({"model": drawn_weights(), "model_args": SIZES | {"n_heads": 48}}, "width 48"),
        (
            {"model": drawn_weights(), "model_args": SIZES | {"n_kv_heads": 3}},
            "'layers.0.attention.wk.weight' is (16, 48) wh",
        ),
        (
            {"model": drawn_weights(), "model_args": SIZES | {"n_layers": 4}},
            "'layers.3.attention_norm.weight' is missing",
        ),
        ({"model": drawn_weights(), "model_args": SIZES | {"n_layers": 2}}, "is not in the network"),
        ({"model": [1, 2]}, "holds no weights"),
    ],
)
def test_what_is_no_checkpoint_of_llama2c_is_refused(content: Any, said: str, tmp_path: Path, tokenizer: Path) -> None:
    torch.save(content, tmp_path / "ckpt.pt")
    message = refused(CheckpointError, tmp_path / "ckpt.pt", tokenizer, tmp_path / "model")
    assert said in message
    assert message.startswith(str(tmp_path / "ckpt.pt"))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"pieces": RESERVED, "scores": [0.0] * len(RESERVED)}))
    checkpoint = saved(tmp_path, drawn_weights(), model_args=SIZES)
    message = refused(DataError, checkpoint, tmp_path / "other.json", tmp_path / "model")
    assert "other.json has 259 pieces" in message
    assert "ckpt.pt 319 tokens" in message


def test_a_folder_in_use_is_refused_and_an_empty_one_is_filled(tmp_path: Path, tokenizer: Path) -> None:
    checkpoint = saved(tmp_path, drawn_weights(), model_args=SIZES)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").touch()
    for path in (tmp_path / "used", checkpoint):
        assert f"{path} is there and is no empty folder" in refused(DataError, checkpoint, tokenizer, path)
    (tmp_path / "empty").mkdir()
    convert(checkpoint, tokenizer, tmp_path / "empty")
    written = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in (tmp_path / "empty").iterdir()} == written


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, tokenizer: Path) -> None:
    checkpoint = saved(tmp_path, drawn_weights(), model_args=SIZES)
    assert "cannot write to" in refused(DataError, checkpoint, tokenizer, checkpoint / "model")


def test_an_interruption_leaves_nothing(tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = saved(tmp_path, drawn_weights(), model_args=SIZES)
    before = sorted(tmp_path.rglob("*"))

    def interrupted(path: Path, content: bytes) -> None:
        if path.name == "tokenizer.json":
            raise KeyboardInterrupt
        write_atomically(path, content)

    monkeypatch.setattr("clbench.models.llama2c.write_atomically", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, tokenizer, tmp_path / "model")
    assert sorted(tmp_path.rglob("*")) == before
