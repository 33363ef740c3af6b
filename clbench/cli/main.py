"""The first word, and what becomes of errors. Nothing heavy is imported before a command is known."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import sys
from pathlib import Path

from clbench import __version__
from clbench.errors import ClbenchError
from clbench.registry import unknown

HELP = """clbench measures how much a method forgets, how much it can still learn, and at what cost.

usage: clbench COMMAND ...

{commands}

Begin with:
  clbench run                                   naive fine-tuning on digits, tuned and reported apart
  clbench run strategy=naive,hft                two methods, compared
  clbench run scenario=cifar100 strategy=hft    the real thing
  clbench run strategy=mos protocol=single      a method on a pre-trained model, whose weights come along
  clbench COMMAND --help                        what a command takes
"""


def commands() -> dict[str, str]:
    """Each command and the first line of its file's docstring, without importing it."""
    folder = Path(__file__).parent
    found = {}
    for module in pkgutil.iter_modules([str(folder)]):
        if module.name.startswith("command_"):
            text = ast.get_docstring(ast.parse((folder / f"{module.name}.py").read_text(encoding="utf-8"))) or ""
            found[module.name.removeprefix("command_")] = text.partition("\n")[0]
    return found


def main() -> None:
    """Entry point of `clbench`; exits with 0, with 2 after a user's mistake, with 1 after any other failure."""
    # Threads that wait for each other would otherwise spin, which costs a small network's step on a machine that has
    # other work as well 25 times its time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Carry a command line out; its exit status."""
    known = commands()
    if not words or words[0] in ("-h", "--help"):
        print(HELP.format(commands="\n".join(f"  {name:8} {text}" for name, text in known.items())))
        return 0
    if words[0] == "--version":
        print(f"clbench {__version__}")
        return 0
    try:
        if words[0] not in known:
            raise unknown("command", words[0], sorted(known))
        command = importlib.import_module(f"clbench.cli.command_{words[0]}")
        return int(command.run(words[1:]))
    except ClbenchError as error:
        print(f"clbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("clbench: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
