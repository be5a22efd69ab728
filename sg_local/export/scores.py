"""What a fused file scored on the test rows, as lines of its gate's table and on the card: told, never judged.

Beside it what its labels need of servers that know nothing of calibrated labels (evaluate.label_bias).

A gate that judged by test rows would choose by them, and the score that the report then gives were no honest one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sg_local.export.job import Check, Export, FusedFile
from sg_local.files import file_digest
from sg_local.report import FileScore
from sg_local.report.records import FILE, FILE_RESTRICTED
from sg_local.run import ADAPTER, LABEL_BIAS, read_json

NAMES = {FILE: "score on test rows", FILE_RESTRICTED: "score, labels only"}
TOLD = "for information"
NO_BIAS = (
    "No logit bias for the labels: offsets are measured in prompts with the task's examples, and do not hold without."
)


def with_score(file: FusedFile, scores: Mapping[str, FileScore]) -> FusedFile:
    """The file with what its very bytes scored, in place of what an earlier state of them did."""
    checks = [check for check in file.checks if check.name not in NAMES.values()]
    found = scores.get(file.sha256)
    if found is not None:
        checks += [Check(NAMES[name], True, told(found, name), TOLD) for name in found.systems]
    return replace(file, checks=tuple(checks))


def told(score: FileScore, name: str) -> str:
    """One system of a file: its score, and how it stands to the adapter on the same rows."""
    one, gain = score.systems[name], score.against_adapter(name)
    against = f"adapter {one.score - gain.gain:.1f}, {gain.gain:+.1f} points, {gain.low:+.1f} to {gain.high:+.1f}"
    return f"{one.score:.1f} % ({against}; {one.n} rows, {score.same[name]:.0f} % of the answers the same)"


def served_score(score: FileScore | None) -> str:
    """For the card: the score of the way in which predict and serve answer, with its interval."""
    if score is None:
        return ""
    one = score.systems.get(FILE_RESTRICTED, score.systems[FILE])
    return f"{one.score:.1f} ({one.low:.1f} to {one.high:.1f})"


def bias_note(job: Export) -> str:
    """For the card: the offsets of the labels' first tokens, where this adapter's were measured and are worth it."""
    run = job.run
    reads = (run.stamp("label_bias") or {}).get("reads", {})
    if not run.path(LABEL_BIAS).is_file() or reads.get(ADAPTER) != file_digest(run.path(ADAPTER)):
        return ""
    found = read_json(run.path(LABEL_BIAS))
    if found["why"]:
        return ""
    if job.settings.without_demonstrations:
        return f"\n{NO_BIAS}\n"
    offsets = zip(found["labels"], found["tokens"], found["bias"], strict=True)
    listed = ", ".join(f"{bias:+g} on token {token} ({label})" for label, token, bias in offsets)
    return (
        "\nOther programs write a label token by token and know nothing of calibrated labels. A logit bias does nearly "
        f"the same: {listed}. On the {found['n']} validation rows that decided this {found['plain']:.1f} % are right "
        f"without and {found['biased']:.1f} % with it.\n"
    )
