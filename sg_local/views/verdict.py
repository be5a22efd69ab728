"""The end of a run: scores with intervals, the files that came out, what to do next."""

from __future__ import annotations

from sg_local.calibration import BINS, Reliability, Sure
from sg_local.evaluate import on_the_card
from sg_local.files import file_digest
from sg_local.report import FileScore, Outcome, Report, read_report
from sg_local.report.memory import sentences
from sg_local.report.records import FIELD_METRICS, METRICS
from sg_local.run import ADAPTER, FUSED, MEASURED, STAGES, Run
from sg_local.views.records import ConfusionView, GainView, SystemScore, VerdictCard
from sg_local.views.ways import served_note, uses
from sg_local.words import counted, duration, size

FILES = (ADAPTER, FUSED, "Modelfile")


def end_card(run: Run, unmeasured: str = "") -> VerdictCard:
    """The card of a run that has ended; `unmeasured` says why it was not evaluated."""
    if not unmeasured:
        return verdict_card(run)
    return VerdictCard(
        title=f"{run.settings['task']['name']} on {run.settings['model']['name']}",
        metric="",
        n=0,
        systems=(),
        gains=(),
        sentences=(unmeasured,),
        outcome="open",
        stages=stage_times(run),
        artefacts=artefacts(run),
        commands=(
            *commands(run)[:2],
            (f"sg-local eval {run.typed} --tests FILE", "measure it on labelled rows"),
        ),
        unmeasured=unmeasured,
    )


def commands(run: Run) -> tuple[tuple[str, str], ...]:
    """What to type next, each with what it does."""
    return (
        (f"sg-local predict {run.typed} 'TEXT'", "answer one text"),
        (f"sg-local serve {run.typed}", "answer OpenAI-compatible requests"),
        (f"sg-local report {run.typed} --open", "the full report as a web page"),
    )


def _next_commands(run: Run, report: Report) -> tuple[tuple[str, str], ...]:
    """What to type next; where tuning made it worse than what can be asked without it, that comes first."""
    main, after = report.main, commands(run)
    rivals = uses(run, report) if main is not None and main.outcome == "worse" else ()
    better = next((use for use in rivals if main is not None and use.name == main.base), None)
    if better is None:
        return after
    text = (f"{better.command.removesuffix(' FILE')} 'TEXT'", "answer one text in the better way")
    serving = (better.serving, "answer OpenAI-compatible requests in that way") if better.serving else after[1]
    return (text, serving, *after[2:])


def verdict_card(run: Run) -> VerdictCard:
    """The card of a run whose evaluation is done."""
    report = read_report(run)
    main = report.main
    outcomes = [main if main is not None and one.tuned == main.tuned else one for one in report.outcomes]
    return VerdictCard(
        title=f"{report.task} on {run.settings['model']['name']}",
        metric=METRICS.get(report.metric, report.metric),
        n=report.n,
        systems=_systems(report),
        gains=tuple(_gain(report, outcome) for outcome in outcomes),
        sentences=tuple(outcome.sentence for outcome in outcomes),
        outcome="open" if main is None else main.outcome,
        marked=main is not None and bool(main.reached_by),
        notes=(served_note(run, report), *notes(report)),
        headline=report.headline,
        rival=report.rival_words,
        confusion=_confusion(report),
        stages=stage_times(run),
        artefacts=artefacts(run),
        commands=_next_commands(run, report),
    )


def _systems(report: Report) -> tuple[SystemScore, ...]:
    """The systems worth a line; chosen is the one that predict and serve answer with."""
    return tuple(
        SystemScore(
            found.title, found.score, found.low, found.high, found.role, name == report.served, found.irrelevant, name
        )
        for name, found in on_the_card(report.systems).items()
    )


def _gain(report: Report, outcome: Outcome) -> GainView:
    """A tuned system's gain over the strongest base of its family, the served one's over the rival; no prompt form."""
    base = report.systems[outcome.base]
    return GainView(
        report.systems[outcome.tuned].title,
        base.title.removesuffix(f" ({base.form} prompt)"),
        outcome.gain,
        outcome.low,
        outcome.high,
        outcome.outcome,
        report.titles(*outcome.reached_by),
        outcome.tuned == report.served,
    )


