"""The JSON schema that a few outputs have in common: their keys, their types, nothing about their values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import reduce
from typing import Any

from sg_local.reading import loads


def schema_of(outputs: Sequence[str]) -> str:
    """A schema, as JSON text, that all the outputs fit; '' where one of them is no JSON object or list."""
    try:
        found = [loads(output) for output in outputs]
    except ValueError:
        return ""
    if not found or not all(isinstance(data, (dict, list)) for data in found):
        return ""
    return json.dumps(reduce(_merged, map(_shape, found)), ensure_ascii=False)


def _shape(data: Any) -> dict[str, Any]:
    if isinstance(data, dict):
        shapes = {key: _shape(value) for key, value in data.items()}
        return {"type": "object", "properties": shapes, "required": [*data], "additionalProperties": False}
    if isinstance(data, list):
        return {"type": "array", **({"items": reduce(_merged, map(_shape, data))} if data else {})}
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"))
    return {"type": next((name for kind, name in kinds if isinstance(data, kind)), "null")}


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The shape of what has either shape."""
    both = {**one, **other, "type": _types(one["type"], other["type"])}
    if "items" in one and "items" in other:
        both["items"] = _merged(one["items"], other["items"])
    if "properties" in one and "properties" in other:
        first, second = one["properties"], other["properties"]
        shared = {key: _merged(shape, second[key]) for key, shape in first.items() if key in second}
        both["properties"] = {**first, **second, **shared}
        both["required"] = [key for key in one["required"] if key in other["required"]]
    return both


def _types(one: str | list[str], other: str | list[str]) -> str | list[str]:
    """The types of either, each once; a whole number is a number, too."""
    names = [*([one] if isinstance(one, str) else one), *([other] if isinstance(other, str) else other)]
    found = [name for name in dict.fromkeys(names) if name != "integer" or "number" not in names]
    return found[0] if len(found) == 1 else found
