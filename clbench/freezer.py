"""Foreign objects as plain values and back: what a checkpoint may hold of a learner that is not ours.

`Freezer.freeze` turns an object graph into tensors, numbers, strings, lists and dicts with string keys, so that it can
be read back without pickle and has one digest. Values travel as they are; everything else becomes a dict with one key
that says what it is:

- ``list``, ``tuple``, ``dict`` (pairs), ``set`` (sorted), ``tensor``;
- ``name``: a class or function, by module and qualified name;
- ``generator``: one that has not begun, by its function and arguments;
- ``object``: its class, and what `object.__reduce_ex__` says of it;
- ``coded``: what a `Coder` makes of it;
- ``again``: an object met before, by its number in the order of first meeting, so that what was shared stays shared.
"""

from __future__ import annotations

import contextlib
import copyreg
import importlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, FunctionType, GeneratorType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

Freeze = Callable[[Any], Any]
"""Of a part of the graph; also its inverse."""


class Coder(ABC):
    """A class whose objects are written in a way of their own."""

    kind: ClassVar[type]

    @abstractmethod
    def freeze(self, value: Any, freeze: Freeze) -> Any:
        """Plain values for ``value``, its parts through ``freeze``."""

    @abstractmethod
    def thaw(self, plain: Any, thaw: Freeze) -> Any:
        """The object that `freeze` was given, its parts through ``thaw``."""


class Freezer:
    """Writes and reads objects of the classes it is told to trust.

    Args:
        packages: top-level packages whose classes and functions may be named, beside Python's containers.
        coders: for classes that are not written part by part.
    """

    def __init__(self, packages: Sequence[str], coders: Sequence[Coder] = ()) -> None:
        self.packages, self.coders = (*packages, "builtins", "collections"), tuple(coders)

    def freeze(self, value: Any) -> Any:
        """Plain values for ``value``; its tensors are handed on, not copied.

        Raises:
            TypeError: something in it is of a class that is not trusted, or has begun and cannot begin again.
        """
        return _Freezing(self).any(value)

    def thaw(self, plain: Any) -> Any:
        """A copy of the object that `freeze` was given.

        Raises:
            TypeError: it names something that is not trusted.
        """
        return _Thawing(self).any(plain)

    def find(self, name: str) -> Any:
        """The class or function called ``module:qualified.name``."""
        module, _, path = name.partition(":")
        if module.partition(".")[0] not in self.packages:
            raise TypeError(f"{name} is none of {', '.join(self.packages)}")
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
        return found

    def name(self, value: Any) -> str:
        """The inverse of `find`."""
        # torch's built-in functions do not say where they are to be found
        places = (f"{value.__module__}:{value.__qualname__}", f"torch:{value.__name__}")
        for name in places:
            with contextlib.suppress(TypeError, ImportError, AttributeError):
                if self.find(name) is value:
                    return name
        raise TypeError(f"{places[0]} cannot be found by its name, or is none of {', '.join(self.packages)}")


class _Freezing:
    """One graph on its way to plain values."""

    def __init__(self, freezer: Freezer) -> None:
        self.freezer = freezer
        self.numbers: dict[int, int] = {}
        self.alive: list[Any] = []  # an object's id is its own only as long as it lives

    def any(self, value: Any) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) is tuple:
            return {"tuple": [self.any(item) for item in value]}
        if isinstance(value, type | FunctionType | BuiltinFunctionType):
            return {"name": self.freezer.name(value)}
        if isinstance(value, torch.dtype):
            return {"name": str(value).replace(".", ":", 1)}
        if id(value) in self.numbers:
            return {"again": self.numbers[id(value)]}
        self.numbers[id(value)] = len(self.numbers)
        self.alive.append(value)
        return self._met_first(value)

    def _met_first(self, value: Any) -> Any:
        if type(value) is list:
            return {"list": [self.any(item) for item in value]}
        if type(value) is dict:
            return {"dict": self._pairs(value)}
        if type(value) in (set, frozenset):
            return {"set": [self.any(item) for item in sorted(value)], "frozen": type(value) is frozenset}
        if type(value) in (Tensor, nn.Parameter):
            # Where it is stands beside it: a checkpoint is read onto one device as a whole.
            kinds = {"parameter": type(value) is nn.Parameter, "grad": value.requires_grad}
            return {"tensor": value.detach(), "device": str(value.device), **kinds}
        for number, coder in enumerate(self.freezer.coders):
            if isinstance(value, coder.kind):
                return {"coded": coder.freeze(value, self.any), "coder": number}
        return self._generator(value) if isinstance(value, GeneratorType) else self._object(value)

    def _pairs(self, value: dict[Any, Any]) -> list[Any]:
        return [[self.any(key), self.any(item)] for key, item in value.items()]

    def _generator(self, value: GeneratorType[Any, Any, Any]) -> Any:
        if inspect.getgeneratorstate(value) != inspect.GEN_CREATED:
            raise TypeError(f"the generator {value.__qualname__} has begun")
        frame = value.gi_frame
        assert frame is not None, "it has not begun"
        name = f"{frame.f_globals['__name__']}:{value.__qualname__}"
        if self.freezer.find(name).__code__ is not value.gi_code:
            raise TypeError(f"{name} cannot be found by its name")
        return {"generator": name, "arguments": self._pairs(frame.f_locals)}

    def _object(self, value: Any) -> Any:
        how, arguments, state, items, pairs = (*value.__reduce_ex__(2), None, None, None)[:5]
        plainly = how is copyreg.__newobj__  # type: ignore[attr-defined]
        cls, *arguments = arguments if plainly else (how, *arguments)
        if not isinstance(cls, type):
            raise TypeError(f"a {type(value).__name__} cannot be written as plain values")
        return {
            "object": self.freezer.name(cls),
            "plainly": plainly,
            "arguments": [self.any(item) for item in arguments],
            "state": self.any(state),
            "items": [self.any(item) for item in items or ()],
            "pairs": [[self.any(key), self.any(item)] for key, item in pairs or ()],
        }


