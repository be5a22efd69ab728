"""The page's plots as SVG text: drawn by Altair and vl-convert, coloured by the page, readable without colour.

Colours are the page's CSS variables, so that one drawing serves light and dark. Every drawing carries a title and
a description that says in words what it shows. Nothing here reads files.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

from sg_local.calibration import Reliability
from sg_local.words import shown

WIDTH = 290
"""Pixels between the axes: with them a plot is no wider than a telephone, where its text keeps its size."""
INK = "currentColor"


def reliability(found: Mapping[str, Reliability]) -> str:
    """Confidence against the share that is right, by systems' names: a line each, points by how many answers they hold,
    and the diagonal on which probabilities mean what they say.
    """
    rows: list[dict[str, Any]] = [
        {"name": name, "confidence": one.confidence, "right": one.right, "n": one.n}
        for name, curve in found.items()
        for one in curve.bins
    ]
    said = "; ".join(f"{row['name']}, {row['n']} at {row['confidence']:.0f}: {row['right']:.0f} right" for row in rows)
    names, percent = list(found), alt.Scale(domain=[0, 100])
    colours = alt.Scale(domain=names, range=["var(--base)", "var(--tuned)"][-len(names) :])
    chart = _table(rows).encode(
        x=alt.X("confidence:Q", title="probability given, percent", scale=percent, axis=alt.Axis(tickCount=5)),
        y=alt.Y("right:Q", title="right, percent", scale=percent),
        color=alt.Color("name:N", scale=colours, legend=_legend()),
    )
    even = _table([{"x": 0, "y": 0}, {"x": 100, "y": 100}]).mark_line(strokeDash=[4, 3], color=INK, strokeWidth=1)
    points = chart.mark_point(filled=True, opacity=1).encode(
        size=alt.Size("n:Q", scale=alt.Scale(range=[30, 300]), legend=None),
        shape=alt.Shape("name:N", scale=alt.Scale(domain=names, range=["circle", "diamond"]), legend=_legend()),
    )
    layers = alt.layer(even.encode(x="x:Q", y="y:Q"), chart.mark_line(strokeWidth=1.5), points)
    return svg(layers.properties(width=WIDTH, height=240), "Do the probabilities mean what they say?", said)


def losses(curve: Sequence[Sequence[float | None]]) -> str:
    """Training loss as a line and validation loss as a dashed line with points, by step."""
    trained = [(step, loss) for step, loss, _ in curve if step or len(curve) == 1]
    rows = [{"step": step, "loss": loss, "set": "training"} for step, loss in trained]
    rows += [{"step": step, "loss": loss, "set": "validation"} for step, _, loss in curve if loss is not None]
    measured = [loss for *_, loss in curve if loss is not None]
    said = f"{len(curve)} points; training loss from {trained[0][1]:.3f}."
    if measured:
        said += f" Validation loss from {measured[0]:.3f} to {min(measured):.3f} at best."
    chart = _table(rows).encode(
        x=alt.X("step:Q", title="optimiser step"),
        y=alt.Y("loss:Q", title="loss in nats per token", scale=alt.Scale(zero=True)),
        color=alt.Color("set:N", scale=_pair("training", "validation"), legend=_legend()),
        strokeDash=alt.StrokeDash(
            "set:N", scale=alt.Scale(domain=["training", "validation"], range=[[1, 0], [6, 3]]), legend=_legend()
        ),
    )
    points = chart.transform_filter("datum.set == 'validation'").mark_point(filled=True, size=60, opacity=1)
    return svg(alt.layer(chart.mark_line(), points).properties(width=WIDTH, height=200), "Loss while training", said)


def lengths(texts: Mapping[str, Sequence[str]]) -> str:
    """How long texts are, in characters: one small histogram for each group, on one scale."""
    rows = [{"group": group, "length": len(text)} for group, found in texts.items() for text in found]
    chart = (
        _table(rows)
        .mark_bar(color="var(--base)", stroke=INK, strokeWidth=0.5)
        .encode(
            x=alt.X("length:Q", bin=alt.Bin(maxbins=24), title="characters"),
            y=alt.Y("count():Q", title="rows", axis=alt.Axis(tickMinStep=1, format="d")),
        )
        .properties(width=WIDTH, height=64)
    )
    header = alt.Header(labelColor=INK, labelFontSize=12, labelAnchor="start", labelOrient="top", title=None)
    chart = chart.facet(row=alt.Row("group:N", sort=list(texts), header=header, title=None)).resolve_scale(
        y="independent"
    )
    said = "; ".join(
        f"{group}: {len(found)} rows, {min(map(len, found))} to {max(map(len, found))} characters"
        for group, found in texts.items()
        if found
    )
    return svg(chart, "Lengths", said)


def svg(chart: Any, title: str, said: str) -> str:
    """A chart as an SVG element with title and description, scaling with the page."""
    text = vl_convert.vegalite_to_svg(_themed(chart).to_dict())
    size = re.search(r'width="([\d.]+)" height="([\d.]+)"', text)
    assert size is not None
    mark = re.sub(r"\W+", "-", title.lower()).strip("-")
    heading, words = html.escape(shown(title)), html.escape(shown(said))
    text = re.sub(r'(id="|url\(#)(clip|gradient)', rf"\1{mark}-\2", text)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{mark}-title {mark}-desc" '
        f'viewBox="0 0 {size[1]} {size[2]}" width="{size[1]}">'
        f'<title id="{mark}-title">{heading}</title><desc id="{mark}-desc">{words}</desc>'
    )
    return head + text[text.index(">") + 1 :]


def _themed(chart: Any) -> Any:
    """The chart without any colour of its own for text, axes and background."""
    ink: dict[str, Any] = {f"{part}Color": INK for part in ("label", "title", "domain", "tick")}
    return chart.configure(
        background="transparent",
        font="sans-serif",
        padding=5,
        axis=alt.AxisConfig(
            **ink, gridColor="var(--grid)", labelFontSize=12, titleFontSize=12, titleFontWeight="normal"
        ),
        legend=alt.LegendConfig(labelColor=INK, titleColor=INK, labelFontSize=12),
        view=alt.ViewConfig(stroke=None),
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """The rows as a chart's data. SVG cannot hold control characters, which the drawing library does not take out."""
    safe = [{key: shown(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows]
    return alt.Chart(alt.InlineData(values=safe))


def _legend() -> alt.Legend:
    return alt.Legend(title=None, orient="top", symbolOpacity=1)


def _pair(first: str, second: str) -> alt.Scale:
    return alt.Scale(domain=[first, second], range=["var(--base)", "var(--tuned)"])
