"""The training stage: kept rows to token examples, a split, one trainer call, the run's adapter and its curve.

Rows are tokenised as the generator will read them: the prompt exactly as at inference (near the context's end with as
few demonstrations as serving would show), then the answer as it would be written after that prompt, then
end-of-sequence; loss is on the answer and its end. A tenth of the rows validates and never trains. Text goes to
train.jsonl and valid.jsonl; the trainer works in the run's adapter/ folder, from whose checkpoint an interrupted stage
goes on. Tokens, split and stage stand together, which makes the module long: all three are of one view of a job.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sg_local import prompts
from sg_local.backends import EngineSettings, Generator, Trainer, TrainSettings
from sg_local.backends.training.handover import Handover, write_job
from sg_local.files import file_digest, remove
from sg_local.gguf import Origin, adopt
from sg_local.prompts import Form, Room, TooLong, answer_room
from sg_local.records import Adapter, NoRows, Segment, SgError, Task, TokenExample, TrainStep, digest, from_dict
from sg_local.run import ADAPTER, TRAIN, VALID, Run, without_gained
from sg_local.validation import split_rows

logger = logging.getLogger(__name__)

WORK = "adapter"  # the trainer's folder inside the run
CURVE = f"{WORK}/curve.jsonl"
MIN_ROWS = 3  # SELF-GUIDE's smallest published sets had 3 to 7 pairs
FEW_ROWS = 30
SHARE = "share of the epochs"
"""What a stamp has where a training made a part of its epochs, others in a row with it the rest."""
OF_ROWS = {"rows", "shares", "labelled", SHARE}
"""What a stamp says of rows, and of the part of the epochs that they train for."""


@dataclass(frozen=True)
class TrainingRow:
    """A kept row in text form: one line of train.jsonl or valid.jsonl. `weight` scales its loss."""

    id: str
    input: str
    output: str
    weight: float = 1.0


@dataclass(frozen=True)
class Training:
    """One training job. `rows` are the kept rows in synthesis order; `generator` is asked for tokens only.

    `before` is called with the finished sets, before the trainer starts: to tell of them, to let go of the generator.
    `base_name` and `facts` (settings of the stages before, the funnel) travel in the adapter's metadata. `n_ctx` and
    `max_tokens` are the context and the longest answer that serving will have, in tokens. `labelled` are the ids of the
    rows that a person has labelled; `valid_share` of these may validate, before any other. `shares` holds what part of
    its weight a row trains with each of several outputs, by its id, where that is not all with its own (soft targets).
    `share` is this training's part of `settings.epochs`, `limit_s` that of `settings.time_s` (None: all of it).
    `began_from` has a digest of each row that the first of several trainings in a row began from, by its id; the stamp
    keeps it.
    """

    run: Run
    task: Task
    form: Form
    generator: Generator
    trainer: Trainer | None
    rows: tuple[TrainingRow, ...]
    settings: TrainSettings
    seed: int = 0
    before: Callable[[Sets], None] = lambda sets: None
    base_name: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    n_ctx: int = EngineSettings.n_ctx
    max_tokens: int = prompts.MAX_TOKENS
    labelled: frozenset[str] = frozenset()
    valid_share: float = 0.0
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    share: float = 1.0
    limit_s: float | None = None
    began_from: Mapping[str, str] = field(default_factory=dict)

    @property
    def room(self) -> Room:
        """The room of a row's prompt and its answer, as serving keeps it."""
        n_ctx = min(self.n_ctx, self.generator.info.n_ctx_train)
        return answer_room(self.generator.tokenize, self.task, n_ctx, self.max_tokens)


@dataclass(frozen=True)
class Sets:
    """Token examples that train and that validate, and the ids of rows beyond the context."""

    train: tuple[TokenExample, ...]
    valid: tuple[TokenExample, ...]
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """What the stage reports. `dropped` names rows beyond the context; `curve` holds (step, loss, validation loss)."""

    adapter: Adapter
    n_train: int
    n_valid: int
    dropped: tuple[str, ...]
    curve: tuple[tuple[int, float, float | None], ...]
    warnings: tuple[str, ...]
    seconds: float


def train(job: Training, on_step: Callable[[TrainStep], None] = lambda step: None) -> Trained:
    """Train the run's adapter, or read back a finished stage.

    Raises SgError for fewer than MIN_ROWS usable rows, for a base other than the generator's, and for a stage or
    checkpoint that was made with other settings.
    """
    if job.run.path(ADAPTER).exists() and job.run.is_done("train", _stamped(job), (ADAPTER,)):
        return _read_back(job.run)
    started, steps = time.monotonic(), []

    def note(step: TrainStep) -> None:
        steps.append(step)
        on_step(step)

    sets = prepare(job)
    job.before(sets)
    assert job.trainer is not None, "a job without a trainer is only handed over"
    limit = job.settings.time_s if job.limit_s is None else job.limit_s
    settings = dataclasses.replace(job.settings, time_s=limit, epochs=job.settings.epochs * job.share)
    adapter = job.trainer.train(sets.train, sets.valid, job.run.path(WORK), settings, note)
    return _finish(job, sets, adapter, steps, started)


