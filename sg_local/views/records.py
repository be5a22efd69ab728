"""What the screens are given: plain records of what to show, made by the command line."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class FunnelCard:
    """The filters' account: steps (name, rows), rules (name, rejected, examples), labels (name, asked, kept)."""

    steps: tuple[tuple[str, int], ...]
    rules: tuple[tuple[str, int, tuple[str, ...]], ...]
    labels: tuple[tuple[str, int, int], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Progress:
    """Where a stage stands: `done` of `wanted` `unit`. `facts` are short figures, `latest` the last rows as text.

    `curves` are figures over time by name, the oldest first, such as losses.
    """

    phase: str
    done: int
    wanted: int
    unit: str = "rows"
    facts: dict[str, str] = field(default_factory=dict)
    latest: tuple[str, ...] = ()
    curves: tuple[tuple[str, tuple[float, ...]], ...] = ()
    funnel: FunnelCard | None = None


@dataclass(frozen=True)
class SystemScore:
    """One system's score with its interval, in percent, under its title. `role` is base, tuned or trivial.

    `irrelevant` is the share of its answers that name no label, or say nothing; `typed` is the name for gates and JSON.
    """

    name: str
    score: float
    low: float
    high: float
    role: str = "base"
    chosen: bool = False
    irrelevant: float | None = None
    typed: str = ""


@dataclass(frozen=True)
class ConfusionView:
    """How often each right label (a row) got each answer (a column); the last column counts what is no label."""

    title: str
    labels: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class GainView:
    """A tuned system's gain over a base, in points; `outcome` as in VerdictCard.

    `reached_by` names the trivial systems that reach it too.
    """

    tuned: str
    base: str
    gain: float
    low: float
    high: float
    outcome: str
    reached_by: tuple[str, ...] = ()
    chosen: bool = False


@dataclass(frozen=True)
class VerdictCard:
    """The end of a run: scores, what they mean, the files that came out, what to do next.

    `outcome` is better, worse or open; `marked` says that a trivial system reaches the gain too; `headline` is what
    tuning came to in a line, `rival` what the served system is held against. Where nothing was measured, `unmeasured`
    says why, and there are no scores.
    """

    title: str
    metric: str
    n: int
    systems: tuple[SystemScore, ...]
    gains: tuple[GainView, ...]
    sentences: tuple[str, ...]
    outcome: str
    stages: tuple[tuple[str, str], ...]
    artefacts: tuple[tuple[str, str, str], ...]
    commands: tuple[tuple[str, str], ...]
    marked: bool = False
    notes: tuple[str, ...] = ()
    confusion: ConfusionView | None = None
    unmeasured: str = ""
    headline: str = ""
    rival: str = "the best untuned setup"


@dataclass(frozen=True)
class FindingView:
    """One of the doctor's findings: `status` is ok, warning or missing; `fix` is the command or step that helps.

    `found` is the fact, `why` what it means for the job.
    """

    topic: str
    name: str
    status: str
    found: str
    why: str = ""
    fix: str = ""


@dataclass(frozen=True)
class CardView:
    """One row under review. `decision` is open, accepted, rejected or conflict; `who` tells by whom and why.

    `votes` are (answer, count), most first; `scores` (label, its share, its share by each way of scoring), likeliest
    first. `asked` is the text that the input was written for, where it differs.
    `neighbour` is its number, the similarity in [0, 1], and its input in stretches (text, differs from this row's).
    `source` says whose row it is where no model wrote it. `personal` holds (kind, text) of what looks personal, `notes`
    (judge, text).
    """

    number: int
    id: str
    decision: str
    who: str
    input: str
    output: str
    edited: tuple[str, ...] = ()
    votes: tuple[tuple[str, int], ...] = ()
    n_samples: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    scores: tuple[tuple[str, float, tuple[float, ...]], ...] = ()
    asked: str = ""
    rule: str = ""
    reason: str = ""
    neighbour: tuple[int, float, tuple[tuple[str, bool], ...]] | None = None
    doubts: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    source: str = ""
    personal: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PlayView:
    """Thresholds in play: (name, value, saved value) each, the rows kept before and now, what one step would do.

    `meaning` says what the selected one does; `kept_beside` are the rows kept with one step less and one more.
    `edge` holds (sign, text): `+` comes in, `-` goes out, `<` and `>` would with one step looser or stricter. `note`
    says what else to know.
    """

    thresholds: tuple[tuple[str, str, str], ...]
    selected: int
    kept_before: int
    kept_now: int | None
    kept_beside: tuple[int, int] | None = None
    meaning: str = ""
    labels: tuple[tuple[str, int, int], ...] = ()
    edge: tuple[tuple[str, str], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class ReviewView:
    """The whole screen of a review. `mode` is the state machine's; `menu` holds (key, name, value) for it.

    `heading` stands above the menu, and above the `page` of (heading, text) that takes the card's place. `pace` says
    how fast it goes and how long it will. `find` is a text to mark in the card.
    """

    title: str
    position: str
    conditions: str
    card: CardView | None
    progress: tuple[tuple[str, int], ...]
    judged: tuple[int, int]
    funnel: tuple[tuple[str, int], ...]
    labels: tuple[tuple[str, int], ...]
    mode: str
    keys: tuple[tuple[str, str], ...]
    message: str = ""
    prompt: str = ""
    buffer: str = ""
    caret: int = 0
    edits: str = ""
    scroll: int = 0
    find: str = ""
    menu: tuple[tuple[str, str, str], ...] = ()
    heading: str = ""
    page: tuple[tuple[str, str], ...] = ()
    pace: tuple[str, ...] = ()
    play: PlayView | None = None
    sample: tuple[str, ...] = ()
