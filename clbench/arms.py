"""Studies of named arms: each arm is what a command line would say, and all its runs are kept and found again."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from clbench import record
from clbench.config import jobs
from clbench.executor import executors
from clbench.executors.processes import ProcessesConfig
from clbench.protocol import Protocol, Study, protocols
from clbench.record import Record, Status
from clbench.run import resolved_model

Arms = Mapping[str, Sequence[str]]
"""Words of a command line, ``KEY=VALUE``, by the arm's name."""


@dataclass(frozen=True)
class Arranged:
    """A study that its own script carries out.

    Attributes:
        arms: what each is told.
        shared: what all of them are told, scenario, protocol and seeds.
        quick: names of the arms that are enough for a first look.
        quick_seeds: the seeds that are enough for it.
        text: what the runs of each arm say, in Markdown.
    """

    arms: Arms
    shared: Sequence[str]
    quick: Sequence[str]
    quick_seeds: Sequence[int]
    text: Callable[[Mapping[str, tuple[Record, ...]]], str]

    def main(self, told: str | None, folder: Path, words: Sequence[str] | None = None) -> None:
        """Make the runs that are not there yet, then write ``findings.md`` beside them.

        Args:
            told: what the help says first.
            folder: of the study; runs are kept in ``runs`` within it, unless the command line says otherwise.
            words: the command line; None: the process's own.
        """
        parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--quick", action="store_true", help="a few arms and seeds")
        parser.add_argument("--output", type=Path, default=folder / "runs", help="where runs are kept")
        parser.add_argument("--workers", type=int, help="processes; one per core by default")
        asked = parser.parse_args(words)
        arms, shared = self._fewer() if asked.quick else (self.arms, self.shared)
        found = carry_out(arms, shared, asked.output, asked.workers, lambda name: print(name, flush=True))
        written = self.text(found)
        record.write_atomically(asked.output.parent / "findings.md", written.encode())
        print(written)

    def _fewer(self) -> tuple[Arms, Sequence[str]]:
        seeds = f"protocol.seeds=[{','.join(map(str, self.quick_seeds))}]"
        kept = [word for word in self.shared if not word.startswith("protocol.seeds=")]
        return {name: self.arms[name] for name in self.quick}, [*kept, seeds]


def carry_out(
    arms: Arms,
    shared: Sequence[str],
    output: Path,
    workers: int | None = None,
    done: Callable[[str], None] = lambda name: None,
) -> dict[str, tuple[Record, ...]]:
    """Make the runs of all arms that are not there yet, one thread each.

    Args:
        arms: what each is told.
        shared: what all of them are told, scenario, protocol and seeds.
        output: where runs are kept.
        workers: processes; one per core where None.
        done: told each arm's name when it is finished, in their order.

    Raises:
        ClbenchError: an arm cannot be put together; none has begun then.
    """
    studies = {name: _study([*shared, *words], output) for name, words in arms.items()}
    widest = sum(stage.runs for study, protocol in studies.values() for stage in protocol.plan(study))
    found: dict[str, tuple[Record, ...]] = {}
    with executors.build(ProcessesConfig(workers, 1), widest, "cpu") as executor, ThreadPoolExecutor(len(arms)) as pool:
        going = {name: pool.submit(one[1].carry_out, one[0], executor.submit) for name, one in studies.items()}
        for name, records in going.items():
            found[name] = records.result()
            done(name)
    return found


def by_arm(records: Sequence[Record], arms: Arms, shared: Sequence[str]) -> dict[str, tuple[Record, ...]]:
    """Finished runs of each arm in the order of their seeds; arms without runs are left out.

    Args:
        records: of the study, and of no other.
        arms: what each was told.
        shared: words, or their keys alone, that all arms were told and that do not tell them apart.
    """
    common = {word.partition("=")[0] for word in shared}
    told = {name: {word.partition("=")[0]: word.partition("=")[2] for word in words} for name, words in arms.items()}
    ended = [record for record in records if record.status is not Status.RUNNING]

    def asked(record: Record) -> dict[str, str]:
        return {key: value.lower() for key, value in record.asked.items() if key not in common}

    found = {
        name: sorted((r for r in ended if asked(r) == words), key=lambda r: r.seed) for name, words in told.items()
    }
    return {name: tuple(runs) for name, runs in found.items() if runs}


def _study(words: Sequence[str], output: Path) -> tuple[Study, Protocol]:
    (job,) = jobs([word.replace(" ", "") for word in words])
    config = job.config
    model = resolved_model(config.model, config.scenario, config.strategy)
    study = Study(config.scenario, config.strategy, model, "cpu", output, config.data.root, job.asked)
    return study, protocols.build(config.protocol)
