"""A figure with sliders, from curves that were computed before: no server, no network. No torch here.

All frames are drawn at once into one SVG, of which one frame is visible. ``book/_static/book.js`` adds the
sliders and shows another; without it, in print and in JupyterLab, the frame of the last step stays.
"""

__all__ = ["Curve", "explore"]

import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import product
from typing import Any, NamedTuple

import numpy as np

WIDTH, HEIGHT = 640, 320  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 76, 12, 12, 44  # margins around the axes, for text of 22 on a phone
KINDS = {"line": 3.0, "thin": 1.2, "dashed": 2.0, "points": 0.0}  # and the width of each
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's
GREY = "#767676"  # told from a white page and from a dark one


# said of each text, since JupyterLab does not have the book's style sheet
_MIDDLE = 'fill="currentColor" font-size="14" text-anchor="middle"'
_END = 'fill="currentColor" font-size="14" text-anchor="end"'


class Curve(NamedTuple):
    """A curve or a set of points.

    Args:
        x, y: coordinates.
        label: for the legend, or empty.
        colour: place in :data:`COLOURS`, or -1 for grey.
        kind: a key of :data:`KINDS`.
    """

    x: Sequence[float]
    y: Sequence[float]
    label: str = ""
    colour: int = -1
    kind: str = "line"


def explore(
    controls: Mapping[str, Sequence[Any]],
    frames: Mapping[tuple[Any, ...], tuple[Sequence[Curve], str]],
    *,
    axes: tuple[str, str],
    limits: tuple[tuple[float, float], tuple[float, float]],
    alt: str,
    always: Sequence[Curve] = (),
) -> Any:
    """The figure, as HTML for a notebook.

    Args:
        controls: name of each control and its values; numbers make a slider, words a choice.
        frames: a value of each control, in order, to the curves and a sentence about them.
        axes: labels, with units.
        limits: of x and of y.
        alt: what the figure shows, for those who do not see it.
        always: curves of every frame.

    Raises:
        ValueError: a combination of values without a frame, or an unknown kind of curve.
    """
    from IPython.display import HTML  # a dependency of the book, not of the package

    lacking = [key for key in product(*controls.values()) if key not in frames]
    if lacking:
        raise ValueError(f"no frame for {lacking[0]}; each combination of {', '.join(controls)} needs one")
    place = _Axes(axes, limits)
    groups = []
    # without a script: the end of what a slider would move along, and the first choice
    still = tuple(v[-1] if all(isinstance(x, int | float) for x in v) else v[0] for v in controls.values())
    for key in product(*controls.values()):
        curves, says = frames[key]
        hidden = "" if key == still else ' style="display:none"'
        name = escape(json.dumps(key), quote=True)
        groups.append(
            f'<g data-frame="{name}" data-says="{escape(says, quote=True)}"{hidden}>'
            f"{''.join(map(place.curve, curves))}</g>"
        )
    listed = [{"name": name, "values": list(values)} for name, values in controls.items()]
    legend = "".join(
        f'<span style="color:{_colour(c)}">\N{BLACK CIRCLE}&nbsp;{escape(c.label)}</span> '
        for c in [*always, *frames[still][0]]
        if c.label
    )
    return HTML(
        f'<figure class="explore" data-controls="{escape(json.dumps(listed), quote=True)}">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(alt, quote=True)}">'
        f"{place.frame()}{''.join(map(place.curve, always))}{''.join(groups)}</svg>"
        f'<p class="explore-legend">{legend}</p>'
        f'<p class="explore-says" aria-live="polite">{escape(frames[still][1])}</p></figure>'
    )


class _Axes:
    """Where a value lies in the drawing, and the box around it."""

    def __init__(self, labels: tuple[str, str], limits: tuple[tuple[float, float], ...]) -> None:
        self.labels, self.limits = labels, limits

    def x(self, value: float) -> float:
        low, high = self.limits[0]
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.limits[1]
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def curve(self, curve: Curve) -> str:
        """A polyline, or dots; what leaves the axes is cut at their edge."""
        if curve.kind not in KINDS:
            raise ValueError(f"kind={curve.kind!r}, but it must be one of {', '.join(map(repr, KINDS))}")
        (x0, x1), (y0, y1) = self.limits
        places = [
            (round(self.x(x), 1), round(self.y(y), 1))
            for x, y in zip(np.clip(curve.x, x0, x1), np.clip(curve.y, y0, y1), strict=True)
        ]
        if curve.kind == "points":
            dots = "".join(f'<circle cx="{x}" cy="{y}" r="4.5"/>' for x, y in places)
            return f'<g fill="{_colour(curve)}">{dots}</g>'
        style = f'fill="none" stroke="{_colour(curve)}" stroke-width="{KINDS[curve.kind]:g}"'
        if curve.kind == "dashed":
            style += ' stroke-dasharray="6 4"'
        return f'<polyline {style} points="{" ".join(f"{x},{y}" for x, y in places)}"/>'

    def frame(self) -> str:
        """Axes with ticks and labels."""
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        parts = [f'<path fill="none" stroke="currentColor" d="M{LEFT},{TOP}V{bottom}H{right}"/>']
        for tick in _ticks(*self.limits[0]):
            parts.append(f'<text x="{self.x(tick):.1f}" y="{bottom + 16}" {_MIDDLE}>{_text(tick)}</text>')
        for tick in _ticks(*self.limits[1]):
            parts.append(f'<text x="{LEFT - 6}" y="{self.y(tick) + 4:.1f}" {_END}>{_text(tick)}</text>')
        middle = (LEFT + right) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" {_MIDDLE}>{escape(self.labels[0])}</text>')
        height = (TOP + bottom) / 2
        turned = f'x="20" y="{height}" transform="rotate(-90 20 {height})" {_MIDDLE}'
        parts.append(f"<text {turned}>{escape(self.labels[1])}</text>")
        return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two, about five of them.

    >>> _ticks(-5.0, 5.0), _ticks(0.0, 1.0)
    ([-4.0, -2.0, 0.0, 2.0, 4.0], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    """
    rough = (high - low) / 6
    size = 10.0 ** np.floor(np.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first, last = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
    return [round(float(step * i), 10) + 0.0 for i in np.arange(first, last + 1)]


def _text(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def _colour(curve: Curve) -> str:
    return GREY if curve.colour < 0 else COLOURS[curve.colour]
