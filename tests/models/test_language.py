from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clbench.digest import state_digest
from clbench.errors import CheckpointError, ClbenchError, ConfigError, IncompatibleError
from clbench.models import language, small_llama
from clbench.models.build import build_backbone
from clbench.models.causal import CausalModel
from clbench.models.config import EMBEDDED_CAUSAL, AdapterConfig, Dtype, HeadKind, ModelConfig, Routing
from clbench.models.language import adapted, build_causal, context_of, tokenizer_of
from clbench.models.low_rank import adapters
from clbench.models.routed import RoutedModel
from clbench.seeding import isolated
from clbench.texts.tokens import columns
from tests.language import BOS, EOS, PAD, VOCABULARY, folder, network

BATCH = {name: column.long() for name, column in columns([[BOS, 5, 6], [BOS, 7]], [[8, EOS], [9, 9, EOS]], PAD).items()}


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    language._tokenizer.cache_clear()
    return folder(tmp_path / "mine")


def test_a_folder_gives_its_own_weights(mine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = build_causal(ModelConfig(str(mine)), 4).eval()
    assert not isinstance(model, RoutedModel)
    wanted = network()(input_ids=BATCH["tokens"]).logits
    torch.testing.assert_close(model.network(input_ids=BATCH["tokens"]).logits, wanted)
    assert context_of(ModelConfig(str(mine))) == 2048
    assert "".join(capfd.readouterr()) == ""
    half = build_causal(ModelConfig(str(mine), dtype=Dtype.BFLOAT16), 4)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_our_own_architecture_has_the_sizes_that_it_promises() -> None:
    for width, low, high in ((None, 0.20e6, 0.22e6), (192, 2.6e6, 2.8e6)):
        config = ModelConfig("small_llama", width=width)
        with isolated(0, "initialise"):
            model = build_causal(config, 4)
        assert low < sum(p.numel() for p in model.parameters()) < high
        assert model.log_likelihoods(BATCH)[1].tolist() == [2, 3]
        assert context_of(config) == small_llama.CONTEXT


def test_the_embedded_model_brings_its_tokenizer_for_everybody_else_too() -> None:
    from transformers import AutoTokenizer

    saved = AutoTokenizer.from_pretrained(small_llama.WEIGHTS)
    own = tokenizer_of(ModelConfig(EMBEDDED_CAUSAL)).fast
    assert saved.get_vocab() == own.get_vocab()
    assert saved.special_tokens_map == own.special_tokens_map
    text = "sort the letters: cab=Ä"
    assert saved(text)["input_ids"][-len(text) :] == own(text)["input_ids"][-len(text) :]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig("mine", checkpoint=Path("w.pt")), "model.name=w.pt in place of model.checkpoint"),
        (ModelConfig("mine", width=64), "model.width goes with small_llama and world_llama only, got 64 with mine"),
        (ModelConfig("mine", pretrained=True), "always brings its weights; leave model.pretrained out"),
        (ModelConfig("mine", head=HeadKind.COSINE), "model.head goes with images only, got cosine with mine"),
        (
            ModelConfig("mine", adapter=AdapterConfig(routing=Routing.NEAREST)),
            "model.adapter.routing needs adapters; add model.adapter.rank=8",
        ),
        (ModelConfig("small_llama", width=7), "model.width of small_llama must be one of 64, 192, got 7"),
    ],
)
def test_fields_without_a_use_are_named(config: ModelConfig, message: str) -> None:
    with pytest.raises(ConfigError) as told:
        build_causal(config, 4)
    assert message in one_line(told)


@pytest.mark.parametrize(
    ("field", "value"),
    [("adapter", AdapterConfig(rank=4)), ("dtype", Dtype.BFLOAT16), ("gradient_checkpointing", True)],
)
def test_images_have_no_use_for_the_fields_of_language_models(field: str, value: object) -> None:
    config = replace(ModelConfig("small_cnn"), **{field: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"model.{field} goes with language models only"):
        build_backbone(config, (1, 8, 8), "small_cnn")


@pytest.mark.parametrize("name", ["/no/such/model", "two words"])
def test_a_name_that_nobody_knows_is_one_line(name: str) -> None:
    for ask in (build_causal, lambda config, _: tokenizer_of(config), lambda config, _: context_of(config)):
        with pytest.raises(CheckpointError) as told:
            ask(ModelConfig(name), 4)
        assert one_line(told).startswith(f"no language model '{name}': it is neither a folder nor a name")


def without_weights(path: Path) -> None:
    (path / "model.safetensors").unlink()


def truncated(path: Path) -> None:
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[: len(content) // 2])


def broken_config(path: Path) -> None:
    (path / "config.json").write_text("{")


def without_tokenizer(path: Path) -> None:
    for file in path.glob("tokenizer*"):
        file.unlink()


def changed(path: Path, **values: int) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | values))


def deeper(path: Path) -> None:
    changed(path, num_hidden_layers=3)


