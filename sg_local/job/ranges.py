"""The ranges that settings of stages lie in, checked where settings are read: before any work, whatever stage asks.

Training's ranges are those of its own room (backends.training.lora), which trainers check as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sg_local.filters.settings import EVIDENCE, POLICIES
from sg_local.records import SgError


@dataclass(frozen=True)
class Range:
    """What a value must be: the condition, and that in words."""

    holds: Callable[[Any], bool]
    words: str


def at_least(least: float) -> Range:
    return Range(lambda value: value >= least, f"at least {least:g}")


def one_of(*names: str) -> Range:
    return Range(lambda value: value in names, f"one of {', '.join(names)}")


SHARE = Range(lambda value: 0 <= value <= 1, "from 0 to 1")
AT_MOST_ONE = Range(lambda value: value <= 1, "at most 1")
ABOVE_ZERO = Range(lambda value: value > 0, "above 0")
NOT_NEGATIVE, ONE_OR_MORE = at_least(0), at_least(1)
RANGES: Mapping[str, Range] = {
    **dict.fromkeys(("engine.n_ctx", "engine.n_parallel", "engine.n_threads", "engine.n_replicas"), ONE_OR_MORE),
    "engine.endpoint_timeout_s": ABOVE_ZERO,
    **dict.fromkeys(("own.share", "own.valid", "own.tests"), SHARE),
    "own.weight": ABOVE_ZERO,
    "synth.style": one_of("continue", "paper"),
    **dict.fromkeys(
        (
            *("synth.n_inputs", "synth.n_asked", "synth.round_size", "synth.n_per_draw", "synth.n_votes"),
            *("synth.n_orders", "synth.max_tokens", "synth.n_ctx", "synth.chunk_size"),
        ),
        ONE_OR_MORE,
    ),
    **dict.fromkeys(("synth.n_pool", "synth.collapse_asked"), NOT_NEGATIVE),
    **dict.fromkeys(("synth.temperature", "synth.hotter", "synth.vote_temperature"), NOT_NEGATIVE),
    **dict.fromkeys(("synth.top_p", "synth.collapse_share"), SHARE),
    "filter.policy": one_of(*POLICIES),
    "filter.evidence": one_of(*EVIDENCE),
    **dict.fromkeys(
        (
            *("filter.agreement.threshold", "filter.copied_example.threshold", "filter.near_duplicate.threshold"),
            *("filter.vote_share.threshold", "filter.grounding.threshold"),
        ),
        NOT_NEGATIVE,  # above 1 no row passes, or every one
    ),
    **dict.fromkeys(("filter.input_length.sigmas", "filter.output_length.sigmas"), NOT_NEGATIVE),
    **dict.fromkeys(("filter.input_length.widest", "filter.output_length.widest"), ONE_OR_MORE),
    **dict.fromkeys(("filter.balance.ratio", "filter.balance.at_least"), NOT_NEGATIVE),
    "eval.leak_threshold": NOT_NEGATIVE,  # above 1 nothing leaks
    **dict.fromkeys(("synth.top_k", "synth.vote_top_k", "eval.vote_top_k"), at_least(-1)),  # 0 and -1: all tokens
    **dict.fromkeys(("export.min_retained", "export.min_tensors", "export.min_gain", "export.min_equal"), AT_MOST_ONE),
    **dict.fromkeys(("export.n_rows", "export.n_answers", "export.max_tokens", "export.n_ctx"), ONE_OR_MORE),
    "export.may_lose": NOT_NEGATIVE,
    "eval.abstain": SHARE,
    **dict.fromkeys(
        ("eval.n_votes", "eval.max_tokens", "eval.n_ctx", "eval.chunk_size", "eval.resamples"), ONE_OR_MORE
    ),
    **dict.fromkeys(
        (*("eval.n_dev", "eval.n_calibration", "eval.n_context", "eval.ensemble", "eval.mbr"),),
        NOT_NEGATIVE,
    ),
    **dict.fromkeys(("eval.vote_temperature", "eval.mbr_temperature"), NOT_NEGATIVE),
}


def check_ranges(settings: Iterable[tuple[str, Any]]) -> None:
    """Raises SgError (usage) for the first of these (dotted name, value) out of its range; None is always in it."""
    for place, value in settings:
        found = ABOVE_ZERO if place.startswith("serve.") else RANGES.get(place)
        if found is not None and value is not None and not found.holds(value):
            raise SgError(f"{place} = {value!r} is out of range.", f"It must be {found.words}.", exit_code=2)
