"""What an evaluation found, as records. Scores are in percent, gains in points, times in seconds."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from sg_local.calibration import Reliability
from sg_local.records import Funnel, Kind
from sg_local.report.memory import MemoryCheck

Role = Literal["base", "tuned", "trivial"]
Family = Literal["free", "restricted", "trivial"]
"""How a system may answer: free text, labels only, or without a model."""
FAMILIES: tuple[str, ...] = typing.get_args(Family)
BASE, TUNED = "base", "tuned"
"""The two systems that every report has: the untuned and the tuned model in free text, greedy."""
METRICS = {"exact_match": "exact match", "rouge_l": "ROUGE-L"}
"""The deciding metrics' names for people."""
FIELD_METRICS = {"field_f1": "field F1", "fields_right": "fields right", "valid_json": "valid JSON"}
"""What is measured besides for a task with a schema; see the functions of these names in metrics.py."""
SENTENCES = {
    "better": "{tuned} is better than {base}",
    "worse": "{tuned} is worse than {base}",
    "open": "{tuned} is not shown to differ from {base}",
}
"""By outcome."""


@dataclass(frozen=True)
class SystemResult:
    """One system's score with its interval, and `metrics` beside it (percent). `n` counts test rows.

    `irrelevant` is the share of answers that name no label, or say nothing; `against` is the base that answers in the
    same way, labels only against labels only; `form` is the prompt form, empty where there was no prompt. `by_field` is
    the percentage of right values by field, for a task with a schema; `reliability` says how far probabilities of
    labels mean what they say, where a label was chosen by its scores; `copied` is the share of answers that repeat the
    input as it stands, for a task of generation.
    """

    score: float
    low: float
    high: float
    n: int
    metrics: Mapping[str, float]
    irrelevant: float
    title: str
    role: Role
    family: Family
    against: str = BASE
    form: str = ""
    by_field: Mapping[str, float] | None = None
    reliability: Reliability | None = None
    copied: float | None = None


@dataclass(frozen=True)
class Gain:
    """What a tuned system gains over a base, in points, with its 95 % interval and two-sided p-value.

    `outcome` is better or worse where the interval leaves zero out, else open. `like` says that both answer in the same
    family; `reached_by` names the trivial systems that reach the gain too.
    """

    gain: float
    low: float
    high: float
    p: float
    outcome: Literal["better", "worse", "open"]
    like: bool
    reached_by: tuple[str, ...]


@dataclass(frozen=True)
class Outcome(Gain):
    """How a tuned system ended: its gain over the strongest base of its own family, and a sentence that says so."""

    tuned: str
    base: str
    family: Family
    sentence: str


@dataclass(frozen=True)
class ScoredRow:
    """One test row: its place in the task, the outputs that count as right, each system's score in percent."""

    index: int
    input: str
    outputs: tuple[str, ...]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Confusion:
    """For each system how often a right label (a row) got an answer (a column); the last column counts no label."""

    labels: tuple[str, ...]
    tables: Mapping[str, tuple[tuple[int, ...], ...]]


@dataclass(frozen=True)
class Excluded:
    """The places of test rows that were left out: like a demonstration, or like a training row."""

    examples: tuple[int, ...] = ()
    training: tuple[int, ...] = ()


@dataclass(frozen=True)
class Perplexity:
    """Perplexity per token on a neutral text, before and after tuning."""

    base: float
    tuned: float


@dataclass(frozen=True)
class RetainedAnswer:
    """A question outside the task, answered before and after tuning."""

    question: str
    base: str
    tuned: str


@dataclass(frozen=True)
class RetainResult:
    """What tuning cost elsewhere."""

    perplexity: Perplexity
    answers: tuple[RetainedAnswer, ...]


@dataclass(frozen=True)
class BaseFacts:
    """The base model's file."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class AdapterFacts:
    """The adapter that answered."""

    sha256: str | None


@dataclass(frozen=True)
class FileScore:
    """What one GGUF file's own answers to the test rows are worth, asked in the run's prompts or by its own template.

    `prompt` is run or chat. `systems` and `gains` are as in a Report: the systems are the file's own (`file`, and
    `file_restricted` where it was held to labels), each with its gain over the adapter's of the same family
    (`file-tuned`) and over the base (`file-base`). `same` is the share of its answers that equal the adapter's, in
    percent.
    """

    file: str
    sha256: str
    size_bytes: int
    type: str
    prompt: str
    systems: Mapping[str, SystemResult]
    gains: Mapping[str, Gain]
    same: Mapping[str, float]

    def against_adapter(self, system: str) -> Gain:
        """The paired difference to the adapter, which answered in the same way."""
        return self.gains[f"{system}-{ADAPTERS[system]}"]


FILE, FILE_RESTRICTED = "file", "file_restricted"
ADAPTERS: Mapping[str, str] = {FILE: TUNED, FILE_RESTRICTED: f"{TUNED}_restricted"}
"""The systems of a file, each with the adapter's that answers in the same way."""