def check_as_made(job: Training) -> None:
    """Raise MadeOtherwise where the stage is finished, and not with these settings. Its rows may be others: trainings
    that come before it, and would be made anew, have a say in them.
    """
    stamp = job.run.stamp("train")
    if stamp is not None:
        same = {name: value for name, value in stamp["settings"].items() if name in OF_ROWS}
        settings = {name: value for name, value in _stamped(job).items() if name not in OF_ROWS}
        job.run.is_done("train", settings | same, (ADAPTER,))


def prepare(job: Training) -> Sets:
    """Tokenise and split the kept rows, and write both parts as journals of the run."""
    rows, examples, dropped = usable(job)
    labels = [row.output if job.task.labels else "" for row in rows]
    right = [i for i, row in enumerate(rows) if row.id in job.labelled]
    split = split_rows(labels, job.seed, right, job.valid_share)
    job.run.replace(TRAIN, [rows[i] for i in split.train])
    job.run.replace(VALID, [rows[i] for i in split.valid])
    train, valid = (tuple(examples[i] for i in part) for part in (split.train, split.valid))
    logger.info("%d rows train, %d validate; %d do not fit the context", len(train), len(valid), len(dropped))
    return Sets(in_shares(job, train), valid, dropped)


def hand_over(job: Training, model: Path) -> Path:
    """Write the job as files for a trainer that another program starts; the folder, which `train` goes on from."""
    sets = prepare(job)
    return write_job(job.run.path(WORK), Handover(model, sets.train, sets.valid, job.settings))


def usable(job: Training) -> tuple[list[TrainingRow], list[TokenExample], tuple[str, ...]]:
    """The rows that the context can hold, their tokens, and the ids of those that it cannot."""
    found = list(zip(job.rows, token_examples(job), strict=True))
    dropped = tuple(row.id for row, example in found if example is None)
    kept = [(row, example) for row, example in found if example is not None]
    if len(kept) < MIN_ROWS:
        lost = f" ({len(dropped)} were longer than the context of {job.room.n_ctx} tokens)" if dropped else ""
        raise NoRows(
            f"Training needs at least {MIN_ROWS} rows; {len(kept)} are kept{lost}.",
            "Synthesise more rows, loosen the filters, or keep more in review.",
        )
    return [row for row, _ in kept], [example for _, example in kept], dropped


def token_examples(job: Training) -> list[TokenExample | None]:
    """Each row as prompt tokens, answer tokens and end-of-sequence; None for one that the context cannot hold."""
    end, room = _end_token(job.generator, job.form), job.room
    return [_token_example(job, form, room, row, end) for _, (form, row) in _in_forms(job)]


def in_shares(job: Training, examples: tuple[TokenExample, ...]) -> tuple[TokenExample, ...]:
    """The examples that train, each row that has shares once for each output, weighed by its share.

    The weighed sum of their losses is the cross-entropy against the shares.
    """
    if not job.shares:
        return examples
    end, room, rows = _end_token(job.generator, job.form), job.room, dict(_in_forms(job))
    found: list[TokenExample] = []
    for example in examples:
        form, row = rows[example.id]
        for output, share in job.shares.get(example.id, {row.output: 1.0}).items():
            one = dataclasses.replace(row, output=output, weight=row.weight * share)
            made = _token_example(job, form, room, one, end)
            found += [] if made is None else [made]
    return tuple(found)


def _in_forms(job: Training) -> list[tuple[str, tuple[Form, TrainingRow]]]:
    """Each row with the form that shows it as many demonstrations as its turn has, behind its id."""
    turns = prompts.in_turn(job.settings.shown, len(job.rows), job.seed)
    return [(row.id, (dataclasses.replace(job.form, n_shown=n), row)) for n, row in zip(turns, job.rows, strict=True)]


