"""Knowledge edits, a few at a time: which still hold, what follows from them, and what else broke.

``source=world`` (the default) edits facts of a small world that the embedded model was really pre-trained on
(`clbench.edits.world`); nothing is downloaded. ``source=zsre``, ``counterfact`` and ``wikibigedit`` read the released
files (``edits/zsre_3k.json`` and so on, under ``data.root``, then ``CLBENCH_DATA``), ``source=file`` one of yours
(``scenario.path``), in the same fields. A seed draws ``edits`` of them, in the order of the draw; ``per_experience=1``
is a purely sequential stream, ``per_experience=null`` brings all at once. A subject's edits are all in the same half.

Prompts are shown raw, and an answer is what the model says by itself up to EOS, which must be the target (SQuAD's exact
match). Measured of the edits that have arrived: that (reliability), ``generalisation`` on other wordings,
``generalisation_prefix`` after idle words, ``old_answer``, ``teacher_forced`` (the share of target tokens that are
likeliest after the right ones: what many papers report), and ``locality_near``: the answers to prompts about something
close (other facts of an edited person; the file's own locality prompts) that are still those of the model before any
edit. And at all times: ``locality_far``, likewise on prompts of edits that are not made, and ``capability``, the
skills of the world; for other models the probes that are named (``probe_text``, ``probe_tasks``, ``probe_harness``).
Records tell how many edits repeat or contradict earlier ones, and how many paraphrases are prompts of other edits.

Editors that look at what must stay get reference texts: of the world, questions with right answers, in all wordings,
about people that no edit is about and facts that ``locality_far`` does not ask for, and skills, but no question of
``capability``; of other sources a file (``scenario.reference``), without those of its texts that hold a prompt that is
edited or measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import torch
from torch import Tensor

from clbench import seeding
from clbench.edits.edits import Edit, faults_of, read_edits, without
from clbench.edits.rows import example_of, table_of
from clbench.edits.world_edits import another, skills, world_edits, world_reference
from clbench.errors import ConfigError, IncompatibleError
from clbench.finetune import Optimizer, Schedule
from clbench.models.config import EMBEDDED_WORLD
from clbench.models.language import build_causal
from clbench.places import find_file
from clbench.probe import AnswerProbe, Probe, TeacherForcedProbe, Unit
from clbench.record import Part, Setting
from clbench.scenario import Experience, Modality, Stream, half_of_classes, scenarios
from clbench.seeding import derive
from clbench.space import LogUniform, require, searched
from clbench.table import Source, Table
from clbench.texts.corpora import TextExample
from clbench.texts.probes import ProbedWordsScenario, ProbesConfig
from clbench.texts.prompts import Rows, Shorten
from clbench.texts.rows import read_texts
from clbench.texts.streams import TextAnswers
from clbench.texts.tokens import TokenTransform

SCORE = "exact_match_squad"
ROWS = 256  # prompts that the unedited model answers at a time


class Origin(Enum):
    """Where edits come from."""

    WORLD = "world"  # embedded
    ZSRE = "zsre"
    COUNTERFACT = "counterfact"
    WIKIBIGEDIT = "wikibigedit"
    FILE = "file"  # of yours: scenario.path


@dataclass
class EditsConfig(ProbesConfig):
    """Which edits, how they arrive, and how many are asked about."""

    source: Origin = Origin.WORLD  # where edits come from
    path: Path | None = None  # a file of edits, with source=file
    edits: int | None = 100  # how many are made, drawn by the seed; null: all there are
    per_experience: int | None = 10  # how many arrive together; null: all at once
    moments: int = 10  # how often the stream is measured, at most, the end included
    asked: int | None = 1000  # how many edits are asked about, drawn by the seed; null: all
    unedited: int = 200  # prompts of edits that are not made, at most, for locality_far
    questions: int = 300  # of the world's skills, for capability
    reference: Path | None = None  # text file of what must stay; lines <|endoftext|> part its texts
    template: str = "{input}"  # what a prompt is made of
    max_answer: int = 32  # tokens of an answer, EOS included
    shorten: Shorten = Shorten.NOTHING  # what a prompt loses that is too long

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("edits", "per_experience", "asked"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"scenario.{name}", ">= 1 or null", value)
        for name in ("moments", "questions"):
            require(getattr(self, name) >= 1, f"scenario.{name}", ">= 1", getattr(self, name))
        require(self.unedited >= 0, "scenario.unedited", ">= 0", self.unedited)
        if (self.source is Origin.FILE) is (self.path is None):
            raise ConfigError("scenario.path=FILE goes with scenario.source=file; give both or neither")
        if self.source is Origin.WORLD and self.reference is not None:
            raise ConfigError("scenario.source=world has reference texts of its own; leave scenario.reference out")


@scenarios.register(EditsConfig)
class Edits(ProbedWordsScenario):
    """Batches of edits."""

    modality: ClassVar[Modality] = Modality.TEXTS
    default_model: ClassVar[str] = EMBEDDED_WORLD
    pretrained_model: ClassVar[str] = EMBEDDED_WORLD
    criterion: ClassVar[str] = "editing_score"
    training: ClassVar[dict[str, Any]] = {
        "optimizer": Optimizer.ADAM,
        "schedule": Schedule.CONSTANT,
        "lr": searched(1e-3, LogUniform(1e-4, 1e-2)),
        "weight_decay": 0.0,
        "batch_size": 10,
        "epochs": 100,
    }
    config: EditsConfig

    def check(self, part: Part) -> None:
        """Also see that there are as many edits as are asked for, and read the reference texts."""
        super().check(part)
        self._reference_texts()
        self._chosen(0, part, None, False)

    def pool(self, part: Part, split_seed: int | None = None, swap: bool = False) -> tuple[Edit, ...]:
        """All edits of a part that could be made."""
        found = self._all()
        subjects = list(dict.fromkeys(edit.group for edit in found))
        mine = {subjects[i] for i in half_of_classes(len(subjects), part, split_seed, swap)}
        return tuple(edit for edit in found if edit.group in mine)

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """The edits of a seed, ``per_experience`` at a time."""
        config, rows = self.config, self.rows()
        edits, others = self._chosen(seed, part, split_seed, swap)
        size = config.per_experience or len(edits)
        arrivals = torch.arange(len(edits)) // size
        asked = self._questioned(len(edits), seed)
        stored = table_of(rows, edits, arrivals, self.device)
        tests = table_of(rows, [edits[i] for i in asked], arrivals[asked], self.device, asked)
        told = TextAnswers(
            rows.words, tuple((example_of(e.prompt, e.target, rows), SCORE) for e in edits), config, ("",)
        )
        count = int(arrivals[-1]) + 1
        bounds = torch.searchsorted(arrivals[asked].contiguous(), torch.arange(count + 1)).tolist()
        digest = hashlib.sha256(json.dumps([size, *map(astuple, edits), *self._reference_texts()]).encode()).hexdigest()
        probes = self._probes_of(rows, edits, others, asked, arrivals)
        moments = frozenset(count * (i + 1) // config.moments for i in range(config.moments))
        return Stream(
            experiences=tuple(
                Experience(
                    index=index,
                    name=f"edits {index * size + 1}-{min(len(edits), (index + 1) * size)}",
                    train=stored.select(torch.arange(index * size, min(len(edits), (index + 1) * size))),
                    test=tests.select(torch.arange(*bounds[index : index + 2])),
                    classes=(index,),
                    outputs=index + 1,
                    shortened=rows.shortened["edits"] if index == 0 else 0,
                )
                for index in range(count)
            ),
            setting=Setting.EDITING,
            transform=TokenTransform(config.template, rows.words.digest[:16], rows.longest),
            shape=(rows.longest,),
            digest=digest,
            source_digest=digest,
            answers=told,
            probes=(*probes, *self.probes(rows)),
            moments=moments,
            notes={
                **{"edits": len(edits), "asked": len(asked), **asdict(faults_of(edits))},
                "moments": sorted(moments - {0}),
            },
            reference=self._reference(rows, edits, others),
        )

    def _reference(self, rows: Rows, edits: Sequence[Edit], others: Sequence[Edit]) -> Table | None:
        """Texts that are neither edited nor measured."""
        far = others[: self.config.unedited]
        if self.config.source is Origin.WORLD:
            asked = {prompt for prompt, _ in skills("skills", self.config.questions)}
            told = world_reference(others[len(far) :], asked)
            return Table(rows.source([("reference", [example_of(*pair, rows) for pair in told])], self.device))
        prompts = {prompt for edit in (*edits, *far) for prompt in (*edit.prompts, *edit.near)}
        kept = without(self._reference_texts(), prompts)
        return Table(Source(rows.texts(kept, rows.longest), self.device)) if kept else None

    def _reference_texts(self) -> list[str]:
        path = self.config.reference
        return [] if path is None else read_texts(find_file(self.root, path))

    def _all(self) -> tuple[Edit, ...]:
        source = self.config.source
        if source is Origin.WORLD:
            return world_edits()
        if source is Origin.FILE:
            return read_edits(find_file(self.root, Path(str(self.config.path))))
        return read_edits(find_file(self.root, Path(f"{source.value}_3k.json"), folders=("edits",)))

    def _chosen(self, seed: int, part: Part, split_seed: int | None, swap: bool) -> tuple[list[Edit], list[Edit]]:
        """Edits that are made, and those that are not."""
        pool, wanted = self.pool(part, split_seed, swap), self.config.edits
        if not pool or (wanted or 0) > len(pool):
            more = "" if part is Part.WHOLE else ", or use protocol=single, which takes both halves"
            raise IncompatibleError(
                f"the {'source' if part is Part.WHOLE else part.value} has {len(pool)} edits, and scenario.edits="
                f"{wanted} are asked for; lower it{more}"
            )
        draws = Random(derive(seed, "edits"))
        order = draws.sample(range(len(pool)), len(pool))
        made = [pool[i] for i in order[:wanted]]
        if self.config.source is Origin.WORLD:
            made = [replace(edit, target=another(edit.old, draws)) for edit in made]
        subjects = {edit.group for edit in made}
        return made, [pool[i] for i in order[len(made) :] if pool[i].group not in subjects]

    def _questioned(self, count: int, seed: int) -> list[int]:
        if self.config.asked is None or self.config.asked >= count:
            return list(range(count))
        return sorted(Random(derive(seed, "asked")).sample(range(count), self.config.asked))

    def _probes_of(
        self, rows: Rows, edits: Sequence[Edit], others: Sequence[Edit], asked: Sequence[int], arrivals: Tensor
    ) -> list[Probe]:
        """What is measured of edits beside their own prompts."""
        prompts = {edit.prompt for edit in edits}
        when = arrivals.tolist()
        wordings: dict[str, list[tuple[int, str, str]]] = {
            "generalisation": [(when[i], p, edits[i].target) for i in asked for p in edits[i].paraphrases],
            "generalisation_prefix": [(when[i], p, edits[i].target) for i in asked for p in edits[i].prefixed],
            "old_answer": [(when[i], edits[i].prompt, edits[i].old) for i in asked if edits[i].old],
        }
        near = [(when[i], p) for i in asked for p in edits[i].near if p not in prompts]
        far = [(0, edit.prompt) for edit in others[: self.config.unedited]]
        said = self._unedited(rows, [p for _, p in (*near, *far)])
        told = [(t, p, answer) for (t, p), answer in zip((*near, *far), said, strict=True)]
        units = {"old_answer": Unit.RESIDUE}
        found: list[Probe] = [
            self._probe(rows, name, questions, units.get(name, Unit.GAIN), spaced=True)
            for name, questions in wordings.items()
            if questions
        ]
        table = table_of(rows, [edits[i] for i in asked], arrivals[list(asked)], self.device)
        found.append(TeacherForcedProbe("teacher_forced", table.source, Unit.GAIN, table.column("label")))
        for name, questions in (("locality_near", told[: len(near)]), ("locality_far", told[len(near) :])):
            if questions:
                found.append(self._probe(rows, name, questions, Unit.ACCURACY, score="exact_match"))
        return found

    def probes(self, rows: Rows) -> tuple[Probe, ...]:
        """The world's skills, and what is named."""
        named = super().probes(rows)
        if self.config.source is not Origin.WORLD:
            return named
        asked = [(0, *asked) for asked in skills("skills", self.config.questions)]
        return (self._probe(rows, "capability", asked, Unit.ACCURACY), *named)

    def _probe(
        self,
        rows: Rows,
        name: str,
        asked: Sequence[tuple[int, str, str]],
        unit: Unit,
        score: str = SCORE,
        spaced: bool = False,
    ) -> AnswerProbe:
        """A probe of (experience, prompt, answer)."""
        examples = [example_of(p, a, rows) if spaced else TextExample("", p, (a,)) for _, p, a in asked]
        answers = TextAnswers(rows.words, tuple((example, score) for example in examples), self.config)
        # What a long answer of the unedited model would be as a row's own answer is not looked at.
        source = rows.source([(name, [replace(e, references=("",)) for e in examples])], self.device, numbered=True)
        arrivals = torch.tensor([when for when, *_ in asked], device=self.device)
        return AnswerProbe(name, source, answers, unit, arrivals)

    def _unedited(self, rows: Rows, prompts: Sequence[str]) -> list[str]:
        """What the model says to each prompt before any edit."""
        if not prompts:
            return []
        with seeding.isolated(0, "unedited"):
            model = build_causal(self.language_model(), self.config.max_answer, ("",)).to(self.device).eval()
        examples = [TextExample("", prompt, ("",)) for prompt in prompts]
        table = Table(rows.source([("unedited", examples)], self.device, numbered=True))
        answers = TextAnswers(rows.words, tuple((example, SCORE) for example in examples), self.config)
        batches = table.batches(ROWS)
        return [text for batch in batches for text in answers.said(model.predict(answers.question(batch)))]
