"""Drawing hyper-parameters with Optuna, so that a search is repeatable and comparable between strategies.

Random draws are seeded per trial and per name: trial 7 has the same learning rate for every strategy that has one
(common random numbers), whatever else they search. Model-based samplers are asked in batches of fixed size, so what
they propose does not depend on how many runs went on side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from clbench.seeding import derive
from clbench.space import Choice, LogUniform, Range, Sampler


class NamedRandomSampler(BaseSampler):
    """Independent random draws, each seeded by (seed, trial, name)."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing is drawn jointly."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing is drawn jointly."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """One value for one name."""
        source = RandomSampler(seed=derive(self._seed, trial.number, param_name) % 2**32)
        return source.sample_independent(study, trial, param_name, param_distribution)


def search(
    ranges: dict[str, Range],
    start: dict[str, Any],
    trials: int,
    sampler: Sampler,
    seed: int,
    batch: int,
    score: Callable[[Sequence[dict[str, Any]]], Sequence[float]],
) -> list[tuple[dict[str, Any], float]]:
    """Propose hyper-parameters, have them scored, and return all of them with their scores, in order.

    Args:
        ranges: names and ranges.
        start: what trial 0 tries: the defaults.
        trials: how many are tried; one where nothing is searched.
        sampler: what proposes.
        seed: of the sampler.
        batch: trials proposed before their scores are told.
        score: gives a batch of proposals their scores; the higher the better.
    """
    if not ranges:
        return [({}, score([{}])[0])]
    study = _study(sampler, seed)
    # A default that lies in no range (null: decided by something else) is tried as it is, whatever the sampler draws.
    apart = {name: value for name, value in start.items() if value is None}
    study.enqueue_trial({name: _plain(value) for name, value in start.items() if name not in apart})
    distributions = {name: _distribution(range_) for name, range_ in ranges.items()}
    tried: list[tuple[dict[str, Any], float]] = []
    while len(tried) < trials:
        asked = [study.ask(distributions) for _ in range(min(batch, trials - len(tried)))]
        draws = [_values(ranges, trial.params) | ({} if trial.number else apart) for trial in asked]
        for trial, drawn, value in zip(asked, draws, score(draws), strict=True):
            study.tell(trial, value)
            tried.append((drawn, value))
    return tried


def _plain(value: Any) -> Any:
    """What the sampler's library takes for a value: of a named choice, what is typed on the command line."""
    return value.value if isinstance(value, Enum) else value


def _values(ranges: dict[str, Range], params: dict[str, Any]) -> dict[str, Any]:
    """The values that a sampler's choices stand for."""
    named = {
        name: {_plain(v): v for v in range_.values} for name, range_ in ranges.items() if isinstance(range_, Choice)
    }
    return {name: named[name][value] if name in named else value for name, value in params.items()}


def _study(sampler: Sampler, seed: int) -> Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        chosen = NamedRandomSampler(seed) if sampler is Sampler.RANDOM else TPESampler(seed=seed)
        return optuna.create_study(direction="maximize", sampler=chosen)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _distribution(range_: Range) -> BaseDistribution:
    if isinstance(range_, Choice):
        return CategoricalDistribution([_plain(value) for value in range_.values])
    return FloatDistribution(range_.low, range_.high, log=isinstance(range_, LogUniform))
