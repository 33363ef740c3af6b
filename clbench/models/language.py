"""Causal language models by name: our own small ones, and whatever transformers loads from a folder or the hub."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clbench.errors import CheckpointError, ConfigError, IncompatibleError
from clbench.models import small_llama
from clbench.models.causal import CausalModel
from clbench.models.checkpoint import one_line
from clbench.models.config import EMBEDDED_CAUSAL, AdapterConfig, ModelConfig
from clbench.models.hub import reach_hub
from clbench.models.routed import RoutedModel
from clbench.models.tokenizer import Tokenizer

SMALL = "small_llama"
UNBOUNDED = 1 << 30  # tokens, where a model does not say


def build_causal(config: ModelConfig, new_tokens: int, instructions: Sequence[str] = ()) -> CausalModel:
    """The language model that ``config`` asks for, with its weights and, where wanted, new adapters.

    Args:
        config: with a name.
        new_tokens: most that an answer may have.
        instructions: texts by the column ``instruction``, by which questions find their adapters.

    Raises:
        ConfigError: a field that language models have no use for.
        CheckpointError: there is no such model, or its tokenizer cannot end an answer.
        IncompatibleError: the adapters do not fit.
    """
    check(config)
    words = tokenizer_of(config)
    made = _network(config)
    if config.gradient_checkpointing:
        made.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.adapter.rank:
        made = adapted(made, config.adapter)
        return RoutedModel(made, words.pad, words.eos, new_tokens, config.adapter, instructions)
    return CausalModel(made, words.pad, words.eos, new_tokens)


def check(config: ModelConfig) -> None:
    """See that a language model has a use for each field.

    Raises:
        ConfigError: it has not.
    """
    if config.checkpoint is not None:
        raise ConfigError(
            f"a language model is a folder with config.json, weights and tokenizer: model.name={config.checkpoint} "
            "in place of model.checkpoint"
        )
    if config.width is not None and config.name != SMALL:
        raise ConfigError(f"model.width goes with {SMALL} only, got {config.width} with {config.name}")


def adapted(network: Any, config: AdapterConfig) -> Any:
    """The network, frozen, with adapters that train.

    Raises:
        IncompatibleError: no module has one of the names.
    """
    from peft import LoraConfig, get_peft_model

    targets: str | list[str] = list(config.targets)
    if targets == ["all-linear"]:
        targets = "all-linear"
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha or 2 * config.rank,  # type: ignore[arg-type]
        lora_dropout=config.dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():  # peft asks transformers for what is to be renamed
            warnings.simplefilter("ignore", FutureWarning)
            return get_peft_model(network, lora, adapter_name="set0")
    except ValueError as error:
        known = sorted({name.rpartition(".")[2] for name, m in network.named_modules() if not list(m.children())})
        raise IncompatibleError(
            f"adapters do not fit: model.adapter.targets={config.targets} names no matrices of this network; its "
            f"modules are {', '.join(known)}"
        ) from error


@functools.lru_cache(maxsize=4)
def _tokenizer(name: str) -> Tokenizer:
    if name == SMALL:
        return Tokenizer(small_llama.tokenizer(), name)
    from transformers import AutoTokenizer

    return Tokenizer(_loaded(AutoTokenizer, name), name)


def tokenizer_of(config: ModelConfig) -> Tokenizer:
    """The tokenizer of the language model that ``config`` names.

    Raises:
        CheckpointError: there is none.
    """
    return _tokenizer(str(config.name))


def context_of(config: ModelConfig) -> int:
    """Tokens that the model can look at.

    Raises:
        CheckpointError: there is no such model.
    """
    if config.name == SMALL:
        return small_llama.CONTEXT
    from transformers import AutoConfig

    settings = _loaded(AutoConfig, str(config.name))
    for name in ("max_position_embeddings", "n_positions"):
        if isinstance(found := getattr(settings, name, None), int):
            return found
    return UNBOUNDED


def _network(config: ModelConfig) -> Any:
    import torch

    dtype = getattr(torch, config.dtype.value)
    if config.name == SMALL:
        return small_llama.network(config.width or 64).to(dtype)
    from transformers import AutoModelForCausalLM

    return _loaded(AutoModelForCausalLM, str(config.name), dtype=dtype)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _loaded(kind: Any, name: str, **options: Any) -> Any:
    """What ``kind`` loads from a folder, or else from the local cache of the hub, or from the hub."""
    where = small_llama.WEIGHTS if name == EMBEDDED_CAUSAL else Path(name).expanduser()
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            if where.is_dir():
                return kind.from_pretrained(str(where), **options)
            with contextlib.suppress(OSError):  # not cached
                return kind.from_pretrained(name, local_files_only=True, **options)
            reach_hub()
            return kind.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CheckpointError(
            f"no language model {name!r}: it is neither a folder with config.json, weights and tokenizer nor a name "
            f"that the Hugging Face hub answers to ({one_line(error)}); name a folder with model.name=FOLDER"
        ) from error
