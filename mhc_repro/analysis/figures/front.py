"""The one picture: what HC, mHC and mHC with H_res held at I do to the gain, and what to the loss."""

from collections.abc import Mapping, Sequence
from math import isfinite, isnan
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mhc_repro.analysis import theme
from mhc_repro.evidence import stats
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.ledger import LEDGER, by_seed, values
from mhc_repro.evidence.styles import BASELINE, style

CAPTION = (
    "(a) Every run of the settings below that did not diverge: largest composite gain against held-out bits minus "
    "the baseline's of its seed; larger: deeper, hollow: the lower rate, dotted: the paper's. (b, wide screens) "
    "mHC minus HC, paired by seed, a row a setting (sub-layers × dim, peak learning rate); grey: as far as a run "
    "repeated differs; right: how many seeds are worse by more."
)


Settings = Sequence[tuple[str, Comparison]]  # with their labels


@theme.styled
def picture(settings: Settings, arms: Sequence[str], published: Mapping[str, float]) -> Figure:
    """Draw both panels; `published` is the paper's gain of an arm."""
    figure = Figure(figsize=(8.6, 3.9))
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    _gain_and_loss(left, settings, arms, published)
    other, ours, *_ = arms
    _pairs(right, settings, ours, other)
    figure.subplots_adjust(left=0.085, right=0.93, top=0.92, bottom=0.14, wspace=0.5)
    return figure


@theme.styled
def half(settings: Settings, arms: Sequence[str], published: Mapping[str, float]) -> Figure:
    """Draw the first panel alone, for a narrow screen."""
    figure = Figure(figsize=(4.6, 3.9))
    _gain_and_loss(figure.subplots(), settings, arms, published)
    figure.subplots_adjust(left=0.16, right=0.97, top=0.92, bottom=0.14)
    return figure


def _gain_and_loss(ax: Axes, settings: Settings, arms: Sequence[str], published: Mapping[str, float]) -> None:
    above: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "fontsize": 8}
    for arm, gain in published.items():
        colour = style(arm).colour
        ax.axvline(gain, color=colour, linestyle=":", linewidth=1.2, zorder=1)
        x, side = (gain * 1.12, "left") if gain < 10 else (gain / 1.12, "right")
        ax.text(x, 0.985, f"paper: {style(arm).label}", **above, color=colour, ha=side, va="top")
    highest = max(run.config["optim"]["lr"] for _, setting in settings for run in setting.runs)
    for arm in reversed([*arms]):  # the arms it is about on top of their control
        own = style(arm)
        for _, setting in settings:
            base = setting.ended(BASELINE)
            for seed, run in setting.ended(arm).items():
                if seed in base and run.state == base[seed].state == "finished":
                    place = values(run)["composite"], values(run)["bpc"] - values(base[seed])["bpc"]
                    look: dict[str, Any] = {"color": own.colour, "markersize": 3.4 + run.layers / 7}
                    hollow = run.config["optim"]["lr"] < highest
                    edges: dict[str, Any] = {"fillstyle": "none"} if hollow else {"markeredgecolor": "white"}
                    ax.plot(*place, own.marker, **look, **edges, gid=arm)
    ax.axhline(0, color="black", linewidth=0.9)
    ax.set_xscale("log")
    ax.set(title="(a) The gain and the loss of each run", xlabel="largest composite gain of the run")
    ax.set_ylabel("bits per character − baseline, same seed (up: worse)")
    ax.margins(y=0.12)
    keys = [
        Line2D(
            [], [], linestyle="", marker=style(arm).marker, color=style(arm).colour, label=style(arm).label
        )
        for arm in arms
    ]
    ax.legend(handles=keys, loc=(0.13, 0.02), handletextpad=0.2)


def _pairs(ax: Axes, settings: Settings, ours: str, other: str) -> None:
    beside: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "fontsize": 8, "va": "center"}
    look: dict[str, Any] = {"color": style(ours).colour, "markersize": 5, "alpha": 0.75}
    for row, (_, setting) in enumerate(settings):
        bits = [by_seed(setting.ended(arm), "bpc") for arm in (ours, other)]
        gaps = [gap for gap in stats.paired(*bits).values() if not isnan(gap)]
        finite = [gap for gap in gaps if isfinite(gap)]
        ax.plot(finite, [row] * len(finite), "o", **look, markeredgecolor="white")
        noise = LEDGER["bpc"].noise_of(setting.kind.layers)
        ax.fill_betweenx([row - 0.5, row + 0.5], -noise, noise, color="0.92", linewidth=0, zorder=0)
        worse = sum(gap > noise for gap in gaps)
        ax.text(1.03, row, f"{worse} of {len(gaps)}", **beside)
    ax.text(1.03, -0.75, "worse", **beside, color="0.35")
    ax.axvline(0, color="black", linewidth=0.9)
    ax.set_yticks(range(len(settings)), [label for label, _ in settings])
    ax.set_ylim(len(settings) - 0.5, -1.1)
    ax.set_xlabel(f"bits per character (right: {style(ours).label} worse)")
    ax.set(title=f"(b) {style(ours).label} − {style(other).label}, paired by seed")