def notes(report: Report) -> tuple[str, ...]:
    """What a reader must know about the figures: the base's prompt, test rows left out, what was forgotten."""
    chosen_on = "the examples (for labels also on synthetic rows)"
    found = [f"Prompt format of the base: {report.chosen['base']}, chosen on {chosen_on}, never on test rows."]
    alike = {"an example": len(report.excluded.examples), "a training row": len(report.excluded.training)}
    if n_out := sum(alike.values()):
        said = ", ".join(f"{n} like {what}" for what, n in alike.items())
        found.append(f"{counted(n_out, 'test row', 'were')} left out: {said}.")
    found += [
        *_fields(report),
        *_copies(report),
        *_reliability(report),
        *(one for file in report.files or () for one in file_notes(file)),
    ]
    if report.retain is not None:
        before, after = report.retain.perplexity.base, report.retain.perplexity.tuned
        found.append(f"Perplexity on a neutral text: {before:.1f} before tuning, {after:.1f} after.")
    if report.memory is not None and (report.memory.repeats or report.memory.canaries):
        found += sentences(report.memory)
    return tuple(found)


def file_notes(file: FileScore) -> list[str]:
    """What a file's own answers scored against the adapter's, a sentence for each way of answering."""
    return [f"{one.title}: {_paired(file, name)}." for name, one in file.systems.items()]


def _paired(file: FileScore, name: str) -> str:
    one, gain = file.systems[name], file.against_adapter(name)
    against = f"{gain.gain:+.1f} points against the adapter (95 % interval {gain.low:+.1f} to {gain.high:+.1f})"
    return f"{one.score:.1f}, {against}, {file.same[name]:.0f} % of the answers the same"


def _fields(report: Report) -> list[str]:
    """How answers in JSON score by field, the served system's against its base's."""
    served = report.systems[report.served]
    if served.by_field is None:
        return []
    base = report.systems[served.against]
    said = [
        f"{title} {served.metrics[name]:.1f} (base {base.metrics[name]:.1f})"
        for name, title in FIELD_METRICS.items()
        if name in served.metrics and name in base.metrics
    ]
    worst = sorted(served.by_field.items(), key=lambda one: one[1])[:3]
    least = ", ".join(f"{path} {score:.0f}" for path, score in worst if score < 100)
    return [f"JSON, in percent: {', '.join(said)}." + (f" Least right: {least}." if least else "")]


def _copies(report: Report) -> list[str]:
    """How many answers repeat their input as it stands, where any does, beside how many should."""
    served = report.systems[report.served]
    base = report.systems[served.against]
    if served.copied is None or base.copied is None or not (served.copied or base.copied):
        return []
    right = sum(row.input.strip() in (output.strip() for output in row.outputs) for row in report.rows)
    share = 100 * right / len(report.rows)
    return [
        f"Answers that repeat the input as it stands, in percent: {served.copied:.0f} (base {base.copied:.0f}; "
        f"right answers {share:.0f})."
    ]


def _reliability(report: Report) -> list[str]:
    """How far the served system's probabilities mean what they say, and its base's."""
    served = report.systems[report.served]
    if served.reliability is None:
        return []
    return [reliability_note(served.reliability, report.systems[served.against].reliability)]


def reliability_note(found: Reliability, base: Reliability | None = None) -> str:
    """How far a system's probabilities mean what they say, in words; beside it the base's calibration error."""
    before = "" if base is None else f" (base {base.ece:.1f})"
    fitted = f"temperature {found.temperature:.2f}, fitted on {counted(found.n_fitted, 'validation row')}"
    error = f"calibration error {found.ece:.1f} points{before} in {BINS} bins, Brier score {found.brier:.2f}"
    left = " ".join(_left(one) for one in (found.sure, found.abstain) if one is not None)
    return f"Calibrated probabilities ({fitted}): {error}. {left}"


def _left(sure: Sure) -> str:
    right = "" if sure.right is None else f", {sure.right:.0f} % of them right"
    return f"Above {sure.threshold:g}: {sure.coverage:.0f} % of the answers{right}."


def _confusion(report: Report) -> ConfusionView | None:
    """The served system's confusion table, where there are labels."""
    if report.confusion is None:
        return None
    title = report.systems[report.served].title
    return ConfusionView(title, report.confusion.labels, report.confusion.tables[report.served])


def stage_times(run: Run) -> tuple[tuple[str, str], ...]:
    """Each finished stage with the time it took: its own work, or the whole of it where that was measured."""
    stamps, measured = {stage: run.stamp(stage) or {} for stage in STAGES}, run.settings.get(MEASURED) or {}
    return tuple(
        (stage, duration(max(stamp["seconds"], measured.get(stage, {}).get("seconds", 0.0))))
        for stage, stamp in stamps.items()
        if "seconds" in stamp
    )


def artefacts(run: Run) -> tuple[tuple[str, str, str], ...]:
    """The files a run hands out: path, size, the first twelve digits of the SHA-256."""
    paths = [path for pattern in FILES for path in sorted(run.root.glob(pattern))]
    return tuple((str(path), size(path.stat().st_size), (file_digest(path) or "")[:12]) for path in paths)
