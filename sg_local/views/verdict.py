"""The end of a run: scores with intervals, the files that came out, what to do next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sg_local.evaluate import served
from sg_local.run import REPORT, STAGES, Run, file_digest, read_json
from sg_local.views.records import ConfusionView, GainView, SystemScore, VerdictCard
from sg_local.words import counted, duration, size

METRICS = {"exact_match": "exact match", "rouge_l": "ROUGE-L"}
FILES = ("adapter.gguf", "fused-*.gguf", "Modelfile", "report.html")
SHOWN = (
    "base",
    "base_vote",
    "base_synthetic",
    "base_restricted",
    "base_calibrated",
    "tuned_examples",
    "tuned_examples_restricted",
    "tuned_examples_calibrated",
    "tuned",
    "tuned_vote",
    "tuned_restricted",
    "tuned_calibrated",
    "copy_input",
    "majority_label",
    "random_output",
)
"""The systems of the card, in its order; prompt forms that lost are left to the report."""


def verdict_card(run: Run) -> VerdictCard:
    """The card of a run whose evaluation is done."""
    report = read_json(run.path(REPORT))
    verdicts = report.get("verdicts", [])
    main = next((one for one in verdicts if one["tuned"] == served(report)), {"outcome": "open", "reached_by": []})
    return VerdictCard(
        title=f"{report['task']} on {run.settings['model']['name']}",
        metric=METRICS.get(report["metric"], report["metric"]),
        n=report["n"],
        systems=_systems(report),
        gains=_gains(report),
        sentences=tuple(verdict["sentence"] for verdict in verdicts),
        outcome=main["outcome"],
        marked=bool(main["reached_by"]),
        notes=notes(report),
        confusion=_confusion(report),
        stages=stage_times(run),
        artefacts=artefacts(run),
        commands=(
            (f"sg-local predict {run.name} 'TEXT'", "answer one text"),
            (f"sg-local serve {run.name}", "answer OpenAI-style requests"),
            (f"sg-local report {run.name} --open", "the whole story as a page"),
        ),
    )


def _systems(report: Mapping[str, Any]) -> tuple[SystemScore, ...]:
    """The systems worth a line; marked is the one that predict and serve answer with."""
    systems = report["systems"]
    return tuple(
        SystemScore(
            found["title"],
            found["score"],
            found["low"],
            found["high"],
            found["role"],
            name == served(report),
            found["irrelevant"],
        )
        for name in SHOWN
        if (found := systems.get(name)) is not None
    )


def _gains(report: Mapping[str, Any]) -> tuple[GainView, ...]:
    """Each tuned system's gain over the strongest base of its family."""
    titles = {name: system["title"] for name, system in report["systems"].items()}
    return tuple(
        GainView(
            titles[one["tuned"]],
            re.sub(r" \(.* prompt\)$", "", titles[one["base"]]),
            one["gain"],
            one["low"],
            one["high"],
            one["outcome"],
            tuple(titles[name] for name in one["reached_by"]),
            one["tuned"] == served(report),
        )
        for one in report.get("verdicts", [])
    )


def notes(report: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader must know about the figures: the base's prompt, test rows left out, what was forgotten."""
    form = report["chosen"]["base"]
    chosen_on = "examples (labels: synthetic rows too)"
    found = [f"The base's best prompt is the {form} one, chosen on {chosen_on}, never on test rows."]
    leaked = {source: len(rows) for source, rows in report["excluded"].items()}
    if n_out := sum(leaked.values()):
        said = f"{leaked['examples']} like an example, {leaked['training']} like a training row"
        found.append(f"{counted(n_out, 'test row', 'were')} left out: {said}.")
    if report["retain"]:
        before, after = (report["retain"]["perplexity"][name] for name in ("base", "tuned"))
        found.append(f"Perplexity on a neutral text: {before:.1f} before tuning, {after:.1f} after.")
    return tuple(found)


def _confusion(report: Mapping[str, Any]) -> ConfusionView | None:
    """The served system's confusion table, where there are labels."""
    if "confusion" not in report:
        return None
    name = served(report)
    rows = tuple(tuple(row) for row in report["confusion"]["tables"][name])
    return ConfusionView(report["systems"][name]["title"], tuple(report["confusion"]["labels"]), rows)


def stage_times(run: Run) -> tuple[tuple[str, str], ...]:
    """Each finished stage with the time it took."""
    stamps = {stage: run.stamp(stage) or {} for stage in STAGES}
    return tuple((stage, duration(stamp["seconds"])) for stage, stamp in stamps.items() if "seconds" in stamp)


def artefacts(run: Run) -> tuple[tuple[str, str, str], ...]:
    """The files a run hands out: path, size, the first twelve digits of the SHA-256."""
    paths = [path for pattern in FILES for path in sorted(run.root.glob(pattern))]
    return tuple((str(path), size(path.stat().st_size), (file_digest(path) or "")[:12]) for path in paths)
