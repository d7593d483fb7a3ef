"""Whether people can read a figure: texts that lie on each other, or are cut off."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie on each other, and texts that are cut off (paired with ``the edge``): for tests. The
    figure has been drawn, or laid out."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    hidden = _hidden(figure)
    found: list[tuple[str, str]] = []
    boxes: list[tuple[str, Any]] = []
    for artist in figure.findobj(Text):
        text = artist.get_text().strip()
        if not text or not artist.get_visible() or id(artist) in hidden:
            continue
        box = Text.get_window_extent(artist, renderer)  # of an annotation without its stroke
        if box.width < 1 or box.height < 1:
            continue
        edge = figure.bbox
        if box.x0 < edge.x0 - 1 or box.y0 < edge.y0 - 1 or box.x1 > edge.x1 + 1 or box.y1 > edge.y1 + 1:
            found.append((text, "the edge"))
        for other, old in boxes:
            width = min(box.x1, old.x1) - max(box.x0, old.x0)
            height = min(box.y1, old.y1) - max(box.y0, old.y0)
            if width > 1.5 and height > 1.5:
                found.append((other, text))
        boxes.append((text, box))
    return found


def _hidden(figure: Figure) -> set[int]:
    """Texts that are not drawn: tick labels outside the limits, all of panels that are switched off."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-6 * (high - low)
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not axes.axison or not low - slack <= tick.get_loc() <= high + slack:
                    hidden |= {id(tick.label1), id(tick.label2)}
    return hidden
