"""The table of systems: who answers the test rows. A new one is a row here and, if it is new, a way in `rounds`.

Everything that others know of a system comes from its row: its name in the journal of answers and in report.json, its
role and family, its name for people, the base that it is held against, its place on the card, and who is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sg_local.evaluate.job import EvalSettings
from sg_local.records import Kind, Task
from sg_local.report.records import BASE, TUNED, Family, Role, SystemResult

EACH, TRAINED, SAME = "each", "trained", "same"
FREE, VOTES = "free", "votes"
EXAMPLES = "tuned_examples"
MODELS = (BASE, EXAMPLES, TUNED)
"""Whose weights answer, in the order in which they are loaded, under the name of their greedy system."""


@dataclass(frozen=True)
class System:
    """One row. Restricted and calibrated answers are one family: what may be labels only meets labels only.

    `way` is a key of `rounds.WAYS`; `model` says whose weights answer, the base's where none are needed. `form` is the
    prompt form: EACH is tried in every form, and the best on rows that are no test rows counts; TRAINED is that of the
    adapter, SAME that of the system `on` which it builds; once it has answered, the form's own name. `kind` is the only
    kind of task that it answers and `setting` the one of EvalSettings that it waits for. `serves` is the kind of task
    for which predict and serve give its answers; `asked` says how predict is asked for them: as `Asking` has
    labels, or by votes (empty: it cannot be). One that `is_on_trial` answers for nothing but the choice of its form.
    """

    name: str
    role: Role
    family: Family
    title: str
    way: str
    model: str = BASE
    form: str = ""
    on: str = ""
    kind: Kind | None = None
    setting: str = ""
    serves: Kind | None = None
    asked: str = ""
    is_on_trial: bool = False

    def answers(self, task: Task, settings: EvalSettings) -> bool:
        """Whether it has a part in the evaluation of a task: only tasks with labels restrict answers to them."""
        kind = "classification" if self.family == "restricted" else self.kind
        return kind in (None, task.kind) and (not self.setting or bool(getattr(settings, self.setting)))

    @property
    def against(self) -> str:
        """The base that answers in the same way where these weights are tuned; else the base in free text."""
        alike = (one.name for one in SYSTEMS if one.model == BASE and one.way == self.way)
        return next(alike, BASE) if self.model != BASE else BASE

    def in_form(self, form: str) -> System:
        """The same system held to one prompt form, on the other one in that form."""
        title = f"{self.title.removesuffix(BEST)} ({form} prompt)"
        return replace(
            self, name=f"{self.name}_{form}", title=title, form=form, on=f"{self.on}_{form}" if self.on else ""
        )

    def on_trial(self) -> System:
        """The same system on the rows that choose its form."""
        name, on = (f"dev_{one.removeprefix('base_')}" if one else "" for one in (self.name, self.on))
        return replace(self, name=name, on=on, title=f"choosing the prompt: {self.title}", is_on_trial=True)


BEST = ", best prompt"

SYSTEMS = (
    System(BASE, "base", "free", f"base{BEST}", "greedy", form=EACH, asked=FREE),
    System("base_vote", "base", "free", "base, voting", "vote", form=SAME, on=BASE, asked=VOTES),
    System(
        "base_mbr",
        "base",
        "free",
        "base, the most typical of many samples",
        "typical",
        form=SAME,
        on=BASE,
        kind="generation",
        setting="mbr",
    ),
    System(
        "base_synthetic",
        "base",
        "free",
        "base, synthetic rows in the prompt",
        "with rows",
        form=SAME,
        on=BASE,
        setting="n_context",
    ),
    System("base_restricted", "base", "restricted", "base, labels only", "restricted", form=EACH, asked="likeliest"),
    System(
        "base_calibrated",
        "base",
        "restricted",
        "base, calibrated labels",
        "calibrated",
        form=EACH,
        on="base_restricted",
        asked="calibrated",
    ),
    System(
        "base_ensemble",
        "base",
        "restricted",
        "base, labels by ensemble",
        "ensemble",
        form=SAME,
        on="base_calibrated",
        setting="ensemble",
        asked="ensemble",
    ),
    System(EXAMPLES, "base", "free", "tuned on the examples alone", "greedy", EXAMPLES, TRAINED),
    System(
        "tuned_examples_restricted",
        "base",
        "restricted",
        "tuned on the examples alone, labels only",
        "restricted",
        EXAMPLES,
        TRAINED,
    ),
    System(
        "tuned_examples_calibrated",
        "base",
        "restricted",
        "tuned on the examples alone, calibrated labels",
        "calibrated",
        EXAMPLES,
        TRAINED,
        on="tuned_examples_restricted",
    ),
    System(TUNED, "tuned", "free", "tuned", "greedy", TUNED, TRAINED, serves="generation", asked=FREE),
    System(
        "tuned_vote",
        "tuned",
        "free",
        "tuned, voting",
        "vote",
        TUNED,
        TRAINED,
        on=TUNED,
        setting="tuned_vote",
        asked=VOTES,
    ),
    System(
        "tuned_restricted",
        "tuned",
        "restricted",
        "tuned, labels only",
        "restricted",
        TUNED,
        TRAINED,
        serves="classification",
        asked="likeliest",
    ),
    System(
        "tuned_calibrated",
        "tuned",
        "restricted",
        "tuned, calibrated labels",
        "calibrated",
        TUNED,
        TRAINED,
        on="tuned_restricted",
        asked="calibrated",
    ),
    System("copy_input", "trivial", "trivial", "copy the input", "copy", kind="generation"),
    System(
        "majority_label", "trivial", "trivial", "always the commonest label", "commonest label", kind="classification"
    ),
    System("random_output", "trivial", "trivial", "a random training output", "drawn output"),
)
"""Every system, in the order of the card."""


def served(kind: Kind) -> str:
    """The system that predict and serve answer with."""
    return next(system.name for system in SYSTEMS if system.serves == kind)


def on_the_card(systems: Mapping[str, SystemResult]) -> dict[str, SystemResult]:
    """The systems of a report that the card shows, in its order: prompt forms that lost are left out."""
    return {system.name: systems[system.name] for system in SYSTEMS if system.name in systems}
