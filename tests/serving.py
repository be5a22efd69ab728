"""Scripted engines for the tests of the server."""

from __future__ import annotations

import threading

from sg_local.backends.scripted import ScriptedGenerator
from sg_local.records import Prompt, Sampling, Score, ScoredPrompt, Segment


class Echo(ScriptedGenerator):
    """Answers with the last turn or line of its prompt in upper case; scores the label that the input names."""

    def __init__(self, tmp_path, reply=None) -> None:
        super().__init__(tmp_path / "echo.gguf", reply or (lambda text, rng: last_input(text).upper()))
        self.scored = []

    def score(self, prompts):
        for prompt in prompts:
            self.scored.append(prompt)
            asked = last_input("".join(s.text for s in prompt.segments))
            yield Score(prompt.id, tuple(0.0 if c.strip() in asked else -1.0 for c in prompt.continuations))


class Stepwise(Echo):
    """Writes like a batching engine: a row takes four steps, and each step asks for more prompts."""

    def __init__(self, tmp_path) -> None:
        super().__init__(tmp_path)
        self.together = 0
        self.started = threading.Event()
        self.go_on = threading.Event()

    def generate(self, prompts):
        source, running = iter(prompts), {}
        while True:
            for prompt in source:
                if prompt is None:
                    break
                running[prompt.id] = [prompt, 4]
                self.started.set()
            if not running:
                return
            self.together = max(self.together, len(running))
            self.go_on.wait(0.01 if running else 10)
            for row in running.values():
                row[1] -= self.go_on.is_set()
            for id in [id for id, row in running.items() if row[1] == 0]:
                yield from super().generate([running.pop(id)[0]])


def last_input(text: str) -> str:
    return text.removesuffix("<|im_start|>assistant\n").removesuffix("<|im_end|>\n").splitlines()[-1]


def prompt(text: str, id: str = "", **sampling) -> Prompt:
    return Prompt(id, (Segment(text, trusted=False),), Sampling(**sampling))


def question(text: str, choices: tuple[str, ...], id: str = "") -> ScoredPrompt:
    return ScoredPrompt(id, (Segment(text, trusted=False),), choices, end=True)
