"""Human judgement on synthesised pairs: a pure (state, key) -> state machine, and what surrounds it.

`open_review` builds the state from a run's journals; `step` takes one key; the verdicts and notes to append are in
`state.new` and `state.new_notes`, and what only the program around it can do (an editor, a new answer, another
threshold) is asked for in `state.wants`. Nothing here draws, reads keys or loads a model. Also here: the bound that a
judged sample gives, spreadsheet exchange, merging two reviewers' journals, and how far they agree.
"""

from sg_local.review.agreement import Agreement, agreements
from sg_local.review.bound import SampleResult, sample_result, upper_bound
from sg_local.review.exchange import (
    COLUMNS,
    as_file,
    export_rows,
    from_file,
    import_notes,
    import_rows,
    read_edited,
)
from sg_local.review.history import Note, notes_of, person_verdicts
from sg_local.review.judging import answered, edited, judged, number_of
from sg_local.review.merge import Conflict, Merge, conflicts, merge, missing_notes, opinion
from sg_local.review.moving import ORDER_WORDS, settled
from sg_local.review.pace import Pace
from sg_local.review.rows import ORDERS, ReviewRow, Signals, n_rows, words_apart
from sg_local.review.rows import build as build_rows
from sg_local.review.scores import LabelScore, label_scores
from sg_local.review.state import (
    REASONS,
    MovableThreshold,
    Play,
    ReviewState,
    View,
    counted_rows,
    current,
    decision,
    describe,
    in_conflict,
    is_edited,
    is_judged,
    is_kept,
    open_review,
    text_of,
    visible,
)
from sg_local.review.steps import played, reloaded, step
from sg_local.review.typing import PASTE

__all__ = [
    "COLUMNS",
    "ORDERS",
    "ORDER_WORDS",
    "PASTE",
    "REASONS",
    "Agreement",
    "Conflict",
    "LabelScore",
    "Merge",
    "MovableThreshold",
    "Note",
    "Pace",
    "Play",
    "ReviewRow",
    "ReviewState",
    "SampleResult",
    "Signals",
    "View",
    "agreements",
    "answered",
    "as_file",
    "build_rows",
    "conflicts",
    "counted_rows",
    "current",
    "decision",
    "describe",
    "edited",
    "export_rows",
    "from_file",
    "import_notes",
    "import_rows",
    "in_conflict",
    "is_edited",
    "is_judged",
    "is_kept",
    "judged",
    "label_scores",
    "merge",
    "missing_notes",
    "n_rows",
    "notes_of",
    "number_of",
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
