"""Plain data, as JSON and TOML give it, held to the types of our records all the way down.

A reader is made once for each type and then costs a call a value. A whole number passes for a float, as JSON does not
tell them apart; true and false are no numbers; numbers are finite and whole ones fit into 64 bits. Types are those that
records use: str, int, float, bool, None, Any, Literal, unions, tuples, lists, mappings with text keys, dataclasses.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

Reader = Callable[[Any], Any]

LARGEST = sys.float_info.max
LARGEST_WHOLE = 2**63 - 1
MAX_SHOWN = 40


class Misfit(ValueError):
    """What is wrong in the data, and `place`: the keys and positions that lead there, outermost first."""

    def __init__(self, what: str, place: tuple[str | int, ...] = (), hint: str = "") -> None:
        super().__init__(what)
        self.what, self.place, self.hint = what, place, hint

    def inside(self, key: str | int) -> Misfit:
        """The same, seen from one level further out."""
        return Misfit(self.what, (key, *self.place), self.hint)

    def __str__(self) -> str:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in self.place)
        return f"{place.removeprefix('.')} {self.what}".lstrip()


@functools.cache
def reader(hint: Any) -> Reader:
    """What turns plain data into a value of the type. It raises Misfit."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in SIMPLE:
        return SIMPLE[hint]
    if origin is Literal:
        return _literal(args)
    if origin in (types.UnionType, typing.Union):
        return _union(args)
    if origin is tuple:
        return _items(args[0], tuple) if args[-1] is Ellipsis else _fixed(args)
    if origin is list:
        return _items(args[0], list)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(args[1])
    if dataclasses.is_dataclass(hint):
        return _record(hint)
    raise TypeError(f"no reader for {hint}")


def shown(value: Any) -> str:
    """A value from a file, short enough for a message."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "\u2026"


def _anything(value: Any) -> Any:
    return value


def _text(value: Any) -> Any:
    if type(value) is str:
        return value
    raise Misfit("is not a text")


def _truth(value: Any) -> Any:
    if type(value) is bool:
        return value
    raise Misfit("is not true or false")


def _whole(value: Any) -> Any:
    if type(value) is int and -LARGEST_WHOLE <= value <= LARGEST_WHOLE:
        return value
    raise Misfit("is too large" if type(value) is int else "is not a whole number")


def _number(value: Any) -> Any:
    if type(value) is float or type(value) is int:
        if -LARGEST <= value <= LARGEST:  # neither does NaN
            return value
        raise Misfit("is not a finite number")
    raise Misfit("is not a number")


def _nothing(value: Any) -> Any:
    if value is None:
        return None
    raise Misfit("is not null")


def _path(value: Any) -> Any:
    if type(value) is str and "\0" not in value:
        return Path(value)
    raise Misfit("is not a path")


def _table(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    raise Misfit("is not an object")


SIMPLE: Mapping[Any, Reader] = {
    Any: _anything,
    str: _text,
    bool: _truth,
    int: _whole,
    float: _number,
    type(None): _nothing,
    Path: _path,
    dict: _table,
}


def _literal(known: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is str and value in known:
            return value
        raise Misfit(f"is not one of {', '.join(map(str, known))}")

    return read


def _union(kinds: tuple[Any, ...]) -> Reader:
    """The first kind that the value is of; the words are those of the first."""
    optional = type(None) in kinds
    first, *others = [reader(kind) for kind in kinds if kind is not type(None)]

    def read(value: Any) -> Any:
        if value is None and optional:
            return None
        for other in others:
            try:
                return other(value)
            except Misfit:
                continue
        return first(value)

    return read


def _items(kind: Any, made: type) -> Reader:
    item = reader(kind)

    def read(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise Misfit("is not a list")
        found: list[Any] = []
        try:
            for one in value:
                found.append(item(one))
        except Misfit as wrong:
            raise wrong.inside(len(found)) from None
        return made(found)

    return read


def _fixed(kinds: tuple[Any, ...]) -> Reader:
    readers = [reader(kind) for kind in kinds]

    def read(value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or len(value) != len(readers):
            raise Misfit(f"is not a list of {len(readers)}")
        found: list[Any] = []
        try:
            for item, one in zip(readers, value, strict=True):
                found.append(item(one))
        except Misfit as wrong:
            raise wrong.inside(len(found)) from None
        return tuple(found)

    return read


def _mapping(kind: Any) -> Reader:
    item = reader(kind)

    def read(value: Any) -> Any:
        found = {}
        for key, one in _table(value).items():
            try:
                found[_text(key)] = item(one)
            except Misfit as wrong:
                raise wrong.inside(key) from None
        return found

    return read


def _record(cls: Any) -> Reader:
    hints = typing.get_type_hints(cls)
    fields = {one.name: reader(hints[one.name]) for one in dataclasses.fields(cls) if one.init}

    def read(data: Any) -> Any:
        found = {}
        for key, value in _table(data).items():
            try:
                found[key] = fields[key](value)
            except KeyError:
                hint = "Was this file written by a newer sg-local?"
                raise Misfit(f"unknown key {shown(key)!r}", hint=hint) from None
            except Misfit as wrong:
                raise wrong.inside(key) from None
        try:
            return cls(**found)
        except TypeError:
            missing = _missing(cls, found)
            if missing is None:
                raise
            raise Misfit("is missing", (missing,)) from None

    return read


def _missing(cls: Any, found: Mapping[str, Any]) -> str | None:
    """The first field that has no default and stands not in the data."""
    for one in dataclasses.fields(cls):
        bare = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        if bare and one.init and one.name not in found:
            return one.name
    return None
