"""Several runs side by side, as cells and sentences."""

from __future__ import annotations

import json
from typing import Any

from sg_local.evaluate import Comparison


def run_columns() -> tuple[tuple[str, bool], ...]:
    """The headings, and whether the cells below are numbers."""
    return (
        ("run", False),
        ("trained on", True),
        ("test rows", True),
        ("untuned", True),
        ("tuned", True),
        ("gain", True),
    )


def run_rows(found: Comparison) -> list[tuple[str, ...]]:
    """A run a line; a run that was not measured has no figures."""
    rows = []
    for one in found.runs:
        gain = "" if one.gain is None else f"{one.gain:+.1f} ({one.gain_low:+.1f} to {one.gain_high:+.1f})"
        score = "" if one.score is None else f"{one.score:.1f} ({one.low:.1f} to {one.high:.1f})"
        base = "" if one.base_score is None else f"{one.base_score:.1f}"
        counts = ["" if n is None else str(n) for n in (one.n_training, one.n_tests)]
        rows.append((one.run, *counts, base, score, gain))
    return rows


def difference_sentence(found: Comparison, run: str, first: str) -> str:
    """What a run scores above the first one, on the rows of both."""
    pair = next((one for one in found.pairs if one.run == run), None)
    if pair is None:
        return f"{run} and {first} share no test rows: their scores are of different rows."
    verdict = {"better": "is better than", "worse": "is worse than"}.get(pair.outcome, "is not shown to differ from")
    figures = f"{pair.gain:+.1f} points ({pair.low:+.1f} to {pair.high:+.1f}, p = {pair.p:.3f})"
    return f"{run} {verdict} {first}: {figures} on the {pair.n} test rows of both."


def setting_rows(found: Comparison) -> list[tuple[str, ...]]:
    """A setting a line, with its value in each run."""
    return [(one.setting, *map(_shown, one.values)) for one in found.settings]


def _shown(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
