"""report.json: one reader and one writer.

Its form is that of 0.1.0 with keys added: `served`, `against` and `form` of each system, and `headline` and `rival`,
which are made from the figures and never read. A report of 0.1.0 reads like one of today; keys that this version does
not know are passed over.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from sg_local.records import Funnel, SgError
from sg_local.report.records import BASE, METRICS, TUNED, Report, SystemResult
from sg_local.run import REPORT, Run, read_json

TOP = (BASE, "base_vote", TUNED)
"""Systems whose figures stand at the top of the file as well, for short lines of jq."""
LARGEST_WHOLE = 2**63 - 1
EMPTY: dict[str, Any] = {"retain": None, "funnel": {}}
"""What the file says where there is none; other keys are left out then."""


def read_report(run: Run) -> Report:
    """The report of an evaluated run. Raises SgError where there is none, and says what is wrong in one."""
    path = run.path(REPORT)
    if not path.exists():
        raise SgError(f"Run {run.name} has no report yet.", f"Run `eval {run.typed}` first.")
    data = read_json(path)
    try:
        return _whole(_restored(Report, _of_today(data), ""))
    except _Misfit as wrong:
        hint = f"Delete it and run `eval {run.typed}`: it is made again from the answers."
        raise SgError(f"{path}: {wrong}.", hint) from wrong


def read_funnel(run: Run) -> Funnel | None:
    """The filters' account in their stamp; None before they had one. Raises SgError for what is wrong in it."""
    told = (run.stamp("filter") or {}).get("funnel")
    try:
        return _restored(Funnel, told, "funnel") if told else None
    except _Misfit as wrong:
        raise SgError(f"{run.path('stages/filter.json')}: {wrong}.", f"Run `filter {run.typed}` again.") from wrong


def write_report(run: Run, report: Report) -> None:
    """Write report.json, atomically."""
    run.write_json(REPORT, plain(report))


def plain(report: Report) -> dict[str, Any]:
    """The report as report.json has it."""
    systems = {name: _flat(system) for name, system in report.systems.items()}
    found: dict[str, Any] = {"headline": report.headline, "rival": report.rival}
    for name, value in dataclasses.asdict(report).items():
        if name == "systems":
            found |= {top: systems[top] for top in TOP if top in systems}
            value = systems
        if value is not None or name in EMPTY:
            found[_keys(Report).get(name, name)] = EMPTY[name] if value is None else value
    return found


# The file's form


class _Misfit(ValueError):
    """What is wrong in the file, and at which place."""


def _flat(system: SystemResult) -> dict[str, Any]:
    """A system with its metrics among the other figures, as the file has them."""
    data = {name: value for name, value in dataclasses.asdict(system).items() if value is not None}
    metrics = data.pop("metrics")
    figures = {name: data.pop(name) for name in ("score", "low", "high", "n")}
    return {**figures, **metrics, **data}


def _of_today(data: Any) -> Any:
    """The file's data with each system's metrics apart, and with what 0.1.0 did not say."""
    if not isinstance(data, dict):
        return data
    systems, funnel = data.get("systems"), data.get("funnel") or None
    if not isinstance(systems, dict):
        return {**data, "funnel": funnel}
    known = {one.name for one in dataclasses.fields(SystemResult)}
    apart = {}
    for name, system in systems.items():
        if not isinstance(system, dict):
            raise _Misfit(f"systems.{name} is not a table")
        alike = name.replace(TUNED, BASE, 1)
        metrics = {key: value for key, value in system.items() if key not in known and isinstance(value, (int, float))}
        apart[name] = {"against": alike if name != alike in systems else BASE, **system, "metrics": metrics}
    return {"served": _served_by_0_1_0(systems), **data, "systems": apart, "funnel": funnel}


def _served_by_0_1_0(systems: Mapping[str, Any]) -> str | None:
    """The first tuned system that was restricted to labels, else the first tuned one."""
    tuned = [name for name, system in systems.items() if system.get("role") == "tuned"]
    restricted = [name for name in tuned if systems[name].get("family") == "restricted"]
    return next(iter((*restricted, *tuned)), None)


def _whole(report: Report) -> Report:
    """The report, when all that its parts refer to is in it."""
    against = {name: system.against for name, system in report.systems.items()}
    named = [name for one in report.outcomes for name in (one.tuned, one.base)]
    reached = [name for gain in report.gains.values() for name in gain.reached_by]
    for name in (BASE, TUNED, report.served, *against.values(), *named, *reached):
        if name not in report.systems:
            raise _Misfit(f"systems.{name} is missing")
    for gain in (f"{one.tuned}-{base}" for one in report.outcomes for base in (one.base, against[one.tuned])):
        if gain not in report.gains:
            raise _Misfit(f"gains.{gain} is missing")
    for i, row in enumerate(report.rows):
        lacking = next((name for name in report.systems if name not in row.scores), None)
        if lacking is not None:
            raise _Misfit(f"rows[{i}].scores.{lacking} is missing")
    if report.metric not in METRICS:
        raise _Misfit(f"metric is {report.metric!r}, not one of {', '.join(METRICS)}")
    return report


def _restored(hint: Any, value: Any, place: str) -> Any:
    """Plain data as the type says. Raises _Misfit with the place that does not fit."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _restored(args[0], value, place)
    if dataclasses.is_dataclass(hint):
        return _record(hint, _checked(value, dict, place), place)
    if origin is tuple:
        return tuple(_restored(args[0], one, f"{place}[{i}]") for i, one in enumerate(_checked(value, list, place)))
    if origin in (Mapping, dict):
        return {k: _restored(args[1], one, f"{place}.{k}") for k, one in _checked(value, dict, place).items()}
    if origin is Literal:
        if value not in args:
            raise _Misfit(f"{place} is {value!r}, not one of {', '.join(args)}")
        return value
    return _checked(value, (int, float) if hint is float else hint, place)


def _record(cls: Any, data: Mapping[str, Any], place: str) -> Any:
    found = {}
    for one in dataclasses.fields(cls):
        key = _keys(cls).get(one.name, one.name)
        inner = f"{place}.{key}" if place else key
        if key in data:
            found[one.name] = _restored(_hints(cls)[one.name], data[key], inner)
        elif one.default is one.default_factory is dataclasses.MISSING:
            raise _Misfit(f"{inner} is missing")
    return cls(**found)


def _checked(value: Any, kind: Any, place: str) -> Any:
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
            raise _Misfit(f"{place} is too large")
        return value
    names = {dict: "a table", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}
    raise _Misfit(f"{place or 'the file'} is not {names.get(kind, 'a number')}")


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@cache
def _keys(cls: type[Any]) -> dict[str, str]:
    """The keys in the file of fields that have another name."""
    return {one.name: one.metadata["key"] for one in dataclasses.fields(cls) if "key" in one.metadata}