@dataclass(frozen=True)
class Report:
    """What an evaluation found. `served` is the system that predict and serve answer with.

    `chosen` holds the prompt form of each base system that had a choice, `gains` every tuned system over every base
    under `TUNED-BASE`, `stages` the seconds of each stage. `funnel` is the filters' account, where they have given one,
    and `export` the export's results as export.json has them. `memory` says what the answers repeat of other rows;
    reports before 0.2 have none. `files` are the files that answered the same rows; None: none did.
    """

    run: str
    task: str
    task_digest: str
    kind: Kind
    model: BaseFacts
    adapter: AdapterFacts
    form: str
    n_training: int
    stages: Mapping[str, float]
    funnel: Funnel | None
    versions: Mapping[str, str]
    metric: str
    n: int
    excluded: Excluded
    chosen: Mapping[str, str]
    retain: RetainResult | None
    served: str
    systems: Mapping[str, SystemResult]
    gains: Mapping[str, Gain]
    outcomes: tuple[Outcome, ...] = field(metadata={"key": "verdicts"})
    rows: tuple[ScoredRow, ...]
    confusion: Confusion | None = None
    export: Mapping[str, Any] | None = None
    memory: MemoryCheck | None = None
    files: tuple[FileScore, ...] | None = None

    @property
    def base(self) -> SystemResult:
        """The untuned model in its best form."""
        return self.systems[BASE]

    @property
    def tuned(self) -> SystemResult:
        """The tuned model in free text."""
        return self.systems[TUNED]

    @property
    def rival(self) -> str:
        """The base to beat: the strongest on the test rows, however it answers and in whichever prompt form."""
        bases = {name: one.score for name, one in self.systems.items() if one.role == "base"}
        return strongest(bases) or BASE

    @property
    def rival_words(self) -> str:
        """What the rival is to a reader."""
        return "the best untuned setup" if is_untuned(self.rival) else "training on the examples alone"

    @property
    def headline(self) -> str:
        """What tuning came to, as a person would say it: against the model as it comes, and against the rival."""
        unit = "%" if self.metric == "exact_match" else METRICS.get(self.metric, self.metric)
        served, rival = self.systems[self.served], self.systems[self.rival]
        first = f"{self.base.score:.0f} -> {served.score:.0f} {unit} from untuned to tuned"
        return f"{first}; {self.rival_words.removeprefix('the ')} ({rival.title}): {rival.score:.0f} {unit}."

    @property
    def main(self) -> Outcome | None:
        """How the system ended that is served, against the rival; None where the two were not compared."""
        gain = self.gains.get(f"{self.served}-{self.rival}")
        if gain is None:
            return None
        titles, reached = self.titles(self.served, self.rival), self.titles(*gain.reached_by)
        return Outcome(
            **{one.name: getattr(gain, one.name) for one in fields(gain)},
            tuned=self.served,
            base=self.rival,
            family=self.systems[self.served].family,
            sentence=sentence(titles, gain, self.metric, reached),
        )

    def titles(self, *names: str) -> tuple[str, ...]:
        """Systems' names for people."""
        return tuple(self.systems[name].title for name in names)

    def gain(self, tuned: str, base: str) -> Gain:
        """What a tuned system gains over a base."""
        return self.gains[f"{tuned}-{base}"]


def is_untuned(name: str) -> bool:
    """Whether a system answers with the base's own weights; that of the examples is a base to beat, but is tuned."""
    return name != TUNED and not name.startswith(f"{TUNED}_")


def strongest(scores: Mapping[str, float]) -> str | None:
    """The system with the highest score; among equals the shortest name, a system before its prompt forms."""
    return max(scores, key=lambda name: (scores[name], -len(name)), default=None)


def sentence(titles: tuple[str, ...], gain: Gain, metric: str, reached: Sequence[str]) -> str:
    """A gain in words: of the first title over the second; `reached` are the titles of trivial systems."""
    tuned, base = (f"\u201c{title}\u201d" for title in titles)
    said = SENTENCES[gain.outcome].format(tuned=tuned, base=base)
    said += f": {gain.gain:+.1f} points of {METRICS[metric]} (95 % interval {gain.low:+.1f} to "
    said += f"{gain.high:+.1f}, p = {gain.p:.3f})."
    return f"{said} A trivial baseline does as well ({', '.join(reached)})." if reached else said
