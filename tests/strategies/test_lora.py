from __future__ import annotations

import torch

from clbench.engine import learn
from clbench.strategies.lora import LoRA, LoRAConfig
from tests.learning import instructions, scenario_for, shortened, strategy, text_problem


def test_it_trains_one_set_of_adapters_on_and_on_and_nothing_else() -> None:
    scenario = scenario_for("lora")
    stream = scenario.stream(0)
    learner = strategy("lora", stream)
    frozen = {name: p.detach().clone() for name, p in learner.model.named_parameters() if not p.requires_grad}
    adapters = {name: p.detach().clone() for name, p in learner.model.named_parameters() if p.requires_grad}
    for experience in stream.experiences[:2]:
        before = {name: p.detach().clone() for name, p in learner.model.named_parameters() if p.requires_grad}
        learn(learner, shortened(experience, 48))
        now = dict(learner.model.named_parameters())
        assert before.keys() == adapters.keys()
        assert all(not torch.equal(now[name], tensor) for name, tensor in before.items() if "lora_B" in name)
        assert all(torch.equal(now[name], tensor) for name, tensor in frozen.items())
    everything, trained = learner.parameters()
    assert trained == sum(tensor.numel() for tensor in adapters.values())
    assert everything == trained + sum(tensor.numel() for tensor in frozen.values())
    assert learner.stored_bytes() == 0


def test_without_adapters_it_says_what_to_add() -> None:
    scenario = instructions()
    reason = LoRA.skip(LoRAConfig(), text_problem(scenario, scenario.stream(0)))
    assert reason == "it needs low-rank adapters; add model.adapter.rank=8"
