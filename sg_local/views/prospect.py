"""What the rows say before training, in words, and what to do instead where they doubt that it pays."""

from __future__ import annotations

from sg_local.job.events import Prospect

JUDGES = {"calibrated": "The untuned model's calibrated labels", "voted": "The untuned model's own answers"}
DOUBT = (
    "That may be chance, so tuning may not pay: on seven such tasks it was worth half a point on the mean over the"
    " untuned model with calibrated labels, and lost in four."
)


def prospect_lines(found: Prospect) -> tuple[str, ...]:
    """The evidence, and what it means for the training."""
    beyond = f"kappa {found.kappa:.2f}, {found.z:.1f} standard errors from chance"
    evidence = f"{JUDGES[found.judge]} are the ones asked for in {found.agreed:.0f} % of {found.n} inputs ({beyond})."
    if found.is_sure:
        known = (
            f"So this model knows something of the task: it is right in {found.at_least:.0f} % of such inputs or more."
        )
        return (evidence, known)
    if not found.is_doubtful:
        return (evidence, f"That may be chance, but {found.n_right} rows of your own are right.")
    return (evidence, DOUBT)


def weighed_lines(run: str, found: Prospect) -> tuple[str, ...]:
    """The same for a run that goes on to train, with the way that needs no training where there is doubt."""
    if not found.is_doubtful:
        return prospect_lines(found)
    return (*prospect_lines(found), f"It is tuned all the same. Without training: sg-local label {run} FILE")


def untuned_commands(run: str) -> tuple[tuple[str, str], ...]:
    """What to type instead of training, each with what it does."""
    return (
        (f"sg-local label {run} FILE --out labels.csv", "label a file with the untuned model, now"),
        (f"sg-local eval {run} --base", "measure every untuned way on the test rows"),
        (f"sg-local review {run}", "judge the rows yourself: right rows are worth training on"),
        (f"sg-local train {run}", "train all the same"),
    )
