"""Task and template to prompt text, model text back to rows: pure functions, no engine.

Two forms lay out the same task. `chat` is SELF-GUIDE's multi-turn prompt through the model's own chat template:
the instruction and the first demonstration's input as the first user turn, its output as the assistant turn, the
other demonstrations likewise, then the new input. `plain` is the few-shot text that base models continue. User
text is never trusted: special-token strings inside it stay text (records.Segment).

Here is also the one rule for the prompt that fits: synthesis, training, evaluation and serving keep the same room for
an answer and leave out the same demonstrations, so that what is trained and served is what was evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from sg_local.parsing import trimmed, uncued, unfenced, unheld, unthought
from sg_local.prompts.templates import Form, render
from sg_local.records import Pair, Segment, Segments, SgError, Task
from sg_local.splitting import bare, folded, unclosed

MAX_TOKENS = 500
"""The most new tokens that a row or an answer may take where no setting says otherwise."""


def answer_prompt(task: Task, form: Form, text: str, examples: Sequence[Pair] | None = None) -> Segments:
    """The prompt that training, evaluation and serving share: instruction, demonstrations, the new input.

    `examples` defaults to the task's own, of which the form may show fewer; fewer are given where the context is small.
    """
    shown = form.shown(task.examples if examples is None else examples)
    if form.template is None:
        return (Segment(plain_head(task, form, shown) + plain_turn(form, text), trusted=False),)
    return render(form, answer_messages(task, text, shown))


@lru_cache(maxsize=16)
def answer_heads(task: Task, form: Form, examples: tuple[Pair, ...] | None = None) -> tuple[Segments, ...]:
    """Two of these prompts that part where the new input begins."""
    return tuple(answer_prompt(task, form, text, examples) for text in ("a", "7"))


def answer_messages(task: Task, text: str, examples: Sequence[Pair]) -> list[dict[str, str]]:
    """The chat turns of `answer_prompt`: the instruction opens the first user turn."""
    messages = []
    for pair in (*examples, Pair(text, "")):
        messages.append({"role": "user", "content": pair.input})
        messages.append({"role": "assistant", "content": pair.output})
    messages[0]["content"] = f"{task.instruction}\n\n{messages[0]['content']}"
    return messages[:-1]


def plain_head(task: Task, form: Form, examples: Sequence[Pair]) -> str:
    """The plain prompt up to where the new input's cue begins."""
    shown = (f"{plain_turn(form, pair.input)}{form.lead}{pair.output}\n\n" for pair in examples)
    return f"{task.instruction}\n\n{''.join(shown)}"


def plain_turn(form: Form, text: str) -> str:
    """An input in the plain prompt, up to where its output begins: behind the form's lead, if it has one."""
    return f"Input:{form.gap}{text}\nOutput:{form.cue}"


class Tokenize(Protocol):
    """Text to token ids, as a generator does it; `bos` as in backends.Generator."""

    def __call__(self, segments: Segments, *, bos: bool = True) -> tuple[int, ...]: ...


class TooLong(SgError):
    """A prompt leaves no room for its answer, even without a demonstration."""


@dataclass(frozen=True)
class Room:
    """What one sequence may hold, in tokens: `n_ctx` for prompt and answer together, `n_new` of them for the answer.

    `stage` is the one whose `n_ctx` bounds it besides the engine's, for hints.
    """

    tokenize: Tokenize
    n_ctx: int
    n_new: int
    stage: str = "eval"

    @property
    def hint(self) -> str:
        """How a user makes more room."""
        return f"Shorten it, or raise `engine.n_ctx` and `{self.stage}.n_ctx`, up to what the model was trained for."

    def for_answer(self, answer: str) -> Room:
        """The room with as many tokens as this answer and its end take, where that is more than is kept anyway."""
        n_answer = len(self.tokenize((Segment(answer, trusted=False),), bos=False)) + 1
        return replace(self, n_new=max(self.n_new, n_answer))

    def holds(self, segments: Segments) -> bool:
        """Whether the answer has its room behind this prompt."""
        return len(self.tokenize(segments)) + self.n_new <= self.n_ctx


@dataclass(frozen=True)
class Fitted:
    """A prompt that leaves room for its answer, and how many demonstrations it had to leave out."""

    segments: Segments
    n_dropped: int = 0


