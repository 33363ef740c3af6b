"""A small world to know: people's facts in four relations and three skills, drawn by a program; nothing to download.

Seven tasks of `clbench.edits.world`: what is true of 400 people (home, work, food, pet), each relation in four
wordings, one row in four with one to three idle words before it, and the skills copy, reverse and add (modulo 17).
Facts can only be remembered, so tests ask for facts that were trained on, in all wordings; the skills' test questions
may have been trained on as well. A skill has four ninths of a relation's rows: all tasks together are facts to three
quarters.

What the embedded model of scenario ``edits`` knows before it is edited, it learnt here: the commands stand in its
certificate (``clbench/models/pretrained_world_llama/clbench.json``).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from clbench.edits import world
from clbench.models.world_llama import NAME
from clbench.scenario import scenarios
from clbench.seeding import derive
from clbench.space import LogUniform, searched
from clbench.texts.corpora import TextExample, TextTask
from clbench.texts.streams import TextConfig, TextScenario

TRAIN, TEST = 4500, 200


@dataclass
class WorldConfig(TextConfig):
    """The shared fields, with the world's lengths."""

    train_per_task: int | None = TRAIN  # training rows of each relation; four ninths of them of each skill
    test_per_task: int | None = TEST  # questions of each task
    template: str = "{input}"  # what a prompt is made of
    max_answer: int = 4  # tokens of an answer, EOS included


@scenarios.register(WorldConfig)
class World(TextScenario):
    """Four relations, then three skills."""

    config: WorldConfig
    default_model: ClassVar[str] = NAME  # begins at random: the embedded one was trained on all of this
    pretrained_model: ClassVar[str] = NAME
    training: ClassVar[dict[str, Any]] = {**TextScenario.training, "lr": searched(3e-3, LogUniform(1e-4, 1e-2))}

    def names(self) -> list[str]:
        """The relations and the skills."""
        return [*(relation.name for relation in world.RELATIONS), *world.SKILLS]

    def tasks(self, seed: int) -> tuple[TextTask, ...]:
        """Training rows drawn from the seed; tests are the same for every seed."""
        train, test = self.config.train_per_task or TRAIN, self.config.test_per_task or TEST
        made = []
        for name in self.names():
            draws, asking = Random(derive(seed, "train", name)), Random(derive(0, "test", name))
            if name in world.SKILLS:
                rows = (skill_rows(name, draws, max(1, train * 4 // 9)), skill_rows(name, asking, test))
            else:
                rows = (fact_rows(name, draws, train), fact_rows(name, asking, test))
            made.append(TextTask(name, "exact_match", *rows))
        return tuple(made)


def fact_rows(relation: str, draws: Random, count: int) -> tuple[TextExample, ...]:
    """Facts of one relation in wordings at random, one in four after idle words."""
    known = [fact for fact in world.facts() if fact.relation.name == relation]
    rows = []
    for fact in draws.choices(known, k=count):
        asked = fact.asked(draws.randrange(len(fact.relation.templates)))
        idle = draws.randrange(1, 4) if draws.random() < 0.25 else 0
        rows.append(TextExample("", world.preceded(asked, draws, idle), (fact.object,)))
    return tuple(rows)


def skill_rows(name: str, draws: Random, count: int) -> tuple[TextExample, ...]:
    """Questions of one skill."""
    drawn = [world.skill(name, draws) for _ in range(count)]
    return tuple(TextExample("", asked, (answer,)) for asked, answer in drawn)
