"""JSON schemas of a task's outputs: whether one can be used, and why a text does not fit it. Pure, no network.

A schema is kept as JSON text. It is held to JSON Schema's own rules (draft 2020-12 unless `$schema` names another);
references go only to places inside it. Somebody else may have written it, so whatever could go on for ever is refused
or bounded: references in a circle that take no step into the data, and patterns, which get PATTERN_S for a text.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from sg_local.reading import loads

MAX_BYTES = 200_000
MAX_PATTERN = 1000  # characters
MAX_REPEATED = 20_000  # characters of a pattern with its counts written out, which is what it takes in memory
PATTERN_S = 0.2  # for one pattern and one text; an honest one needs microseconds
MAX_STEPS = 20_000  # keywords held against one text, half a second at most; an honest output takes some hundred
REFERENCES = ("$ref", "$dynamicRef")
BY_NAME = ("dependentSchemas",)
IN_PLACE = ("not", "if", "then", "else", "allOf", "anyOf", "oneOf", *BY_NAME)
"""Keywords whose schemas look at the same data as the schema that holds them, beside references."""
TOKEN = regex.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?:\d*,)?(?P<most>\d+)?\}|.", regex.DOTALL)
"""The parts of a regular expression, a set of characters being one; `most` is the larger end of a count."""

Keyword = Callable[[Any, Any, Any, Any], Any]


def unfit(schema: Any) -> str:
    """Why this plain data is no schema for outputs; an empty string when it is one."""
    from jsonschema import exceptions, validators
    from referencing.exceptions import Unresolvable

    if not isinstance(schema, dict):
        return "a schema is an object"
    if len(json.dumps(schema, ensure_ascii=False)) > MAX_BYTES:
        return f"it is longer than {MAX_BYTES // 1000} kB"
    if not isinstance(schema.get("$schema", ""), str):
        return "$schema is not a text"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a pattern may mean in later versions of Python
            validators.validator_for(schema, default=_default()).check_schema(schema)
        resolver = _resolver(schema)
        parts = _parts(schema, resolver)
        return _wrong_reference(schema, parts) or _circle(parts, resolver) or _wrong_pattern(parts)
    except exceptions.SchemaError as error:
        return _told(error)
    except Unresolvable as error:
        return f"it refers to {error.ref!r}, which it does not hold"
    except (OverflowError, RecursionError, ValueError) as error:  # ValueError: a reference that is no address
        return f"it cannot be checked ({error})"


def misfit(schema: str, text: str) -> str:
    """Why a text is no JSON that fits the schema (JSON text); an empty string when it is."""
    try:
        data = loads(text)
    except ValueError as error:
        return f"not JSON: {error}"
    from jsonschema.exceptions import best_match

    validator, work = _validator(schema)
    work.n = 0
    try:
        worst = best_match(validator.iter_errors(data))
    except (TooMuch, RecursionError, ArithmeticError) as error:
        return f"it cannot be checked ({error})"
    return "" if worst is None else _told(worst)


def _told(error: Any) -> str:
    """jsonschema's error in one line, with its place in the data where it is not the whole."""
    place = ".".join(map(str, error.absolute_path))
    return f"{place}: {error.message}" if place else str(error.message)


def _wrong_reference(schema: dict[str, Any], parts: Sequence[dict[str, Any]]) -> str:
    """Why the references of a schema with these parts cannot be followed."""
    for part in parts:
        outside = next((part[key] for key in REFERENCES if not str(part.get(key, "#")).startswith("#")), None)
        if outside is not None:
            return f"it refers to {outside!r}, which is not inside the schema"
        if part is not schema and "$id" in part:
            return "a part of it has an $id of its own, so that references would change their meaning"
    return ""


def _circle(parts: Sequence[dict[str, Any]], resolver: Any) -> str:
    """Why following references would never end: a schema that comes back to itself for the same data."""
    is_open: dict[int, bool] = {}  # by a schema's identity: True while it is being followed, False when it ends
    for part in parts:
        way: list[tuple[int, Iterator[dict[str, Any]]]] = []
        ahead: dict[str, Any] | None = part
        while ahead is not None or way:
            if ahead is None:
                is_open[way.pop()[0]] = False
            elif is_open.get(id(ahead)):
                return "a reference of it leads back to itself"
            elif id(ahead) not in is_open:
                is_open[id(ahead)] = True
                way.append((id(ahead), _same_data(ahead, resolver)))
            ahead = next(way[-1][1], None) if way else None
    return ""


def _same_data(part: Mapping[str, Any], resolver: Any) -> Iterator[dict[str, Any]]:
    """The schemas that look at the same data as this one."""
    for key in IN_PLACE:
        value = part.get(key)
        found = value if isinstance(value, list) else list(value.values()) if key in BY_NAME and value else [value]
        yield from (one for one in found if isinstance(one, dict))
    yield from _targets(part, resolver)


def _targets(part: Mapping[str, Any], resolver: Any) -> Iterator[dict[str, Any]]:
    """The schemas that this one refers to."""
    for key in REFERENCES:
        if key in part:
            found = resolver.lookup(part[key]).contents
            yield from [found] if isinstance(found, dict) else []


