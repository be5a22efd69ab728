"""From the events of a job to the progress that a screen shows: phases, counts and figures in words."""

from __future__ import annotations

from dataclasses import replace

from sg_local.evaluate import EvalEvent
from sg_local.export import ExportEvent
from sg_local.job.events import Moved, PredictEvent
from sg_local.records import TrainStep
from sg_local.synth import SynthEvent
from sg_local.views.funnel import live_card
from sg_local.views.records import Progress
from sg_local.words import size


class ProgressView:
    """Makes progress of events. It remembers the losses of the training at hand."""

    def __init__(self) -> None:
        self.training = TrainingView()

    def take(self, event: Moved) -> Progress:
        """The view after this event. More than was wanted is shown as all of it."""
        seen = self._view(event)
        return replace(seen, done=min(seen.done, seen.wanted)) if seen.wanted else seen

    def _view(self, event: Moved) -> Progress:
        at = event.at
        if isinstance(at, SynthEvent):
            return synth_progress(at)
        if isinstance(at, ExportEvent):
            return export_progress(at)
        if isinstance(at, EvalEvent):
            return eval_progress(at)
        if isinstance(at, PredictEvent):
            return predict_progress(at)
        if at.step == 0 or (self.training.last is not None and at.step <= self.training.last.step):
            self.training = TrainingView()
        seen = self.training.take(at)
        return seen if event.stage == "train" else replace(seen, phase="training on the examples")


def synth_progress(event: SynthEvent) -> Progress:
    """Rows written so far, the share that passes, and the rule that rejects most."""
    accepted = event.asked - sum(event.rejected.values())
    facts = {"tokens": f"{event.n_tokens:,}"}
    if event.rejected:
        facts = {"yield": f"{accepted / event.asked:.0%} of {event.asked}", **facts}
        worst = max(event.rejected, key=event.rejected.__getitem__)
        facts["most rejected by"] = f"{worst} ({event.rejected[worst]})"
    return Progress(event.phase, event.done, event.wanted, "rows", facts, event.latest, funnel=live_card(event))


EXPORT_PHASES = {
    "reference": "answers of base + adapter, {}",
    "weigh": "testing whether {} keeps the quality",
    "importance": "measuring what matters for the run's rows, {}",
    "gate": "checking {}",
    "write": "writing {}",
}


NAMED_TYPES = {"same": "the base's own mix of types"}
"""What a type is called where its name alone says nothing."""


def export_progress(event: ExportEvent) -> Progress:
    """Bytes of a merge, steps of a check, or what a file's gate found."""
    if event.phase == "merge":
        return Progress(f"merging {event.file}", event.done, event.wanted, "bytes")
    if event.fused is not None:
        checks = {check.name: check.value for check in event.fused.checks}
        return Progress(f"{event.file} {'passed' if event.fused.passed else 'did not pass'}", 0, 0, facts=checks)
    phase = EXPORT_PHASES.get(event.phase, event.phase + " {}").format(NAMED_TYPES.get(event.file, event.file))
    return Progress(phase, event.done, event.wanted, "steps")


class TrainingView:
    """Steps as they come, made into figures: the last validation loss stays on the screen between its rounds."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.valid: list[tuple[float, int]] = []
        self.last: TrainStep | None = None

    def take(self, step: TrainStep) -> Progress:
        """The view after this step."""
        self.last = step
        if step.step > 0:
            self.losses.append(step.loss)
        if step.valid_loss is not None:
            self.valid.append((step.valid_loss, step.step))
        curves = {"loss": tuple(self.losses), "validation": tuple(loss for loss, _ in self.valid)}
        shown = tuple((name, values) for name, values in curves.items() if len(values) > 1)
        return Progress("training", step.step, step.n_steps, "steps", self._facts(step), curves=shown)

    def _facts(self, step: TrainStep) -> dict[str, str]:
        facts = {"loss": f"{step.loss:.3f}"}
        if self.valid:
            best, at = min(self.valid)
            facts["validation"] = f"{self.valid[-1][0]:.3f} (best {best:.3f} at step {at})"
        if step.tokens_per_s:
            facts["tokens/s"] = f"{step.tokens_per_s:.0f}"
        if step.memory_bytes:
            facts["memory"] = size(step.memory_bytes)
        return facts


def eval_progress(event: EvalEvent) -> Progress:
    """Answers so far, under what is being answered."""
    facts = {"system": f"{event.part} of {event.n_parts}"} if event.n_parts else {}
    return Progress(event.title, event.done, event.wanted, "answers", facts, event.latest)


def predict_progress(event: PredictEvent) -> Progress:
    """Rows answered so far, and how many were passed over."""
    facts = {"skipped": str(event.n_failed)} if event.n_failed else {}
    return Progress("answering", event.done, event.wanted, "rows", facts, event.latest)
