"""What helps where the filters leave too little: advice by the rule that took most."""

from __future__ import annotations

from collections import Counter

from sg_local import filters
from sg_local.records import NoRows
from sg_local.run import Run
from sg_local.words import counted

REMEDIES = {
    "label": "Let votes be nothing but labels, `synth.constrain=true` in a new run, or train on the labels asked for: "
    "`filter {run} filter.policy=asked`.",
    "consistency": "Train on the labels as asked for: `filter {run} filter.policy=asked`.",
    "vote_share": "Let fewer votes do: `filter {run} filter.vote_share.threshold=0.2`.",
    "output_length": "Give examples of typical length, or: `filter {run} filter.output_length.sigmas=4`.",
    "schema": "Let nothing but fitting JSON be written: `synth.constrain=true` in a new run.",
    "personal": "Take it out by hand, `review {run}`, or keep such rows: `filter {run} filter.personal.on=false`.",
    "review": "Keep more of them: `review {run}`.",
}
OTHER_REMEDY = "Say more in the instruction, give other examples, or: `filter {run} filter.{rule}.on=false`."


def starved(error: NoRows, run: Run) -> NoRows:
    """An error about too few pairs with the rule that took most of them, one of these, and what to change."""
    lost = [verdict for verdict in filters.final_verdicts(run).values() if not verdict.keep]
    if not lost:
        return error
    rule, count = Counter(verdict.rule or "review" for verdict in lost).most_common(1)[0]
    reason = next(verdict.reason for verdict in lost if (verdict.rule or "review") == rule)
    told = f"{counted(len(lost), 'pair')} fell out, {count} by rule {rule}" + (f" ({reason})" if reason else "")
    hint = REMEDIES.get(rule, OTHER_REMEDY).format(run=run.typed, rule=rule)
    return NoRows(f"{error.message.rstrip('.')}: {told}.", hint)
