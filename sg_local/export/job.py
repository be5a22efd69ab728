"""What every part of an export shares: settings, the job, progress events, and the records of what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sg_local.files import file_digest
from sg_local.gguf import PREFIX, GgufFile
from sg_local.prompts import Form
from sg_local.reading import parse_json
from sg_local.records import Pair, Task
from sg_local.report import FileScore, Report, read_report
from sg_local.report.memory import sentences
from sg_local.run import ADAPTER, REPORT, Run, without_gained

RESULTS = "export.json"


@dataclass(frozen=True)
class ExportSettings:
    """What is written, and what it must hold to be kept. Lengths are in tokens.

    `types` holds auto, same, or names of gguf.EXPORT_TYPES and WEIGHTED_TYPES; none: only the adapter and its
    Modelfile. `from_f16` is an unquantised GGUF of the same model to merge into; `mlx` and `hf` are folders to write
    besides: the merged model as mlx-lm and transformers load it, in `hf` with the adapter in peft's form.

    `without_demonstrations` leaves the task's examples out of whatever is written: templates, Modelfile, card.

    The gate: a tensor keeps the delta when its retained share is at least `min_retained`, and `min_tensors` of the
    touched ones must; the file must keep `min_gain` of what the adapter gains in validation loss over the base, and
    give `min_equal` of the adapter's greedy answers. `n_rows` rows are scored and `n_answers` of them answered.
    `may_lose` is how many points of score a file may surely lose to the adapter on the run's own rows (None: unasked).
    """

    types: tuple[str, ...] = ("auto",)
    seed: int = 0
    plain_template: bool = False
    from_f16: str = ""
    mlx: str = ""
    hf: str = ""
    without_demonstrations: bool = False
    min_retained: float = 0.9
    min_tensors: float = 0.95
    min_gain: float = 0.9
    min_equal: float = 0.75
    n_rows: int = 32
    n_answers: int = 16
    max_tokens: int = 200
    n_ctx: int = 2048
    may_lose: float | None = None

    @property
    def shaping(self) -> dict[str, Any]:
        """What of the settings shapes a file; as it was before settings were gained, where these are not used."""
        return without_gained(asdict(self))


@dataclass(frozen=True)
class Export:
    """One export job. `valid` holds rows that the adapter was not trained on, for the gate.

    `base_digest` is the base file's SHA-256; `provenance` is plain data that travels in the files' metadata and on
    the model card: `settings`, `funnel` and `scores` are known keys, all optional. `cache` is the engine's folder of
    digests and copies (None: the user's cache folder).
    """

    run: Run
    task: Task
    form: Form
    base: Path
    base_digest: str
    adapter: Path
    valid: tuple[Pair, ...]
    settings: ExportSettings
    engine: str = "llama.cpp"
    base_name: str = ""
    licence: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    cache: Path | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """`provenance`, with the scores of report.json where the run was evaluated with this adapter.

        What the adapter says of its own rows and settings goes before: the run may have changed since.
        """
        found = {**self.provenance, **self._told_by_adapter()}
        report = self._report
        if report is not None:
            systems = {
                name: {"title": one.title, "score": one.score, "low": one.low, "high": one.high}
                for name, one in report.systems.items()
            }
            found["scores"] = {"metric": report.metric, "n": report.n, "systems": systems}
            if report.memory is not None:
                found["scores"]["memory"] = list(sentences(report.memory))
        return found

    @property
    def headline(self) -> str:
        """What tuning came to, in a line; empty where the run was not evaluated with this adapter."""
        return "" if self._report is None else self._report.headline

    @property
    def _report(self) -> Report | None:
        """The run's report, where it is of this adapter."""
        report = read_report(self.run) if self.run.path(REPORT).exists() else None
        is_of_it = report is not None and report.adapter.sha256 == file_digest(self.run.path(ADAPTER))
        return report if is_of_it else None

    @cached_property
    def file_scores(self) -> dict[str, FileScore]:
        """What the exported files scored on the run's test rows in its own prompts, by their SHA-256."""
        report = read_report(self.run) if self.run.path(REPORT).exists() else None
        return {one.sha256: one for one in (report.files or () if report else ()) if one.prompt == "run"}

    def _told_by_adapter(self) -> dict[str, Any]:
        with GgufFile(self.adapter) as file:
            told = {key: file.value(PREFIX + key) for key in ("funnel", "settings")}
        places = {key: f"{self.adapter}, {PREFIX}{key}" for key, text in told.items() if isinstance(text, str) and text}
        hint = "Train it again."
        return {key: parse_json(told[key], at, hint, is_line=True, exit_code=1) for key, at in places.items()}

    @property
    def carried(self) -> Task:
        """The task as whoever gets the files may read it."""
        bare = self.settings.without_demonstrations
        return replace(self.task, examples=() if bare else self.form.shown(self.task.examples))

    @property
    def source(self) -> Path:
        """The file that is merged into."""
        return Path(self.settings.from_f16) if self.settings.from_f16 else self.base


@dataclass(frozen=True)
class Check:
    """One line of the gate's table. `value` and `wanted` are for people.

    What could not be measured stands in no file's way: `measured` is False then, and `value` says why.
    """

    name: str
    passed: bool
    value: str
    wanted: str = ""
    measured: bool = True

    @property
    def verdict(self) -> str:
        """yes, no or not measured."""
        return ("yes" if self.passed else "no") if self.measured else "not measured"


def unmeasured(name: str, why: str) -> Check:
    """A line for what could not be measured."""
    return Check(name, True, why, "", measured=False)


@dataclass(frozen=True)
class FusedFile:
    """One fused GGUF: what it is, and what its gate found. `file` is relative to the run folder.

    `retained` holds the lowest, the median and the mean share over the `n_tensors` touched tensors; `lost` names
    those below the gate with their shares, worst first. `nll` is the validation loss in nats per token of the base,
    of base + adapter, and of this file. `auto` says that the type was chosen as the smallest that passes.
    """

    file: str
    type: str
    size_bytes: int
    sha256: str
    types: dict[str, int]
    n_tensors: int
    retained: dict[str, float]
    lost: dict[str, float]
    nll: dict[str, float]
    equal_answers: float | None
    checks: tuple[Check, ...]
    seconds: float
    fingerprint: str
    auto: bool = False

    @property
    def passed(self) -> bool:
        """Whether nothing that could be measured fell short."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True)
class FusedFolder:
    """One folder of `kind` mlx or hf at `path`, and what its gate found; the figures are as in FusedFile."""

    kind: str
    path: str
    size_bytes: int
    n_tensors: int
    retained: dict[str, float]
    checks: tuple[Check, ...]
    seconds: float
    fingerprint: str
    nll: dict[str, float] = field(default_factory=dict)
    equal_answers: float | None = None

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


@dataclass(frozen=True)
class ExportReport:
    """What an export left in the run folder. `written` names every file, relative to it or as given."""

    adapter: str
    adapter_sha256: str
    fused: tuple[FusedFile, ...]
    written: tuple[str, ...]
    seconds: float
    folders: tuple[FusedFolder, ...] = ()


@dataclass(frozen=True)
class ExportEvent:
    """Where an export stands. `phase`: reference, weigh, importance, merge, gate, gated, write. `done` of `wanted` are
    bytes in `merge` and steps elsewhere; `fused` is set when a file has met its gate (`gated`)."""

    phase: str
    file: str
    done: int = 0
    wanted: int = 0
    fused: FusedFile | None = None


OnEvent = Callable[[ExportEvent], None]
