"""How near an answer in JSON is to a right one, field by field. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sg_local.reading import loads
from sg_local.splitting import folded


@dataclass(frozen=True)
class Likeness:
    """How near an answer is to a right one: `f1` over all values, 0 to 1; whether each field of the right one is right.

    A field is a path of keys, `customer.name`; the items of a list share one, `items[].name`, and stand in any order.
    """

    f1: float
    fields: Mapping[str, bool]

    @property
    def exact(self) -> float:
        """The share of the right answer's fields that are right."""
        return sum(self.fields.values()) / len(self.fields) if self.fields else float(self.f1 == 1.0)


def likeness(text: str, right: str) -> Likeness:
    """An answer's likeness to a right output, both JSON text. Texts count as equal but for case and white space.

    An answer that is no JSON has no field right; nor has any where the right output is none.
    """
    answered, wanted = _fields(text), _fields(right)
    if wanted is None:
        return Likeness(0.0, {})
    fields = {path: answered is not None and answered.get(path) == values for path, values in wanted.items()}
    if answered is None:
        return Likeness(0.0, fields)
    n_both = sum((wanted[path] & answered[path]).total() for path in wanted.keys() & answered.keys())
    n_all = sum(values.total() for found in (wanted, answered) for values in found.values())
    return Likeness(2 * n_both / n_all if n_all else 1.0, fields)


def _fields(text: str) -> dict[str, Counter[Any]] | None:
    """The values at each path of JSON text, and how often each stands there; None where it is no JSON."""
    try:
        data = loads(text)
    except ValueError:
        return None
    found: dict[str, Counter[Any]] = {}
    for path, value in _leaves(data, ""):
        found.setdefault(path, Counter())[value] += 1
    return found


def _leaves(data: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, value) of every value that holds no others; an empty object or list counts as a value."""
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(data, list) and data:
        for value in data:
            yield from _leaves(value, f"{path}[]")
    elif isinstance(data, str):
        yield path, folded(data)
    else:
        yield path, (isinstance(data, bool), json.dumps(data) if isinstance(data, list | dict) else data)