def _parts(schema: dict[str, Any], resolver: Any) -> list[dict[str, Any]]:
    """The schema and every schema in it, those that are only referred to included. Raises Unresolvable."""
    from referencing.jsonschema import DRAFT202012

    seen, todo = set(), [schema]
    found = []
    while todo:
        part = todo.pop()
        if not isinstance(part, dict) or id(part) in seen:
            continue
        seen.add(id(part))
        found.append(part)
        todo += DRAFT202012.subresources_of(part)
        todo += _targets(part, resolver) if all(str(part.get(key, "#")).startswith("#") for key in REFERENCES) else ()
    return found


def _wrong_pattern(parts: Sequence[dict[str, Any]]) -> str:
    """Why a pattern of a schema with these parts cannot be used."""
    for part in parts:
        for pattern in (*([part["pattern"]] if "pattern" in part else []), *part.get("patternProperties", {})):
            if len(pattern) > MAX_PATTERN:
                return f"a pattern has more than {MAX_PATTERN} characters"
            if _written_out(pattern) > MAX_REPEATED:
                return f"the counts in the pattern {pattern!r} multiply to too much"
            try:
                regex.compile(pattern)
            except (regex.error, OverflowError, RecursionError) as error:
                return f"the pattern {pattern!r} is not a regular expression ({error})"
    return ""


def _written_out(pattern: str) -> int:
    """The characters that a pattern has when what stands before {n} is written n times, groups within groups."""
    sizes, last = [0], 0
    for token in TOKEN.finditer(pattern):
        text = token[0]
        if text == "(":
            sizes.append(0)
            last = 0
        elif text == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif token["most"]:
            sizes[-1] += last * (int(token["most"][:9]) - 1)
        else:
            last = 1
            sizes[-1] += 1
    return sum(sizes)


class TooMuch(Exception):
    """A text takes more steps to check than any honest one."""


@dataclass
class Work:
    """The keywords that were held against one text so far."""

    n: int = 0

    def counted(self, keyword: Keyword) -> Keyword:
        """A keyword's check that counts."""

        def check(validator: Any, value: Any, data: Any, schema: Any) -> Any:
            self.n += 1
            if self.n > MAX_STEPS:
                raise TooMuch("it takes too many steps")
            return keyword(validator, value, data, schema)

        return check


@functools.lru_cache(maxsize=8)
def _validator(schema: str) -> tuple[Any, Work]:
    """The compiled schema and its count. The empty registry keeps a reference from being fetched."""
    import referencing
    from jsonschema import validators

    data, work = json.loads(schema), Work()
    kind = validators.validator_for(data, default=_default())
    own = {"pattern": _check_pattern, "patternProperties": _check_named, "uniqueItems": _check_unique}
    keywords = {name: work.counted(check) for name, check in {**kind.VALIDATORS, **own}.items()}
    return validators.extend(kind, keywords)(data, registry=referencing.Registry()), work


def _resolver(schema: dict[str, Any]) -> Any:
    """What follows the schema's references inside it."""
    import referencing
    from referencing.jsonschema import DRAFT202012

    resource = referencing.Resource.from_contents(schema, default_specification=DRAFT202012)
    return referencing.Registry().resolver_with_root(resource)


def _check_pattern(validator: Any, pattern: str, data: Any, schema: Any) -> Iterator[Any]:
    """The keyword `pattern`, within PATTERN_S."""
    from jsonschema import ValidationError

    if validator.is_type(data, "string") and not _is_found(pattern, data):
        yield ValidationError(f"{data!r} does not match {pattern!r}")


def _check_named(validator: Any, given: Mapping[str, Any], data: Any, schema: Any) -> Iterator[Any]:
    """The keyword `patternProperties`, within PATTERN_S for each name."""
    if validator.is_type(data, "object"):
        for pattern, part in given.items():
            for name, value in data.items():
                if _is_found(pattern, name):
                    yield from validator.descend(value, part, path=name, schema_path=pattern)


def _check_unique(validator: Any, is_asked: bool, data: Any, schema: Any) -> Iterator[Any]:
    """The keyword `uniqueItems`, in one pass."""
    from jsonschema import ValidationError

    if is_asked and validator.is_type(data, "array") and len(set(map(_canonical, data))) < len(data):
        yield ValidationError("has items that are the same")


def _canonical(data: Any) -> str:
    """Text that is the same for the same JSON value: 1 and 1.0 are, and the order of keys does not count."""
    if isinstance(data, dict):
        return "{" + ",".join(sorted(f"{json.dumps(key)}:{_canonical(value)}" for key, value in data.items())) + "}"
    if isinstance(data, list):
        return "[" + ",".join(map(_canonical, data)) + "]"
    whole = isinstance(data, float) and data.is_integer()
    return json.dumps(int(data) if whole else data)


def _is_found(pattern: str, text: str) -> bool:
    """Whether the pattern is in the text; one that takes too long is not."""
    try:
        return regex.search(pattern, text, timeout=PATTERN_S) is not None
    except TimeoutError:
        return False


def _default() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator
