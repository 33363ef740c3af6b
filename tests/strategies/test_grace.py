from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.engine import learn
from clbench.errors import ConfigError, IncompatibleError
from clbench.models.causal import CausalModel
from clbench.record import Setting
from clbench.strategies.grace import GRACE, NONE, Codebook, GRACEConfig, empty, nearest, with_key
from clbench.strategy import Problem
from clbench.texts.tokens import TokenTransform, columns
from tests.language import BOS, EOS, PAD, network
from tests.learning import edits, strategy

TARGET, OTHER = torch.tensor([5, 2]), torch.tensor([6, 7, 2])
VALUE = torch.zeros(2)


def book_of(*entries: tuple[list[float], Tensor]) -> Codebook:
    """A codebook that has met keys with targets, in this order, at a radius of 1."""
    book = empty(2, torch.device("cpu"))
    for key, target in entries:
        book, _ = with_key(book, torch.tensor(key), VALUE, target, 1.0)
    return book


def test_a_key_beyond_both_radii_is_added() -> None:
    book = book_of(([0.0, 3.0], TARGET), ([0.0, 5.5], TARGET))
    assert book.keys.tolist() == [[0.0, 3.0], [0.0, 5.5]]
    assert book.radii.tolist() == [1.0, 1.0]


def test_a_key_nearby_with_the_same_target_widens_the_radius() -> None:
    book, place = with_key(book_of(([0.0, 3.0], TARGET)), torch.tensor([0.0, 4.5]), VALUE, TARGET, 1.0)
    assert place == 0
    assert book.keys.tolist() == [[0.0, 3.0]]
    assert book.radii.tolist() == [2.0]
    again, _ = with_key(book, torch.tensor([0.0, 4.5]), VALUE, TARGET, 1.0)
    assert again.radii.tolist() == [2.0]  # it reaches so far already


def test_a_key_nearby_with_another_target_halves_the_way() -> None:
    book, place = with_key(book_of(([0.0, 3.0], TARGET)), torch.tensor([0.0, 4.5]), VALUE, OTHER, 1.0)
    assert place == 1
    assert book.radii.tolist() == [0.75, 0.75]
    assert book.targets.tolist() == [[5, 2, NONE], [6, 7, 2]]
    far, place = with_key(book, torch.tensor([0.0, 5.0]), VALUE, TARGET, 1.0)  # the second key is nearer
    assert place == 2
    assert far.radii.tolist() == [0.75, 0.25, 0.25]


def test_the_same_prompt_with_another_target_is_overwritten() -> None:
    book = book_of(([0.0, 3.0], TARGET), ([0.0, 9.0], TARGET))
    book, place = with_key(book, torch.tensor([0.0, 3.00001]), torch.ones(2), OTHER, 1.0)
    assert place == 0
    assert book.values.tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert book.targets.tolist() == [[6, 7, 2], [5, 2, NONE]]
    assert book.radii.tolist() == [1.0, 1.0]


def test_distances_are_euclidean_and_exact_where_keys_are_long() -> None:
    draws = torch.Generator().manual_seed(0)
    keys = 1e3 * torch.randn(6, 40, generator=draws)
    book = Codebook(keys, keys, torch.ones(6), torch.zeros(6, 1).long())
    states = keys[[4, 1]] + torch.tensor([1e-3, 0.0])[:, None]
    apart, number = nearest(book, states)
    assert number.tolist() == [4, 1]
    wanted = (states.double() - keys[[4, 1]].double()).norm(dim=1)
    torch.testing.assert_close(apart.double(), wanted, rtol=1e-3, atol=0.0)


def editor(**values: Any) -> tuple[Any, Any]:
    stream = edits(edits=12, per_experience=6).stream(3)
    return strategy("grace", stream, **{"steps": 30, **values}), stream


@pytest.fixture(scope="module")
def learnt() -> tuple[Any, Any]:
    """An editor that has learnt two experiences, and its stream; no test changes them."""
    learner, stream = editor()
    for experience in stream.experiences:
        learn(learner, experience)
    return learner, stream


def rows_of(table: Any) -> dict[str, Tensor]:
    (batch,) = table.batches(1000)
    return dict(batch)


def test_edits_are_answered_with_their_targets(learnt: tuple[Any, Any]) -> None:
    learner, stream = learnt
    untouched, _ = editor()
    for experience in stream.experiences:
        batch = rows_of(experience.test)
        asked = stream.answers.question(batch)
        assert stream.answers.scores(learner.predict(asked), batch) == [1.0] * 6
        assert stream.answers.scores(untouched.predict(asked), batch) == [0.0] * 6
        assert learner.token_matches(batch).tolist() == [1.0] * 6
        assert (learner.log_likelihoods(batch)[0] > untouched.log_likelihoods(batch)[0] + 1).all()


def test_other_prompts_have_the_bits_of_the_unedited_model(learnt: tuple[Any, Any]) -> None:
    learner, stream = learnt
    untouched, _ = editor()
    far = next(probe for probe in stream.probes if probe.name == "locality_far")
    skills = next(probe for probe in stream.probes if probe.name == "capability")
    for probe in (far, skills):
        batch = rows_of(probe.table)
        asked = probe.answers.question(batch)
        assert torch.equal(learner.predict(asked), untouched.predict(asked))
        assert torch.equal(learner.log_likelihoods(batch)[0], untouched.log_likelihoods(batch)[0])
        assert torch.equal(learner.token_matches(batch), untouched.token_matches(batch))


