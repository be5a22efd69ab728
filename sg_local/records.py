"""The frozen records that cross walls between rooms, their JSON form, and the one error that a user can fix.

Every record is a frozen dataclass of plain values, so that a journal line is `to_json(record)` and nothing
else. Paths are kept as strings relative to the run folder wherever a record is written to disk. The module is longer
than most, so that whoever builds a room finds every contract between rooms in one place.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from sg_local.typed import Misfit, reader

Kind = Literal["classification", "generation"]
KINDS: tuple[str, ...] = typing.get_args(Kind)
MAX_MESSAGE = 1000  # characters


class SgError(Exception):
    """Something that a user can fix: one sentence that says what and where, and a hint that says how.

    `exit_code` is the process's exit status: 1 failure, 2 usage, 3 gate not met. Of a message that would fill screens,
    because a file's text stands in it, the middle is left out.
    """

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 1) -> None:
        self.message, self.hint = _told(message), _told(hint)
        super().__init__(self.message)
        self.exit_code = exit_code


def _told(text: str) -> str:
    """A message as people can read it."""
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 200]} \u2026 {text[-150:]}"


GATE_NOT_MET = 3
"""The exit code of an SgError that says: a check was not met, nothing is broken."""


class MadeOtherwise(SgError):
    """A finished stage or a checkpoint was made with other settings or inputs: it may be made again."""


class NoRows(SgError):
    """Too few rows came out of a stage to go on: other settings may bring more."""


@dataclass(frozen=True)
class Pair:
    """One input with its output: a demonstration, or a training row in text form."""

    input: str
    output: str


@dataclass(frozen=True)
class TestRow:
    """One held-out input with every output that counts as right (at least one)."""

    __test__ = False  # not a pytest class

    input: str
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """What the user hands in. `labels` is empty for generation; `examples` holds at least one demonstration.

    `schema` is the JSON schema that outputs fit, as JSON text; empty where they are free text.
    """

    name: str
    kind: Kind
    instruction: str
    examples: tuple[Pair, ...]
    labels: tuple[str, ...] = ()
    tests: tuple[TestRow, ...] = ()
    schema: str = ""

    @property
    def metric(self) -> str:
        """`exact_match` for classification, `rouge_l` for generation."""
        return "exact_match" if self.kind == "classification" else "rouge_l"

    @property
    def digest(self) -> str:
        """Digest of everything that shapes training: the test rows are left out."""
        plain = dataclasses.asdict(dataclasses.replace(self, tests=()))
        if not self.schema:
            del plain["schema"]  # so that tasks without one keep the digest they had before there were schemas
        return digest(plain)


@dataclass(frozen=True)
class Segment:
    """A stretch of prompt text. Only in `trusted` text may special-token strings become special tokens.

    `ids` are a whole prompt's tokens, in place of any text: they mean what they are.
    """

    text: str
    trusted: bool = True
    ids: tuple[int, ...] = ()


Segments = tuple[Segment, ...]


@dataclass(frozen=True)
class Sampling:
    """How one completion is drawn. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 switch those off.

    The penalties look at a row's own recent tokens: `repeat_penalty` divides their logits, `frequency_penalty` is taken
    off for each time one stands there and `presence_penalty` once.
    `stop` strings end the completion and are cut off; `max_tokens` bounds new tokens. `grammar` is GBNF text;
    `schema` is a JSON schema as JSON text, which the engine turns into a grammar of its own where there is none.
    """

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    max_tokens: int = 500
    stop: tuple[str, ...] = ()
    grammar: str | None = None
    schema: str | None = None

    @property
    def penalises(self) -> bool:
        """True when any penalty is on."""
        return (self.repeat_penalty, self.frequency_penalty, self.presence_penalty) != (1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Prompt:
    """A request for one completion. The same id, seed and segments give the same text on the same engine.

    Kernels round a little otherwise beside other rows. `settled`: where the likeliest token is taken and another one is
    nearly as likely, the engine computes that choice once more, alone, so that nothing beside it can turn it.
    """

    id: str
    segments: Segments
    sampling: Sampling
    seed: int = 0
    settled: bool = False


@dataclass(frozen=True)
class Completion:
    """What came back. `logprob` is the sum over the new tokens, at temperature 1, in nats.

    `finish` says what ended it: end of sequence or a stop string, the token limit, or a full context.
    """

    prompt_id: str
    text: str
    finish: Literal["stop", "length", "context"]
    n_prompt_tokens: int
    n_tokens: int
    logprob: float


@dataclass(frozen=True)
class ScoredPrompt:
    """A request for log P(continuation | prompt), one figure for each continuation.

    With `end` the end-of-sequence token counts as part of every continuation, so that a label which is a
    prefix of another gets no free ride. `ending` is the special token that stands for it where a chat template ends
    its turns with another one. `settled`: the likeliest continuation is the answer; where another one is nearly as
    likely, the engine computes them once more, alone, so that nothing beside them can turn it. `heads` are two
    prompts that begin as all of its task do, and are given wherever the same is asked: where they part, a step ends.
    """

    id: str
    segments: Segments
    continuations: tuple[str, ...]
    end: bool = False
    ending: str = ""
    settled: bool = False
    heads: tuple[Segments, ...] = ()


@dataclass(frozen=True)
class Score:
    """log P of each continuation in nats, in the order asked."""

    prompt_id: str
    logprobs: tuple[float, ...]


@dataclass(frozen=True)
class ModelInfo:
    """A model file as the engines see it. `n_ctx_train` is in tokens, `size_bytes` is the file's size.

    `digest` is the SHA-256 of the file's bytes, in hex.
    """

    name: str
    path: str
    digest: str
    size_bytes: int
    architecture: str
    n_ctx_train: int
    chat_template: str | None
    bos: str
    eos: str
    add_bos: bool
    ends: tuple[str, ...] = ()


OWN, LABELLED, EARLIER = "own", "labelled", "earlier"
"""Where a row comes from that no model wrote for this task: a person's own input, or input and right output; an input
that was synthesised for an earlier version of the task. Empty: synthesised."""


@dataclass(frozen=True)
class InputRow:
    """An input before anyone judged it, synthesised (stage A) or given. `rejected` holds `rule: reason` or is empty.

    `source` is OWN, LABELLED, EARLIER or empty; a labelled row has its right output as `label_asked`.
    """

    id: str
    round: int
    index: int
    seed: int
    input: str
    label_asked: str | None = None
    raw: str = ""
    n_tokens: int = 0
    logprob: float = 0.0
    rejected: str = ""
    dropped: str = ""
    source: str = ""


@dataclass(frozen=True)
class Candidate:
    """A pair (stage B): the voted output, every vote, and the evidence for other labels; or a labelled row.

    `votes` maps each parsed output to its count. For classification, in the task's label order, `label_scores` holds
    log P of each label after the input, `channel_scores` log P of the input after each label, in nats. `relevance` says
    how much more likely, in nats a token, the output asked for is after this input than after others (generation,
    output first). `backward` is log P of the input after each vote, in nats, where votes tie (generation). The filters
    choose what is trained on from this evidence, without a model.
    """

    id: str
    input: str
    output: str
    votes: dict[str, int]
    n_samples: int
    vote_share: float
    label_asked: str | None = None
    label_scores: tuple[float, ...] = ()
    relevance: float | None = None
    seed: int = 0
    model: str = ""
    n_tokens: int = 0
    logprob: float = 0.0
    dropped: str = ""
    source: str = ""
    channel_scores: tuple[float, ...] = ()
    backward: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """One judgement on one candidate; the last verdict per id and judge class wins, so undo is another row.

    `judge` is `filters` or a person's name; `rule` names the rule; `reason` is for people. A person may have
    edited `input` or `output` (None: as synthesised). `step` numbers that person's actions from 1; a row that takes
    action n back has -n, and the rule `undo` where nobody had judged the row before.
    """

    id: str
    keep: bool
    judge: str
    rule: str = ""
    reason: str = ""
    input: str | None = None
    output: str | None = None
    step: int = 0


@dataclass(frozen=True)
class Funnel:
    """How many rows each step left. `rules` maps a rule to its rejections, `examples` to up to two (text, reason).

    `labels` maps each label to (asked, kept). `policy` and `why` tell how labels were chosen. `own` inputs and
    `labelled` rows are those given and accepted; `asked` and `parsed` count what the model wrote alone. `flagged` kept
    rows hold likely personal data; `personal` maps its kinds to kept rows.
    """

    asked: int
    parsed: int
    accepted: int
    kept: int
    rules: dict[str, int] = field(default_factory=dict)
    examples: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    labels: dict[str, tuple[int, int]] = field(default_factory=dict)
    by_person: int = 0
    policy: str = ""
    why: str = ""
    own: int = 0
    labelled: int = 0
    flagged: int = 0
    personal: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenExample:
    """A training row as token ids. Loss is taken on `tokens[n_prompt:]`, which ends with end-of-sequence."""

    id: str
    tokens: tuple[int, ...]
    n_prompt: int
    weight: float = 1.0


@dataclass(frozen=True)
class TrainStep:
    """One optimiser step as the trainer reports it. `valid_loss` is set on the steps that measured it."""

    step: int
    n_steps: int
    epoch: float
    loss: float
    lr: float
    tokens_per_s: float
    memory_bytes: int
    valid_loss: float | None = None


@dataclass(frozen=True)
class Adapter:
    """A trained adapter GGUF and what it fits: `base_digest` is the base file's SHA-256."""

    path: str
    digest: str
    base_digest: str
    rank: int
    alpha: float
    trainer: str
    n_steps: int
    best_step: int
    loss: float
    valid_loss: float | None


