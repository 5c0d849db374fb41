"""One look for every figure, and one way to write it.

SVG is written so that the same data give the same bytes on another machine: matplotlib hashes floats into its
ids and prints six decimals, so one last-bit difference of another CPU would show. We number the ids and keep
two decimals of a point. A user's matplotlibrc has no say.
"""

import io
import re
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure
from PIL import Image

RC: Any = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "figure.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # no axis has its ticks on top, which matplotlib would look for at some cost
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.markersize": 4,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "mhc-repro",
}
# Makes a function draw under this theme and matplotlib's own defaults, and leaves its settings as they were.
styled = style.context(RC, after_reset=True)


@styled
def to_svg(figure: Figure) -> str:
    """Draw as SVG text that depends on the data alone (and on matplotlib's version)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _tidy(buffer.getvalue().decode())


@styled
def to_png(figure: Figure) -> bytes:
    """Draw as PNG, for a notebook: with a palette, which makes it less than half as large."""
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    Image.open(drawn).convert("RGB").quantize(256).save(packed, format="png", optimize=True)
    return packed.getvalue()


_HASHED = re.compile(r"(?<=[\"#])[a-z][0-9a-f]{10}(?=[\")])")
_COORDINATES = re.compile(r'(?<= d=")[^"]+|(?<=translate\()[^)]+|(?<= [xy]=")[^"]+')
_NUMBER = re.compile(r"-?\d+\.\d+")


def _tidy(svg: str) -> str:
    names: dict[str, str] = {}
    svg = _HASHED.sub(lambda found: names.setdefault(found[0], f"id{len(names)}"), svg)

    def rounded(number: re.Match[str]) -> str:
        # adding 0.0 turns -0.0 into 0.0
        return f"{round(float(number[0]), 2) + 0.0:.2f}".rstrip("0").rstrip(".")

    return _COORDINATES.sub(lambda found: _NUMBER.sub(rounded, found[0]), svg)