class _Thawing:
    """One graph on its way back; numbers are given as `_Freezing` gives them."""

    def __init__(self, freezer: Freezer) -> None:
        self.freezer = freezer
        self.made: list[Any] = []

    def any(self, plain: Any) -> Any:
        if not isinstance(plain, dict):
            return plain
        if "tuple" in plain:
            return tuple(self.any(item) for item in plain["tuple"])
        if "name" in plain:
            return self.freezer.find(plain["name"])
        if "again" in plain:
            return self.made[plain["again"]]
        number = len(self.made)
        self.made.append(None)
        return self._made_first(plain, number)

    def _made_first(self, plain: dict[str, Any], number: int) -> Any:
        # What can hold itself takes its number before its contents are made.
        if "list" in plain:
            self.made[number] = []
            self.made[number] += [self.any(item) for item in plain["list"]]
        elif "dict" in plain:
            self.made[number] = {}
            self.made[number].update(self._pairs(plain["dict"]))
        elif "object" in plain:
            self._object(plain, number)
        else:
            self.made[number] = self._whole(plain)
        return self.made[number]

    def _whole(self, plain: dict[str, Any]) -> Any:
        if "set" in plain:
            items = [self.any(item) for item in plain["set"]]
            return frozenset(items) if plain["frozen"] else set(items)
        if "tensor" in plain:
            tensor = plain["tensor"].to(plain["device"], copy=True)
            return nn.Parameter(tensor, plain["grad"]) if plain["parameter"] else tensor.requires_grad_(plain["grad"])
        if "coded" in plain:
            return self.freezer.coders[plain["coder"]].thaw(plain["coded"], self.any)
        function = self.freezer.find(plain["generator"])
        if not inspect.isgeneratorfunction(function):
            raise TypeError(f"{plain['generator']} is no generator function")
        return function(**dict(self._pairs(plain["arguments"])))

    def _pairs(self, pairs: list[Any]) -> list[tuple[Any, Any]]:
        return [(self.any(key), self.any(item)) for key, item in pairs]

    def _object(self, plain: dict[str, Any], number: int) -> None:
        cls = self.freezer.find(plain["object"])
        if not isinstance(cls, type):
            raise TypeError(f"{plain['object']} is no class")
        arguments = [self.any(item) for item in plain["arguments"]]
        self.made[number] = made = cls.__new__(cls, *arguments) if plain["plainly"] else cls(*arguments)
        self._fill(made, self.any(plain["state"]))
        for item in plain["items"]:
            made.append(self.any(item))
        for key, value in self._pairs(plain["pairs"]):
            made[key] = value

    @staticmethod
    def _fill(made: Any, state: Any) -> None:
        if state is None:
            return
        if hasattr(made, "__setstate__"):
            made.__setstate__(state)
        elif isinstance(state, tuple):  # (attributes, slots)
            vars(made).update(state[0] or {})
            for name, value in state[1].items():
                setattr(made, name, value)
        else:
            vars(made).update({sys.intern(name): value for name, value in state.items()})
