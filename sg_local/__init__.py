"""sg-local: make a local language model good at one task, using nothing but the model itself.

    import sg_local as sg

    with sg.open_job("support_routing") as job:
        job.run(listen=print)
        print(job.predict(["Where is my parcel?"]))

Importing the package loads no engine, no NumPy, no Rich and no Click: each is imported by the call that needs it.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sg_local.job.events import Began, Ended, Event, Moved, Said, Skipped, Waiting, Weighed
    from sg_local.job.face import Job
    from sg_local.job.opening import load, load_task, open_job
    from sg_local.job.rows import JobRow
    from sg_local.records import Pair, SgError, Task, TestRow

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "Began": "job.events",
    "Ended": "job.events",
    "Event": "job.events",
    "Expected": "job.events",
    "Forecast": "job.events",
    "Job": "job.face",
    "JobRow": "job.rows",
    "Moved": "job.events",
    "Pair": "records",
    "Said": "job.events",
    "SgError": "records",
    "Skipped": "job.events",
    "Waiting": "job.events",
    "Task": "records",
    "TestRow": "records",
    "Weighed": "job.events",
    "load": "job.opening",
    "load_task": "job.opening",
    "open_job": "job.opening",
}
"""The module of each public name; it is imported when the name is first asked for."""

__all__ = [
    "Began",
    "Ended",
    "Event",
    "Expected",
    "Forecast",
    "Job",
    "JobRow",
    "Moved",
    "Pair",
    "Said",
    "SgError",
    "Skipped",
    "Task",
    "TestRow",
    "Waiting",
    "Weighed",
    "__version__",
    "load",
    "load_task",
    "open_job",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
