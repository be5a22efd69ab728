"""A decision request, as decision APIs take it, as a classification task: its criteria are the labels.

A request has `state` (what is decided on) and `questions`, as the server reads them (`sg_local.decisions`); or one
question's keys beside the state. The levels of a `score` and yes and no of a statement are labels, too. Where an answer
was logged beside the request, the state is shown as an example.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from sg_local.decisions import FIELDS, NO, YES, Question, Unfit, read_question, state_text
from sg_local.records import SgError
from sg_local.tasks.draft import Draft
from sg_local.words import did_you_mean

HINT = 'It needs "state", "instructions" and "criteria", or "questions" with one question for each id.'


def is_request(data: object) -> bool:
    """Whether plain data looks like a decision request, alone or in a log entry beside its answer."""
    inner = _request(data) if isinstance(data, dict) else {}
    return "questions" in inner or ("criteria" in inner and "instructions" in inner)


def draft_from_request(data: dict[str, Any], path: Path, draft: Draft, question: str | None = None) -> Draft:
    """The draft with what it lacks taken from a request. Raises SgError (usage) for one that is malformed.

    `question` is the id of one where there are several.
    """
    request = _request(data)
    name, asked = _question(request, path, question)
    found = _read(name, asked, path)
    labels = draft.labels or tuple(option.strip() for option in found.options)
    if not (draft.instruction or found.instructions):
        raise SgError(f"{path}: the question has no instructions.", HINT, exit_code=2)
    told = draft.instruction or found.told
    if "state" not in request:
        raise SgError(f"{path} has no state.", HINT, exit_code=2)
    state, answer = state_text(request["state"]), _answer(data, name, labels)
    examples = draft.examples or (((state, answer),) if answer and state.strip() else ())
    return replace(draft, kind="classification", labels=labels, instruction=told, examples=examples)


def _request(data: dict[str, Any]) -> dict[str, Any]:
    inner = data.get("request")
    return inner if isinstance(inner, dict) else data


def _question(request: dict[str, Any], path: Path, wanted: str | None) -> tuple[str, dict[str, Any]]:
    """The one question, or the one that is wanted, with its id ('' where it has none)."""
    questions = request.get("questions", {"": request})
    if not isinstance(questions, dict) or not questions or not all(isinstance(q, dict) for q in questions.values()):
        raise SgError(f"{path}: its questions must be an object with one question for each id.", HINT, exit_code=2)
    if wanted is None and len(questions) > 1:
        hint = f"Name one, such as `question={next(iter(questions))}`; each becomes a task of its own."
        raise SgError(f"{path} asks several questions: {', '.join(questions)}.", hint, exit_code=2)
    if wanted is not None and wanted not in questions:
        hint = did_you_mean(wanted, list(questions)) or f"It asks: {', '.join(questions)}."
        raise SgError(f"{path} has no question {wanted!r}.", hint, exit_code=2)
    name = wanted if wanted is not None else next(iter(questions))
    return name, questions[name]


def _read(name: str, asked: dict[str, Any], path: Path) -> Question:
    """The question as the wire has it; its type may be left out where the criteria tell it."""
    criteria = asked.get("criteria")
    kind = asked.get("type", "choice" if isinstance(criteria, dict) else "score" if criteria else "noul")
    try:
        return read_question(name, {**{key: asked[key] for key in FIELDS & asked.keys()}, "type": kind})
    except Unfit as wrong:
        place = ".".join(wrong.place[2:])
        raise SgError(f"{path}: {f'{place}: ' if place else ''}{wrong.message}.", HINT, exit_code=2) from wrong


def _answer(data: dict[str, Any], name: str, labels: tuple[str, ...]) -> str | None:
    """The label that was answered to the request, where the log says it: its choice, or the likeliest one."""
    logged = data.get("response", data)
    answers = logged.get("answers") if isinstance(logged, dict) else None
    found = answers.get(name) if isinstance(answers, dict) else data.get("answer")
    if isinstance(found, str):
        return found if found in labels else None
    if not isinstance(found, dict):
        return None
    if isinstance(found.get("noul"), (int, float)):
        return YES if found["noul"] >= 0.5 else NO
    shares = found.get("probabilities")
    likeliest = max(shares.items(), key=lambda item: item[1])[0] if _are_shares(shares) else None
    choice = found.get("choice", likeliest)
    return choice if choice in labels else None


def _are_shares(value: object) -> TypeGuard[dict[str, float]]:
    return isinstance(value, dict) and bool(value) and all(isinstance(p, (int, float)) for p in value.values())
