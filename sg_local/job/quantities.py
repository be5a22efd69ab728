"""Sizes and lengths of time as people write them: 12G, 1.5 GB, 12GiB; 90 s, 20 min, 1.5h, 1h30."""

from __future__ import annotations

import re

from sg_local.records import SgError

POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_N = r"(\d{1,12}(?:[.,]\d{1,12})?)"
_SIZE = re.compile(rf"{_N} ?([kmgt]?)(i?)(?:b|bytes?)?")
_TIME = re.compile(
    rf"(?:{_N} ?d(?:ays?)?)? ?(?:{_N} ?h(?:rs?|ours?)?)? ?(?:{_N} ?m(?:ins?|inutes?)?)? ?(?:{_N} ?s(?:ecs?|econds?)?)?"
)
_HOURS_AND_MINUTES = re.compile(r"(\d{1,4}) ?h ?([0-5]?\d)")
IN_A_DAY, IN_AN_HOUR, IN_A_MINUTE = 86_400, 3_600, 60


def size_of(text: str) -> int:
    """Bytes, from texts such as 12G, 500M, 1.5 GB; GiB and its like count in 1024s. SgError (usage) for others."""
    found = _SIZE.fullmatch(_plain(text))
    if found is None or not _number(found[1]):
        raise SgError(f"{text!r} is not a size.", "Write it like 12G, 500 MB or 1.5GiB.", exit_code=2)
    return round(_number(found[1]) * float((1024 if found[3] else 1000) ** POWERS[found[2]]))


def seconds_of(text: str) -> float:
    """Seconds, from texts such as 90s, 20 min, 1.5h, 1h30. SgError (usage) for anything else."""
    plain = _plain(text)
    if short := _HOURS_AND_MINUTES.fullmatch(plain):
        return float(IN_AN_HOUR * int(short[1]) + IN_A_MINUTE * int(short[2]))
    found = _TIME.fullmatch(plain)
    days, hours, minutes, seconds = map(_number, found.groups()) if found else (0.0, 0.0, 0.0, 0.0)
    total = IN_A_DAY * days + IN_AN_HOUR * hours + IN_A_MINUTE * minutes + seconds
    if not total:
        raise SgError(f"{text!r} is not a length of time.", "Write it like 20m, 90 s, 1.5h or 1h30.", exit_code=2)
    return total


def quantity_of(name: str, text: str) -> float | int | None:
    """The value of a setting whose name ends with its unit (`time_s`, `body_bytes`); None where it has no unit.

    Raises SgError (usage) for what is none.
    """
    if name.endswith("_s"):
        return seconds_of(text)
    return size_of(text) if name.endswith("_bytes") else None


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _number(text: str | None) -> float:
    return float((text or "0").replace(",", "."))
