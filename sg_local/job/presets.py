"""Named sets of values for the stages' settings, and the typed way to change single ones.

A preset maps a stage to values by field, for each kind of task. `recommended` is what the settings' own defaults
say, and in classification an adapter in the last half of the layers; `lean` trains on prompts with all demonstrations,
one and none, and asks the tuned model without any; `paper` is SELF-GUIDE as published (arXiv 2407.12874 and its
released code; LoRA instead of all weights). A preset file is TOML with a table for each stage: [synth], [filter],
[train]; its key `base` names the shipped preset that it changes (unset: `recommended`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from sg_local.job.quantities import quantity_of
from sg_local.reading import read_toml
from sg_local.records import Kind, SgError
from sg_local.words import brief, did_you_mean

TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
LARGEST: Mapping[type, float] = {int: 2**63 - 1, float: sys.float_info.max}

T = TypeVar("T")
Values = Mapping[str, Any]
Preset = Mapping[str, Values]

AS_PUBLISHED = "paper"
PAPER_SYNTH = {
    "n_inputs": None,
    "style": "paper",
    "balance": False,
    "round_size": 10,
    "n_pool": 10,
    "n_per_draw": 1,
    "hotter": 0.0,
    "top_p": 1.0,
    "n_votes": 10,
    "vote_temperature": 0.2,
    "channel": False,
}
PAPER_FILTER = {
    "policy": "voted",
    "evidence": "direct",
    "near_duplicate": {"on": False},
    "copied_example": {"on": False},
    "named_label": {"on": False},
    "refusal": {"on": False},
    "grounding": {"on": False},
    "copied_input": {"on": False},
    "copied_output": {"on": False},
    "balance": {"ratio": 1.0, "at_least": 0},
}
PAPER_EVAL = {"n_votes": 10, "vote_temperature": 0.2, "ensemble": 0}
PAPER_TRAIN = {"epochs": 3.0, "batch_size": 1, "warmup": 0.0, "patience": 0}
LAST_HALF: Values = {"layer_share": 0.5}
LEAN: Values = {"shown": ("all", "1", "0")}
PRESETS: Mapping[str, Mapping[Kind, Preset]] = {
    "recommended": {"classification": {"train": LAST_HALF}, "generation": {}},
    "lean": {"classification": {"train": {**LAST_HALF, **LEAN}}, "generation": {"train": LEAN}},
    AS_PUBLISHED: {
        "classification": {
            "synth": {**PAPER_SYNTH, "n_asked": 400, "temperature": 0.6},
            "filter": {**PAPER_FILTER, "output_length": {"on": False}},
            "train": PAPER_TRAIN,
            "eval": PAPER_EVAL,
        },
        "generation": {
            "synth": {**PAPER_SYNTH, "n_asked": 200, "temperature": 1.0},
            "filter": PAPER_FILTER,
            "train": PAPER_TRAIN,
            "eval": PAPER_EVAL,
        },
    },
}


def load_preset(name: str, kind: Kind) -> Preset:
    """A shipped preset's values for this kind of task, or those of a TOML file."""
    base, values = preset_base(name)
    return merged(PRESETS[base][kind], values)


def kept_preset(name: str, path: Path) -> str:
    """The preset that a run was made with, as the file `path` has it. Raises SgError where there is none any more."""
    if name in PRESETS or Path(name).is_file():
        return name
    raise SgError(
        f"{path}: there is no preset {brief(name, 60)!r} now.", "Put its file back, or give another `preset`."
    )


def preset_base(name: str) -> tuple[str, dict[str, Any]]:
    """The shipped preset behind a preset's name or file, and what the file changes in it."""
    if name in PRESETS:
        return name, {}
    path = Path(name)
    if not path.is_file():
        hint = f"Use {' or '.join(PRESETS)}, or the path of a TOML file."
        raise SgError(f"There is no preset {name!r}.", hint, exit_code=2)
    data = read_toml(path)
    base = data.pop("base", "recommended")
    if not isinstance(base, str) or base not in PRESETS:
        hint = f"It may be {' or '.join(PRESETS)}."
        raise SgError(f"{path}: there is no preset {base!r} to base it on.", hint, exit_code=2)
    return base, data


