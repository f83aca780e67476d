"""The figures of the book: each function draws one kind of picture on given axes. No torch here.

Colours are Okabe and Ito's, which people with any of the common kinds of colour blindness can tell
apart; line style or marker says the same again wherever two curves can be confused.
"""

__all__ = [
    "COLOURS",
    "METHOD_STYLES",
    "adaptation_curves",
    "learning_curve",
    "regression_fits",
    "use_style",
]

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

COLOURS = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "orange": "#E69F00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "black": "#000000",
    "grey": "#7F7F7F",
}

# One look per method through the whole book.
METHOD_STYLES: dict[str, dict[str, Any]] = {
    "MAML": {"color": COLOURS["blue"], "linestyle": "-", "marker": "o"},
    "MAML, first order": {"color": COLOURS["sky"], "linestyle": "--", "marker": "s"},
    "pretrained": {"color": COLOURS["vermillion"], "linestyle": "-", "marker": "^"},
    "oracle": {"color": COLOURS["green"], "linestyle": "-", "marker": "D"},
    "random initialisation": {"color": COLOURS["grey"], "linestyle": ":", "marker": "x"},
    "paper": {"color": COLOURS["black"], "linestyle": "none", "marker": "*"},
}


def use_style() -> None:
    """Set how every figure of the book looks: sizes, palette, white ground."""
    palette = [COLOURS[name] for name in ("blue", "vermillion", "green", "orange", "purple", "sky", "black")]
    mpl.rcParams.update(
        {
            "figure.dpi": 120,
            "savefig.dpi": "figure",
            "figure.figsize": (6.4, 3.6),
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": cycler(color=palette),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#E3E3E3",
            "grid.linewidth": 0.7,
            "axes.axisbelow": True,
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.labelsize": 10,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "lines.linewidth": 1.6,
            "lines.markersize": 4.5,
            "image.cmap": "cividis",
            "svg.hashsalt": "mamlkit",  # so that a figure comes out byte for byte the same
        }
    )
