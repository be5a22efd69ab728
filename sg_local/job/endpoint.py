"""A job whose base writes at an endpoint: what cannot work is refused before the first row, and people are told.

The base's GGUF is on this machine all the same (`model`): it is trained and exported, and its vocabulary is the tokens.
Filters then choose labels without scores where the endpoint tells none: scoring here is what the endpoint was to spare.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from sg_local.backends import asks_server
from sg_local.backends.openai import check_settings
from sg_local.backends.openai.address import address_of, check_reach
from sg_local.job import presets
from sg_local.job.events import Listener, Said
from sg_local.records import SgError
from sg_local.run import INPUTS

if TYPE_CHECKING:
    from sg_local.backends import Generator
    from sg_local.job.job import OpenRun

ASKING = ("synth", "eval")
"""The stages in which the endpoint is asked."""

NEED_SCORES = ("calibrated", "ranked", "ensemble")
"""Label policies that are nothing without scores."""

NO_SCORES = (
    "  labels are chosen by the votes and by what was asked for, without scores (synth.score_labels=false); the"
    " evaluation computes its label scores on this machine"
)


def check_named(job: OpenRun, stages: Collection[str]) -> None:
    """Raise SgError (usage) for an endpoint that nobody asks, for none where one is asked, and one out of reach."""
    endpoint = job.plan["engine"].endpoint
    if not asks_server(job.backend):
        if endpoint and job.plan.source("engine.endpoint") == "given":
            message = f"An endpoint is for the backend that asks one, and {job.backend} does not."
            raise SgError(message, "Give `backend=openai` with it.", exit_code=2)
        return
    if not endpoint:
        hint = "Name its address: `endpoint=http://127.0.0.1:8000/v1`."
        raise SgError("The openai backend needs an endpoint to ask.", hint, exit_code=2)
    address = address_of(endpoint)
    check_settings(job.plan["engine"])
    if any(stage in stages for stage in ASKING):
        check_reach(address, job.reach)


def check_address(endpoint: str) -> None:
    """Raise SgError (usage) for an endpoint that run.json may not hold: no address, or one with a password."""
    if endpoint:
        address_of(endpoint)


def check_offer(job: OpenRun, stages: Collection[str]) -> None:
    """Ask the endpoint what it offers, and settle what a new run does without scores. SgError for an unfit one."""
    if not asks_server(job.backend) or not any(stage in stages for stage in ASKING):
        return
    offers_scores = job.generator.scores_there  # type: ignore[attr-defined]
    if offers_scores or "synth" not in stages or job.run.path(INPUTS).exists():
        return
    if job.plan["filter"].policy in NEED_SCORES or not job.task.labels:
        return
    wanted = {"score_labels": False, "channel": False}
    free = {name: value for name, value in wanted.items() if job.plan.source(f"synth.{name}") != "given"}
    if "score_labels" in free and job.plan["synth"].score_labels:
        job.said.append(NO_SCORES)
    job.plan = job.plan.changed("synth", free)
    job.record["set"] = presets.merged(job.record.get("set", {}), {"synth": free})


def tell_endpoint(generator: Generator, tell: Listener, beside: str = "") -> None:
    """Say which server is asked, and `beside` it what is not, then what it lacks; nothing of other generators."""
    notes: tuple[str, ...] = getattr(generator, "notes", ())
    for place, note in enumerate(notes):  # the first one says who is asked
        tell(Said(f"  {note}" if place else f"  {note}{beside}"))
