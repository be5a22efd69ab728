"""JSON schemas of a task's outputs: whether one can be used, and why a text does not fit it. Pure, no network.

A schema is kept as JSON text. It is held to JSON Schema's own rules (draft 2020-12 unless `$schema` names another);
references go only to places inside it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any


def unfit(schema: Any) -> str:
    """Why this plain data is no schema for outputs; an empty string when it is one."""
    from jsonschema import exceptions, validators

    if not isinstance(schema, dict):
        return "a schema is an object"
    outside = next((ref for ref in _references(schema) if not ref.startswith("#")), None)
    if outside is not None:
        return f"it refers to {outside!r}, which is not inside the schema"
    try:
        validators.validator_for(schema, default=_default()).check_schema(schema)
    except exceptions.SchemaError as error:
        return _told(error)
    return ""


def misfit(schema: str, text: str) -> str:
    """Why a text is no JSON that fits the schema (JSON text); an empty string when it is."""
    try:
        data = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        return f"not JSON: {error}"
    from jsonschema.exceptions import best_match

    worst = best_match(_validator(schema).iter_errors(data))
    return "" if worst is None else _told(worst)


def _told(error: Any) -> str:
    """jsonschema's error in one line, with its place in the data where it is not the whole."""
    place = ".".join(map(str, error.absolute_path))
    return f"{place}: {error.message}" if place else str(error.message)


def _references(data: Any) -> Iterator[str]:
    """Every `$ref` and `$dynamicRef` in plain data."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            yield from _references(value)
    elif isinstance(data, list):
        for item in data:
            yield from _references(item)


@functools.lru_cache(maxsize=8)
def _validator(schema: str) -> Any:
    """The compiled schema. The empty registry keeps a reference from being fetched."""
    import referencing
    from jsonschema import validators

    data = json.loads(schema)
    kind = validators.validator_for(data, default=_default())
    return kind(data, registry=referencing.Registry())


def _default() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator


def _refuse(constant: str) -> None:
    """NaN and the infinities are Python's, not JSON's."""
    raise ValueError(f"{constant} is no JSON value")