def fitted_answer(room: Room, task: Task, form: Form, text: str, examples: Sequence[Pair] | None = None) -> Fitted:
    """`answer_prompt` with as many demonstrations as the room allows; those nearest to the input stay longest.

    Raises TooLong where the instruction and the input alone are too long.
    """
    shown = form.shown(task.examples if examples is None else examples)
    for n_dropped in range(len(shown) + 1):
        segments = answer_prompt(task, form, text, shown[n_dropped:])
        if room.holds(segments):
            return Fitted(segments, n_dropped)
    n_tokens, begins = len(room.tokenize(segments)), text if len(text) <= 60 else f"{text[:59]}\u2026"
    raise TooLong(
        f"The prompt has {n_tokens} tokens, an answer of task {task.name} may take {room.n_new}: that does not fit a "
        f"context of {room.n_ctx} tokens ({begins!r}).",
        room.hint,
    )


def answer_room(tokenize: Tokenize, task: Task, n_ctx: int, max_tokens: int, stage: str = "eval") -> Room:
    """The room of a task's prompt in a context of `n_ctx` tokens, with as many for the answer as it may take."""
    outputs = [*(pair.output for pair in task.examples), *task.labels]
    return Room(tokenize, n_ctx, length_limit(tokenize, outputs, max_tokens), stage)


def length_limit(tokenize: Tokenize, texts: Iterable[str], max_tokens: int) -> int:
    """New tokens that a text like these may take: three times the longest and a few more, at most `max_tokens`."""
    longest = max(len(tokenize((Segment(text, trusted=False),), bos=False)) for text in texts)
    return min(max_tokens, 3 * longest + 8)


def answer_text(form: Form, output: str) -> str:
    """What follows the prompt when the answer is `output`, without end-of-sequence."""
    return form.lead + output


def answer_tokens(tokenize: Tokenize, prompt: Segments, answer: str) -> tuple[int, ...]:
    """Token ids of an answer behind its prompt, without an end: those of the joint text where its prompt stays whole.

    Elsewhere those of a text that begins no string: sentencepiece would put a space before it there.
    """
    text, anchor = Segment(answer, trusted=False), Segment("\n", trusted=False)
    for before, bos in ((prompt, True), ((anchor,), False)):
        head, joint = tokenize(before, bos=bos), tokenize((*before, text), bos=bos)
        if joint[: len(head)] == head:
            return joint[len(head) :]
    return tokenize((text,), bos=False)


def answer_stops(task: Task, form: Form) -> tuple[str, ...]:
    """Strings that end an answer besides end-of-sequence: the layout's own, and a line end for one-line tasks.

    What a demonstration's output holds does not end one (parsing.unheld).
    """
    shown = [pair.output for pair in task.examples]
    layout = unheld(("\n\nInput:", "\nInput:", "\nOutput:"), shown) if form.template is None else ()
    return layout if any("\n" in text for text in shown) else ("\n", *layout)


def parse_output(task: Task, raw: str, lead: str = " ") -> str:
    """A sampled output as a row's output: a label in its canonical spelling where it names one, else the text.

    Thoughts are left out; of a model that is still thinking nothing is left. Cues, fences and leading blanks stay where
    the demonstrations' outputs have them; `lead` is the form's.
    """
    shown = [pair.output for pair in task.examples]
    said = unthought(raw, shown) or ""
    text = unfenced(trimmed(uncued(trimmed(said, shown, lead), r"output:\s*", shown), shown), shown)
    label = match_label(task.labels, text)
    return text if label is None else label


def majority(votes: Mapping[str, int], backward: Mapping[str, float] | None = None) -> str:
    """The output with the most votes; empty without votes.

    Ties go to the highest of the `backward` scores, where there are some, then to the shortest, then to the first in
    the alphabet.
    """
    scores = backward or {}
    return min(votes, key=lambda text: (-votes[text], -scores.get(text, -math.inf), len(text), text), default="")


def match_label(labels: Sequence[str], text: str) -> str | None:
    """The one label that the text names, else None: as it stands, but for letter case, for what encloses it, or bare.

    The strictest reading that any label fits decides, so that labels apart only in their signs stay apart.
    """
    for reading in (str.strip, folded, unclosed, normalise):
        wanted = reading(text)
        found = [label for label in labels if reading(label) == wanted]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def normalise(text: str) -> str:
    """Lower case, punctuation removed, white space folded: the form in which exact match compares (splitting.bare)."""
    return bare(text)
