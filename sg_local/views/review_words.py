"""The words of the review's screen: keys, help, what thresholds mean."""

from __future__ import annotations

from sg_local.records import EARLIER, LABELLED, OWN

KEYS = {
    "cards": (
        ("a", "accept"),
        ("r", "reject"),
        ("?", "keys"),
        ("q", "quit"),
        ("u", "undo"),
        ("n", "note"),
        ("e", "edit"),
        ("j/k", "next, back"),
        ("T", "task"),
        ("d", "disputed"),
        ("S", "surest"),
        ("f", "filter"),
        ("/", "search"),
        ("o", "order"),
        ("g", "jump"),
        ("A/R", "all"),
        ("i", "edit input"),
        ("E", "in $EDITOR"),
        ("t", "thresholds"),
        ("G", "regenerate"),
    ),
    "reason": (
        ("1-5", "why"),
        ("o", "another reason"),
        ("enter", "no reason"),
        ("esc", "undo"),
        ("other keys", "act on this card"),
    ),
    "reason_text": (("enter", "save the reason"), ("esc", "no reason")),
    "note": (("enter", "save"), ("esc", "leave it"), ("ctrl-u", "clear to the left")),
    "edit": (("enter", "save"), ("esc", "leave it"), ("ctrl-j", "new line"), ("ctrl-u", "clear to the left")),
    "search": (("enter", "keep the search"), ("esc", "back to where it began")),
    "jump": (("enter", "go"), ("esc", "stay")),
    "filter": (("letter", "next value"), ("c", "clear"), ("enter", "done")),
    "confirm": (("y", "yes"), ("up/down", "look through them"), ("any other key", "no")),
    "thresholds": (
        ("up/down", "choose"),
        ("left/right", "move"),
        ("enter", "save"),
        ("esc", "leave as it was"),
        ("page down", "more rows"),
    ),
    "help": (("up/down", "scroll"), ("any other key", "back")),
    "task": (("up/down", "scroll"), ("any other key", "back")),
}
"""By mode: the keys, the ones that matter most first, as a narrow window cuts them off."""

HELP = (
    ("a enter", "accept", "and go to the next open row"),
    ("r", "reject", "then a digit may say why"),
    ("1-9", "relabel", "and accept (classification)"),
    ("u", "undo", "without limit, notes too"),
    ("n", "note", "on the row, for you and others"),
    ("j k", "next, back", "arrows, space and b too"),
    ("tab", "next open", "to a row that nobody judged"),
    ("T", "task", "what the model is asked to do"),
    ("e i", "edit", "output, input: here"),
    ("E", "edit", "both in $EDITOR"),
    ("d", "disputed", "where labels disagree, first"),
    ("S", "surest", "accept them after a look"),
    ("f", "filter", "by label, rule, note, ..."),
    ("/", "search", "rows with this text"),
    ("o", "order", "most doubtful first, ..."),
    ("g", "jump", "to a row by its number"),
    ("home end", "ends", "first row, last row"),
    ("A R", "all", "accept, reject all rows shown"),
    ("G", "regenerate", "another answer of the model"),
    ("t", "thresholds", "move one and see what it does"),
    ("up down", "scroll", "a long card, then the next one"),
    ("esc", "reset", "show all kept rows again"),
    ("q", "quit", "the next review continues here"),
)

LEGEND = (
    ("votes", "how often the model gave each answer to this input"),
    ("label", "the label that the input was written for, what most votes say, and the label it trains as"),
    ("asked", "the text that the input was written for"),
    ("rules", "what the filters found"),
    ("personal", "a text that looks like a name with a number, an address, a card, ..."),
    (
        "scores",
        "how likely the model finds each label, beside what it gives that label on all rows. Where it was scored both "
        "ways: together, then the label after the input, then the input after the label. They compare labels; none is "
        "the chance of being right",
    ),
    ("doubt", "signs that a row may be bad: none is a proof"),
    ("model", "the length of its answer, and how sure it was of each token (a word or a part of one)"),
    ("nearest", "the row whose input shares most words with this one"),
)
"""What the lines of a card say."""

MEANINGS = {
    "grounding.threshold": "how much less of an output than of the examples' may stand in its input",
    "input_length.sigmas": "allowed input length, in standard deviations from the examples",
    "input_length.widest": "inputs up to this many times shorter or longer always pass",
    "output_length.sigmas": "allowed output length, in standard deviations from the examples",
    "output_length.widest": "outputs up to this many times shorter or longer always pass",
    "copied_example.threshold": "reject inputs this much like an example (1: the same)",
    "near_duplicate.threshold": "reject inputs this much like an earlier one (1: the same)",
    "vote_share.threshold": "reject where a smaller share of the model's answers agree",
    "agreement.threshold": "outputs this much alike count as one answer (1: the same)",
    "relevance.threshold": "how much likelier the input must make its output: higher is stricter",
    "balance.ratio": "at most this many times as many rows of a label as of the rarest one",
    "balance.at_least": "rows of a label that stay in any case",
}
"""What each threshold of the filters means, by its setting's name."""

SOURCES = {
    OWN: "own input",
    LABELLED: "own labelled row",
    EARLIER: "written for an earlier version of the task",
}
"""Whose row it is, by its source."""

STALE = "The rows were filtered by other rules: with these numbers as they are, filtering again changes them."
PROMPTS = {"search": "Search:", "jump": "Row number:", "reason_text": "Reason:", "note": "Note:"}
