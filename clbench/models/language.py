"""Causal language models by name: our own small ones, and whatever transformers loads from a folder or the hub."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from logging import CRITICAL, getLogger
from pathlib import Path
from typing import Any

from clbench.errors import CheckpointError, ConfigError, IncompatibleError
from clbench.models import embedded
from clbench.models.causal import CausalModel
from clbench.models.checkpoint import one_line
from clbench.models.config import AdapterConfig, HeadKind, ModelConfig, Routing
from clbench.models.hub import reach_hub
from clbench.models.routed import RoutedModel, without_peft_warnings
from clbench.models.tokenizer import Tokenizer

ALL = "all-linear"
UNBOUNDED = 1 << 30  # tokens, where a model does not say


def build_causal(config: ModelConfig, new_tokens: int, instructions: Sequence[str] = ()) -> CausalModel:
    """The language model that ``config`` asks for, with its weights and, where wanted, new adapters.

    Args:
        config: with a name.
        new_tokens: most that an answer may have.
        instructions: texts by the column ``instruction``, by which questions find their adapters.

    Raises:
        ConfigError: a field that language models have no use for.
        CheckpointError: there is no such model, its tokenizer cannot end an answer, or the two do not fit together.
        IncompatibleError: the adapters do not fit, or the network cannot compute its activations twice.
    """
    check(config)
    words = tokenizer_of(config)
    made = _network(config)
    if words.size > (known := made.get_input_embeddings().num_embeddings):
        raise CheckpointError(f"the tokenizer of {config.name} has {words.size} tokens, its network knows {known} only")
    if config.adapter.rank:
        wrapped = adapted(made, config.adapter)
        model: CausalModel = RoutedModel(wrapped, words.pad, words.eos, new_tokens, config.adapter, instructions)
    else:
        model = CausalModel(made, words.pad, words.eos, new_tokens)
    if config.gradient_checkpointing:
        _recompute_activations(made, str(config.name))
    return model


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
    if config.width is not None and config.name not in embedded.RANDOM:
        known = " and ".join(embedded.RANDOM)
        raise ConfigError(f"model.width goes with {known} only, got {config.width} with {config.name}")
    if config.pretrained:
        raise ConfigError(f"a language model always brings its weights; leave model.pretrained out ({config.name})")
    if config.adapter.routing is not Routing.NONE and not config.adapter.rank:
        raise ConfigError("model.adapter.routing needs adapters; add model.adapter.rank=8")
    if config.head is not HeadKind.LINEAR:
        raise ConfigError(f"model.head goes with images only, got {config.head.value} with {config.name}")


def adapted(network: Any, config: AdapterConfig) -> Any:
    """The network, frozen, with adapters that train.

    Raises:
        IncompatibleError: one of the names belongs to no module that can be adapted.
    """
    from peft import LoraConfig, get_peft_model

    targets: str | list[str] = list(config.targets)
    if targets == [ALL]:
        targets = ALL
    elif unmet := [target for target in targets if not _names_of(network, target)]:
        raise _misfit(network, config, ", ".join(unmet))
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha or 2 * config.rank,  # type: ignore[arg-type]
        lora_dropout=config.dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        with without_peft_warnings():
            return get_peft_model(network, lora, adapter_name="set0")
    except ValueError as error:
        raise _misfit(network, config, ", ".join(config.targets)) from error


def _names_of(network: Any, target: str) -> list[str]:
    return [name for name, _ in network.named_modules() if name == target or name.endswith(f".{target}")]


def _misfit(network: Any, config: AdapterConfig, target: str) -> IncompatibleError:
    matrices = {
        name.rpartition(".")[2]
        for name, module in network.named_modules()
        if any(p.dim() == 2 for p in module.parameters(recurse=False))
    }
    return IncompatibleError(
        f"adapters do not fit: model.adapter.targets={','.join(config.targets)}, but {target} is no matrix of this "
        f"network; there are {', '.join(sorted(matrices))}, and {ALL} for all but the embedding and the output"
    )


@functools.lru_cache(maxsize=4)
def _tokenizer(name: str) -> Tokenizer:
    if name in embedded.BOTH:
        return Tokenizer(embedded.BOTH[name].tokenizer(), name)
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
    if config.name in embedded.RANDOM:
        return int(embedded.RANDOM[config.name].CONTEXT)
    from transformers import AutoConfig

    settings = _loaded(AutoConfig, str(config.name))
    for name in ("max_position_embeddings", "n_positions"):
        if isinstance(found := getattr(settings, name, None), int):
            return found
    return UNBOUNDED


def _network(config: ModelConfig) -> Any:
    import torch

    dtype = getattr(torch, config.dtype.value)
    if config.name in embedded.RANDOM:
        module = embedded.RANDOM[config.name]
        return module.network(config.width or module.WIDTH).to(dtype)
    from transformers import AutoModelForCausalLM

    options = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    made, found = _loaded(AutoModelForCausalLM, str(config.name), **options)
    unmet = sorted([*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])])
    if unmet:  # there transformers begins with random numbers
        raise CheckpointError(
            f"the weights of {config.name} are not those of its config.json: {len(unmet)} tensors are missing or of "
            f"another shape, {unmet[0]!r} is one"
        )
    return made


def _recompute_activations(network: Any, name: str) -> None:
    if not network.supports_gradient_checkpointing:
        raise IncompatibleError(f"{name} cannot compute its activations twice; leave model.gradient_checkpointing out")
    newer = hasattr(network, "activation_checkpointing_enable")  # the name that transformers 5 gave it
    enable = network.activation_checkpointing_enable if newer else network.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    network.disable_input_require_grads()  # for a kind of recomputing that is not used


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and reports of transformers and the hub, whose gist becomes one line of ours."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    loggers = [getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            logging.enable_progress_bar()


def _loaded(kind: Any, name: str, **options: Any) -> Any:
    """What ``kind`` loads from a folder, or else from the local cache of the hub, or from the hub."""
    where = embedded.weights_of(name) or Path(name).expanduser()
    try:
        with quiet():
            if where.is_dir():
                return kind.from_pretrained(str(where), **options)
            with contextlib.suppress(OSError):  # not cached
                return kind.from_pretrained(name, local_files_only=True, **options)
            reach_hub()
            return kind.from_pretrained(name, **options)
    except Exception as error:  # broken files fail in as many ways as there are readers
        missing = (
            f"no language model {name!r}: it is neither a folder nor a name that the Hugging Face hub answers to; name "
            "a folder with model.name=FOLDER"
        )
        broken = f"{kind.__name__} of transformers cannot load {where}, which needs config.json, weights and tokenizer"
        raise CheckpointError(f"{broken if where.is_dir() else missing} ({one_line(error)})") from error