def preset_toml(values: Values, base: str, comment: str = "") -> str:
    """A preset file's text: `comment` above, the shipped preset it changes, a table for each group of values.

    Reads back through `load_preset`. None is written as "none", which settings that may be None take.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()] + [f"base = {_toml_value(base)}"]
    return "\n".join([*lines, *_tables(values, "")]) + "\n"


def _tables(values: Values, name: str) -> list[str]:
    own = [f"{key} = {_toml_value(value)}" for key, value in values.items() if not isinstance(value, Mapping)]
    lines = ["", f"[{name}]", *own] if own and name else own
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += _tables(value, f"{name}.{key}" if name else key)
    return lines


def _toml_value(value: Any) -> str:
    """A plain value in TOML. JSON's spelling of strings, numbers, truth values and flat lists is TOML's too."""
    return json.dumps("none" if value is None else value, ensure_ascii=False).replace("\x7f", "\\u007f")


def changed(settings: T, values: Values, where: str = "") -> T:
    """Frozen settings with some fields changed; nested tables change nested groups.

    Raises SgError (usage) for an unknown field, with the nearest name, and for a value of the wrong type.
    """
    hints = typing.get_type_hints(type(settings))
    new = {}
    for name, value in values.items():
        place = f"{where}.{name}" if where else name
        if name not in hints:
            hint = did_you_mean(name, list(hints), place.removesuffix(name)) or f"There is: {', '.join(hints)}."
            raise SgError(f"There is no setting {place!r}.", hint, exit_code=2)
        old = getattr(settings, name)
        if dataclasses.is_dataclass(old):
            if not isinstance(value, Mapping):
                names = ", ".join(f"{place}.{f.name}" for f in dataclasses.fields(old))
                raise SgError(f"{place} is a group of settings.", f"Set one of: {names}.", exit_code=2)
            new[name] = changed(old, value, place)
        else:
            new[name] = typed(hints[name], value, place)
    return typing.cast(T, dataclasses.replace(typing.cast(Any, settings), **new))


def with_endpoint(settings: Mapping[str, Any], endpoint: str | None) -> dict[str, Any]:
    """Settings with the address of a server that writes, where one is given."""
    return dict(settings) if endpoint is None else merged(settings, {"engine": {"endpoint": endpoint}})


def typed(hint: Any, value: Any, place: str) -> Any:
    """A value, or its text from the command line, as the field's type; SgError (usage) when it is not one."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None or value in ("none", "None", ""):
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    found = _as(hint, value)
    if found is None and isinstance(value, str):
        found = quantity_of(place, value)
    if found is not None:
        return found
    name = getattr(hint, "__name__", str(hint))
    told = brief(repr(value), 60)
    raise SgError(f"{place}: {told} is not a value of type {name}.", "See `config show`.", exit_code=2)


def _as(hint: Any, value: Any) -> Any:
    """A value as the type; None where it is none."""
    if hint is bool:
        return TRUTHS.get(str(value).lower())
    if typing.get_origin(hint) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if isinstance(parts, (list, tuple)) and all(isinstance(part, str) for part in parts):
            return tuple(part for part in parts if part not in ("", "none"))
    if hint is Path and isinstance(value, (str, Path)) and str(value) and "\0" not in str(value):
        with contextlib.suppress(RuntimeError):  # ~NAME of somebody unknown
            return Path(value).expanduser()
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value) if hint is str else _number(hint, value) if hint in LARGEST else None


def _number(kind: type, value: str | int | float) -> int | float | None:
    """A value as a finite number of this kind; None where it is none. Nothing is rounded to a whole number."""
    with contextlib.suppress(ValueError, OverflowError):
        found: int | float = kind(value)
        if abs(found) <= LARGEST[kind] and (isinstance(value, str) or found == value):
            return found
    return None


def nested(assignments: Mapping[str, str]) -> dict[str, Any]:
    """`{"filter.near_duplicate.threshold": "0.8"}` as nested tables."""
    tables: dict[str, Any] = {}
    for dotted, value in assignments.items():
        *groups, name = dotted.split(".")
        table = tables
        for group in groups:
            table = table.setdefault(group, {})
        table[name] = value
    return tables


def merged(first: Values, second: Values) -> dict[str, Any]:
    """Two nested tables as one, the second one's values winning."""
    result = dict(first)
    for name, value in second.items():
        old = result.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[name] = merged(typing.cast(Values, old), value) if both else value
    return result
