"""What a learner is asked between experiences: test sets, probes, and answers that are kept to be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import torch

from clbench import record, seeding
from clbench.record import Measurement, ProbeMeasurement, Setting
from clbench.scenario import Stream
from clbench.strategy import Strategy
from clbench.table import Table
from clbench.texts.tokens import rows_at_once

BATCH = 256  # test examples per call of predict; fewer long texts
KEPT = 20  # answers per experience that are kept to be read


def measure(strategy: Strategy, stream: Stream, after: int) -> tuple[Measurement, ...]:
    """What `examine` measures."""
    return examine(strategy, stream, after)[0]


def examine(strategy: Strategy, stream: Stream, after: int) -> tuple[tuple[Measurement, ...], list[dict[str, str]]]:
    """Score answers on the test sets, in one pass over all of them.

    Args:
        strategy: what answers.
        stream: what is asked.
        after: experiences learnt so far; the stream is asked about those. Task-incremental streams are always asked
            about all, since forward transfer is defined there, and texts before any training: what could be done then
            can be lost.

    Returns:
        One measurement per experience, and what was said on the first test examples of each, where it can be read.
    """
    ahead = stream.setting is Setting.TASK_INCREMENTAL or (stream.setting.in_words and not after)
    asked = stream.experiences if ahead else stream.experiences[:after]
    if not asked:
        return (), []
    test = Table(asked[0].test.source, torch.cat([e.test.rows for e in asked]))
    scores: list[float] = []
    transcript: list[dict[str, str]] = []
    with seeding.isolated(strategy.problem.seed, "measure", after):
        for batch in test.batches(rows_at_once(test.source.columns, BATCH)):
            predictions = strategy.predict(stream.answers.question(batch))
            scores += stream.answers.scores(predictions, batch)
            transcript += stream.answers.transcript(predictions, batch)
    measured, kept, start = [], [], 0
    for experience in asked:
        stop = start + len(experience.test)
        measured.append(Measurement(after, experience.index, sum(scores[start:stop]), stop - start))
        kept += [{"experience": experience.name, **said} for said in transcript[start : min(stop, start + KEPT)]]
        start = stop
    return tuple(measured), kept


def probe(strategy: Strategy, stream: Stream, after: int) -> tuple[ProbeMeasurement, ...]:
    """Measure the stream's probes, ``after`` so many experiences."""
    with seeding.isolated(strategy.problem.seed, "probe", after):
        found = [(one, one.measure(strategy, after)) for one in stream.probes]
    return tuple(ProbeMeasurement(after, one.name, one.unit.value, *outcome) for one, outcome in found)


def keep_generations(folder: Path, after: int, said: dict[str, Any]) -> None:
    """Write ``generations/after_N.json.gz``, so that answers can be read and scored again."""
    text = json.dumps(said, ensure_ascii=False, indent=1).encode()
    record.write_atomically(folder / "generations" / f"after_{after}.json.gz", gzip.compress(text, mtime=0))
