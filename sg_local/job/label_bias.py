"""What a run's labels need from servers that know nothing of calibrated labels: measured once, kept in label_bias.json.

It is measured anew when the adapter, the rows or the prompt have changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging

from sg_local.evaluate.label_bias import LabelBias, label_bias
from sg_local.job.calibrating import READS, fitted_with
from sg_local.job.evaluate import evaluation_of
from sg_local.job.job import OpenRun
from sg_local.records import MadeOtherwise, from_dict
from sg_local.run import LABEL_BIAS, read_json

logger = logging.getLogger(__name__)

STAGE = "label_bias"


def measure_bias(job: OpenRun) -> LabelBias:
    """Measure the offsets of a run's labels, or why there are none, and keep them. Hold the lock."""
    job.adapted()
    found = label_bias(evaluation_of(job))
    logger.info("run %s: %s", job.run.name, found.said)
    job.run.write_json(LABEL_BIAS, dataclasses.asdict(found))
    job.run.write_stamp(STAGE, fitted_with(job), READS, (LABEL_BIAS,))
    return found


def kept_bias(job: OpenRun) -> LabelBias | None:
    """What was measured on the adapter, the rows and the prompt as they are; None where nothing was."""
    with contextlib.suppress(MadeOtherwise):
        if job.run.is_done(STAGE, fitted_with(job), READS):
            return from_dict(LabelBias, read_json(job.run.path(LABEL_BIAS)))
    return None
