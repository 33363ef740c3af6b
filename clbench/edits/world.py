"""A small world to edit: people, what is true of them in four relations, and three skills; drawn by a program.

400 people of two words each, four relations of 30 objects of two words each: 1,600 facts, nothing but memory can tell
them. Each relation is worded in four templates, with the person in different places. The skills (copying, reversing,
addition modulo 17) are what knowing no person takes. All texts are words parted by spaces, a token each.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from random import Random

FIRST = (
    *("anna", "boris", "clara", "david", "elena", "felix", "greta", "henry", "irene", "jonas"),
    *("karin", "louis", "maria", "niels", "olga", "peter", "quinn", "rosa", "simon", "tilda"),
)
LAST = (
    *("abbott", "becker", "carter", "dunn", "ekman", "fischer", "garcia", "holm", "ivanov", "jensen"),
    *("keller", "lopez", "moreau", "novak", "olsen", "petrov", "quist", "rossi", "silva", "torres"),
)
FILLER = (
    *("well", "so", "then", "indeed", "perhaps", "again", "today", "still", "now", "here"),
    *("actually", "however", "yesterday", "often", "maybe", "clearly", "finally", "meanwhile", "surely", "somehow"),
)
SYMBOLS = tuple("abcdefghijklmnop")
MODULUS = 17


@dataclass(frozen=True)
class Relation:
    """What can be true of a person.

    Attributes:
        name: for people.
        templates: wordings that an object follows, ``{}`` where the person stands; edits are worded in the first.
        objects: adjectives and nouns, each pair of which is an object.
    """

    name: str
    templates: tuple[str, ...]
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]

    @functools.cached_property
    def objects(self) -> tuple[str, ...]:
        """All 30."""
        return tuple(f"{a} {n}" for a, n in itertools.product(self.adjectives, self.nouns))


RELATIONS = (
    Relation(
        "home",
        ("{} lives in", "the home of {} is", "where does {} live ?", "letters reach {} at"),
        ("old", "upper", "north", "quiet", "stone", "river"),
        ("harbor", "village", "market", "valley", "castle"),
    ),
    Relation(
        "work",
        ("{} works as", "the job of {} is", "what does {} do ?", "they hired {} to be"),
        ("night", "chief", "junior", "ship", "city", "field"),
        ("nurse", "painter", "baker", "pilot", "clerk"),
    ),
    Relation(
        "food",
        ("{} likes to eat", "the favorite dish of {} is", "what feeds {} best ?", "cook for {} some"),
        ("red", "sweet", "cold", "smoked", "fresh", "bitter"),
        ("soup", "bread", "fish", "salad", "cheese"),
    ),
    Relation(
        "pet",
        ("{} owns", "the pet of {} is", "which animal follows {} ?", "at home {} keeps"),
        ("grey", "tiny", "lazy", "wild", "spotted", "young"),
        ("cat", "dog", "goat", "parrot", "rabbit"),
    ),
)
SKILLS = ("copy", "reverse", "add")


@dataclass(frozen=True)
class Fact:
    """One person in one relation."""

    person: str
    relation: Relation
    object: str

    def asked(self, template: int) -> str:
        """The question in one of the wordings."""
        return self.relation.templates[template].format(self.person)


@functools.cache
def people() -> tuple[str, ...]:
    """All 400, in an order that is no alphabet's."""
    names = [f"{first} {last}" for first, last in itertools.product(FIRST, LAST)]
    Random(0).shuffle(names)
    return tuple(names)


@functools.cache
def facts() -> tuple[Fact, ...]:
    """What is true before any edit: four facts of each person, person after person."""
    draws = Random(1)
    return tuple(
        Fact(person, relation, draws.choice(relation.objects)) for person in people() for relation in RELATIONS
    )


def preceded(text: str, draws: Random, words: int) -> str:
    """A text with so many idle words before it."""
    return " ".join([*draws.choices(FILLER, k=words), text])


def skill(name: str, draws: Random) -> tuple[str, str]:
    """A question that one of the `SKILLS` answers, and its answer."""
    if name == "add":
        first, second = draws.randrange(MODULUS), draws.randrange(MODULUS)
        return f"add {first} {second} :", str((first + second) % MODULUS)
    shown = draws.choices(SYMBOLS, k=3)
    return f"{name} {' '.join(shown)} :", " ".join(shown if name == "copy" else shown[::-1])


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Every word that the world knows, once."""
    worded = (word for r in RELATIONS for text in (*r.templates, *r.adjectives, *r.nouns) for word in text.split())
    numbers = map(str, range(MODULUS))
    words = (*FIRST, *LAST, *FILLER, *worded, *SKILLS, *SYMBOLS, *numbers, ":")
    return tuple(word for word in dict.fromkeys(words) if word != "{}")
