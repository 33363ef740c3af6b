from __future__ import annotations

import os
from pathlib import Path

import pytest

from clbench.errors import DataError
from clbench.record import Part
from clbench.scenario import class_order, scenarios
from clbench.scenarios.imagenet100 import ClassList, lists
from tests.pictures import make_folder

Imagenet100, Config = scenarios.load("imagenet100")


def test_the_three_lists_are_three() -> None:
    assert set(lists()) == {choice.value for choice in ClassList} - {"folder"}
    assert all(len(set(wnids)) == 100 for wnids in lists().values())
    podnet, lucir, cmc = (set(lists()[name]) for name in ("podnet", "lucir", "cmc"))
    assert list(lists()["podnet"]) == sorted(podnet)
    assert (len(podnet & lucir), len(podnet & cmc), len(lucir & cmc)) == (9, 8, 7)
    # The places of the first ones in numpy's permutation of 1000 with seed 1993.
    assert lists()["podnet"][54] == lists()["lucir"][0]
    assert lists()["podnet"][7] == lists()["lucir"][1]
    assert class_order(1000, 1993)[:2] == [54, 7]


@pytest.mark.parametrize("choice", [ClassList.PODNET, ClassList.LUCIR, ClassList.CMC])
def test_a_list_picks_its_classes_in_its_order_out_of_more(tmp_path: Path, choice: ClassList) -> None:
    wnids = lists()[choice.value]
    make_folder(tmp_path / "imagenet", sorted({*wnids, "n00000001", "n99999999"}), train=1)
    stream = Imagenet100(Config(list=choice, base=50, size=16, store=16), tmp_path).stream(1993)
    assert [len(e.classes) for e in stream.experiences] == [50] + [10] * 5
    arrived = [name for e in stream.experiences for name in e.name.split(", ")]
    assert arrived == [wnids[i] for i in class_order(100, 1993)]


def test_missing_classes_are_counted_named_and_answered(tmp_path: Path) -> None:
    make_folder(tmp_path / "imagenet100", lists()["lucir"], train=1)
    with pytest.raises(DataError) as caught:
        Imagenet100(Config(), tmp_path).check(Part.WHOLE)
    text = str(caught.value)
    assert "lacks 91 of the 100 classes of list=podnet: n01440764, n01443537" in text
    assert "and 86 more; what fits what is there: scenario.list=lucir scenario.list=folder" in text
    assert "\n" not in text


def test_the_folders_that_are_there_may_be_the_list(tmp_path: Path) -> None:
    make_folder(tmp_path, ["n3", "n1", "n2", "n0"], train=1)
    found = Imagenet100(Config(list=ClassList.FOLDER, increment=2, store=16), tmp_path)
    found.check(Part.WHOLE)
    assert sorted(name for e in found.stream(0).experiences for name in e.name.split(", ")) == ["n0", "n1", "n2", "n3"]


def test_nothing_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLBENCH_DATA", raising=False)
    with pytest.raises(DataError, match=r"no ImageNet under .*: looked for imagenet100/.*data\.root=FOLDER") as caught:
        Imagenet100(Config(), tmp_path).check(Part.WHOLE)
    assert "\n" not in str(caught.value)


def test_inputs_are_normalised_and_the_record_says_so(tmp_path: Path) -> None:
    make_folder(tmp_path, ["n0", "n1", "n2"], train=1)
    stream = Imagenet100(Config(list=ClassList.FOLDER, increment=1, store=16), tmp_path).stream(0)
    assert stream.shape == (3, 224, 224)
    for part in ("mean=(0.485, 0.456, 0.406)", "scale=(0.08, 1.0)", "resize=256"):
        assert part in repr(stream.transform)


@pytest.mark.skipif("CLBENCH_DATA" not in os.environ, reason="CLBENCH_DATA is not set")
def test_the_users_own_folder_is_found_and_its_classes_are_judged() -> None:
    if not (Path(os.environ["CLBENCH_DATA"]) / "imagenet100").is_dir():
        pytest.skip("CLBENCH_DATA holds no imagenet100/")
    Imagenet100(Config(list=ClassList.FOLDER)).check(Part.WHOLE)
