"""Invented characters, 100 classes drawn by a program; nothing to download, nothing to license.

Each class is a character of two or three strokes, splines through points drawn once from the class's own stream of
random numbers. Each image draws the character anew: every point a little displaced, turned by up to 20 degrees, scaled,
sheared, shifted, with a pen of its own width and colour, on a background of two blended colours with blotches and
noise. 32x32 pixels in colour. The characters depend on the class alone, so every ``scenario`` config shows the same
ones; the images come from a fixed seed. Pre-training on one half of these classes gives the embedded backbone
(`clbench.models.pretrained_vit`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench import seeding
from clbench.augment import ImageTransform
from clbench.record import Part, Setting
from clbench.scenario import Scenario, Stream, class_stream, half_of_classes, increments, scenarios
from clbench.space import require
from clbench.table import Source

CLASSES, SIDE = 100, 32
POINTS, FINE = 4, 4  # points that a stroke goes through, and straight pieces it is drawn with
IMAGES_AT_ONCE = 20


@dataclass
class GlyphsConfig:
    """How many images there are, and how the hundred classes are cut into experiences."""

    base: int = 0  # classes of the first experience; 0: as many as the others
    increment: int = 10  # classes of each later experience; the last one takes what is left
    train_per_class: int = 100  # training images of each class
    test_per_class: int = 20  # test images of each class
    setting: Setting = Setting.CLASS_INCREMENTAL  # whether test examples come with their experience

    def __post_init__(self) -> None:
        require(0 <= self.base < CLASSES, "scenario.base", "in 0 .. 99", self.base)
        require(1 <= self.increment < CLASSES, "scenario.increment", "in 1 .. 99", self.increment)
        require(1 <= self.train_per_class <= 5000, "scenario.train_per_class", "in 1 .. 5000", self.train_per_class)
        require(1 <= self.test_per_class <= 5000, "scenario.test_per_class", "in 1 .. 5000", self.test_per_class)


@scenarios.register(GlyphsConfig)
class Glyphs(Scenario):
    """A hundred invented characters, a few at a time."""

    config: GlyphsConfig

    def check(self, part: Part) -> None:
        """See that the part can be cut."""
        increments(len(half_of_classes(CLASSES, part)), self.config.base, self.config.increment)

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """New characters in an order drawn from the seed."""
        train, test, digest = _drawn(str(self.device), self.config.train_per_class, self.config.test_per_class)
        classes = half_of_classes(CLASSES, part, split_seed, swap)
        sizes = increments(len(classes), self.config.base, self.config.increment)
        transform = ImageTransform((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), padding=2)
        names = [f"character {glyph}" for glyph in range(CLASSES)]
        return class_stream(
            train, test, classes, sizes, seed, self.config.setting, transform, digest, names, family="glyphs"
        )


@functools.lru_cache(maxsize=2)
def _drawn(device: str, train: int, test: int) -> tuple[Source, Source, str]:
    sources = []
    for split, each in (("train", train), ("test", test)):
        images = torch.cat([draw(glyph, each, split) for glyph in range(CLASSES)])
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.arange(CLASSES).repeat_interleave(each)
        sources.append(Source({"image": images, "label": labels}, device))
    return sources[0], sources[1], f"{sources[0].digest()} {sources[1].digest()}"


def character(glyph: int) -> Tensor:
    """The strokes of a class, (2 or 3, POINTS, 2) float: x and y in [-1, 1]."""
    draws = seeding.generator(0, "character", glyph)
    strokes = 2 + int(torch.randint(2, (), generator=draws))
    return torch.rand(strokes, POINTS, 2, generator=draws) * 1.7 - 0.85


def draw(glyph: int, count: int, split: str) -> Tensor:
    """Images (count, 3, SIDE, SIDE) uint8 of one class; the first ones stay the same when more are asked for."""
    done = []
    for start in range(0, count, IMAGES_AT_ONCE):
        draws = seeding.generator(0, "images", split, glyph, start)
        done.append(_images(character(glyph), IMAGES_AT_ONCE, draws)[: count - start])
    return torch.cat(done)


def _images(strokes: Tensor, count: int, draws: torch.Generator) -> Tensor:
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=draws)

    points = strokes + 0.06 * torch.randn(count, *strokes.shape, generator=draws)
    angle, stretch, shear = uniform(-0.35, 0.35), uniform(0.7, 1.0, 2), uniform(-0.2, 0.2)
    turned = torch.stack((angle.cos(), -angle.sin() + shear, angle.sin(), angle.cos()), 1).view(count, 2, 2)
    points = torch.einsum("nij,nspj->nspi", turned * stretch[:, None], points) + uniform(-0.15, 0.15, 1, 1, 2)
    ink = _ink(_spline(points), uniform(0.06, 0.13))[:, None]
    colours = uniform(0, 1, 3, 3, 1, 1)
    blend = F.interpolate(uniform(0, 1, 1, 4, 4), SIDE, mode="bilinear")
    ground = blend * colours[:, 0] + (1 - blend) * colours[:, 1]
    # a pen that can be told from its background: the complement, a little off
    pen = (1 - ground.mean((2, 3), keepdim=True)).round() * 0.8 + 0.2 * colours[:, 2]
    noise = uniform(0, 0.08, 1, 1, 1) * torch.randn(count, 3, SIDE, SIDE, generator=draws)
    image = ink * pen + (1 - ink) * (0.25 + 0.5 * ground) + noise
    return image.clamp(0, 1).mul(255).round().to(torch.uint8)


def _spline(points: Tensor) -> Tensor:
    """Catmull-Rom curves through points (N, S, POINTS, 2), as corners (N, S, FINE * (POINTS - 1) + 1, 2)."""
    ends = torch.cat((points[:, :, :1], points, points[:, :, -1:]), 2)
    at = torch.arange(FINE) / FINE
    weights = torch.stack(
        (-(at**3) + 2 * at**2 - at, 3 * at**3 - 5 * at**2 + 2, -3 * at**3 + 4 * at**2 + at, at**3 - at**2), 1
    )
    curve = [torch.einsum("fk,nskc->nsfc", weights / 2, ends[:, :, i : i + 4]) for i in range(POINTS - 1)]
    return torch.cat((*curve, points[:, :, -1:]), 2)


def _ink(corners: Tensor, width: Tensor) -> Tensor:
    """How much of each pixel is inked, (N, SIDE, SIDE) in [0, 1], by a pen of half-width (N,) along the corners."""
    axis = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    pixel = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(1, 1, -1, 2)
    start, piece = corners[:, :, :-1].flatten(1, 2)[:, :, None], corners.diff(dim=2).flatten(1, 2)[:, :, None]
    along = ((pixel - start) * piece).sum(-1) / piece.square().sum(-1).clamp_min(1e-9)
    distance = (pixel - start - along.clamp(0, 1)[..., None] * piece).norm(dim=-1).amin(1)
    covered: Tensor = ((width[:, None] - distance) * SIDE / 2 + 0.5).clamp(0, 1)
    return covered.view(-1, SIDE, SIDE)
