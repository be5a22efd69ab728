"""Human judgement on synthesised pairs: a pure (state, key) -> state machine, and what surrounds it.

`open_review` builds the state from a run's journals; `step` takes one key; the verdicts to append are in
`state.new`, and what only the program around it can do (an editor, a new answer, another threshold) is asked for in
`state.wants`. Nothing here draws, reads keys or loads a model. Also here: the bound that a judged sample gives,
spreadsheet exchange, and merging two reviewers' journals.
"""

from sg_local.review.bound import SampleResult, sample_result, upper_bound
from sg_local.review.exchange import COLUMNS, as_file, export_rows, from_file, import_rows, read_edited
from sg_local.review.judging import answered, edited, judged
from sg_local.review.merge import Conflict, Merge, conflicts, merge, opinion
from sg_local.review.rows import ORDERS, ReviewRow, Signals, n_rows, words_apart
from sg_local.review.rows import build as build_rows
from sg_local.review.state import (
    REASONS,
    MovableThreshold,
    Play,
    ReviewState,
    View,
    current,
    describe,
    in_conflict,
    is_edited,
    is_judged,
    is_kept,
    open_review,
    person_verdicts,
    text_of,
    visible,
)
from sg_local.review.steps import ORDER_WORDS, played, reloaded, settled, step
from sg_local.review.typing import PASTE

__all__ = [
    "COLUMNS",
    "ORDERS",
    "ORDER_WORDS",
    "PASTE",
    "REASONS",
    "Conflict",
    "Merge",
    "MovableThreshold",
    "Play",
    "ReviewRow",
    "ReviewState",
    "SampleResult",
    "Signals",
    "View",
    "answered",
    "as_file",
    "build_rows",
    "conflicts",
    "current",
    "describe",
    "edited",
    "export_rows",
    "from_file",
    "import_rows",
    "in_conflict",
    "is_edited",
    "is_judged",
    "is_kept",
    "judged",
    "merge",
    "n_rows",
    "open_review",
    "opinion",
    "person_verdicts",
    "played",
    "read_edited",
    "reloaded",
    "sample_result",
    "settled",
    "step",
    "text_of",
    "upper_bound",
    "visible",
    "words_apart",
]
