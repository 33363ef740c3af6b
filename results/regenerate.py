"""Make everything anew that is told from the measured runs: reports, findings, the README's tables and picture.

    python results/regenerate.py            # write what differs
    python results/regenerate.py --check    # name what differs, and exit with 1

A study is a folder of `results/measured` with ``runs/`` in it. The README holds a table between the lines
``<!-- results/measured/STUDY/report.md 1 -->`` (1 = the first table of that report) and ``<!-- end -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the code that stands beside these results, whatever is installed

from clbench.report import index, summary, tables  # noqa: E402
from clbench.report.view import View  # noqa: E402

FORMATS = {"csv": "csv", "md": "markdown", "tex": "latex", "svg": "svg"}
MARKED = re.compile(r"(<!-- (\S+/report\.md) (\d+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(words: Sequence[str]) -> int:
    """Write, or check; the exit status."""
    differing = 0
    for path, text in made():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            differing += 1
            print(path.relative_to(ROOT))
            if "--check" not in words:
                path.write_text(text, encoding="utf-8")
    return int("--check" in words and differing > 0)


def made() -> Iterator[tuple[Path, str]]:
    """Every file that is told from the runs, and what has to stand in it."""
    found: dict[str, str] = {}
    for study in studies():
        for path, text in reports(study):
            found[str(path.relative_to(ROOT))] = text
            yield path, text
        if (study / "findings.py").exists():
            yield study / "findings.md", findings(study)
    yield ROOT / "README.md", readme((ROOT / "README.md").read_text(encoding="utf-8"), found)


def studies() -> list[Path]:
    """Folders of measured runs."""
    return sorted(path.parent for path in (ROOT / "results" / "measured").rglob("runs"))


def reports(study: Path) -> Iterator[tuple[Path, str]]:
    """A study's tables and picture, as `clbench report` makes them."""
    runs = index.read([study / "runs"])
    folder = (study / "runs").relative_to(ROOT)
    for ending, form in FORMATS.items():
        view = View(command=f"clbench report {folder} --format {form}")
        if form == "svg":
            yield study / f"report.{ending}", summary.to_svg(runs, view)
        else:
            yield study / f"report.{ending}", tables.report(runs, form, view)


def findings(study: Path) -> str:
    """What the study's own script says of its runs."""
    words = [sys.executable, str(study / "findings.py"), str(study / "runs")]
    where = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=ROOT, env=where, capture_output=True, text=True, check=True).stdout


def readme(text: str, found: dict[str, str]) -> str:
    """The README with its tables as the reports have them.

    Args:
        text: of the README.
        found: text of each report, by its path from the root.
    """

    def table(match: re.Match[str]) -> str:
        report, number = match[2], int(match[3])
        shown = re.split(r"^### .*\n", found[report], flags=re.MULTILINE)[number]
        kept = re.sub(r"^\*(Made by|From|Left out).*\n", "", shown, flags=re.MULTILINE).strip()
        return f"{match[1]}{kept}\n{match[4]}"

    return MARKED.sub(table, text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
