"""Does it really get better? The test rows answered by the base at its best, by the tuned model, and by nobody.

Systems: `base_FORM` is the untuned model with the demonstrations in each prompt form, greedy; `base` the form that
does best on rows which are no test rows; `base_vote` that form with SELF-GUIDE's voting. For classification,
`base_restricted` may answer labels only, and `base_calibrated` subtracts each label's mean score over synthetic
inputs (Zhao et al. 2021, arXiv 2102.09690, with real inputs in place of empty ones); `base_ensemble` counts in how
likely each label makes the input (sg_local.channel). `tuned`, `tuned_restricted`, `tuned_calibrated` and `tuned_vote`
are the same with the adapter, in the form it was trained in. Trivial systems stand beside them: copy the input, always
the commonest label, a random training output. On request `base_mbr` answers with the most typical of many samples,
`base_synthetic` has synthetic pairs in its prompt, and `tuned_examples` was tuned on the demonstrations alone.

Before anything is answered, test rows that equal or nearly equal a demonstration or a training row are excluded
and counted. Not covered: whether the test rows resemble what a user will really ask.
"""

from __future__ import annotations

from sg_local.evaluate.browse import SHOW, Judged, judged_rows, system_named
from sg_local.evaluate.calibrating import CALIBRATED, LIKELIEST, fit
from sg_local.evaluate.canaries import check_canaries, plant
from sg_local.evaluate.compare import Comparison, compare
from sg_local.evaluate.job import Canary, EvalEvent, EvalSettings, Evaluation, OnEvent, calibration_inputs, elect_any
from sg_local.evaluate.scoreboard import Gate, parse_gate, require
from sg_local.evaluate.scoring import label_scores, likelihood
from sg_local.evaluate.shipped import CHAT, PROMPTS, RUNS, AskedFile, FileFigures, score_file, with_file
from sg_local.evaluate.stage import evaluate
from sg_local.evaluate.systems import SYSTEMS, System, on_the_card
from sg_local.evaluate.untuned import BaseScores, evaluate_base

__all__ = [
    "CALIBRATED",
    "CHAT",
    "LIKELIEST",
    "PROMPTS",
    "RUNS",
    "SHOW",
    "SYSTEMS",
    "AskedFile",
    "BaseScores",
    "Canary",
    "Comparison",
    "EvalEvent",
    "EvalSettings",
    "Evaluation",
    "FileFigures",
    "Gate",
    "Judged",
    "OnEvent",
    "System",
    "calibration_inputs",
    "check_canaries",
    "compare",
    "elect_any",
    "evaluate",
    "evaluate_base",
    "fit",
    "judged_rows",
    "system_named",
    "label_scores",
    "likelihood",
    "on_the_card",
    "parse_gate",
    "plant",
    "require",
    "score_file",
    "with_file",
]
