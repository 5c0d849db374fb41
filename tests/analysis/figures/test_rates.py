"""The figure over a swept rate shows what the table of rates says."""

from math import inf

import numpy as np
import pytest

from drawn_lines import data, lines
from mhc_repro.analysis import figures
from mhc_repro.analysis.figures import rates
from mhc_repro.analysis.tables import rates as table
from mhc_repro.evidence.arms import style
from mhc_repro.evidence.comparison import comparisons
from mhc_repro.evidence.sweeps import DRAWN, LR, MAPS_LR, drawn, rate, sweeps
from mhc_repro.runs import Run

GRIDS = {LR: (1e-3, 3e-3, 1e-2, 3e-2), MAPS_LR: (1.0, 3.0, 10.0, 100.0)}


def swept(fake, key: str, arm: str, *bits: float, seed: int = 0, **options: object) -> list[Run]:
    return [
        fake(arm, bits=each, seed=seed, **{key.replace(".", "__"): value}, **options)
        for value, each in zip(GRIDS[key], bits, strict=True)
    ]


@pytest.mark.parametrize("key", GRIDS)
def test_points_are_runs_and_the_curve_their_mean_as_the_table_has_it(fake, key):
    bits = np.random.default_rng(0).uniform(3.7, 5.0, (2, 3, 4))
    runs = [
        run
        for arm, of_arm in zip(("hc", "mhc"), bits, strict=True)
        for seed, of_seed in enumerate(of_arm)
        for run in swept(fake, key, arm, *of_seed, seed=seed)
    ]
    of_study = comparisons(runs)
    (sweep,) = sweeps(of_study, key)
    (ax,) = rates.rates(sweep.whole, key).axes
    frame = table.table(of_study, key).set_index("arm")
    assert ax.get_xscale() == "log"
    assert list(ax.xaxis.get_major_locator()()) == list(GRIDS[key])
    for arm, of_arm in zip(("hc", "mhc"), bits, strict=True):
        points = [list(data(line).values()) for line in lines(ax, arm, "seed")]
        assert points == pytest.approx(of_arm)
        (mean,) = lines(ax, arm, "mean")
        for value, shown in data(mean).items():
            assert f"{shown:.3f}" == frame.loc[style(arm).label, f"{value:g}"].split(" ± ")[0]
    assert not [line for line in ax.lines if line.get_gid() == "diverged"]


def test_a_run_that_diverged_is_a_counted_mark_at_the_upper_edge_and_breaks_the_curve(fake):
    runs = swept(fake, LR, "hc", 3.75, 3.8, inf, inf) + swept(fake, LR, "hc", 3.75, 3.9, 4.5, inf, seed=1)
    runs += [run for seed in (0, 1) for run in swept(fake, LR, "mhc", 3.75, 3.8, 3.9, 4.0, seed=seed)]
    (sweep,) = sweeps(comparisons(runs), LR)
    (ax,) = rates.rates(sweep.whole, LR).axes
    crosses = lines(ax, "hc", "diverged")
    assert [each.get_xdata()[0] for each in crosses] == pytest.approx([1e-2, 3e-2])
    assert {each.get_ydata()[0] for each in crosses} == {ax.get_ylim()[1]}
    assert [text.get_text() for text in ax.texts] == ["1", "2"]
    assert data(lines(ax, "hc", "mean")[0]) == pytest.approx({1e-3: 3.75, 3e-3: 3.85})
    assert data(lines(ax, "hc", "seed")[1])[1e-2] == 4.5  # the seed that lived is still seen
    assert len(data(lines(ax, "mhc", "mean")[0])) == 4
    assert not lines(ax, "mhc", "diverged")


def test_the_frequencies_of_bytes_are_drawn_and_named_only_where_a_loss_comes_near(fake):
    for worst, said in ((4.0, False), (5.5, True)):
        (sweep,) = sweeps(comparisons(swept(fake, LR, "hc", 3.75, 3.8, 3.9, worst)), LR)
        figure = rates.rates(sweep.whole, LR)
        known = [text.get_text() for text in figure.legends[0].get_texts()]
        assert ("frequencies of bytes alone" in known) is said
        drawn_at = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_gid() == "frequencies"]
        assert drawn_at == [5.118] * said


def test_fewer_seeds_are_thin_and_counted(fake):
    runs = [run for seed in range(3) for run in swept(fake, LR, "hc", 3.75, 3.8, 3.9, 4.0, seed=seed)]
    (sweep,) = sweeps(comparisons([*runs, *swept(fake, LR, "mhc", 3.75, 3.8, 3.9, 4.0)]), LR)
    figure = rates.rates(sweep.whole, LR)
    (thin,), (thick,) = (lines(figure.axes[0], arm, "mean") for arm in ("mhc", "hc"))
    assert thin.get_linewidth() < thick.get_linewidth()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["HC", "mHC, n = 1"]


@pytest.mark.parametrize("key", GRIDS)
def test_a_sweep_has_its_figure_first_and_those_of_few_settings(fake, key):
    of_study = comparisons(swept(fake, key, "hc", 3.75, 3.8, 3.9, 4.0))
    first, *rest = figures.of_study(of_study)
    assert first.path == f"figures/made-up-{rates.NAMES[key]}.svg"
    assert "0.001, 0.003, 0.01." in rates.caption(LR)
    shown = {rate(each.comparison.runs[0], key) for each in rest}
    assert shown == {*DRAWN[key]} & {*GRIDS[key]}
    assert shown < {*GRIDS[key]}
    assert rates.NAMES[key] not in {each.name for each in rest}


def test_two_rates_are_no_sweep_and_another_sweep_has_every_setting(fake):
    two = comparisons(swept(fake, LR, "hc", 3.75, 3.8, 3.9, 4.0)[2:])
    assert not sweeps(two, LR)
    assert drawn(two) == two
    others = comparisons([fake("hc", optim__lr=value) for value in (0.1, 0.2, 0.4)])
    assert len(sweeps(others, LR)) == 1
    assert drawn(others) == others


def test_a_rate_is_swept_within_each_other_setting(fake):
    bits = 3.75, 3.8, 3.9, 4.0
    runs = [run for blocks in (4, 16) for run in swept(fake, LR, "hc", *bits, model__blocks=blocks)]
    found = [(each.whole.setting, each.grid) for each in sweeps(comparisons(runs), LR)]
    assert found == [("blocks 4", [*GRIDS[LR]]), ("blocks 16", [*GRIDS[LR]])]
