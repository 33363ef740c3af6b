"""What can be edited in the small world, what must stay as it is, and what its skills are asked."""

from __future__ import annotations

from collections.abc import Sequence, Set
from random import Random

from clbench.edits import world
from clbench.edits.edits import Edit
from clbench.seeding import derive

REFERENCE_SKILLS = 600  # questions among the reference texts, about


def world_edits() -> tuple[Edit, ...]:
    """Every fact of the world as something to edit; the target is drawn with the stream."""
    draws = Random(2)
    known = world.facts()
    of_person: dict[str, list[str]] = {}
    for fact in known:
        of_person.setdefault(fact.person, []).append(fact.asked(0))
    return tuple(
        Edit(
            prompt=fact.asked(0),
            target=fact.object,
            subject=fact.person,
            paraphrases=tuple(fact.asked(i) for i in range(1, len(fact.relation.templates))),
            prefixed=(world.preceded(fact.asked(0), draws, 2),),
            old=fact.object,
            near=tuple(prompt for prompt in of_person[fact.person] if prompt != fact.asked(0)),
        )
        for fact in known
    )


def world_reference(edits: Sequence[Edit], asked: Set[str]) -> list[tuple[str, str]]:
    """Questions and answers of the world as it was: some facts in all wordings, one after idle words, and skills.

    Args:
        edits: facts that are neither edited nor measured.
        asked: questions of skills that are measured.
    """
    told = [(prompt, edit.old) for edit in edits for prompt in edit.prompts]
    return told + [pair for pair in skills("reference", REFERENCE_SKILLS) if pair[0] not in asked]


def skills(name: str, count: int) -> list[tuple[str, str]]:
    """Questions of the world's skills in turn, and their answers; the same for every seed."""
    draws = Random(derive(0, name))
    return [world.skill(world.SKILLS[i % len(world.SKILLS)], draws) for i in range(count)]


def another(old: str, draws: Random) -> str:
    """Another object of the same relation."""
    (objects,) = (r.objects for r in world.RELATIONS if old in r.objects)
    return draws.choice([other for other in objects if other != old])
