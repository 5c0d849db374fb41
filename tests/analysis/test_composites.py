from collections.abc import Callable
from functools import reduce

import numpy as np
import pandas as pd
import pytest
import torch

from mhc_repro.analysis.comparison import Comparison, comparisons
from mhc_repro.analysis.composites import (
    amax,
    backward,
    compounding,
    forward,
    last_kept,
    matrices,
    peaks,
    readings,
    recomputed,
    stored_error,
    token_matrices,
)
from mhc_repro.measurement.gains import gain_rows
from mhc_repro.runs import Run

Fake = Callable[..., Run]
Probed = Callable[..., Run]


def drawn(layers: int = 5, tokens: int = 6, n: int = 3, scale: float = 0.4) -> np.ndarray:
    """H_res of all tokens, signs mixed, around I."""
    return np.eye(n) + scale * np.random.default_rng(3).normal(size=(layers, tokens, n, n))


@pytest.fixture
def probed(fake: Fake) -> Probed:
    """Make a run out of H_res (L, tokens, n, n) by the probe's own code, all tokens kept."""

    def make(h: np.ndarray, arm: str = "hc", step: int = 60, seed: int = 0) -> Run:
        gains = [{"step": step, **row} for row in gain_rows(torch.from_numpy(h))]
        run = fake(arm, gains=gains, seed=seed, connection__n=h.shape[-1])
        kept = [{"step": step, "layer": layer, "h_res": each.ravel()} for layer, each in enumerate(h, 1)]
        run.__dict__["tokens"] = pd.DataFrame(kept)
        return run

    return make


def test_composites_are_the_products_of_the_definition() -> None:
    h = drawn()
    for layer in range(len(h)):
        assert forward(h)[layer] == pytest.approx(reduce(np.matmul, h[: layer + 1][::-1]))
        assert backward(h)[layer] == pytest.approx(reduce(np.matmul, h[layer:][::-1]))


def test_amax_keeps_signs_inside_the_sums() -> None:
    h = np.array([[1.0, -3.0], [0.5, 2.0]])
    assert amax(h, "forward") == 2.5
    assert amax(h, "backward") == 1.5
    assert amax(-h, "forward") == 2.5


def test_what_was_stored_is_read_back(probed: Probed) -> None:
    h = drawn()
    run = probed(h)
    assert matrices(run, 60) == pytest.approx(h.mean(1))
    assert matrices(run, 60, "h_backward") == pytest.approx(backward(h).mean(1))
    assert token_matrices(run, 60) == pytest.approx(h)
    assert last_kept(run) == 60
    assert stored_error(run, 60) < 1e-12


def test_rows_in_disorder_are_put_in_order(probed: Probed) -> None:
    run, before = probed(drawn()), matrices(probed(drawn()), 60)
    run.__dict__["gains"] = run.gains.iloc[::-1]
    run.__dict__["tokens"] = run.tokens.iloc[::-1]
    assert matrices(run, 60) == pytest.approx(before)
    assert recomputed(run, 60)["forward", "kept"].to_numpy() == pytest.approx(
        recomputed(probed(drawn()), 60)["forward", "recorded"].to_numpy()
    )


def test_stored_error_sees_a_wrong_gain(probed: Probed) -> None:
    run = probed(drawn())
    run.gains.loc[2, "composite_backward"] *= 1.01
    assert stored_error(run, 60) == pytest.approx(0.01, rel=0.02)


def test_product_of_averages_misses_what_sub_layers_have_in_common(probed: Probed) -> None:
    # two tokens, n = 1: 0.5 and 1.5 in both sub-layers; the mean product is 1 + the covariance 0.25
    table = recomputed(probed(np.array([0.5, 1.5, 0.5, 1.5]).reshape(2, 2, 1, 1)), 60)
    assert list(table.index) == [1, 2]
    assert table["forward", "recorded"].tolist() == pytest.approx([1.0, 1.25])
    assert table["forward", "of averages"].tolist() == pytest.approx([1.0, 1.0])
    assert table["backward", "recorded"].tolist() == pytest.approx([1.25, 1.0])


def test_all_tokens_kept_agree_with_the_recorded_gains(probed: Probed) -> None:
    table = recomputed(probed(drawn()), 60)
    for direction in ("forward", "backward"):
        mine = table[direction]
        assert mine["kept"].to_numpy() == pytest.approx(mine["recorded"].to_numpy())
        assert mine["kept, of averages"].to_numpy() == pytest.approx(mine["of averages"].to_numpy())
        assert np.abs(mine["of averages"] / mine["recorded"] - 1).max() > 1e-3


def test_static_maps_have_nothing_to_average(probed: Probed) -> None:
    table = recomputed(probed(np.repeat(drawn(tokens=1), 4, axis=1)), 60)
    for direction in ("forward", "backward"):
        mine = table[direction]
        assert mine["of averages"].to_numpy() == pytest.approx(mine["recorded"].to_numpy())


@pytest.fixture
def two(probed: Probed) -> Comparison:
    baseline = probed(np.ones((5, 6, 1, 1)), "baseline")
    (found,) = comparisons([baseline, probed(drawn(), "hc")])
    return found


def test_peaks_say_where(two: Comparison, probed: Probed) -> None:
    (run,) = two.arms["hc"]
    later = run.gains.assign(step=80)
    later["composite_forward"] = [1.0, 9.0, 9.0 + 1e-9, 1.0, 2.0]
    run.__dict__["gains"] = pd.concat([run.gains, later], ignore_index=True)
    table = peaks(two)
    assert table.loc[("HC", "composite forward")].tolist() == pytest.approx([9.0, 2, 80, 9.0])
    assert table.loc[("baseline", "single backward")].tolist() == [1.0, 1, 60, 1.0]
    seeds = peaks(Comparison("made-up", "", {"hc": [probed(drawn(), seed=seed) for seed in (0, 1)]}))
    assert list(dict.fromkeys(seeds.index.get_level_values("arm"))) == ["HC, seed 0", "HC, seed 1"]


def test_compounding_takes_the_whole_depth_in_both_directions(two: Comparison) -> None:
    h, table = drawn(), compounding(two)
    whole = reduce(np.matmul, h[::-1]).mean(0)
    for direction in ("forward", "backward"):
        row, gain = table.loc[("HC", direction)], amax(whole, direction)
        assert row["composite, all sub-layers"] == pytest.approx(gain)
        assert row["growth per sub-layer"] == pytest.approx(gain**0.2)
        assert row["product of singles"] == pytest.approx(np.prod(amax(h.mean(1), direction)))
        assert row["largest single"] == pytest.approx(amax(h.mean(1), direction).max())


def test_readings_are_ordered_as_convexity_says(two: Comparison) -> None:
    h, table = drawn(), readings(two)
    mean, token, norm = table.loc[("HC", "backward")]
    products = backward(h)
    assert mean == pytest.approx(amax(products.mean(1), "backward").max())
    assert token == pytest.approx(amax(products, "backward").mean(1).max())
    assert norm == pytest.approx(np.abs(products.mean(1)).sum(-2).max())
    assert (table.loc["baseline"] == 1.0).all(axis=None)
    assert mean < token
    assert mean < norm
