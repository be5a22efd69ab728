"""What both passes of synthesis share: settings, the job, progress events, rooms and draws, answers in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar

from sg_local.backends import Generator
from sg_local.prompts import MAX_TOKENS, PLAIN, Form, Room, answer_room, length_limit
from sg_local.records import Pair, Sampling, Segments, SgError, Task
from sg_local.run import Run

InputGate = Callable[[str, Sequence[str]], str]
"""(input, accepted inputs so far) -> `rule: reason` that rejects it, or an empty string."""

ACCEPTED = 0.7
"""The share of the inputs that are asked for which passes, as our tasks had it in the middle."""

DEMONSTRATIONS = "demonstrations"
"""What a row calls the demonstrations that its prompt had no room for."""


@dataclass(frozen=True)
class SynthSettings:
    """How pairs are synthesised. Lengths are in tokens; `n_inputs` None means: keep whatever `n_asked` yields.

    `style` is `continue` or `paper` (prompts); `balance` asks most for the labels that are rarest so far;
    `n_per_draw` inputs of one label are asked for with the same rows of the pool in their prompt, which is read once;
    `hotter` is added to the temperature while more than a third of a round's rows are duplicates. `constrain` lets
    votes be nothing but labels, or nothing but JSON that fits the task's schema. `channel` scores each label also by
    how likely it makes the input, in up to `n_orders` orders of the demonstrations; `backward` scores tied votes of a
    generation task so, and the likelier one is the output.
    """

    n_inputs: int | None = 160
    n_asked: int = 640
    style: str = "continue"
    steer: bool = True
    balance: bool = True
    round_size: int = 32
    n_pool: int = 4
    n_per_draw: int = 2
    temperature: float = 0.9
    hotter: float = 0.1
    top_k: int = 40
    top_p: float = 0.95
    n_votes: int = 5
    vote_temperature: float = 0.3
    vote_top_k: int = 10
    constrain: bool = False
    score_labels: bool = True
    channel: bool = True
    n_orders: int = 1
    backward: bool = False
    max_tokens: int = MAX_TOKENS
    n_ctx: int = 2048
    chunk_size: int = 64
    collapse_asked: int = 128
    collapse_share: float = 0.04


@dataclass(frozen=True)
class SynthEvent:
    """Where synthesis stands. `phase` is `inputs` or `outputs`; `rejected` counts rows by rule.

    While inputs are written, `examples` holds up to two (text, reason) for each rule and `labels` (asked, accepted)
    for each label.
    """

    phase: str
    done: int
    wanted: int
    asked: int
    n_tokens: int
    rejected: dict[str, int] = field(default_factory=dict)
    latest: tuple[str, ...] = ()
    parsed: int = 0
    examples: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    labels: dict[str, tuple[int, int]] = field(default_factory=dict)


OnEvent = Callable[[SynthEvent], None]


@dataclass(frozen=True)
class Synthesis:
    """One synthesis job: what both passes need to know. `engine_ctx`: the tokens of a sequence in the engine's context
    (None: as many as are asked for)."""

    run: Run
    task: Task
    form: Form
    generator: Generator
    settings: SynthSettings
    gate: InputGate
    seed: int
    engine_ctx: int | None = None

    @property
    def n_ctx(self) -> int:
        """The tokens that one sequence may hold."""
        return min(self.settings.n_ctx, self.engine_ctx or self.settings.n_ctx, self.generator.info.n_ctx_train)

    @property
    def lead(self) -> str:
        """What stands between a prompt that asks for an input and the input: lists go on in the plain form."""
        return self.form.lead if self.settings.style == "paper" else PLAIN.lead

    @cached_property
    def input_room(self) -> Room:
        """The room of a prompt that asks for an input."""
        tokenize = self.generator.tokenize
        n_new = length_limit(tokenize, [pair.input for pair in self.task.examples], self.settings.max_tokens)
        return Room(tokenize, self.n_ctx, n_new, "synth")

    @cached_property
    def output_room(self) -> Room:
        """The room of a prompt that asks for an output, whether to an input (stage B) or to write one for it."""
        return answer_room(self.generator.tokenize, self.task, self.n_ctx, self.settings.max_tokens, "synth")

    def sampling(self, temperature: float, n_new: int, stop: tuple[str, ...]) -> Sampling:
        """How stage A draws: at this temperature, which rises with the share of duplicates."""
        return Sampling(temperature, self.settings.top_k, self.settings.top_p, max_tokens=n_new, stop=stop)


def rule_of(rejected: str) -> str:
    """The rule's name in `rule: reason`."""
    return rejected.partition(":")[0]


def fitted(
    job: Synthesis,
    room: Room,
    pool: Sequence[Pair],
    examples: Sequence[Pair],
    build: Callable[[Sequence[Pair], Sequence[Pair]], Segments],
) -> tuple[Segments, str]:
    """A prompt of stage A that fits the room: drops pool rows first, then demonstrations; says how many.

    Raises SgError when the instruction alone is too long.
    """
    for n_pool, n_examples in _shrinking(len(pool), len(examples)):
        segments = build(pool[:n_pool], examples[:n_examples])
        if room.holds(segments):
            words = [(len(pool) - n_pool, "pool rows"), (len(examples) - n_examples, DEMONSTRATIONS)]
            return segments, ", ".join(f"{n} {what}" for n, what in words if n)
    raise SgError(
        f"The instruction of task {job.task.name} does not fit a context of {room.n_ctx} tokens.",
        room.hint,
    )


def _shrinking(n_pool: int, n_examples: int) -> Iterator[tuple[int, int]]:
    yield from ((n, n_examples) for n in range(n_pool, -1, -1))
    yield from ((0, n) for n in range(n_examples - 1, -1, -1))


class Waiting(Protocol):
    """Anything that waits for an answer by its id."""

    @property
    def id(self) -> str: ...


class Answered(Protocol):
    """Anything that answers one ask."""

    @property
    def prompt_id(self) -> str: ...


A = TypeVar("A", bound=Answered)


def in_order(asks: Sequence[Waiting], answers: Iterable[A]) -> Iterator[A]:
    """The answers in the order of the asks, each as soon as its turn has come."""
    waiting: dict[str, A] = {}
    queue = iter(asks)
    due = next(queue, None)
    for found in answers:
        waiting[found.prompt_id] = found
        while due is not None and due.id in waiting:
            yield waiting.pop(due.id)
            due = next(queue, None)
