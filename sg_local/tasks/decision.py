"""A decision request, as decision APIs take it, as a classification task: its criteria are the labels.

A request has `state` (what is decided on) and `questions`, each with `type`, `instructions` and `criteria`; or one
question's keys beside the state. `choice` has a map of labels to their meanings, `score` a list of ordered levels,
`noul` a statement to which the answer is yes or no. Where an answer was logged beside the request, the state is shown
as an example.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from sg_local.records import SgError
from sg_local.tasks.draft import Draft
from sg_local.words import did_you_mean

YES, NO = "yes", "no"
KINDS = ("choice", "noul", "score")
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
    meanings = _meanings(asked, path)
    labels = draft.labels or tuple(meanings)
    told = draft.instruction or _instruction(asked, meanings, path)
    if "state" not in request:
        raise SgError(f"{path} has no state.", HINT, exit_code=2)
    state, answer = state_text(request["state"]), _answer(data, name, labels)
    examples = draft.examples or (((state, answer),) if answer and state.strip() else ())
    return replace(draft, kind="classification", labels=labels, instruction=told, examples=examples)


def state_text(state: object) -> str:
    """A state as the input of a task: a text as it is, anything else as one line of JSON."""
    return state if isinstance(state, str) else json.dumps(state, ensure_ascii=False)


def _request(data: dict[str, Any]) -> dict[str, Any]:
    inner = data.get("request")
    return inner if isinstance(inner, dict) else data


def _question(request: dict[str, Any], path: Path, wanted: str | None) -> tuple[str, dict[str, Any]]:
    """The one question, or the one that is wanted, with its id ('' where it has none)."""
    questions = request.get("questions", {"": request})
    if not isinstance(questions, dict) or not questions or not all(isinstance(q, dict) for q in questions.values()):
        raise SgError(f"{path}: its questions are no objects by their ids.", HINT, exit_code=2)
    if wanted is None and len(questions) > 1:
        hint = f"Name one, such as `question={next(iter(questions))}`; each becomes a task of its own."
        raise SgError(f"{path} asks several questions: {', '.join(questions)}.", hint, exit_code=2)
    if wanted is not None and wanted not in questions:
        hint = did_you_mean(wanted, list(questions)) or f"It asks: {', '.join(questions)}."
        raise SgError(f"{path} has no question {wanted!r}.", hint, exit_code=2)
    name = wanted if wanted is not None else next(iter(questions))
    return name, questions[name]


def _meanings(asked: dict[str, Any], path: Path) -> dict[str, str]:
    """The labels of a question, each with what it means ('' where that is not said)."""
    criteria = asked.get("criteria")
    kind = asked.get("type", "choice" if isinstance(criteria, dict) else "score" if criteria else "noul")
    if kind not in KINDS:
        hint = f"The types are: {', '.join(KINDS)}."
        raise SgError(f"{path}: a question of type {kind!r} is not known.", hint, exit_code=2)
    if kind == "noul":
        given = criteria if isinstance(criteria, dict) else {}
        return {label: str(given.get(label) or "") for label in (YES, NO)}
    if kind == "score":
        criteria = dict.fromkeys(criteria, "") if _are_texts(criteria) else None
    if not isinstance(criteria, dict) or len(criteria) < 2 or not _are_texts([v for v in criteria.values() if v]):
        wanted = "a list of two levels or more" if kind == "score" else "an object of two labels or more"
        raise SgError(f"{path}: the criteria of a {kind} are not {wanted}.", HINT, exit_code=2)
    return {label.strip(): (meaning or "").strip() for label, meaning in criteria.items()}


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _instruction(asked: dict[str, Any], meanings: dict[str, str], path: Path) -> str:
    """The instructions, then every label with its meaning."""
    given = asked.get("instructions")
    if not given or not isinstance(given, (str, dict, list)):
        raise SgError(f"{path}: the question has no instructions.", HINT, exit_code=2)
    lines = [
        f"- {label}: {' '.join(meaning.split())}" if meaning else f"- {label}" for label, meaning in meanings.items()
    ]
    return f"{state_text(given).strip()}\n\nAnswer with one of these:\n" + "\n".join(lines)


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
