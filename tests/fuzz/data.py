"""Changes to plain data: JSON is read, changed and written again, so that it is well-formed but not as expected."""

from __future__ import annotations

import json
import random
from typing import Any

from mutators import ODD_TEXTS, text_changed


class Twin(str):
    """A key that stands a second time beside its like: JSON's writer takes it, no dictionary merges it."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def json_changed(rng: random.Random, data: bytes) -> bytes:
    """A JSON text with one value, key or place changed; other bytes are changed as text."""
    try:
        value = json.loads(data)
        text = json.dumps(data_changed(rng, value), ensure_ascii=rng.random() < 0.5)
    except (ValueError, RecursionError):
        return text_changed(rng, data)
    return text.encode("utf-8", "surrogatepass")


def json_line_changed(rng: random.Random, data: bytes) -> bytes:
    """JSON lines with one of them changed, as data."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = json_changed(rng, lines[at]) if lines[at].strip() else lines[at]
    return b"\n".join(lines)


def data_changed(rng: random.Random, data: Any) -> Any:
    """Plain data with one change somewhere in it."""
    places = list(_places(data))
    if not places:
        return odd_value(rng, data)
    inside, key = rng.choice(places)
    change = rng.choice((_set_odd, _set_odd, _set_odd, _remove, _twin, _rename, _add, _multiply, _wrap, _swap))
    change(rng, inside, key)
    return data


def odd_value(rng: random.Random, value: Any) -> Any:
    """Another value, of another kind mostly."""
    made = (
        lambda: rng.choice(ODD_TEXTS),
        lambda: rng.choice((0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, 10**400, 10**5, 0.5, -0.0, 1e308)),
        lambda: rng.choice((float("nan"), float("inf"), float("-inf"))),
        lambda: rng.choice((None, True, False, [], {}, [None], [[]], [{}], {"": ""}, {"a": {}}, ["a"], [1], [[1, 2]])),
        lambda: [value],
        lambda: {"a": value},
        lambda: str(value),
        lambda: [value, odd_value(rng, value)],
    )
    return rng.choice(made)()


def _places(data: Any) -> Any:
    """Every (container, key) of the data."""
    waiting = [data]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            yield one, key
            waiting.append(one[key])


def _set_odd(rng: random.Random, inside: Any, key: Any) -> None:
    inside[key] = odd_value(rng, inside[key])


def _remove(rng: random.Random, inside: Any, key: Any) -> None:
    del inside[key]


def _twin(rng: random.Random, inside: Any, key: Any) -> None:
    if isinstance(inside, dict):
        inside[Twin(key)] = rng.choice((inside[key], odd_value(rng, inside[key])))
    else:
        inside.insert(key, inside[key])


def _rename(rng: random.Random, inside: Any, key: Any) -> None:
    if isinstance(inside, dict):
        inside[rng.choice((f"{key} ", str(key).upper(), rng.choice(ODD_TEXTS), "id", "name"))] = inside.pop(key)


def _add(rng: random.Random, inside: Any, key: Any) -> None:
    if isinstance(inside, dict):
        inside[rng.choice((*ODD_TEXTS, "extra", "__class__", "$ref", "$schema"))] = odd_value(rng, inside[key])
    else:
        inside.append(odd_value(rng, inside[key]))


def _multiply(rng: random.Random, inside: Any, key: Any) -> None:
    n = rng.choice((2, 5, 30)) if rng.random() < 0.97 else 3000
    if isinstance(inside, list):
        inside[key:key] = [inside[key]] * n
    else:
        inside.update({f"{key}{i}": inside[key] for i in range(n)})


def _wrap(rng: random.Random, inside: Any, key: Any) -> None:
    value = inside[key]
    for _ in range(rng.choice((1, 2, 10, 98, 150, 900))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    inside[key] = value


def _swap(rng: random.Random, inside: Any, key: Any) -> None:
    other = rng.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
    inside[key], inside[other] = inside[other], inside[key]
