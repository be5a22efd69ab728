"""Decisions as System One clients ask for them and read them: a state and typed questions on it, and their answers.

`choice` picks one of several options, `noul` says whether a statement holds, `score` rates on ordered levels. Texts
(the state, instructions, what an option means) may be texts, objects or lists; the latter are read as one line of JSON.
Top-level fields that are not known are passed over, as clients expect; images are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["choice", "noul", "score"]
KINDS: tuple[str, ...] = get_args(Kind)
YES, NO = "yes", "no"
"""The labels of a statement that holds, and of one that does not."""
SIDES = {YES: "true", NO: "false"}
"""What the wire calls them in a statement's criteria."""
MAX_QUESTIONS, MAX_OPTIONS, MAX_LEVELS = 64, 255, 10
"""What hosted services take: questions a request, options a choice, levels a score."""
DIGITS = 4
"""Decimals of an answer's numbers."""
FIELDS = {"type", "instructions", "criteria"}


class Unfit(ValueError):
    """What is wrong with a request, in one sentence, and `place`: the keys that lead there."""

    def __init__(self, message: str, *place: str) -> None:
        super().__init__(message)
        self.message, self.place = message, place


@dataclass(frozen=True)
class Question:
    """One question. `options` are its labels in order, `meanings` what each means ('' where that is not said).

    `legend` are the levels of a score as they were sent. `instructions` may be empty.
    """

    id: str
    kind: Kind
    instructions: str
    options: tuple[str, ...]
    meanings: tuple[str, ...]
    legend: tuple[Any, ...] = ()

    @property
    def asked(self) -> str:
        """What is asked, without its options."""
        return self.instructions or ("Is this so?" if self.kind == "noul" else "Which of these fits?")

    @property
    def named(self) -> str:
        """The question as an instruction: what is asked, then the options by their names alone."""
        return f"{self.asked}\n\nAnswer with one of these: {', '.join(option.strip() for option in self.options)}."

    @property
    def told(self) -> str:
        """The question as an instruction: what is asked, then every option with its meaning."""
        lines = [
            f"- {option.strip()}: {' '.join(meaning.split())}" if meaning else f"- {option.strip()}"
            for option, meaning in zip(self.options, self.meanings, strict=True)
        ]
        return f"{self.asked}\n\nAnswer with one of these:\n" + "\n".join(lines)


@dataclass(frozen=True)
class Request:
    """A request: the model it names (None: none), the state as a text, at least one question."""

    model: str | None
    state: str
    questions: tuple[Question, ...]


def read_request(data: Mapping[str, Any]) -> Request:
    """A request from plain data. Raises Unfit for what is missing, malformed or beyond the bounds."""
    if data.get("assets"):
        raise Unfit("images are not covered: send texts", "assets")
    model, questions = data.get("model"), data.get("questions")
    if model is not None and not isinstance(model, str):
        raise Unfit("the model is not a text", "model")
    if data.get("state") is None:
        raise Unfit("there is no state to decide on", "state")
    if not isinstance(questions, dict) or not questions:
        raise Unfit("there are no questions: an object with one question for each id", "questions")
    if len(questions) > MAX_QUESTIONS:
        raise Unfit(f"{len(questions)} questions are too many: ask at most {MAX_QUESTIONS}", "questions")
    state = _text(data["state"], "state")
    return Request(model, state, tuple(read_question(id, one) for id, one in questions.items()))


def read_question(id: str, data: object) -> Question:
    """A question by its id. Raises Unfit."""
    place = ("questions", id)
    _check_text(id, *place)
    if not isinstance(data, dict):
        raise Unfit("the question is not an object", *place)
    kind = data.get("type")
    if kind not in KINDS:
        raise Unfit(f"the type is not one of {', '.join(KINDS)}", *place, "type")
    if unknown := sorted(set(data) - FIELDS):
        raise Unfit(f"a question has no {unknown[0]!r}", *place, unknown[0])
    instructions = _optional(data.get("instructions"), *place, "instructions").strip()
    criteria = data.get("criteria")
    if kind == "noul":
        options, meanings = _sides(criteria, *place, "criteria")
        if not instructions and not any(meanings):
            raise Unfit("the statement has neither instructions nor criteria", *place, "instructions")
        return Question(id, "noul", instructions, options, meanings)
    if kind == "score":
        levels = _levels(criteria, *place, "criteria")
        return Question(id, "score", instructions, levels, ("",) * len(levels), tuple(criteria or ()))
    options, meanings = _options(criteria, *place, "criteria")
    return Question(id, "choice", instructions, options, meanings)


