"""Human judgement on synthesised pairs: a pure (state, key) -> state machine, and what surrounds it.

`open_review` builds the state from a run's journals; `step` takes one key; the verdicts to append are in
`state.new`, and what only the program around it can do (an editor, a new answer, another threshold) is asked for in
`state.wants`. Nothing here draws, reads keys or loads a model. Also here: the bound that a judged sample gives,
spreadsheet exchange, and merging two reviewers' journals.
"""

from sg_local.review.bound import SampleResult, sample_result, upper_bound
from sg_local.review.exchange import export_rows, import_rows
from sg_local.review.merge import Conflict, Merge, conflicts, merge
from sg_local.review.rows import ORDERS, Row, Signals, words_apart
from sg_local.review.rows import build as build_rows
from sg_local.review.state import REASONS, ReviewState, Threshold, View, is_judged, open_review, person_verdicts
from sg_local.review.steps import answered, edited, played, reloaded, step

__all__ = [
    "ORDERS",
    "REASONS",
    "Conflict",
    "Merge",
    "ReviewState",
    "Row",
    "SampleResult",
    "Signals",
    "Threshold",
    "View",
    "answered",
    "build_rows",
    "conflicts",
    "edited",
    "export_rows",
    "import_rows",
    "is_judged",
    "merge",
    "open_review",
    "person_verdicts",
    "played",
    "reloaded",
    "sample_result",
    "step",
    "upper_bound",
    "words_apart",
]
