"""SVG charts drawn by hand: no library, no script, no request.

Horizontal positions are percentages and vertical ones pixels, without a viewBox, so that a chart fills any width while
its text keeps its size. Colours come from the page's CSS classes. Every chart has a title, and a description that says
it in words.

A plotting library was tried (matplotlib 3.11, `svg.fonttype: none`) and given up. Its drawings have a fixed shape: one
of 7 inches shows 13 px of text at 7 px in the width of a phone, so each chart would be needed twice. Colours are
written into every element, 63 times for seven intervals, where dark mode needs classes. That chart takes 17 kB, this
module's 4 kB, and title, description and unique ids would have to be put in afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

AXIS = 26
"""Height of the strip below a chart with the ticks' numbers, in pixels."""


def chart(height: float, title: str, description: str, identifier: str, parts: Sequence[str]) -> Markup:
    """The `svg` element around `parts`; `identifier` must be unique in the page, it links the chart to its texts."""
    return Markup(
        f'<svg class="chart" width="100%" height="{height:g}" role="img"'
        f' aria-labelledby="{identifier}-t {identifier}-d">'
        f'<title id="{identifier}-t">{escape(title)}</title><desc id="{identifier}-d">{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of CSS class `kind`; x in percent, y in pixels."""
    return f'<line class="{kind}" x1="{x1:.2f}%" y1="{y1:g}" x2="{x2:.2f}%" y2="{y2:g}"/>'


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A rectangle of CSS class `kind`; x and width in percent, y and height in pixels."""
    return f'<rect class="{kind}" x="{x:.2f}%" y="{y:g}" width="{width:.2f}%" height="{height:g}"/>'


def dot(x: float, y: float, radius: float) -> str:
    """A filled circle; x in percent, y and radius in pixels."""
    return f'<circle cx="{x:.2f}%" cy="{y:g}" r="{radius:g}"/>'


def text(x: float, y: float, words: str, kind: str, anchor: str) -> str:
    """Text at x percent whose baseline is y; `anchor` is start, middle or end."""
    return f'<text class="{kind}" x="{x:g}%" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def anchor(x: float) -> str:
    """Where a tick's number hangs from so that it stays inside the chart."""
    return "start" if x <= 0 else "end" if x >= 100 else "middle"