def state_text(state: object) -> str:
    """A state as the input of a task: a text as it is, anything else as one line of JSON. Raises Unfit."""
    try:
        return state if isinstance(state, str) else json.dumps(state, ensure_ascii=False)
    except RecursionError as error:
        raise Unfit("the data is nested too deeply") from error


def said(question: Question, likely: Sequence[float]) -> dict[str, Any]:
    """An answer in the wire's form, numbers to four decimals."""
    shown = [round(share, DIGITS) for share in likely]
    if question.kind == "noul":
        return {"type": "noul", "noul": shown[question.options.index(YES)]}
    if question.kind == "choice":
        return {
            "type": "choice",
            "choice": question.options[list(likely).index(max(likely))],
            "probabilities": dict(zip(question.options, shown, strict=True)),
            "confidence": round(choice_confidence(likely), DIGITS),
        }
    return {
        "type": "score",
        "score": round(sum(level * share for level, share in enumerate(likely)), DIGITS),
        "legend": {str(level): text for level, text in enumerate(question.legend)},
        "probabilities": {str(level): share for level, share in enumerate(shown)},
        "confidence": round(score_confidence(likely), DIGITS),
    }


def choice_confidence(likely: Sequence[float]) -> float:
    """How far the likeliest of the options is above an even share: 0 for an even one, 1 for certainty."""
    even = 1 / len(likely)
    return min(1.0, max(0.0, (max(likely) - even) / (1 - even)))


def score_confidence(likely: Sequence[float]) -> float:
    """How close the levels lie to the likeliest one, held against even shares around the middle: 1 for certainty."""
    top, n = list(likely).index(max(likely)), len(likely)
    spread = sum(share * abs(level - top) for level, share in enumerate(likely))
    even = sum(abs(level - (n - 1) / 2) for level in range(n)) / n
    return min(1.0, max(0.0, 1 - spread / even))


def _options(criteria: object, *place: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not isinstance(criteria, dict) or not 2 <= len(criteria) <= MAX_OPTIONS:
        raise Unfit(f"a choice has an object of 2 to {MAX_OPTIONS} options, each with its meaning or null", *place)
    options = tuple(criteria)
    for option in options:
        _check_text(option, *place)
    if len({option.strip() for option in options} - {""}) < len(options):
        raise Unfit("two options have the same name, or one has none", *place)
    return options, tuple(_optional(meaning, *place, option).strip() for option, meaning in criteria.items())


def _sides(criteria: object, *place: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if criteria is None:
        criteria = {}
    if not isinstance(criteria, dict) or set(criteria) - set(SIDES.values()):
        raise Unfit('the criteria of a statement are an object of "true" and "false"', *place)
    return (YES, NO), tuple(_optional(criteria.get(side), *place, side).strip() for side in SIDES.values())


def _levels(criteria: object, *place: str) -> tuple[str, ...]:
    if not isinstance(criteria, list) or not 2 <= len(criteria) <= MAX_LEVELS:
        raise Unfit(f"a score has a list of 2 to {MAX_LEVELS} levels, the lowest first", *place)
    levels = tuple(_text(level, *place, str(i)).strip() for i, level in enumerate(criteria))
    if len(set(levels) - {""}) < len(levels):
        raise Unfit("two levels are the same, or one is empty", *place)
    return levels


def _optional(value: object, *place: str) -> str:
    return "" if value is None else _text(value, *place)


def _text(value: object, *place: str) -> str:
    if not isinstance(value, (str, dict, list)):
        raise Unfit("this is neither a text nor an object nor a list", *place)
    text = state_text(value)
    _check_text(text, *place)
    return text


def _check_text(text: str, *place: str) -> None:
    """Raises Unfit for half a character, which no tokenizer and no answer can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Unfit("the text holds half a character (a lone surrogate)", *place[:1]) from error
