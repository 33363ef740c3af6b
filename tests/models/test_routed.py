from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clbench.digest import state_digest
from clbench.models.causal import CausalModel
from clbench.models.config import AdapterConfig, Routing
from clbench.models.language import adapted
from clbench.models.routed import RoutedModel
from clbench.seeding import isolated
from clbench.table import Batch, Source, Table
from clbench.texts.tokens import columns
from tests.language import BOS, EOS, PAD, network

WORD, LETTER = "Answer with one short word.", "Choose the option letter!"
TEXTS = (WORD, LETTER, "Answer with a word, one short one.", "Draw: xyzzy plugh")


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with isolated(0, "test"):
        yield


def model(routing: Routing = Routing.NEAREST, seed: int = 0) -> RoutedModel:
    config = AdapterConfig(rank=2, routing=routing, threshold=0.3)
    with isolated(seed, "initialise"):
        return RoutedModel(adapted(network(), config), PAD, EOS, 4, config, TEXTS)


def rows(*instructions: int, first: int = 5) -> Batch:
    """A row per instruction, all of different lengths."""
    prompts = [[BOS, *range(first, first + 2 + i)] for i in range(len(instructions))]
    made = columns(prompts, [[first + i, EOS] for i in range(len(instructions))], PAD)
    return {name: column.long() for name, column in made.items()} | {"instruction": torch.tensor(instructions)}


def table(*instructions: int) -> Table:
    return Table(Source(rows(*instructions)))


def sets(learner: RoutedModel) -> dict[str, dict[str, Tensor]]:
    """The tensors of each set of adapters."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in learner.state_dict().items():
        if "lora_" in name:
            (owner,) = [part for part in name.split(".") if part.startswith("set")]
            found.setdefault(owner, {})[name] = tensor.clone()
    return found


def train(learner: RoutedModel, batch: Batch) -> None:
    """A few steps on whatever may train."""
    learner.train()
    trainable = [p for p in learner.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=0.02)
    for _ in range(3):
        optimizer.zero_grad()
        learner.loss(batch).backward()
        optimizer.step()
    learner.eval()


def learnt(routing: Routing = Routing.NEAREST) -> RoutedModel:
    """A model that has learnt two groups."""
    made = model(routing)
    with isolated(0, "learn"):
        for number in (0, 1):
            made.meet(table(number, number))
            train(made, rows(number, number, first=10 + 10 * number))
    return made


def test_like_instructions_share_a_set_and_others_begin_one() -> None:
    learner = model()
    used = []
    for number in (0, 1, 2, 3, 0):
        learner.meet(table(number))
        used.append((learner.active, len(sets(learner))))
    assert used == [(0, 1), (1, 2), (0, 2), (2, 3), (0, 3)]
    assert learner.codebooks.groups == [[WORD, TEXTS[2]], [LETTER], [TEXTS[3]]]


def test_without_routing_there_is_one_set_whatever_is_asked() -> None:
    learner = model(Routing.NONE)
    for number in (0, 1, 3):
        learner.meet(table(number))
    assert len(sets(learner)) == 1
    assert learner.codebooks.groups == []
    asked = CausalModel(learner.network, PAD, EOS, 4)
    train(learner, rows(0, 1))
    assert torch.equal(learner.predict(rows(0, 1, 3)), asked.predict(rows(0, 1, 3)))


def test_only_the_set_that_is_chosen_trains_and_the_others_keep_every_bit() -> None:
    learner = learnt()
    before = sets(learner)
    assert before.keys() == {"set0", "set1"}
    learner.meet(table(2))  # like the first
    train(learner, rows(2, 2))
    after = sets(learner)
    assert all(torch.equal(tensor, after["set1"][name]) for name, tensor in before["set1"].items())
    assert not any(torch.equal(tensor, after["set0"][name]) for name, tensor in before["set0"].items())
    frozen = network().state_dict()
    kept = {name.replace(".base_layer", ""): t for name, t in learner.inner.state_dict().items() if "lora_" not in name}
    assert kept.keys() == frozen.keys()
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in kept.items())


def alone(learner: RoutedModel, group: int | None, batch: Batch) -> tuple[list[list[int]], Tensor]:
    """Answers and likelihoods where one set answers everything."""
    one = copy.deepcopy(learner)
    plain = CausalModel(one.network, PAD, EOS, 4)
    if group is None:
        with one.network.disable_adapter():
            return plain.predict(batch).tolist(), plain.log_likelihoods(batch)[0]
    one.network.set_adapter(f"set{group}")
    return plain.predict(batch).tolist(), plain.log_likelihoods(batch)[0]


@pytest.mark.parametrize(
    ("routing", "wanted"),
    [(Routing.NEAREST, [0, 1, 0, None, 1]), (Routing.RELEASED, [0, 1, 0, 1, 1])],
)
def test_a_question_goes_to_its_group_s_set(routing: Routing, wanted: list[int | None]) -> None:
    """Unlike all: to the network without adapters, or, as the released code has it, to the newest set."""
    learner, batch = learnt(routing), rows(0, 1, 2, 3, 1)
    assert [learner.set_of(TEXTS[number]) for number in (0, 1, 2, 3, 1)] == wanted
    answers, likelihoods = learner.predict(batch).tolist(), learner.log_likelihoods(batch)
    told = {group: alone(learner, group, batch) for group in (None, 0, 1)}
    assert len({str(made) for made, _ in told.values()}) == 3, "the sets do not differ"
    for row, group in enumerate(wanted):
        assert [t for t in answers[row] if t != PAD] == [t for t in told[group][0][row] if t != PAD]
        assert likelihoods[0][row].item() == pytest.approx(told[group][1][row].item(), abs=1e-4)
    assert likelihoods[1].tolist() == [2] * 5


def test_asking_leaves_the_set_that_learns_in_its_place() -> None:
    learner = learnt()
    before = [name for name, p in learner.named_parameters() if p.requires_grad]
    learner.predict(rows(0, 1, 3))
    learner.log_likelihoods(rows(3))
    assert [name for name, p in learner.named_parameters() if p.requires_grad] == before
    assert all("set1" in name for name in before)


def test_before_anything_is_learnt_the_plain_network_answers() -> None:
    learner, plain = model(), CausalModel(network(), PAD, EOS, 4)
    batch = rows(0, 3)
    assert torch.equal(learner.eval().predict(batch), plain.predict(batch))
    assert learner.set_of(WORD) is None


def test_a_group_of_its_own_forgets_nothing() -> None:
    learner = learnt()
    batch = rows(0, 0, 0)
    answers, likelihoods = learner.predict(batch), learner.log_likelihoods(batch)[0]
    for number in (1, 3):
        learner.meet(table(number))
        train(learner, rows(number, number, first=30))
    assert torch.equal(learner.predict(batch), answers)
    assert torch.equal(learner.log_likelihoods(batch)[0], likelihoods)


def test_the_learnt_state_makes_a_fresh_model_the_same(tmp_path: Path) -> None:
    whole, other = learnt(), model(seed=1)
    torch.save(whole.learnt_state(), tmp_path / "state.pt")
    other.restore_learnt(torch.load(tmp_path / "state.pt", weights_only=True))
    batch = rows(0, 1, 2, 3)
    assert other.codebooks.groups == whole.codebooks.groups
    assert torch.equal(other.eval().predict(batch), whole.predict(batch))
    for learner in (whole, other):
        with isolated(3, "learn"):
            learner.meet(table(3))
            train(learner, rows(3, 3))
    assert other.active == whole.active == 2
    assert state_digest(other.learnt_state()) == state_digest(whole.learnt_state())
