from __future__ import annotations

import itertools
import json
import os
import random
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from clbench.texts.grouping import Codebooks, group_similarity, similarity

WORD, LETTER = "Answer with one word.", "Answer with the letter!"
SHARED_ONE_OF_TWO = 1 / (
    1 + 1.4054651081081644**2
)  # 0.336: two terms each, one of them shared, ln(3/2) + 1 the other's
TEMPLATES = [
    "Answer the question using a single word or phrase.",
    "Please answer the question with a single word or a short phrase",
    "Answer with the option's letter from the given choices directly.",
    "Provide the bounding box coordinate of the region this sentence describes:",
    "What is the object in the image? Answer the question, answer it with a word.",
    "Réponds à la question d'un mot, s'il te plaît",
    "x y z",
]


def by_scikit_learn(a: str, b: str) -> float:
    vectors = TfidfVectorizer(stop_words="english").fit_transform([a, b])
    return float((vectors @ vectors.T)[0, 1])


def drawn_texts(count: int) -> list[str]:
    draws = random.Random(0)
    words = ["Sort", "sort", "the", "letters", "of", "word", "WORD", "a", "x1", "naïve", "_", "don't", "one-word", "42"]
    marks = [" ", ", ", ".", "\n", "-", "_"]
    return [
        "".join(draws.choice(words) + draws.choice(marks) for _ in range(draws.randint(1, 15))) + "cat"
        for _ in range(count)
    ]


@pytest.mark.parametrize("texts", [TEMPLATES, drawn_texts(24)])
def test_the_closed_form_is_scikit_learns_cosine(texts: list[str]) -> None:
    for a, b in itertools.product(texts, texts):
        if a != b or a != "x y z":
            assert similarity(a, b) == pytest.approx(by_scikit_learn(a, b), abs=1e-12)


def test_the_closed_form_is_scikit_learns_cosine_of_real_instructions() -> None:
    folder = Path(os.environ.get("CLBENCH_DATA", "/nonexistent")) / "text" / "superni15"
    if not folder.is_dir():
        pytest.skip("CLBENCH_DATA names no folder with text/superni15")
    texts = []
    for path in sorted(folder.glob("*.json")):
        task = json.loads(path.read_text(encoding="utf-8"))
        texts += [*task["definition"], *(row["input"] for row in task["train"][:1])]
    assert len(texts) == 30
    for a, b in itertools.combinations_with_replacement(texts, 2):
        assert similarity(a, b) == pytest.approx(by_scikit_learn(a, b), abs=1e-12)


def test_examples_by_hand() -> None:
    assert similarity(WORD, LETTER) == pytest.approx(SHARED_ONE_OF_TWO, abs=1e-15)
    assert similarity("cat cat dog", "cat") == pytest.approx(2 / (4 + 1.4054651081081644**2) ** 0.5)
    assert similarity("cat dog", "bird fish") == 0.0
    assert similarity("The cat, the dog", "a DOG and a cat") == 1.0
    assert similarity("cat dog", "cat dog cat dog") == pytest.approx(1.0)
    assert group_similarity([WORD], [WORD, LETTER]) == pytest.approx((1 + SHARED_ONE_OF_TWO) / 2)
    assert group_similarity([WORD, LETTER], [LETTER, WORD]) == pytest.approx((1 + SHARED_ONE_OF_TWO) / 2)
    assert group_similarity([WORD, "bird"], ["fish", LETTER]) == pytest.approx(SHARED_ONE_OF_TWO / 4)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("to be", "to be", 1.0), ("", "", 1.0), ("to be", "or not", 0.0), ("I a", "i a", 0.0)],
)
def test_texts_without_a_term_are_like_themselves_only(a: str, b: str, expected: float) -> None:
    with pytest.raises(ValueError, match="empty vocabulary"):
        by_scikit_learn(a, b)
    assert similarity(a, b) == expected
    assert similarity(a, "cat") == by_scikit_learn(a, "cat") == 0.0


def test_a_task_joins_a_group_where_the_threshold_is_reached_and_begins_one_elsewhere() -> None:
    strict, loose = Codebooks(), Codebooks()
    assert [strict.assign([text], 0.9) for text in (WORD, LETTER, WORD)] == [(0, True), (1, True), (0, False)]
    assert strict.groups == [[WORD], [LETTER]]
    assert [loose.assign([text], 0.3) for text in (WORD, LETTER)] == [(0, True), (0, False)]
    assert loose.groups == [[WORD, LETTER]]
    assert loose.assign(["Count the birds"], 0.3) == (1, True)
    assert loose.assign(["Count these birds", WORD], 0.3) == (1, False), "means: 0.334 and 0.5"


def test_a_task_joins_the_most_similar_group() -> None:
    books = Codebooks()
    for text in ("Sort letters", "Sort words", "Sort numbers"):
        assert books.assign([text], 0.9)[1]
    assert books.assign(["sort the words"], 0.3) == (1, False)
    assert books.groups == [["Sort letters"], ["Sort words", "sort the words"], ["Sort numbers"]]
    assert books.assign(["sort"], 0.1) == (0, False), "the first of equals"


def test_the_threshold_itself_is_enough() -> None:
    books = Codebooks()
    books.assign([WORD], 1.0)
    assert books.assign(["answer the WORD"], 1.0) == (0, False)


def test_a_group_grows_by_unseen_instructions_and_becomes_less_like_each_of_them() -> None:
    books = Codebooks()
    books.assign([WORD], 0.3)
    books.assign([LETTER, LETTER, WORD], 0.3)
    assert books.groups == [[WORD, LETTER]]
    assert books.assign([WORD], 0.9) == (1, True)


def test_repetitions_do_not_count() -> None:
    books = Codebooks()
    books.assign(["cat", "cat"], 0.6)
    assert books.assign(["cat", "cat", "cat", "bird"], 0.6) == (1, True), "the mean is 1/2, not 3/4"
    assert books.groups == [["cat"], ["cat", "bird"]]


def test_below_the_threshold_the_released_rule_takes_the_last_group() -> None:
    books = Codebooks()
    for text in (WORD, "Count birds", "Sort letters"):
        books.assign([text], 0.9)
    assert (books.nearest(LETTER), books.released(LETTER, 0.3), books.released(LETTER, 0.9)) == (0, 0, 2)
    assert (books.nearest("count stars"), books.released("count stars", 0.9)) == (1, 2)
    assert (books.nearest("unheard of"), books.released("unheard of", 0.3)) == (None, 2)
    assert books.groups == [[WORD], ["Count birds"], ["Sort letters"]], "asking changes nothing"


def test_codebooks_come_back_from_json() -> None:
    books, again = Codebooks(), Codebooks()
    for text in (WORD, LETTER, "Count birds — «all»"):
        books.assign([text], 0.3)
    state = books.state()
    again.restore(json.loads(json.dumps(state)))
    books.assign(["Count birds"], 0.3)
    assert again.groups == state == [[WORD, LETTER], ["Count birds — «all»"]]
    assert again.assign(["Count birds"], 0.3) == (1, False)
    assert again.groups == books.groups
    assert state == [[WORD, LETTER], ["Count birds — «all»"]], "a state stays as it was taken"


def test_nothing_to_group_by_is_said() -> None:
    books = Codebooks()
    with pytest.raises(ValueError, match="a task without an instruction"):
        books.assign([], 0.3)
    with pytest.raises(ValueError, match="no group yet"):
        books.nearest(WORD)
    with pytest.raises(ValueError, match="no group yet"):
        books.released(WORD, 0.3)