def test_prompts_of_all_lengths_are_answered_together_as_each_alone(learnt: tuple[Any, Any]) -> None:
    learner, stream = learnt
    longer = next(probe for probe in stream.probes if probe.name == "generalisation_prefix")
    parts = [rows_of(stream.experiences[0].test), rows_of(longer.table), rows_of(stream.probes[-1].table)]
    width = max(part["tokens"].shape[1] for part in parts)
    batch = {name: torch.cat([part[name] for part in parts]) for name in ("prompt", "length")}
    tokens = [F.pad(part["tokens"], (0, width - part["tokens"].shape[1]), value=learner.model.pad) for part in parts]
    batch["tokens"] = torch.cat(tokens)
    assert len(set(batch["prompt"].tolist())) > 2
    together = learner.predict(batch)
    for row in range(len(together)):
        alone = learner.predict({name: column[row : row + 1] for name, column in batch.items()})[0]
        assert torch.equal(together[row][: len(alone)], alone)
        assert (together[row][len(alone) :] == learner.model.pad).all()


def alone(
    kind: str, prompts: list[list[int]], answers: list[list[int]], **values: Any
) -> tuple[Any, dict[str, Tensor]]:
    """An editor of a small random network, and edits for it, which have no subject."""
    problem = Problem(
        lambda: CausalModel(network(kind), PAD, EOS, 4),
        TokenTransform("", "", 16),
        Setting.EDITING,
        torch.device("cpu"),
        0,
    )
    return GRACE(GRACEConfig(steps=60, **values), problem), columns(prompts, answers, PAD)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_it_edits_other_architectures(kind: str) -> None:
    learner, batch = alone(kind, [[BOS, 7, 8], [BOS, 9]], [[11, 11], [12, 12]], layer=1)
    learner.edit(batch)
    assert learner.predict(batch).tolist() == [[11] * 4, [12] * 4]  # the choice is kept for all that is generated
    assert learner.token_matches(batch).tolist() == [1.0, 1.0]


def test_a_prompt_of_one_token_is_looked_up_once_too() -> None:
    learner, batch = alone("llama", [[BOS]], [[11, 11]], layer=1)
    learner.edit(batch)
    assert learner.predict(batch).tolist() == [[11] * 4]


def test_what_is_answered_already_gets_no_second_key(learnt: tuple[Any, Any]) -> None:
    learner, stream = learnt
    before = copy.deepcopy(learner.state())
    learner.edit(rows_of(stream.experiences[0].train))
    assert all(torch.equal(t, before["auxiliary"][name]) for name, t in learner.auxiliary.items())


def test_edits_that_share_a_key_train_its_value() -> None:
    likely = {}
    for order in ((0,), (1,), (0, 1), ((0, 1),)):  # edits one after the other, or two at once
        prompts, slow = [[BOS, 7, 8], [BOS, 9]], {"value_rate": 0.1, "radius": 1e3}
        learner, batch = alone("llama", prompts, [[11, 12], [11, 12]], layer=1, **slow)
        for rows in order:
            learner.edit({name: column[torch.tensor(rows).view(-1)] for name, column in batch.items()})
        assert len(learner.book.keys) == 1
        likely[order] = learner.log_likelihoods(batch)[0]
    assert likely[0, 1][1] > likely[0,][1]
    assert likely[(0, 1),].sum() > max(likely[0,].sum(), likely[1,].sum())


def test_of_one_prompt_s_targets_that_come_together_the_last_one_holds() -> None:
    learner, batch = alone("llama", [[BOS, 7, 8], [BOS, 7, 8]], [[11, 11], [12, 12]], layer=1)
    learner.edit(batch)
    assert learner.predict(batch).tolist() == [[12] * 4] * 2
    assert len(learner.book.keys) == 1


def test_the_last_of_two_targets_of_a_prompt_holds() -> None:
    learner, batch = alone("llama", [[BOS, 7, 8]], [[11, 11]], layer=1)
    learner.edit(batch)
    _, second = alone("llama", [[BOS, 7, 8]], [[12, 12]], layer=1)
    learner.edit(second)
    assert learner.predict(batch).tolist() == [[12] * 4]
    assert len(learner.book.keys) == 1


def test_weights_stay_and_the_codebook_is_counted(learnt: tuple[Any, Any]) -> None:
    learner, _ = learnt
    untouched, _ = editor()
    both = zip(learner.model.parameters(), untouched.model.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in both)
    keys, longest = len(learner.book.keys), learner.book.targets.shape[1]
    assert keys == 12
    assert learner.stored_bytes() == keys * (2 * 96 * 4 + 4 + longest * 8)
    assert untouched.stored_bytes() == 0
    assert learner.parameters()[1] == 0


def test_bad_fields_and_blocks_are_told() -> None:
    with pytest.raises(ConfigError, match=r"strategy\.radius must be > 0, got 0"):
        GRACEConfig(radius=0)
    with pytest.raises(IncompatibleError, match=r"strategy\.layer=4: the model has blocks 0 to 3"):
        editor(layer=4)