@dataclass(frozen=True)
class Answer:
    """One test row answered by one system."""

    id: str
    system: str
    index: int
    input: str
    text: str
    scores: tuple[float, ...] = ()


T = TypeVar("T")


def to_json(record: Any) -> str:
    """A record as one line of JSON with keys in field order."""
    return json.dumps(dataclasses.asdict(record), ensure_ascii=False, separators=(",", ":"))


def from_dict(cls: type[T], data: Any) -> T:
    """A record from its JSON form, types checked all the way down; SgError names the key that is wrong, by its path."""
    try:
        return typing.cast(T, reader(typing.cast(Any, cls))(data))
    except Misfit as wrong:
        raise SgError(f"{cls.__name__}: {wrong}", wrong.hint) from wrong


def digest(value: Any) -> str:
    """A stable 16-hex-digit digest of a record or of plain JSON data."""
    is_record = dataclasses.is_dataclass(value) and not isinstance(value, type)
    plain = dataclasses.asdict(value) if is_record else value
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def row_id(*parts: object) -> str:
    """The id of a row: a 12-hex-digit hash of (task digest, pass, index, run seed, ...)."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:12]


def seed_of(id: str, *parts: object) -> int:
    """A sampling seed in [1, 2**31) derived from a row id."""
    data = "\x1f".join(map(str, (id, *parts))).encode()
    return int.from_bytes(hashlib.sha256(data).digest()[:4], "big") % (2**31 - 1) + 1
