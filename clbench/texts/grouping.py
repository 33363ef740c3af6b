"""Groups of instructions: tasks that are asked for in similar words share one set of parameters.

Qiao et al. 2025, "Large Continual Instruction Assistant" (code: CoIN), arXiv 2410.10868: each set of parameters has a
codebook, the instructions that it was trained under. A new task's instructions are compared with every codebook. Where
the most similar one reaches a threshold (the authors: 0.9 for one instruction per task, 0.3 for several) the task
reuses its set and adds what instructions are new, elsewhere it begins another set.

The similarity of two texts is the cosine of their TF-IDF vectors, the vectoriser fitted on just these two (read from
the released code). With two documents the inverse document frequency takes two values, 1 for a term of both and
ln(3/2) + 1 for a term of one, so there is a closed form. The similarity of two sets is the mean over all pairs: as a
codebook collects paraphrases it shrinks, also for a text that stands in the codebook itself.

What differs: a text without a term (nothing but stop words) makes the authors' vectoriser fail; here it is like itself
and unlike all others.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Collection

RARE = (math.log(3 / 2) + 1) ** 2  # square of a term's weight, per occurrence, where only one of two texts has it
TERM = re.compile(r"\b\w\w+\b")


def similarity(a: str, b: str) -> float:
    """Cosine of two texts' TF-IDF vectors, fitted on these two, in [0, 1]; exactly 1 for texts of the same terms.

    Terms are lower-case words of at least 2 characters that are not in scikit-learn's list of English stop words. A
    text without terms has similarity 1 to itself and 0 to others.
    """
    if a == b:
        return 1.0
    (ours, our_square), (theirs, their_square) = _terms(a), _terms(b)
    shared = ours.keys() & theirs.keys()
    if not shared:
        return 0.0
    product = sum(ours[term] * theirs[term] for term in shared)
    lengths = (_square(ours, our_square, shared), _square(theirs, their_square, shared))
    return min(1.0, product / math.sqrt(lengths[0] * lengths[1]))


def group_similarity(current: Collection[str], group: Collection[str]) -> float:
    """Mean similarity over all pairs of a text of ``current`` and a text of ``group``; each has at least one."""
    return sum(similarity(a, b) for a in current for b in group) / (len(current) * len(group))


class Codebooks:
    """The instructions of each group.

    The similarity to a group is a mean over pairs, so a group that collects paraphrases becomes less similar to each of
    them, and may come to miss a threshold that its first member reached.

    Attributes:
        groups: of each group its instructions without repetition, in the order in which they came.
    """

    def __init__(self) -> None:
        self.groups: list[list[str]] = []

    def assign(self, instructions: Collection[str], threshold: float) -> tuple[int, bool]:
        """The group of a task, which takes up the instructions that it lacks, and whether it was begun for this task.

        Args:
            instructions: of the task; repetitions do not count.
            threshold: least similarity to the nearest group, in [0, 1], below which another group is begun.

        Raises:
            ValueError: there is no instruction.
        """
        if not instructions:
            raise ValueError("a task without an instruction belongs to no group")
        current = list(dict.fromkeys(instructions))
        if self.groups:
            best, reached = self._best(current)
            if reached >= threshold:
                self.groups[best] = list(dict.fromkeys([*self.groups[best], *current]))
                return best, False
        self.groups.append(current)
        return len(self.groups) - 1, True

    def nearest(self, instruction: str) -> int | None:
        """The most similar group, the first of equals; None where the instruction shares no term with any.

        Raises:
            ValueError: there is no group.
        """
        best, reached = self._best([instruction])
        return best if reached > 0 else None

    def released(self, instruction: str, threshold: float) -> int:
        """The released code's rule for a test example: the most similar group, below the threshold the last one.

        Raises:
            ValueError: there is no group.
        """
        best, reached = self._best([instruction])
        return best if reached >= threshold else len(self.groups) - 1

    def state(self) -> list[list[str]]:
        """What `restore` needs, as JSON values."""
        return [list(group) for group in self.groups]

    def restore(self, state: list[list[str]]) -> None:
        """Become the codebooks whose `state` this is."""
        self.groups = [list(group) for group in state]

    def _best(self, current: Collection[str]) -> tuple[int, float]:
        if not self.groups:
            raise ValueError("there is no group yet; assign a task's instructions first")
        similarities = [group_similarity(current, group) for group in self.groups]
        best = max(range(len(similarities)), key=similarities.__getitem__)
        return best, similarities[best]


@functools.lru_cache(maxsize=1 << 16)
def _terms(text: str) -> tuple[Counter[str], int]:
    """How often each term occurs, and the sum of the squares."""
    counts = Counter(term for term in TERM.findall(text.lower()) if term not in _stop_words())
    return counts, sum(count * count for count in counts.values())


def _square(counts: Counter[str], total: int, shared: Collection[str]) -> float:
    """Squared length of a text's vector, beside a text with which it has the ``shared`` terms."""
    common = sum(counts[term] ** 2 for term in shared)
    return common + RARE * (total - common)


@functools.cache
def _stop_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)
