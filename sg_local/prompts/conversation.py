"""A conversation with a tuned model: a system message and earlier turns beside the task's own prompt.

The same rule as in exported chat templates (export.template): a system message stays first, an empty one counts as
none; the first user message is wrapped in the task's prompt, further turns follow it. A conversation that does not
begin with a user's turn, or whose first one already brings the instruction, is left alone. In the plain form the
few-shot text goes on in the same manner.
"""

from __future__ import annotations

from collections.abc import Sequence

from sg_local.prompts.layout import Fitted, Room, TooLong, answer_messages, plain_head, plain_turn
from sg_local.prompts.templates import Form, render
from sg_local.records import Pair, Segment, Segments, Task

Messages = Sequence[dict[str, str]]


def is_asked(messages: Messages) -> bool:
    """Whether a conversation asks the task: its first turn and its last are a user's."""
    _, turns = _parted(messages)
    return bool(turns) and turns[0]["role"] == turns[-1]["role"] == "user"


def conversation_prompt(task: Task, form: Form, messages: Messages, examples: Sequence[Pair]) -> Segments:
    """The prompt for a conversation's next answer, with these demonstrations. SgError where the template refuses it."""
    system, turns = _parted(messages)
    wrapped = turns[0]["role"] == "user" and not turns[0]["content"].startswith(task.instruction)
    if form.template is None:
        return (
            Segment(_plain(form, system, turns, plain_head(task, form, examples) if wrapped else None), trusted=False),
        )
    first = answer_messages(task, turns[0]["content"], examples) if wrapped else turns[:1]
    return render(form, [*system, *first, *turns[1:]])


def fitted_conversation(room: Room, task: Task, form: Form, messages: Messages) -> Fitted:
    """`conversation_prompt` with as many demonstrations as the room allows. Raises TooLong where none helps."""
    shown = form.shown(task.examples)
    for n_dropped in range(len(shown) + 1):
        segments = conversation_prompt(task, form, messages, shown[n_dropped:])
        if room.holds(segments):
            return Fitted(segments, n_dropped)
    n_tokens = len(room.tokenize(segments))
    message = f"The conversation has {n_tokens} tokens, an answer of task {task.name} may take {room.n_new}: that does"
    raise TooLong(f"{message} not fit a context of {room.n_ctx} tokens.", room.hint)


def _parted(messages: Messages) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The system message in front, where there is one that says anything, and the turns."""
    n_system = int(bool(messages) and messages[0]["role"] == "system")
    return [one for one in messages[:n_system] if one["content"].strip()], list(messages[n_system:])


def _plain(form: Form, system: Messages, turns: Messages, head: str | None) -> str:
    """The few-shot text; `head` is None where the first turn brings the instruction itself."""
    parts = [f"{message['content']}\n\n" for message in system] + [head or ""]
    for i, message in enumerate(turns):
        if message["role"] == "assistant":
            parts.append(f"{form.lead}{message['content']}\n\n")
        elif i == 0 and head is None:
            parts.append(message["content"] + (form.cue if message["content"].endswith("Output:") else ""))
        else:
            parts.append(plain_turn(form, message["content"]))
    return "".join(parts)