def _token_example(
    job: Training, form: Form, room: Room, row: TrainingRow, end: tuple[int, ...]
) -> TokenExample | None:
    """One row as tokens. A demonstration that trains is not shown itself: its answer would be there to copy.

    An answer that a person made longer than serving would let it be takes its room from the demonstrations.
    """
    shown = tuple(pair for pair in job.task.examples if pair.input != row.input)
    answer = prompts.answer_text(form, row.output)
    try:
        segments = prompts.fitted_answer(room.for_answer(answer), job.task, form, row.input, shown).segments
    except TooLong:
        return None
    prompt = room.tokenize(segments)
    tokens = prompt + prompts.answer_tokens(room.tokenize, segments, answer) + end
    return TokenExample(row.id, tokens, len(prompt), row.weight)


def _end_token(generator: Generator, form: Form) -> tuple[int, ...]:
    """The token that ends an answer: the form's own or end-of-sequence. Raises SgError for a model that names none."""
    eos = form.end or generator.info.eos
    tokens = generator.tokenize((Segment(eos),), bos=False) if eos else ()
    if not tokens:
        raise SgError(
            f"{generator.info.name} names no end-of-sequence token, so no answer could end.",
            "Use a GGUF whose metadata has tokenizer.ggml.eos_token_id.",
        )
    return tokens[-1:]


def reset(run: Run) -> None:
    """Forget the stage, its adapter and its checkpoint, so that it can start again."""
    run.clear_stage("train")
    for name in (WORK, ADAPTER):
        remove(run.path(name))


def warnings_of(n_train: int, curve: Sequence[tuple[int, float, float | None]]) -> tuple[str, ...]:
    """What a person should know before trusting the adapter."""
    words = []
    if n_train < FEW_ROWS:
        words.append(f"Only {n_train} rows trained this adapter: fewer than {FEW_ROWS} are rarely enough.")
    measured = [loss for _, _, loss in curve if loss is not None]
    if len(measured) > 1 and min(measured[1:]) > measured[0]:
        words.append(f"The validation loss rose from the start ({measured[0]:.3f} to {min(measured[1:]):.3f} at best).")
    return tuple(words)


def _finish(job: Training, sets: Sets, adapter: Adapter, steps: Sequence[TrainStep], started: float) -> Trained:
    """Move the adapter to its place in the run, with its provenance inside, and stamp the stage."""
    if adapter.base_digest != job.generator.info.digest:
        raise SgError(
            f"The trainer's base ({adapter.base_digest[:12]}) is not the run's ({job.generator.info.digest[:12]}).",
            "Use the model that the run was started with.",
        )
    adopt(Path(adapter.path), job.run.path(ADAPTER), _origin(job))
    adapter = dataclasses.replace(adapter, path=ADAPTER, digest=file_digest(job.run.path(ADAPTER)) or "")
    curve = _whole_curve(job.run, steps)
    trained = Trained(
        adapter=adapter,
        n_train=len({example.id for example in sets.train}),
        n_valid=len(sets.valid),
        dropped=sets.dropped,
        curve=curve,
        warnings=warnings_of(len({example.id for example in sets.train}), curve),
        seconds=round(time.monotonic() - started, 1),
    )
    told = {**dataclasses.asdict(trained), **({"began_from": dict(job.began_from)} if job.began_from else {})}
    job.run.write_stamp("train", _stamped(job), (ADAPTER,), (ADAPTER, TRAIN, VALID), **told)
    return trained


def _origin(job: Training) -> Origin:
    info, settings = job.generator.info, {**job.facts.get("settings", {}), "train": _stamped(job)}
    return Origin(job.task, job.form.name, job.base_name or info.name, info.digest, {**job.facts, "settings": settings})


def _whole_curve(run: Run, steps: Sequence[TrainStep]) -> tuple[tuple[int, float, float | None], ...]:
    """The curve of all tries as the trainer kept it, else the steps of this one."""
    steps = run.read(CURVE, TrainStep) or steps
    return tuple((step.step, step.loss, step.valid_loss) for step in steps)


def _stamped(job: Training) -> dict[str, Any]:
    """The settings that the stamp holds: whatever would change the adapter's bytes.

    The context is not among them, since it shapes only rows near its end: a finished adapter outlives another engine.
    """
    return {
        **without_gained(dataclasses.asdict(job.settings)),
        "rows": digest([dataclasses.asdict(row) for row in job.rows]),
        "task": job.task.digest,
        "form": digest(job.form.stamped),
        "base": job.generator.info.digest,
        "trainer": type(job.trainer).__name__,
        "split seed": job.seed,
        **({SHARE: job.share} if job.share != 1 else {}),
        **({"shares": digest(job.shares)} if job.shares else {}),
        **({"labelled": [digest(sorted(job.labelled)), job.valid_share]} if job.labelled else {}),
    }


def _read_back(run: Run) -> Trained:
    stamp = run.stamp("train") or {}
    return from_dict(Trained, {field.name: stamp[field.name] for field in dataclasses.fields(Trained)})
