"""The filter stage of a job: the rules over every candidate, and again with changed settings."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from sg_local.job.events import Listener
from sg_local.job.job import OpenRun
from sg_local.job.required import needs
from sg_local.run import CANDIDATES


def filter_settings(job: OpenRun) -> dict[str, Any]:
    """What the stamp of the filters holds."""
    own = dataclasses.asdict(job.plan["filter"])
    if not job.task.schema:
        del own["schema"]  # it changes nothing then
    if not job.plan["filter"].personal.on:
        del own["personal"]  # as before there was such a rule
    return own


def all_judged(job: OpenRun) -> bool:
    """Whether no verdict was lost since."""
    from sg_local import filters

    return filters.all_judged(job.run)


def filter_rows(job: OpenRun, tell: Listener) -> str:
    """The rules over every candidate."""
    return _apply_filters(job)


def refilter(job: OpenRun, tables: Mapping[str, Any]) -> None:
    """Filter again with these changed settings; the run remembers them as if they had been given when it began.

    Raises SgError before the run has rows, and for a setting or value that there is not, or not for this task.
    """
    from sg_local.filters.policies import check_policies
    from sg_local.job.plan import flat
    from sg_local.job.ranges import check_ranges

    needs(job, CANDIDATES, "synth")
    plan = job.plan.changed("filter", tables)
    check_ranges(flat(plan["filter"], "filter"))
    if "policy" in tables:
        check_policies([plan["filter"].policy], job.task, "filter.policy")
    job.plan = plan
    job.remember({"filter": tables})
    _apply_filters(job)
    job.worked = True


def _apply_filters(job: OpenRun) -> str:
    from sg_local import filters

    started = time.monotonic()
    found = filters.apply(job.run, job.task, job.plan["filter"])
    facts: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1), "funnel": dataclasses.asdict(found)}
    job.run.write_stamp("filter", filter_settings(job), (CANDIDATES,), **facts)
    labels = f", {'labels' if job.task.labels else 'outputs'} by policy {found.policy}"
    private = f"; {found.flagged} with likely personal data" if found.flagged else ""
    return f"{found.kept} of {found.accepted} pairs kept{labels}{private}"
