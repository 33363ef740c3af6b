from __future__ import annotations

import itertools
import random
import string
from collections.abc import Sequence
from fractions import Fraction

import pytest
from rouge_score.rouge_scorer import RougeScorer

from clbench.texts.scoring import (
    SCORES,
    exact_match,
    exact_match_normalised,
    exact_match_uncased,
    first_character,
    fuzzy_ratio,
    rouge_l,
    rouge_l_stemmed,
    sari,
    words,
)

SEEDS = pytest.mark.parametrize("seed", range(10))


def sentence(generator: random.Random, longest: int, vocabulary: str = "abcd") -> list[str]:
    return generator.choices(vocabulary, k=generator.randint(1, longest))


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, by trying all subsequences of the first."""
    for length in range(len(first), 0, -1):
        for chosen in itertools.combinations(first, length):
            rest = iter(second)
            if all(item in rest for item in chosen):
                return length
    return 0


@pytest.mark.parametrize(
    ("prediction", "reference", "same", "uncased", "normalised"),
    [
        ("Good", "Good", 1, 1, 1),
        (" Good\n", "Good", 1, 1, 1),
        ("good", "Good", 0, 1, 1),
        ("STRASSE", "Straße", 0, 1, 0),
        ("good.", "Good", 0, 0, 1),
        ("science  or technology", "Science or Technology", 0, 0, 1),
        ("中立", "中立。", 0, 0, 0),
        ("Good day", "Good", 0, 0, 0),
        ("", "", 0, 0, 0),
        (" \n", " \n", 0, 0, 0),
    ],
)
def test_the_three_exact_matches(prediction: str, reference: str, same: int, uncased: int, normalised: int) -> None:
    assert exact_match(prediction, [reference]) == same
    assert exact_match_uncased(prediction, [reference]) == uncased
    assert exact_match_normalised(prediction, [reference]) == normalised


@SEEDS
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(seed: int) -> None:
    generator = random.Random(seed)
    prediction, reference = sentence(generator, 8), sentence(generator, 8)
    common = longest_common(prediction, reference)
    precision, recall = common / len(prediction), common / len(reference)
    expected = 2 * precision * recall / (precision + recall) if common else 0
    assert rouge_l(" ".join(prediction), [" ".join(reference)]) == pytest.approx(expected, rel=1e-12)


@SEEDS
def test_on_ascii_texts_rouge_l_is_the_packages_own(seed: int) -> None:
    generator = random.Random(seed)
    texts = ["".join(generator.choices(string.printable + "abc    ", k=200)) for _ in range(2)]
    own = RougeScorer(["rougeL"]).score(texts[0], texts[1])["rougeL"].fmeasure
    assert rouge_l(texts[1], [texts[0]]) == own


def test_rouge_l_reads_every_script() -> None:
    own = RougeScorer(["rougeL"])
    assert own.score("我爱北京", "我爱北京")["rougeL"].fmeasure == 0, "why the package's own words are not used"
    assert rouge_l("我爱上海", ["我爱北京。"]) == 0.5
    assert rouge_l("\uff21\uff22", ["ab"]) == 1
    assert rouge_l("die Größe", ["die Grüße"]) == 0.5, "an umlaut does not part a word"
    assert own.score("die Größe", "die Grüße")["rougeL"].fmeasure == 1, "nor are two words the same without theirs"
    assert rouge_l("cafe\u0301", ["caf\u00e9"]) == 1, "an accent may be a character of its own"
    assert rouge_l("हिन्दी भाषा", ["हिन्दी"]) == pytest.approx(2 / 3)


def test_only_the_stemmed_score_takes_endings_off() -> None:
    assert rouge_l("running dogs", ["run dog"]) == 0
    assert rouge_l_stemmed("running dogs", ["run dog"]) == 1


def test_words_are_in_small_letters_and_punctuation_stands_alone() -> None:
    assert words("Don't go, 你好\uff01") == ["don", "'", "t", "go", ",", "你", "好", "!"]
    assert words("\u200b \t") == []


@SEEDS
def test_fuzzy_ratio_is_twice_the_common_characters_over_all(seed: int) -> None:
    generator = random.Random(seed)
    first, second = sentence(generator, 9), sentence(generator, 9)
    expected = 2 * longest_common(first, second) / (len(first) + len(second))
    assert fuzzy_ratio("".join(first), ["".join(second)]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("masked", "plain"),
    [
        ("x = <NUM_LIT>", "x = 0"),
        ("x = <NUM_LIT:12> + <NUM_LIT:3>", "x = 12 + 3"),
        ("say(<STR_LIT>, <CHAR_LIT>)", "say(, )"),
        ("say(<STR_LIT:two\nlines>)", "say(two\nlines)"),
        ("say(<STR_LIT:>)", "say()"),
        ("<EOL>", "<EOL>"),
    ],
)
def test_masked_literals_are_put_in(masked: str, plain: str) -> None:
    assert fuzzy_ratio(masked, [plain]) == fuzzy_ratio(plain, [masked]) == 1


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [("A\nBecause ...", "A", 1), (" B", "B\nBecause", 1), ("b", "B", 0), ("The answer is B", "B", 0), ("", "", 0)],
)
def test_the_first_character_is_the_option(prediction: str, reference: str, score: int) -> None:
    assert first_character(prediction, [reference]) == score


def test_sari_of_a_small_example_by_hand() -> None:
    # n = 1: p_add 1/1, r_add 1/1, p_keep 1/1, r_keep 1 / (1 + 1/2), p_del 1/2
    # n = 2: p_add 1/1, r_add 1/1, p_keep 0/0, r_keep 0 / (1/2),     p_del 1/2
    # F_add = 1, F_keep = F(1, 1/3) = 1/2, P_del = 1/2
    assert sari("a c", ["a c", "a b"], "a b") == pytest.approx(2 / 3)


def f_measure(precision: Fraction, recall: Fraction) -> Fraction:
    return 2 * precision * recall / (precision + recall) if precision + recall else Fraction(0)


def ratio(part: Fraction, whole: Fraction) -> Fraction:
    return Fraction(part, whole) if whole else Fraction(1)


def parts(prediction: list[str], references: list[list[str]], source: list[str], n: int) -> tuple[Fraction, ...]:
    """Precision and recall of adding and keeping, and precision of deleting, summed as the paper's equations have it.

    The paper counts g in a set as 0 or 1, in the references also as the share of them that have g.
    """

    def count(g: tuple[str, ...], text: list[str]) -> int:
        return int(any(tuple(text[k : k + n]) == g for k in range(len(text))))

    texts = [prediction, *references, source]
    grams = {tuple(text[k : k + n]) for text in texts for k in range(len(text) - n + 1)}
    add = added = wanted = keep = kept = keepable = delete = deleted = Fraction(0)
    for g in grams:
        i, o = count(g, source), count(g, prediction)
        r = int(any(count(g, reference) for reference in references))
        share = Fraction(sum(count(g, reference) for reference in references), len(references))
        add += Fraction(min(max(o - i, 0), r))
        added += max(o - i, 0)
        wanted += max(r - i, 0)
        keep += min(Fraction(min(i, o)), share)
        kept += min(i, o)
        keepable += min(Fraction(i), share)
        delete += min(Fraction(max(i - o, 0)), max(i - share, Fraction(0)))
        deleted += max(i - o, 0)
    return ratio(add, added), ratio(add, wanted), ratio(keep, kept), ratio(keep, keepable), ratio(delete, deleted)


@SEEDS
def test_sari_equals_its_equations_written_as_loops(seed: int) -> None:
    generator = random.Random(seed)
    source, prediction = sentence(generator, 9), sentence(generator, 9)
    references = [sentence(generator, 9) for _ in range(generator.randint(1, 3))]
    longest = max(map(len, (source, prediction, *references)))
    every = [parts(prediction, references, source, n) for n in range(1, min(4, longest) + 1)]
    p_add, r_add, p_keep, r_keep, p_delete = (sum(values) / Fraction(len(every)) for values in zip(*every, strict=True))
    expected = float((f_measure(p_add, r_add) + f_measure(p_keep, r_keep) + p_delete) / 3)
    joined = [" ".join(reference) for reference in references]
    assert sari(" ".join(prediction), joined, " ".join(source)) == pytest.approx(expected, rel=1e-12)


def test_the_mean_of_f_over_n_in_place_of_f_of_means_gives_the_value_of_the_authors_code() -> None:
    source = "about 95 species are currently accepted ."
    references = ["about 95 species are currently known .", "about 95 species are now accepted ."]
    texts = [text.split() for text in ("about 95 you now get in .", *references, "95 species are now accepted .")]
    every = [parts(texts[0], texts[1:], source.split(), n) for n in range(1, 5)]
    scores = [(f_measure(*part[:2]) + f_measure(*part[2:4]) + part[4]) / 3 for part in every]
    assert float(sum(scores) / 4) == pytest.approx(0.26953601953601954, rel=1e-12)


def test_sari_prefers_the_reference_to_the_source() -> None:
    source, reference = "The feline quadruped slept on the mat.", "The cat slept on the mat."
    assert sari(reference, [reference], source) == 1
    assert sari(reference, [reference], reference) == 1, "nothing was to be done, and nothing was"
    assert 0 < sari(source, [reference], source) < 0.6
    assert sari("Nonsense", [reference], source) < sari(source, [reference], source)


@pytest.mark.parametrize("name", SCORES)
@SEEDS
def test_every_score_is_in_0_1_and_that_of_the_best_reference(name: str, seed: int) -> None:
    generator = random.Random(seed)
    texts = ["".join(generator.choices("ab .!你ß\n", k=generator.randint(0, 12))) for _ in range(5)]
    score, prediction, source, references = SCORES[name], texts[0], texts[1], texts[2:]
    alone = [score(prediction, [reference], source) for reference in references]
    together = score(prediction, references, source)
    assert all(0 <= value <= 1 for value in (*alone, together))
    if name != "sari":
        assert together == max(alone)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("prediction", ["", " \n\t"])
def test_a_prediction_without_text_scores_nothing(name: str, prediction: str) -> None:
    assert SCORES[name](prediction, [prediction, "a b"], "a b") == 0
    assert SCORES[name]("a b", [prediction, "a b"], "c") > 0
