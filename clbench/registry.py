"""What can be named on the command line: one file, one name.

A name is its file's stem. Names and summaries are read without importing the files, so that listing them is quick
and a plugin whose package is missing still has a name.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from clbench.errors import ClbenchError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """The strategies (or scenarios, protocols, executors, trackers) by name.

    Args:
        kind: what a member is called in messages and on the command line, e.g. ``strategy``.
        package: the package whose modules are the members.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._members: dict[str, tuple[type[T], type]] = {}

    def register(self, config: type) -> Callable[[type[T]], type[T]]:
        """Declare the decorated class as its file's member, built from ``config``.

        Raises:
            ValueError: the file declares a second member.
        """

        def add(cls: type[T]) -> type[T]:
            name = cls.__module__.rpartition(".")[2]
            if name in self._members:
                raise ValueError(f"{cls.__module__} declares two {self.kind} classes; one file holds one")
            self._members[name] = (cls, config)
            return cls

        return add

    def names(self) -> list[str]:
        """Every name, sorted, without importing its file: the package's files and what users have registered."""
        package = importlib.import_module(self.package)
        files = {m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")}
        return sorted(files | self._members.keys())

    def summary(self, name: str) -> str:
        """First line of the file's docstring, read without importing it."""
        return self.certificate(name).partition("\n")[0]

    def certificate(self, name: str) -> str:
        """The file's docstring, read without importing it; what is wrong with the file where it cannot be parsed."""
        module = f"{self.package}.{self.checked(name)}"
        if name in self._members:
            module = self._members[name][0].__module__
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        try:
            return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
        except SyntaxError as error:
            return f"(cannot be parsed: line {error.lineno}: {error.msg})"

    def checked(self, name: str) -> str:
        """The name itself.

        Raises:
            UnknownNameError: no file has this name.
        """
        if name not in self.names():
            raise unknown(self.kind, name, self.names())
        return name

    def load(self, name: str) -> tuple[type[T], type]:
        """Import the file, unless a user's own module has registered the name, and return (class, config class).

        Raises:
            UnknownNameError: no file has this name.
            ClbenchError: the file cannot be imported, or declares nothing.
        """
        if name in self._members:
            return self._members[name]
        try:
            importlib.import_module(f"{self.package}.{self.checked(name)}")
        except ImportError as error:
            raise ClbenchError(f"{self.kind} {name!r} cannot be imported: {error}. Install what it needs") from error
        if name not in self._members:
            raise ClbenchError(f"{self.package}.{name} declares no {self.kind}; decorate its class with register(...)")
        return self._members[name]

    def name_of(self, config: Any) -> str:
        """The name whose file declares this config's class."""
        return type(config).__module__.rpartition(".")[2]

    def build(self, config: Any, *context: Any) -> T:
        """The member that takes ``config``, built from it and its context."""
        cls, _ = self.load(self.name_of(config))
        return cast(Callable[..., T], cls)(config, *context)


def unknown(kind: str, name: str, known: list[str]) -> UnknownNameError:
    """The error for a name that is not known: the nearest names, and all there are."""
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return UnknownNameError(f"unknown {kind} {name!r}.{hint} There are: {', '.join(known)}")
