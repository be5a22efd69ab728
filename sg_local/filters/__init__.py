"""Named pure rules over synthesised rows, the pass that applies them, and the funnel that accounts for every row.

The input rules also guard stage A while it runs (`input_gate`), so that only accepted inputs join the pool. The
pass over candidates needs no model: changing a threshold or the label policy and filtering again takes a moment.
Verdicts append, the last one per id and judge wins, and a person's verdict overrides the filters'.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from sg_local.filters.balance import balanced, output_of, support
from sg_local.filters.given import LABELLED_RULES, given_gate, input_rules, leak_check
from sg_local.filters.labels import Labelling, choose
from sg_local.filters.outputs import choose_outputs
from sg_local.filters.rules import DOUBTS, GATE_RULES, INPUT_RULES, OUTPUT_RULES, RuleContext, RuleInput, first_reason
from sg_local.filters.settings import POLICIES, Balance, FilterSettings, Switch, Threshold, Window
from sg_local.filters.similarity import nearest, rouge_l, words
from sg_local.metrics import likeness_to
from sg_local.personal import kinds, sentence
from sg_local.prompts import majority
from sg_local.records import LABELLED, OWN, Candidate, Funnel, InputRow, Pair, Task, Verdict, digest
from sg_local.run import CANDIDATES, INPUTS, VERDICTS, Run

__all__ = [
    "POLICIES",
    "Balance",
    "FilterSettings",
    "Funnel",
    "Kept",
    "OutputGate",
    "Switch",
    "Threshold",
    "Window",
    "apply",
    "by_people",
    "final_verdicts",
    "funnel",
    "given_gate",
    "input_gate",
    "judge",
    "kept_rows",
    "leak_check",
    "nearest",
    "rouge_l",
    "words",
]

logger = logging.getLogger(__name__)

JUDGE = "filters"


@dataclass(frozen=True)
class Kept:
    """A row that goes into training: the pair after relabelling and a person's edits, and where it came from."""

    id: str
    pair: Pair
    candidate: Candidate


def input_gate(task: Task, settings: FilterSettings) -> Callable[[str, Sequence[str]], str]:
    """The rules on inputs as stage A uses them: (input, accepted so far) -> `rule: reason` or an empty string."""

    def gate(text: str, accepted: Sequence[str]) -> str:
        rule, reason = first_reason(INPUT_RULES, RuleInput(text, ""), RuleContext(task, settings, accepted))
        return f"{rule}: {reason}" if rule else ""

    return gate


@dataclass(frozen=True)
class OutputGate:
    """The rules on an input and its output alone: whether the output may take part in a vote on the input.

    What more than half of the votes say is the model's answer to a task of generation: the rules judge it, and no other
    vote takes its place. As published (none of DOUBTS is on) refused votes never count.
    """

    task: Task
    settings: FilterSettings

    def elect(self, input: str, votes: Mapping[str, int], backward: Mapping[str, float] | None = None) -> str:
        """The output that these votes elect; empty where it is refused, or all are. Ties go by the backward scores."""
        top = majority(votes, backward)
        if self._judges and 2 * votes.get(top, 0) > sum(votes.values()):
            return top if self(input, top) else ""
        return majority({output: n for output, n in votes.items() if self(input, output)}, backward)

    @property
    def _judges(self) -> bool:
        return not self.task.labels and any(getattr(self.settings, name).on for name in DOUBTS)

    def __call__(self, input: str, output: str) -> bool:
        rule, _ = first_reason(GATE_RULES, RuleInput(input, output), RuleContext(self.task, self.settings))
        return not rule

    @property
    def digest(self) -> str:
        """Changes with every setting that the gate heeds."""
        return digest([asdict(getattr(self.settings, name)) for name, _ in GATE_RULES])


