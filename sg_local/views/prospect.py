"""What the rows say before training, in words, and what to do instead where they doubt that it pays."""

from __future__ import annotations

from sg_local.job.events import Prospect

JUDGES = {"calibrated": "The untuned model's calibrated labels", "voted": "The untuned model's own answers"}
DOUBT = (
    "That may be chance, so training may not help: on seven such tasks it gained half a point on average over the"
    " untuned model with calibrated labels, and lost on four (rows labelled as by 0.1.0)."
)


def prospect_lines(found: Prospect) -> tuple[str, ...]:
    """The evidence, and what it means for the training."""
    beyond = f"kappa {found.kappa:.2f}, {found.z:.1f} standard errors from chance"
    matches = f"match the label that was asked for in {found.agreed:.0f} % of {found.n} inputs"
    evidence = f"{JUDGES[found.judge]} {matches} ({beyond})."
    if found.is_sure:
        known = f"it is right on at least {found.at_least:.0f} % of such inputs."
        return (evidence, f"So the model knows something about the task: {known}")
    if not found.is_doubtful:
        return (evidence, f"That may be chance, but {found.n_right} rows have labels of your own.")
    return (evidence, DOUBT)


def weighed_lines(run: str, found: Prospect) -> tuple[str, ...]:
    """The same for a run that goes on to train, with the way that needs no training where there is doubt."""
    if not found.is_doubtful:
        return prospect_lines(found)
    ways = f"{_label_line(run, found)} (or {_serve_line(run, found)})"
    return (*prospect_lines(found), f"Training anyway. To label without training: {ways}")


def _label_line(run: str, found: Prospect) -> str:
    """The command that labels with the untuned model by the scores that the rows are judged by."""
    return f"sg-local label {run} FILE{' --labels ensemble' if found.without_training == 'ensemble' else ''}"


def _serve_line(run: str, found: Prospect) -> str:
    """The command that serves such labels."""
    return f"sg-local serve {run} --base --labels {found.without_training}"


def untuned_commands(run: str, found: Prospect) -> tuple[tuple[str, str], ...]:
    """What to type instead of training, each with what it does."""
    return (
        (f"{_label_line(run, found)} --out labels.csv", "label a file with the untuned model, now"),
        (_serve_line(run, found), "answer OpenAI-compatible requests with such labels"),
        (f"sg-local eval {run} --base", "measure every untuned setup on the test rows"),
        (f"sg-local review {run}", "review the rows yourself: correct rows are worth training on"),
        (f"sg-local train {run}", "train anyway"),
    )
