from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from clbench.errors import DataError
from clbench.images import decode as module
from clbench.images.decode import ImageFile, decode
from clbench.images.picture import Pixels, square
from tests.pictures import make_folder

ROOT = Path(__file__).parents[2]


def files(root: Path) -> list[ImageFile]:
    found = sorted(path for path in root.rglob("*.*") if path.suffix in (".jpg", ".png"))
    return [ImageFile(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in found]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", ["a", "b", "c"], train=4)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded during the test."""
    names: list[str] = []

    def watched(path: Path, side: int) -> Pixels:
        names.append(path.name)
        return square(path, side)

    monkeypatch.setattr(module, "square", watched)
    return names


@pytest.mark.parametrize("shape", [(40, 60), (61, 40), (16, 16), (300, 501)])
def test_a_square_is_torchvisions_resize_and_centre_crop(tmp_path: Path, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    wanted = CenterCrop(32)(Resize(32, InterpolationMode.BICUBIC)(Image.fromarray(noise)))
    assert np.array_equal(square(tmp_path / "x.png", 32), np.asarray(wanted).transpose(2, 0, 1))


def colour(path: Path) -> list[int]:
    pixels = square(path, 8)
    assert pixels.shape == (3, 8, 8)
    assert pixels.dtype == np.uint8
    return [int(value) for value in pixels[:, 4, 4]]


@pytest.mark.parametrize(
    ("mode", "value", "name", "wanted"),
    [
        ("L", 100, "x.jpg", [100, 100, 100]),
        ("1", 1, "x.png", [255, 255, 255]),
        ("CMYK", (0, 255, 255, 0), "x.jpg", [255, 0, 0]),
        ("RGBA", (10, 200, 30, 255), "x.png", [10, 200, 30]),
        ("RGBA", (10, 200, 30, 0), "x.png", [255, 255, 255]),
        ("LA", (0, 0), "x.png", [255, 255, 255]),
        ("I;16", 100 * 256, "x.png", [100, 100, 100]),
    ],
)
def test_every_kind_of_picture_becomes_rgb(
    tmp_path: Path, mode: str, value: object, name: str, wanted: list[int]
) -> None:
    Image.new(mode, (8, 8), value).save(tmp_path / name)  # type: ignore[arg-type]
    assert np.abs(np.array(colour(tmp_path / name)) - wanted).max() <= 3


def test_palettes_become_rgb_and_their_transparent_colour_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "plain.png")
    assert colour(tmp_path / "plain.png") == [10, 200, 30]
    image.save(tmp_path / "clear.png", transparency=1)
    assert colour(tmp_path / "clear.png") == [255, 255, 255]


def test_pictures_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = 255  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    turned = square(tmp_path / "x.png", 8)
    assert turned[:, :4].min() == 255
    assert turned[:, 4:].max() == 0


def test_squares_are_decoded_once(pictures: Path, tmp_path: Path, opened: list[str]) -> None:
    found = files(pictures)
    first = decode(pictures, found, 16, tmp_path / "cache")
    assert len(opened) == len(found) == 15
    for file, row in zip(found, first.rows.tolist(), strict=True):
        assert np.array_equal(first.images[row].numpy(), square(pictures / file.path, 16))
    again = decode(pictures, found, 16, tmp_path / "cache")
    assert len(opened) == 15
    assert torch.equal(first.images, again.images)
    assert first.digests == again.digests
    assert len(set(first.digests)) == 15


def test_a_changed_file_is_decoded_anew_and_no_other(pictures: Path, tmp_path: Path, opened: list[str]) -> None:
    before = decode(pictures, files(pictures), 16, tmp_path / "cache")
    old = before.images.clone()
    opened.clear()
    changed = pictures / "train" / "b" / "2.jpg"
    Image.new("RGB", (20, 20), "red").save(changed)
    (pictures / "train" / "a" / "0.jpg").unlink()
    after = decode(pictures, files(pictures), 16, tmp_path / "cache")
    assert opened == ["2.jpg"]
    assert torch.equal(before.images, old), "who reads the old squares goes on to see them"
    numbers = [file.path for file in files(pictures)]
    assert np.array_equal(after.images[after.rows[numbers.index("train/b/2.jpg")]].numpy(), square(changed, 16))
    fresh = decode(pictures, files(pictures), 16, tmp_path / "fresh")
    assert fresh.digests == after.digests
    assert torch.equal(fresh.images[fresh.rows], after.images[after.rows])


def test_files_that_are_no_images_are_all_named_and_the_others_kept(
    pictures: Path, tmp_path: Path, opened: list[str]
) -> None:
    good = (pictures / "train" / "a" / "1.jpg").read_bytes()
    (pictures / "train" / "a" / "1.jpg").write_bytes(good[: len(good) // 2])
    (pictures / "val" / "c" / "0.jpg").write_bytes(b"no picture")
    for number in range(10, 14):
        (pictures / "train" / "b" / f"{number}.jpg").touch()
    with pytest.raises(DataError, match=r"^6 of 19 images under") as caught:
        decode(pictures, files(pictures), 16, tmp_path / "cache")
    text = str(caught.value)
    assert "train/a/1.jpg (image file is truncated" in text
    assert "train/b/10.jpg (no image)" in text
    assert "and 1 more; repair or remove them" in text
    assert "\n" not in text
    opened.clear()
    (pictures / "train" / "a" / "1.jpg").write_bytes(good)
    for path in (pictures / "val" / "c" / "0.jpg", *(pictures / "train" / "b").glob("1?.jpg")):
        path.unlink()
    assert len(decode(pictures, files(pictures), 16, tmp_path / "cache").rows) == 14
    assert opened == ["1.jpg"]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_cache_is_one_sentence(pictures: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    decode(pictures, files(pictures), 16, cache)
    path = cache / "images.bin"
    content = path.read_bytes()
    if damage == "flip":
        path.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    elif damage == "cut":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"is not what was decoded .* to decode anew") as caught:
        decode(pictures, files(pictures), 16, cache)
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_one_sentence(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write decoded images to .*; they take"):
        decode(pictures, files(pictures), 16, tmp_path / "cache")


KILLED = """
import os, signal, sys
from pathlib import Path
from clbench.images import decode as module
from tests.images.test_decode import files
square, count = module.square, 0
def mortal(path, side):
    global count
    count += 1
    if count > 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(path, side)
module.square, module.BLOCK, module.cores = mortal, 2, lambda: 1
module.decode(Path(sys.argv[1]), files(Path(sys.argv[1])), 16, Path(sys.argv[2]))
"""


def test_after_a_kill_only_the_rest_is_decoded(pictures: Path, tmp_path: Path, opened: list[str]) -> None:
    cache = tmp_path / "cache"
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", KILLED, str(pictures), str(cache)]
    assert subprocess.run(words, env=surroundings).returncode == -signal.SIGKILL
    with (cache / "journal.jsonl").open("ab") as journal:
        journal.write(b'\n["train/c/3.jpg", 12')  # a line that the kill cut short
    resumed = decode(pictures, files(pictures), 16, cache)
    assert 7 <= len(opened) < 15
    fresh = decode(pictures, files(pictures), 16, tmp_path / "fresh")
    assert resumed.digests == fresh.digests
    assert torch.equal(resumed.images[resumed.rows], fresh.images[fresh.rows])


def test_several_may_ask_at_once(pictures: Path, tmp_path: Path, opened: list[str]) -> None:
    digests = []

    def ask() -> None:
        digests.append(decode(pictures, files(pictures), 16, tmp_path / "cache").digests)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 4
    assert len(set(digests)) == 1
    assert len(opened) == 15
