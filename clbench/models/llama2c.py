"""Checkpoints of llama2.c, a small trainer of Llama models, as a folder that the transformers library loads.

llama2.c (github.com/karpathy/llama2.c) writes ``{"model": tensors, "model_args": sizes, ...}``. The architecture is
Llama's under other names, with one other convention: its rotary embedding turns the neighbours (2i, 2i + 1) of a head's
d numbers, that of transformers the numbers (i, i + d/2), so the rows of wq and wk are put in another order. The numbers
that come out are the same.

Its models were trained on texts that begin with ``<s>`` and have no ``</s>``: they tell that a text is over by
beginning another. So ``<s>`` is the EOS token as well; ``</s>``, which they never saw, could be learnt only where the
embedding trains.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from clbench.errors import CheckpointError, DataError
from clbench.models.checkpoint import Weights, one_line, read_content, require_fit, unwrapped
from clbench.models.llama2c_tokenizer import BEGIN, RESERVED, UNKNOWN, build_tokenizer, read_vocabulary
from clbench.record import write_atomically

OUTSIDE = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}
BLOCK = {
    "attention_norm": "input_layernorm",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
}
"""From llama2.c's names to those of transformers: in each block, and (above) outside of the blocks."""


def convert(checkpoint: Path, tokenizer: Path, folder: Path) -> None:
    """Write a folder for ``AutoModelForCausalLM`` and ``AutoTokenizer``, whole or not at all.

    Args:
        checkpoint: a .pt file of llama2.c's trainer.
        tokenizer: its tokenizer.bin, or the same as .json; see `read_vocabulary`.
        folder: new or empty.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is not one of llama2.c.
        DataError: the tokenizer cannot be read or is that of another model; the folder is in use or cannot be written.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{folder} is there and is no empty folder; choose another folder")
    files = converted(checkpoint, tokenizer)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=folder.name, suffix=".partial") as place:
            whole = Path(place) / "whole"
            for name, content in files.items():
                write_atomically(whole / name, content)
            whole.replace(folder)
    except OSError as error:
        raise DataError(f"cannot write to {folder} ({error.strerror}); choose another folder") from error


def converted(checkpoint: Path, tokenizer: Path) -> dict[str, bytes]:
    """The folder's files by name; for the rest see `convert`."""
    weights, config = read_model(checkpoint)
    pieces, scores = read_vocabulary(tokenizer)
    if len(pieces) != config["vocab_size"]:
        raise DataError(
            f"{tokenizer} has {len(pieces)} pieces and {checkpoint} {config['vocab_size']} tokens; "
            "give the tokenizer that the model was trained with"
        )
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": BEGIN,
        "unk_token": UNKNOWN,
        "pad_token": UNKNOWN,
        "model_max_length": config["max_position_embeddings"],
        "model_input_names": ["input_ids", "attention_mask"],  # a Llama takes no token types
        "clean_up_tokenization_spaces": False,
    }
    return {
        "config.json": json.dumps(config, indent=2).encode(),
        "model.safetensors": save(renamed(weights, config), {"format": "pt"}),
        "tokenizer.json": build_tokenizer(pieces, scores).to_str(pretty=True).encode(),
        "tokenizer_config.json": json.dumps(settings, indent=2).encode(),
    }


def read_model(path: Path) -> tuple[Weights, dict[str, Any]]:
    """A checkpoint's tensors, under llama2.c's names and without a tied output, and its `configuration`.

    Raises:
        CheckpointError: the file cannot be read, or is no checkpoint of llama2.c.
    """
    content = read_content(path)
    weights = unwrapped(content, path)
    try:
        config = configuration(content["model_args" if "model_args" in content else "config"], weights)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no checkpoint of llama2.c ({type(error).__name__}: {one_line(error)}); "
            "expected tensors under 'model' and sizes under 'model_args'"
        ) from error
    if config["tie_word_embeddings"]:
        weights.pop("output.weight", None)
    require_fit(shapes(config), weights, path, "a llama2.c model of the sizes that it states")
    return weights, config


def configuration(arguments: Mapping[str, Any], weights: Weights) -> dict[str, Any]:
    """The content of config.json, a ``LlamaConfig``.

    Args:
        arguments: n_layers, n_heads, max_seq_len; n_kv_heads, norm_eps, rope_theta where they are not the usual ones.
        weights: under llama2.c's names; the other sizes are theirs.

    Raises:
        KeyError: something is missing.
        TypeError: something is no number.
        ValueError: the sizes cannot be those of one model.
    """
    vocabulary, width = weights["tok_embeddings.weight"].shape
    layers, heads, context = (int(arguments[name]) for name in ("n_layers", "n_heads", "max_seq_len"))
    shared = int(arguments.get("n_kv_heads") or heads)
    if min(layers, heads, context, shared) < 1 or heads % shared or width % (2 * heads):
        raise ValueError(f"{layers} layers, {heads} heads, {shared} of them for keys, width {width}, context {context}")
    output = weights.get("output.weight")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": len(weights["layers.0.feed_forward.w1.weight"]),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        "max_position_embeddings": context,
        "rms_norm_eps": float(arguments.get("norm_eps", 1e-5)),
        "rope_theta": float(arguments.get("rope_theta", 10_000.0)),
        "tie_word_embeddings": output is None or torch.equal(output, weights["tok_embeddings.weight"]),
        "bos_token_id": RESERVED.index(BEGIN),
        "eos_token_id": RESERVED.index(BEGIN),
        "pad_token_id": RESERVED.index(UNKNOWN),
    }


def shapes(config: Mapping[str, Any]) -> Weights:
    """Tensors without content, under llama2.c's names, of the shapes that a `configuration` asks for."""
    width, hidden, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    keys = width // config["num_attention_heads"] * config["num_key_value_heads"]
    rows = {"attention.wk": keys, "attention.wv": keys, "feed_forward.w1": hidden, "feed_forward.w3": hidden}
    expected: dict[str, tuple[int, ...]] = {"tok_embeddings": (vocabulary, width), "norm": (width,)}
    if not config["tie_word_embeddings"]:
        expected["output"] = (vocabulary, width)
    for layer in range(config["num_hidden_layers"]):
        for name in BLOCK:
            columns = () if name.endswith("norm") else (hidden if name == "feed_forward.w2" else width,)
            expected[f"layers.{layer}.{name}"] = (rows.get(name, width), *columns)
    return {f"{name}.weight": torch.empty(shape, device="meta") for name, shape in expected.items()}


def renamed(weights: Weights, config: Mapping[str, Any]) -> Weights:
    """The tensors as transformers has them, float32.

    Args:
        weights: as llama2.c has them, of the shapes that `shapes` says.
        config: see `configuration`.
    """
    layers = range(config["num_hidden_layers"])
    names = OUTSIDE | {
        f"layers.{n}.{there}": f"model.layers.{n}.{here}" for n in layers for there, here in BLOCK.items()
    }
    tensors = {names[name.removesuffix(".weight")]: tensor.float().contiguous() for name, tensor in weights.items()}
    for layer in layers:
        for projection, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            name = f"model.layers.{layer}.self_attn.{projection}"
            tensors[name] = halves(tensors[name], config[heads])
    return {f"{name}.weight": tensor for name, tensor in tensors.items()}


def halves(weight: Tensor, heads: int) -> Tensor:
    """The rows (2i, 2i + 1) of each head as its rows (i, i + d/2).

    Args:
        weight: (heads * d, width), d even.
        heads: how many.
    """
    rows, width = weight.shape
    return weight.view(heads, rows // heads // 2, 2, width).transpose(1, 2).reshape(rows, width)
