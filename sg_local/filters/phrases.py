"""Phrases that speak against a text, where they are not the task's own: the rules `noise` and `refusal`. Pure."""

from __future__ import annotations

import re

from sg_local.records import Task

OPENERS = (  # the authors' list of assistant openers, from their released code
    "Sure, I'd be happy to help!",
    "Of course!",
    "Let me check on that.",
    "I'm here to help.",
    "Great question!",
    "Let me see.",
    "That's a good question.",
    "Thanks for asking.",
    "Let me help you with that.",
    "No problem, here's the answer.",
    "I'm glad you asked.",
    "Alright, let me explain.",
    "Absolutely!",
    "I understand your question.",
)
LEAKS = ("input", "output", "Input", "Output", "\n\n", "\\_")
REASONING = ("therefore", "Therefore", "Hence")
REFUSALS = (
    "i'm sorry",
    "i am sorry",
    "i apologize",
    "i apologise",
    "as an ai",
    "as a language model",
    "i cannot",
    "i can't",
    "i am unable",
    "i'm unable",
)
APOLOGIES = re.compile(r"sorry\b|apologi[sz]e")
"""What a phrase has that apologises: a task in which that is the answer may say it in its own words."""


def own_words(task: Task) -> str:
    """Everything that the task's demonstrations and labels say: no phrase in it is a fault in a row."""
    return " ".join([*(f"{pair.input} {pair.output}" for pair in task.examples), *task.labels])


def noise(text: str, task: Task) -> str:
    """An assistant's opener or a piece of the prompt in the text, case-sensitive. [P]"""
    own = own_words(task).lower()
    phrases = OPENERS + LEAKS + (REASONING if task.labels else ())
    found = next((phrase for phrase in phrases if phrase in text and phrase.lower() not in own), None)
    return "" if found is None else f"it holds {found!r}"


def refused(input: str, output: str, task: Task) -> str:
    """The phrase by which an output talks about the model instead of answering, in words, or an empty string.

    What a demonstration's output says is no refusal in this task, an apology in whatever words, nor is a phrase that
    the input goes on alike.
    """
    own = " ".join([*(pair.output for pair in task.examples), *task.labels])
    for phrase in REFUSALS:
        said = _said(output, phrase)
        is_own = _said(own, phrase) or (APOLOGIES.search(phrase) and _apologises(own))
        if said and not is_own and said not in _spelt_out(input):
            return f"it says {phrase!r}"
    return ""


def _apologises(text: str) -> bool:
    return re.search(r"\b(?:am|are|'m|'re|so|very) sorry\b|\bapologi[sz]e\b", _spelt_out(text)) is not None


def _said(text: str, phrase: str) -> str:
    """The phrase as the text says it, with the word behind it; empty where it does not."""
    found = re.search(rf"\b{re.escape(_spelt_out(phrase))}\b(?:\W+\w+)?", _spelt_out(text))
    return found[0] if found else ""


def _spelt_out(text: str) -> str:
    """Lower case, short forms at full length, so that a task which says one of two forms says both."""
    return text.lower().replace("\u2019", "'").replace("i'm", "i am").replace("can't", "cannot")
