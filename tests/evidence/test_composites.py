from functools import reduce

import numpy as np
import pytest

from mhc_repro.evidence.composites import (
    amax,
    backward,
    forward,
    last_kept,
    matrices,
    recomputed,
    stored_error,
    token_matrices,
    weakest_column,
)


def drawn(layers: int = 5, tokens: int = 6, n: int = 3, scale: float = 0.4) -> np.ndarray:
    """H_res of all tokens, signs mixed, around I."""
    return np.eye(n) + scale * np.random.default_rng(3).normal(size=(layers, tokens, n, n))


def test_composites_are_the_products_of_the_definition():
    h = drawn()
    for layer in range(len(h)):
        assert forward(h)[layer] == pytest.approx(reduce(np.matmul, h[: layer + 1][::-1]))
        assert backward(h)[layer] == pytest.approx(reduce(np.matmul, h[layer:][::-1]))


def test_amax_keeps_signs_inside_the_sums():
    h = np.array([[1.0, -3.0], [0.5, 2.0]])
    assert amax(h, "forward") == 2.5
    assert amax(h, "backward") == 1.5
    assert amax(-h, "forward") == 2.5


def test_the_weakest_column_is_the_one_whose_sum_is_nearest_to_zero(probed):
    h = np.array([[[[1.0, -3.0], [0.5, 0.0]]], [[[1.0, 0.0], [0.0, 1.0]]]])
    assert weakest_column(probed(h)).tolist() == [1.5, 1.0]  # column sums 1.5 and -3, then 1 and 1


def test_what_was_stored_is_read_back(probed):
    h = drawn()
    run = probed(h)
    assert matrices(run, 60) == pytest.approx(h.mean(1))
    assert matrices(run, 60, "h_backward") == pytest.approx(backward(h).mean(1))
    assert token_matrices(run, 60) == pytest.approx(h)
    assert last_kept(run) == 60
    assert stored_error(run, 60) < 1e-12


def test_rows_in_disorder_are_put_in_order(probed):
    run, before = probed(drawn()), matrices(probed(drawn()), 60)
    run.__dict__["gains"] = run.gains.iloc[::-1]
    run.__dict__["tokens"] = run.tokens.iloc[::-1]
    assert matrices(run, 60) == pytest.approx(before)
    recorded = recomputed(probed(drawn()), 60)["forward", "recorded"].to_numpy()
    assert recomputed(run, 60)["forward", "kept"].to_numpy() == pytest.approx(recorded)


def test_stored_error_sees_a_wrong_gain(probed):
    run = probed(drawn())
    run.gains.loc[2, "composite_backward"] *= 1.01
    assert stored_error(run, 60) == pytest.approx(0.01, rel=0.02)


def test_product_of_averages_misses_what_sub_layers_have_in_common(probed):
    # two tokens, n = 1: 0.5 and 1.5 in both sub-layers; the mean product is 1 + the covariance 0.25
    table = recomputed(probed(np.array([0.5, 1.5, 0.5, 1.5]).reshape(2, 2, 1, 1)), 60)
    assert list(table.index) == [1, 2]
    assert table["forward", "recorded"].tolist() == pytest.approx([1.0, 1.25])
    assert table["forward", "of averages"].tolist() == pytest.approx([1.0, 1.0])
    assert table["backward", "recorded"].tolist() == pytest.approx([1.25, 1.0])


def test_all_tokens_kept_agree_with_the_recorded_gains(probed):
    table = recomputed(probed(drawn()), 60)
    for direction in ("forward", "backward"):
        mine = table[direction]
        assert mine["kept"].to_numpy() == pytest.approx(mine["recorded"].to_numpy())
        assert mine["kept, of averages"].to_numpy() == pytest.approx(mine["of averages"].to_numpy())
        assert np.abs(mine["of averages"] / mine["recorded"] - 1).max() > 1e-3


def test_static_maps_have_nothing_to_average(probed):
    table = recomputed(probed(np.repeat(drawn(tokens=1), 4, axis=1)), 60)
    for direction in ("forward", "backward"):
        mine = table[direction]
        assert mine["of averages"].to_numpy() == pytest.approx(mine["recorded"].to_numpy())
