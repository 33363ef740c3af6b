from __future__ import annotations

import torch
import torch.nn.functional as F

from clbench.augment import ImageTransform, coins, crop_offsets
from clbench.kernels.replay_gather import crop, mirror


def images(count: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_every_crop_is_a_window_of_the_padded_image_and_all_windows_occur() -> None:
    batch = images(400)
    cropped = crop(batch, crop_offsets(400, 1, torch.Generator().manual_seed(1)), 1)
    padded = F.pad(batch, (1, 1, 1, 1))
    found = set()
    for original, window in zip(padded, cropped, strict=True):
        offsets = [(y, x) for y in range(3) for x in range(3) if torch.equal(original[:, y : y + 8, x : x + 8], window)]
        assert len(offsets) == 1
        found.add(offsets[0])
    assert len(found) == 9


def test_a_flip_mirrors_about_half_of_the_images_and_nothing_else() -> None:
    batch = images(400)
    flipped = mirror(batch, coins(400, torch.Generator().manual_seed(1)))
    mirrored = [bool(torch.equal(a.flip(2), b)) for a, b in zip(batch, flipped, strict=True)]
    same = [bool(torch.equal(a, b)) for a, b in zip(batch, flipped, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 150 < sum(mirrored) < 250


def test_normalising_agrees_with_float64() -> None:
    transform = ImageTransform(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    batch = {"image": images(), "label": torch.zeros(64)}
    wanted = batch["image"].double() / 255
    wanted -= torch.tensor([0.5, 0.4, 0.3]).double().view(1, 3, 1, 1)
    wanted /= torch.tensor([0.2, 0.3, 0.4]).double().view(1, 3, 1, 1)
    got = transform.evaluate(batch)
    assert torch.allclose(got["image"].double(), wanted, atol=1e-5)
    assert got["image"].dtype == torch.float32
    assert torch.equal(got["label"], batch["label"])


def test_augmentation_is_the_generators_alone() -> None:
    transform = ImageTransform((0.5,) * 3, (0.5,) * 3, padding=2, flip=True)
    before = torch.random.get_rng_state()
    first, again, other = (
        transform.train({"image": images()}, torch.Generator().manual_seed(seed))["image"] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_measured_runs_draw_windows_then_mirrorings_and_this_stays_so() -> None:
    batch, generator = images(50), torch.Generator().manual_seed(3)
    transform = ImageTransform(mean=(0.0,) * 3, std=(1 / 255,) * 3, padding=2, flip=True)
    shown = transform.train({"image": batch}, torch.Generator().manual_seed(3))["image"]
    offsets = torch.randint(5, (2, 50), generator=generator).T.tolist()
    mirrored = (torch.rand(50, generator=generator) < 0.5).tolist()
    for image, (down, right), turn, got in zip(F.pad(batch, (2,) * 4), offsets, mirrored, shown, strict=True):
        window = image[:, down : down + 8, right : right + 8].float()
        assert torch.allclose(got, window.flip(2) if turn else window, atol=1e-3)