def wider(path: Path) -> None:
    changed(path, intermediate_size=50)


def fewer_tokens(path: Path) -> None:
    import transformers

    with language.quiet():
        transformers.LlamaForCausalLM(
            transformers.LlamaConfig(vocab_size=20, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
        ).save_pretrained(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_weights, "AutoModelForCausalLM of transformers cannot load"),
        (truncated, "AutoModelForCausalLM of transformers cannot load"),
        (broken_config, "which needs config.json, weights and tokenizer"),
        (without_tokenizer, "AutoTokenizer of transformers cannot load"),
        (deeper, "9 tensors are missing or of another shape, 'model.layers.2."),
        (wider, "6 tensors are missing or of another shape, 'model.layers.0.mlp"),
        (fewer_tokens, f"has {VOCABULARY} tokens, its network knows 20 only"),
    ],
)
def test_a_damaged_folder_is_one_line_and_never_random_weights(
    mine: Path, damage: Callable[[Path], None], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    damage(mine)
    capfd.readouterr()
    with pytest.raises(CheckpointError) as told:
        build_causal(ModelConfig(str(mine)), 4)
    text = one_line(told)
    assert message in text
    assert str(mine) in text
    assert "".join(capfd.readouterr()) == ""


def test_loading_leaves_the_loggers_as_they_were(mine: Path) -> None:
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    before = [logger.level for logger in loggers]
    build_causal(ModelConfig(str(mine)), 4)
    assert [logger.level for logger in loggers] == before


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["q_prj"], "q_prj is no matrix of this network"),
        (["q_proj", "q_prj"], "targets=q_proj,q_prj, but q_prj is no matrix"),
        (["input_layernorm"], "input_layernorm is no matrix of this network"),
        (["all-linear", "q_proj"], "all-linear is no matrix of this network"),
    ],
)
def test_adapters_that_do_not_fit_name_what_there_is(targets: list[str], message: str) -> None:
    with pytest.raises(IncompatibleError) as told:
        adapted(network(), AdapterConfig(rank=4, targets=targets))
    text = one_line(told)
    assert message in text
    names = "down_proj, embed_tokens, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
    assert f"there are {names}, and all-linear" in text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": -1}, "model.adapter.rank must be >= 0, got -1"),
        ({"rank": 4, "alpha": 0.0}, "model.adapter.alpha must be > 0 or null, got 0.0"),
        ({"rank": 4, "dropout": 1.0}, r"model.adapter.dropout must be in \[0, 1\), got 1.0"),
        ({"rank": 4, "threshold": 30.0}, r"model.adapter.threshold must be in \[0, 1\], got 30.0"),
        ({"rank": 4, "targets": []}, r"model.adapter.targets must name modules, .* got \[\]"),
    ],
)
def test_adapters_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ClbenchError, match=f"^{message}$"):
        AdapterConfig(**values)


@pytest.mark.parametrize(("kind", "matrices"), [("llama", 7), ("qwen2", 7), ("gpt2", 4)])
def test_adapters_are_on_every_matrix_of_the_blocks_and_alone_train(kind: str, matrices: int, tmp_path: Path) -> None:
    config = ModelConfig(str(folder(tmp_path / kind, kind)), adapter=AdapterConfig(rank=3, alpha=12.0))
    model = build_causal(config, 4)
    assert len(adapters(model)) == 2 * matrices
    assert {layer.scaling["set0"] for layer in adapters(model).values()} == {4.0}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * len(adapters(model))
    assert all("lora_" in name for name in trained)
    plain = CausalModel(network(kind), PAD, EOS, 4)
    torch.testing.assert_close(model.eval().all_logits(BATCH), plain.all_logits(BATCH))  # B begins at 0


def test_by_default_alpha_is_twice_the_rank() -> None:
    made = adapted(network(), AdapterConfig(rank=5))
    assert {m.scaling["set0"] for m in made.modules() if hasattr(m, "lora_A") and "set0" in m.lora_A} == {2.0}


def test_the_state_of_adapters_is_small_and_makes_another_model_the_same(mine: Path) -> None:
    config = ModelConfig(str(mine), adapter=AdapterConfig(rank=2))
    models = []
    for seed in (0, 1):
        with isolated(seed, "initialise"):
            models.append(build_causal(config, 4).eval())
    with torch.no_grad():
        for parameter in models[0].parameters():
            if parameter.requires_grad:
                parameter.add_(0.3)
    state = models[0].learnt_state()
    kept = sum(tensor.numel() for tensor in state["adapters"].values())
    assert kept == sum(p.numel() for p in models[0].parameters() if p.requires_grad)
    before = models[1].all_logits(BATCH)
    models[1].restore_learnt(state)
    assert torch.equal(models[1].all_logits(BATCH), models[0].all_logits(BATCH))
    assert not torch.allclose(models[1].all_logits(BATCH), before)
    assert state_digest(models[1].learnt_state()) == state_digest(state)
