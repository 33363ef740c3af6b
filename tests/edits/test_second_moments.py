from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from clbench.edits import second_moments as module
from clbench.edits.second_moments import second_moments
from clbench.edits.sites import sites_of
from clbench.errors import ClbenchError
from clbench.models.causal import CausalModel
from clbench.table import Source, Table
from clbench.texts.tokens import columns
from tests.language import BOS, EOS, PAD, network


def model_of(kind: str = "llama", seed: int = 0) -> CausalModel:
    return CausalModel(network(kind, seed), PAD, EOS, 4).eval()


def texts(count: int = 70) -> Table:
    rows = [[BOS, *range(4, 4 + length)] for length in range(1, count // 10 + 1) for _ in range(10)]
    return Table(Source(columns(rows, [[5 + i % 7, EOS] for i in range(len(rows))], PAD)))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_moment_is_the_mean_over_all_tokens_but_padding(kind: str) -> None:
    model, table = model_of(kind), texts()
    (site,) = sites_of(model.inner, [1])
    seen: list[torch.Tensor] = []
    handle = site.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].detach().double()))
    with torch.no_grad():
        for row in range(len(table)):
            one = table.source.take(torch.tensor([row]))
            model.network(input_ids=one["tokens"][:, : int(one["length"])].long())
    handle.remove()
    keys = torch.cat(seen)
    expected = sum(torch.outer(key, key) for key in keys) / len(keys)
    found = second_moments(model, {"here": site.module}, table)["here"]
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_a_moment_is_computed_once_and_anew_for_other_weights_texts_or_modules(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path))
    asked: list[list[str]] = []
    whole = module.computed

    def counted(model: CausalModel, modules: Mapping[str, nn.Module], table: Table) -> dict[str, torch.Tensor]:
        asked.append(sorted(modules))
        return whole(model, modules, table)

    monkeypatch.setattr(module, "computed", counted)

    def ask(model: CausalModel, table: Table, *layers: int) -> dict[str, torch.Tensor]:
        return second_moments(model, {site.name: site.module for site in sites_of(model.inner, layers)}, table)

    model, table = model_of(), texts()
    first = ask(model, table, 0)
    again = ask(model, table, 0, 1)
    (name, moment), other = next(iter(first.items())), "model.layers.1.mlp.down_proj"
    assert torch.equal(again[name], moment)
    assert asked == [[name], [other]]
    ask(model_of(), texts(), 0, 1)
    assert len(asked) == 2
    ask(model, table.select(torch.arange(9)), 0)
    ask(model_of(seed=1), table, 0)
    assert asked[2:] == [[name], [name]]


def test_a_cache_that_cannot_be_written_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "file"))
    model = model_of()
    with pytest.raises(ClbenchError, match="set CLBENCH_CACHE to another folder"):
        second_moments(model, {"here": sites_of(model.inner, [0])[0].module}, texts())
