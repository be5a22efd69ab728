"""Confusion tables as the page shows them: shaded counts while the labels fit a page, else the commonest mistakes."""

from __future__ import annotations

from dataclasses import dataclass

from sg_local.report.records import BASE, Report

MOST_LABELS = 12
"""More columns than these do not fit a telephone or half a sheet."""
MOST_MISTAKES = 12
NAMES = 28
"""Characters: labels that are longer altogether stand in the columns as numbers."""
NO_LABEL = "no label"


@dataclass(frozen=True)
class Cell:
    """How often, as a share of the row in percent, and whether that is the right answer."""

    n: int
    share: float
    right: bool


@dataclass(frozen=True)
class Mistake:
    """A right label that got another answer `n` times out of `of`."""

    right: str
    answered: str
    n: int
    of: int


@dataclass(frozen=True)
class Confused:
    """One system's table under its name for people; rows and columns in the labels' order, no label last.

    A run with too many labels for `rows` has its commonest `mistakes` instead.
    """

    title: str
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    mistakes: tuple[Mistake, ...]


def confused(report: Report) -> tuple[Confused, ...]:
    """The model as it comes, the rival that the verdict names, and what is served; those that have a table."""
    if report.confusion is None:
        return ()
    names = [name for name in dict.fromkeys((BASE, report.rival, report.served)) if name in report.confusion.tables]
    return tuple(_confused(report, name) for name in names)


def columns(report: Report) -> tuple[tuple[str, str], ...]:
    """What stands above each column, and the label it means: the label, or its number where labels are long."""
    labels = report.confusion.labels if report.confusion is not None else ()
    if sum(map(len, labels)) <= NAMES:
        return (*((label, label) for label in labels), ("none", NO_LABEL))
    return (*((str(i), label) for i, label in enumerate(labels, 1)), ("none", NO_LABEL))


def _confused(report: Report, name: str) -> Confused:
    assert report.confusion is not None
    labels, table = report.confusion.labels, report.confusion.tables[name]
    title = report.systems[name].title
    if len(labels) > MOST_LABELS:
        return Confused(title, (), _mistakes(labels, table))
    rows = [(label, _cells(counts, i)) for i, (label, counts) in enumerate(zip(labels, table, strict=True))]
    return Confused(title, tuple(rows), ())


def _cells(counts: tuple[int, ...], right: int) -> tuple[Cell, ...]:
    total = max(sum(counts), 1)
    return tuple(Cell(n, 100 * n / total, i == right) for i, n in enumerate(counts))


def _mistakes(labels: tuple[str, ...], table: tuple[tuple[int, ...], ...]) -> tuple[Mistake, ...]:
    answered = (*labels, NO_LABEL)
    found = [
        Mistake(label, answered[j], n, sum(counts))
        for i, (label, counts) in enumerate(zip(labels, table, strict=True))
        for j, n in enumerate(counts)
        if n and i != j
    ]
    return tuple(sorted(found, key=lambda one: (-one.n, one.right, one.answered))[:MOST_MISTAKES])