def judge(candidates: Sequence[Candidate], task: Task, settings: FilterSettings) -> tuple[list[Verdict], Labelling]:
    """A verdict on every candidate in order, and how the labels were chosen. Pure."""
    asked = [row for row in candidates if row.source != LABELLED]
    if task.labels:
        labelling = choose(asked, task.labels, settings.policy, settings.evidence)
    else:
        elect = OutputGate(task, settings).elect
        labelling = choose_outputs(asked, settings.policy, settings.agreement.threshold, elect)
    verdicts: list[Verdict] = []
    accepted: list[str] = []
    for candidate in candidates:
        verdict = _verdict(candidate, labelling, RuleContext(task, settings, accepted))
        verdicts.append(verdict)
        if verdict.keep:
            accepted.append(candidate.input)
    return (balanced(candidates, verdicts, settings.balance) if task.labels else verdicts), labelling


def _verdict(candidate: Candidate, labelling: Labelling, context: RuleContext) -> Verdict:
    if candidate.source == LABELLED:  # right by a person's word: but for personal data, only a person rejects it
        given = RuleInput(candidate.input, candidate.output)
        rule, reason = first_reason(LABELLED_RULES, given, context)
        return Verdict(candidate.id, not rule, JUDGE, rule, reason)
    output = labelling.labels[candidate.id]
    relabelled = output if output != candidate.output else None
    if output is None:
        reason = _unlabelled(candidate, labelling.policy)
        return Verdict(candidate.id, False, JUDGE, "consistency", reason)
    voted = candidate.output if context.task.labels else None
    share = _share(candidate, relabelled, context.task)
    if labelling.policy == "mbr":  # seldom alike to the letter; votes that do not stand are against it
        share = likeness_to(output, candidate.votes)
    relevance = candidate.relevance if output == candidate.label_asked else None
    row = RuleInput(candidate.input, output, share, candidate.label_asked, voted, relevance)
    rule, reason = first_reason((*input_rules(candidate.source), *OUTPUT_RULES), row, context)
    return Verdict(candidate.id, not rule, JUDGE, rule, reason, output=relabelled)


def _share(candidate: Candidate, relabelled: str | None, task: Task) -> float:
    """The share of the votes behind the output; 1 where it was not the votes that decided."""
    if relabelled is None:
        return candidate.vote_share
    by_votes = not task.labels and relabelled in candidate.votes
    return support(candidate, relabelled) if by_votes else 1.0


def _unlabelled(candidate: Candidate, policy: str) -> str:
    """Why a policy gives a row no label."""
    asked = f"asked for {candidate.label_asked}, voted {candidate.output or 'nothing'}"
    if policy == "ranked":
        return f"{asked}; the label scores speak for it less than for the better half of its label"
    return f"{asked}; calibration differs too" if candidate.label_scores else asked


def apply(run: Run, task: Task, settings: FilterSettings) -> Funnel:
    """Judge every candidate anew and append the verdicts that changed. A person's verdicts stay as they are."""
    candidates = run.read(CANDIDATES, Candidate)
    before = {v.id: v for v in run.read(VERDICTS, Verdict) if v.judge == JUDGE}
    verdicts, labelling = judge(candidates, task, settings)
    run.append(VERDICTS, [verdict for verdict in verdicts if before.get(verdict.id) != verdict])
    found = replace(funnel(run, task), policy=labelling.policy, why=labelling.why)
    _tell(found, task)
    return found


def all_judged(run: Run) -> bool:
    """Whether every candidate has a verdict of the filters: a damaged disk may have lost the last ones."""
    judged = {verdict.id for verdict in run.read(VERDICTS, Verdict) if verdict.judge == JUDGE}
    return all(candidate.id in judged for candidate in run.read(CANDIDATES, Candidate))


def _tell(found: Funnel, task: Task) -> None:
    """Log what was decided, without a text: labels are named by their places in the task."""
    why = found.why
    for place, label in enumerate(task.labels, 1):
        why = why.replace(repr(label), f"label {place}")
    logger.info("labels by policy %s: %s", found.policy, why)
    rules = ", ".join(f"{rule} {n}" for rule, n in found.rules.items())
    if found.flagged:
        logger.info(sentence(found.flagged, found.personal))
    logger.info("kept %d of %d accepted of %d asked; rejected: %s", found.kept, found.accepted, found.asked, rules or 0)


