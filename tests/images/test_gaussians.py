from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from clbench.images.gaussians import JITTER, ClassGaussians, Covariance


def examples(count: int, width: int = 5) -> Tensor:
    draws = torch.Generator().manual_seed(count)
    return torch.randn(count, width, generator=draws) @ torch.randn(width, width, generator=draws) + 3


@pytest.mark.parametrize("count", [2, 4, 5, 40])
def test_samples_have_the_mean_and_the_unbiased_covariance_of_the_examples(count: int) -> None:
    features = examples(count)
    gaussians = ClassGaussians(Covariance.FULL)
    gaussians.add(features)
    samples, labels = gaussians.draw(200_000, torch.Generator().manual_seed(0))
    expected = np.cov(features.double().numpy(), rowvar=False) + JITTER * np.eye(5)
    spread = float(np.abs(expected).max())
    assert float((samples.mean(0) - features.mean(0)).abs().max()) < 0.02 * spread**0.5
    assert np.abs(np.cov(samples.double().numpy(), rowvar=False) - expected).max() < 0.03 * spread
    assert labels.tolist() == [0] * 200_000


def test_diagonal_samples_have_the_variances_and_no_covariance() -> None:
    features = examples(30)
    gaussians = ClassGaussians(Covariance.DIAGONAL)
    gaussians.add(features)
    samples, _ = gaussians.draw(200_000, torch.Generator().manual_seed(0))
    expected = np.diag(features.double().var(0).numpy() + JITTER)
    assert np.abs(np.cov(samples.double().numpy(), rowvar=False) - expected).max() < 0.03 * expected.max()


@pytest.mark.parametrize("kind", Covariance)
def test_a_single_example_leaves_only_the_jitter(kind: Covariance) -> None:
    gaussians = ClassGaussians(kind)
    gaussians.add(examples(1))
    samples, _ = gaussians.draw(10_000, torch.Generator().manual_seed(0))
    assert bool((samples.mean(0) - examples(1)[0]).abs().max() < 1e-3)
    assert bool((samples.std(0) - JITTER**0.5).abs().max() < 1e-3)


@pytest.mark.parametrize("kind", Covariance)
def test_classes_of_different_sizes_stay_apart_and_come_back_whole(kind: Covariance) -> None:
    gaussians = ClassGaussians(kind)
    for count in (3, 40, 1, 4):
        gaussians.add(examples(count))
    again = ClassGaussians(kind)
    again.restore(gaussians.tensors())
    samples, labels = gaussians.draw(50_000, torch.Generator().manual_seed(0))
    repeated, _ = again.draw(50_000, torch.Generator().manual_seed(0))
    assert torch.equal(samples, repeated)
    for label, count in enumerate((3, 40, 1, 4)):
        own = samples[labels == label]
        assert len(own) == 50_000
        assert bool((own.mean(0) - examples(count).mean(0)).abs().max() < 0.1)


@pytest.mark.parametrize("kind", Covariance)
def test_a_class_without_an_example_is_drawn_from_around_zero(kind: Covariance) -> None:
    gaussians = ClassGaussians(kind)
    gaussians.add(examples(3)[:0])
    samples, _ = gaussians.draw(100, torch.Generator().manual_seed(0))
    assert bool(samples.isfinite().all())
    assert bool((samples.abs() < 6 * JITTER**0.5).all())
