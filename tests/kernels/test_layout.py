from __future__ import annotations

import pytest
import torch

from clbench.augment import ImageTransform
from clbench.kernels.layout import interleaved, is_channels_last, pick
from clbench.table import Source

SHAPES = [(6, 3, 5, 7), (6, 1, 4, 4), (6, 4, 1, 3)]


def stored(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_picked_rows_lie_as_the_column_does(shape: tuple[int, ...]) -> None:
    images, rows = stored(shape), torch.tensor([4, 0, 4])
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(pick(last, rows), images[rows])
    assert is_channels_last(pick(last, rows))
    assert pick(images, rows).is_contiguous()
    labels = torch.arange(6)
    assert pick(labels, rows).tolist() == [4, 0, 4]


@pytest.mark.parametrize("shape", SHAPES)
def test_interleaved_rows_are_pixels_side_by_side_and_copied_only_where_they_must_be(shape: tuple[int, ...]) -> None:
    images = stored(shape)
    last = images.contiguous(memory_format=torch.channels_last)
    wanted = images.permute(0, 2, 3, 1).flatten(2)
    assert torch.equal(interleaved(images), wanted)
    assert torch.equal(interleaved(last), wanted)
    assert interleaved(last).data_ptr() == last.data_ptr()


@pytest.mark.parametrize("shape", SHAPES)
def test_batches_are_the_same_bits_however_the_images_are_stored(shape: tuple[int, ...]) -> None:
    channels = shape[1]
    transform = ImageTransform((0.4, 0.5, 0.6, 0.7)[:channels], (0.2, 0.3, 0.25, 0.15)[:channels], 2, flip=True)
    images, rows = stored(shape), torch.tensor([5, 1, 0, 2, 2])
    made = []
    for column in (images, images.contiguous(memory_format=torch.channels_last)):
        source = Source({"image": column})
        batch = source.take(rows)
        augmented = transform.train(batch, torch.Generator().manual_seed(3))["image"]
        made.append((source.digest(), augmented, transform.evaluate(batch)["image"]))
        assert torch.equal(source.columns["image"], images), "a batch was normalised where it is stored"
    (one, *batches), (other, *others) = made
    assert one == other
    for first, second in zip(batches, others, strict=True):
        assert torch.equal(first, second)
        assert first.stride() == second.stride()