def final_verdicts(run: Run) -> dict[str, Verdict]:
    """The verdict that counts for each id: the last of a person, else the last of the filters.

    A person's verdict with the rule `undo` gives the row back to the filters.
    """
    by_filters: dict[str, Verdict] = {}
    by_person: dict[str, Verdict] = {}
    for verdict in run.read(VERDICTS, Verdict):
        if verdict.judge == JUDGE:
            by_filters[verdict.id] = verdict
        elif verdict.rule == "undo":
            by_person.pop(verdict.id, None)
        else:
            by_person[verdict.id] = verdict
    return by_filters | {
        id: replace(v, output=by_filters[id].output) if v.output is None and id in by_filters else v
        for id, v in by_person.items()
    }


def kept_rows(run: Run) -> list[Kept]:
    """The rows to train on, in synthesis order, relabelled and edited as the verdicts say."""
    verdicts = final_verdicts(run)
    rows = []
    for candidate in run.read(CANDIDATES, Candidate):
        verdict = verdicts.get(candidate.id)
        if verdict is not None and verdict.keep:
            text = candidate.input if verdict.input is None else verdict.input
            rows.append(Kept(candidate.id, Pair(text, output_of(candidate, verdict)), candidate))
    return rows


def funnel(run: Run, task: Task, kept: Sequence[Kept] | None = None) -> Funnel:
    """The funnel as the journals tell it; `kept` are the rows that train, where those are others than `kept_rows`."""
    inputs = run.read(INPUTS, InputRow)
    candidates = {row.id: row for row in run.read(CANDIDATES, Candidate)}
    verdicts = final_verdicts(run)
    rejected = [(*_split(row.rejected), row.input) for row in inputs if row.rejected]
    rejected += [
        (v.rule or "review", v.reason, f"{candidates[v.id].input} -> {output_of(candidates[v.id], v)}")
        for v in verdicts.values()
        if not v.keep and v.id in candidates
    ]
    rules = Counter(rule for rule, _, _ in rejected)
    kept = kept_rows(run) if kept is None else kept
    written = [row for row in inputs if not row.source]
    given = Counter(row.source for row in inputs if not row.rejected)
    private = [found for row in kept if (found := kinds(row.pair.input, row.pair.output))]
    return Funnel(
        asked=len(written),
        parsed=sum(not row.rejected.startswith(("empty", "unfinished")) for row in written),
        accepted=sum(not row.rejected for row in inputs),
        kept=len(kept),
        rules=dict(rules.most_common()),
        examples={r: tuple((text, why) for rule, why, text in rejected if rule == r)[:2] for r in rules},
        labels={
            label: (
                sum(row.label_asked == label for row in written),
                sum(row.pair.output == label for row in kept),
            )
            for label in task.labels
        },
        by_person=sum(v.judge != JUDGE for v in verdicts.values()),
        own=given[OWN],
        labelled=given[LABELLED],
        flagged=len(private),
        personal=dict(Counter(kind for found in private for kind in found).most_common()),
    )


def by_people(run: Run, task: Task) -> dict[str, int]:
    """What people's verdicts did to synthesised rows: how many they accepted as they were, edited, relabelled,
    rejected. A row counts once; one with another input counts as edited. Empty where nobody judged.
    """
    candidates = {row.id: row for row in run.read(CANDIDATES, Candidate)}
    filters = {verdict.id: verdict for verdict in run.read(VERDICTS, Verdict) if verdict.judge == JUDGE}
    counts: Counter[str] = Counter()
    for verdict in final_verdicts(run).values():
        row = candidates.get(verdict.id)
        if verdict.judge != JUDGE and row is not None:
            before = Pair(row.input, output_of(row, filters[row.id]) if row.id in filters else row.output)
            counts[_decision(before, verdict, bool(task.labels))] += 1
    return dict(counts)


def _decision(before: Pair, verdict: Verdict, has_labels: bool) -> str:
    """What a person's verdict did to the pair that the filters had."""
    if not verdict.keep:
        return "rejected"
    if verdict.input not in (None, before.input):
        return "edited"
    if verdict.output in (None, before.output):
        return "accepted"
    return "relabelled" if has_labels else "edited"


def _split(rejected: str) -> tuple[str, str]:
    rule, _, reason = rejected.partition(": ")
    return rule, reason
