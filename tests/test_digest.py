from __future__ import annotations

import torch

from clbench.digest import state_digest


def test_the_state_digest_sees_every_tensor_and_number() -> None:
    state = {"a": torch.zeros(3), "b": {"c": [1, torch.ones(2)]}}
    digests = {
        state_digest(state),
        state_digest({**state, "a": torch.zeros(1, 3)}),
        state_digest({**state, "a": torch.tensor([0.0, 0.0, 1e-30])}),
        state_digest({**state, "b": {"c": [2, torch.ones(2)]}}),
    }
    assert len(digests) == 4
    assert state_digest(dict(reversed(state.items()))) == state_digest(state)
