"""Scores of one generated text against its reference texts, each in [0, 1]; nothing here generates or reads files.

All take (prediction, references, source): at least one reference, and the text that the prediction was made from, which
only `sari` reads. A prediction without text scores 0, whatever is wanted of it; `sari` looks at all references
together, the others count the reference that fits best. Suites report some of these as 0-100; here all are 0-1.
"""

from __future__ import annotations

import functools
import re
import statistics
import string
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

Score: TypeAlias = Callable[[str, Sequence[str], str], float]
"""From (prediction, references, source) to a number in [0, 1]."""

ORDERS = range(1, 5)
"""Lengths of the n-grams that SARI counts."""

LITERAL = re.compile(r"<(STR|NUM|CHAR)_LIT(?::(.*?))?>", re.DOTALL)
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
IDEOGRAPHS = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""Chinese and Japanese characters, which no spaces separate."""


def exact_match(prediction: str, references: Sequence[str], source: str = "") -> float:
    """1 where prediction and reference are the same text, white space at both ends aside."""
    return _best(lambda reference: prediction.strip() == reference.strip(), prediction, references)


def exact_match_uncased(prediction: str, references: Sequence[str], source: str = "") -> float:
    """`exact_match` that does not tell capital letters from small ones."""
    return exact_match(prediction.casefold(), [reference.casefold() for reference in references])


def exact_match_normalised(prediction: str, references: Sequence[str], source: str = "") -> float:
    """1 where both are the same in small letters, without ASCII punctuation, white space as one space.

    What O-LoRA (arXiv 2310.14152) and SAPT (arXiv 2401.08295) call exact match in their code. A text of punctuation
    alone equals any other such text.
    """
    return _best(lambda reference: _normalised(prediction) == _normalised(reference), prediction, references)


def exact_match_squad(prediction: str, references: Sequence[str], source: str = "") -> float:
    """As `exact_match_normalised`, without the words a, an and the: what SQuAD's evaluation calls exact match.

    The released evaluators of edits (Yang et al. 2025, arXiv 2502.11177; LocFT-BF, arXiv 2509.22072) use it.
    """
    return _best(lambda reference: _bare(prediction) == _bare(reference), prediction, references)


def rouge_l(prediction: str, references: Sequence[str], source: str = "") -> float:
    """F-measure of the longest common subsequence of words (Lin 2004), by rouge-score, without stemming.

    The package's own words are runs of a-z and 0-9, so a Chinese text has none and an umlaut parts a word. Here words
    are those of `words` without punctuation: on ASCII texts the same, elsewhere letters of every script count.
    The code of TRACE (arXiv 2310.06762) uses another package, which keeps capital letters and punctuation.
    """
    return _best(functools.partial(_rouge_l, prediction, stemmed=False), prediction, references)


def rouge_l_stemmed(prediction: str, references: Sequence[str], source: str = "") -> float:
    """`rouge_l` with rouge-score's own words and Porter's stemmer: for English texts only.

    What the code of Super-NaturalInstructions (arXiv 2204.07705) and SAPT (arXiv 2401.08295) reports.
    """
    return _best(functools.partial(_rouge_l, prediction, stemmed=True), prediction, references)


def fuzzy_ratio(prediction: str, references: Sequence[str], source: str = "") -> float:
    """2 M / (characters of both), M their longest common subsequence, by rapidfuzz; literals of code put in first.

    TRACE's (arXiv 2310.06762) score of Py150, there by fuzzywuzzy and rounded to whole percents. Literals as
    CodeXGLUE (arXiv 2102.04664) masks them: ``<STR_LIT:x>`` stands for x, ``<NUM_LIT>`` for 0, ``<STR_LIT>`` and
    ``<CHAR_LIT>`` for nothing.
    """
    from rapidfuzz import fuzz

    code = _with_literals(prediction)
    return _best(lambda reference: fuzz.ratio(code, _with_literals(reference)) / 100, code, references)


def first_character(prediction: str, references: Sequence[str], source: str = "") -> float:
    """1 where both texts begin with the same character, the letter of an option, after white space.

    TRACE's (arXiv 2310.06762) score of ScienceQA, where a text is an option and its reason; there white space counts.
    """
    return _best(lambda reference: prediction.strip()[0] == reference.strip()[:1], prediction, references)


def sari(prediction: str, references: Sequence[str], source: str = "") -> float:
    """How well a text was simplified: n-grams rightly added, kept and deleted (Xu et al. 2016, TACL 4, "SARI").

    With I the set of n-grams of the source, O of the prediction, R of all references, and f(g) the share of the
    references that contain g, for n = 1 .. 4:

        p_add  = |(O - I) & R| / |O - I|                 r_add  = |(O - I) & R| / |R - I|
        p_keep = sum_{g in I & O} f(g) / |I & O|         r_keep = sum_{g in I & O} f(g) / sum_{g in I} f(g)
        p_del  = sum_{g in I - O} (1 - f(g)) / |I - O|

    P and R are means over n, F = 2 P R / (P + R), and SARI = (F_add + F_keep + P_del) / 3. The paper does not say what
    0 / 0 is: 1 here, so that what had not to be done and was not done counts as done well. Lengths n that no text
    has an n-gram of are left out. Words are those of `words`.

    The authors' code, and the one that TRACE calls, takes the mean of F over n instead of F of the means.
    """
    texts = [words(text) for text in (source, prediction, *references)]
    if not texts[1]:
        return 0.0
    parts = [_sari_parts(*(_ngrams(text, n) for text in texts)) for n in ORDERS if max(map(len, texts)) >= n]
    p_add, r_add, p_keep, r_keep, p_delete = (statistics.fmean(values) for values in zip(*parts, strict=True))
    return (_f_measure(p_add, r_add) + _f_measure(p_keep, r_keep) + p_delete) / 3


SCORES: dict[str, Score] = {
    "exact_match": exact_match,
    "exact_match_uncased": exact_match_uncased,
    "exact_match_normalised": exact_match_normalised,
    "exact_match_squad": exact_match_squad,
    "rouge_l": rouge_l,
    "rouge_l_stemmed": rouge_l_stemmed,
    "fuzzy_ratio": fuzzy_ratio,
    "first_character": first_character,
    "sari": sari,
}
"""The scores by name."""


def words(text: str) -> list[str]:
    """Small-letter words of any script, Chinese and Japanese characters each alone, so is each mark of punctuation.

    Words are runs of letters, accents and digits after Unicode normalisation (NFKC). Scripts without spaces other
    than Chinese and Japanese (Thai, say) come as whole runs.
    """
    return "".join(map(_spaced, unicodedata.normalize("NFKC", text).lower())).split()


class _Words:
    """The tokeniser that rouge-score is given."""

    def tokenize(self, text: str) -> list[str]:
        """Words without the marks of punctuation."""
        return [word for word in words(text) if unicodedata.category(word[0])[0] not in "PS"]


@functools.cache
def _spaced(character: str) -> str:
    if IDEOGRAPHS.match(character) or unicodedata.category(character)[0] in "PS":
        return f" {character} "
    return character if unicodedata.category(character)[0] in "LMN" else " "


def _best(score: Callable[[str], float], prediction: str, references: Iterable[str]) -> float:
    """The highest score over the references; 0 for a prediction without text."""
    return float(max(map(score, references))) if prediction.strip() else 0.0


def _normalised(text: str) -> str:
    return " ".join(text.lower().translate(NO_PUNCTUATION).split())


def _bare(text: str) -> str:
    return " ".join(word for word in _normalised(text).split() if word not in ("a", "an", "the"))


def _with_literals(code: str) -> str:
    return LITERAL.sub(_literal, code)


def _literal(found: re.Match[str]) -> str:
    kind, value = found.groups()
    return ("0" if kind == "NUM" else "") if value is None else str(value)


@functools.cache
def _scorer(stemmed: bool) -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=stemmed, tokenizer=None if stemmed else _Words())


def _rouge_l(prediction: str, reference: str, stemmed: bool) -> float:
    return float(_scorer(stemmed).score(reference, prediction)["rougeL"].fmeasure)


def _ngrams(text: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(text[start : start + n]) for start in range(len(text) - n + 1)}


def _sari_parts(
    source: set[tuple[str, ...]], output: set[tuple[str, ...]], *references: set[tuple[str, ...]]
) -> tuple[float, float, float, float, float]:
    """Of one n: p_add, r_add, p_keep, r_keep, p_del."""
    wanted = set().union(*references)
    share = {gram: sum(gram in reference for reference in references) / len(references) for gram in source | wanted}
    added, kept, deleted = output - source, output & source, source - output
    keeps = sum(share[gram] for gram in kept)
    return (
        _ratio(len(added & wanted), len(added)),
        _ratio(len(added & wanted), len(wanted - source)),
        _ratio(keeps, len(kept)),
        _ratio(keeps, sum(share[gram] for gram in source)),
        _ratio(sum(1 - share[gram] for gram in deleted), len(deleted)),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _f_measure(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
