"""FLOPs and bytes against counts made by hand."""

import pytest

from mhc_repro.bench.counts import connection_bytes, connection_flops, model_flops
from mhc_repro.config import ConnectionConfig, DataConfig, ModelConfig

MODEL = ModelConfig(blocks=1, dim=2, heads=1, mlp_ratio=4)
DATA = DataConfig(batch=1, sequence=3, vocab=5)


def streams(n: int, **changes: object) -> ConnectionConfig:
    return ConnectionConfig(**{"kind": "streams", "n": n, "mixing": {"kind": "sinkhorn"}, **changes})


def test_model_by_hand():
    """Three tokens: each matrix of r x c takes 2 r c FLOPs a token; 1 + 2 + 3 causal pairs of 2 features."""
    matrices = 3 * 2 * (2 * 6 + 2 * 2 + 2 * 8 + 8 * 2)
    pairs = (1 + 2 + 3) * (2 * 2) * 2  # q k^T, and the weighted sum of v
    head = 3 * 2 * 2 * 5
    assert model_flops(MODEL, DATA) == 3 * (matrices + pairs + head)


def test_model_is_linear_in_blocks_and_batch():
    one = model_flops(MODEL, DATA)
    twice = model_flops(MODEL, DataConfig(batch=2, sequence=3, vocab=5))
    assert twice == 2 * one
    head = 3 * 3 * 2 * 2 * 5
    assert model_flops(ModelConfig(blocks=4, dim=2, heads=1), DATA) - head == 4 * (one - head)


def test_connection_flops_by_hand():
    """n = 2, C = 2, 8 numbers a token, two sub-layers of three tokens, each backward twice its forward."""
    square, project, read, mix, write, residual = 4 * 2, 8 * 4 * 2, 4 * 2, 2 * 4 * 2, 4 * 2, 2
    token = square + project + read + mix + write - residual
    assert connection_flops(streams(2), MODEL, DATA) == 3 * 2 * 3 * token


def test_a_projection_from_one_stream_is_n_times_cheaper_and_an_identity_mixes_for_nothing():
    flat, stream = (
        connection_flops(streams(4, coefficients=kind), MODEL, DATA) for kind in ("flat", "stream")
    )
    assert flat - stream == 3 * 2 * 3 * 24 * 2 * (4 * 2 - 2)
    fixed = connection_flops(streams(4, mixing={"kind": "identity"}), MODEL, DATA)
    fewer = 16 * 2 * 4 * 2  # of the numbers of H_res, which are not projected
    assert flat - fixed == 3 * 2 * 3 * (2 * 4 * 4 * 2 + fewer)


def test_static_maps_spare_norm_and_projection_and_a_frozen_h_res_the_mixing():
    dynamic, static = streams(4), streams(4, coefficients="static")
    spared = connection_flops(dynamic, MODEL, DATA) - connection_flops(static, MODEL, DATA)
    assert spared == 3 * 2 * 3 * (2 * 4 * 2 + 24 * 2 * 4 * 2)
    frozen, identity = (
        connection_flops(streams(4, **changes), MODEL, DATA)
        for changes in ({"freeze": ["mix"]}, {"mixing": {"kind": "identity"}})
    )
    assert frozen == identity
    read_once_each_way = 2 * 4 * 2
    saved = connection_bytes(dynamic, MODEL, DATA) - connection_bytes(static, MODEL, DATA)
    assert saved == 4 * 2 * 3 * (5 * 24 + read_once_each_way)


def test_a_history_is_one_mean_of_its_states():
    history = ConnectionConfig(kind="history", n=4, mixing={"kind": "softmax"})
    assert connection_flops(history, MODEL, DATA) == 3 * 2 * 3 * (2 * 4 * 2 - 2)
    assert connection_bytes(history, MODEL, DATA) == 4 * 2 * 3 * 2 * (6 + 13 - 6)


def test_a_net_that_keeps_all_outputs_reads_as_many_as_it_finds_on_average():
    """Of 6 sub-layers 3.5, rounded down; each output has a norm, a score and a part in h."""
    three = ModelConfig(blocks=3, dim=2, heads=1)
    outputs = ConnectionConfig(kind="outputs", mixing={"kind": "attention"})
    assert connection_flops(outputs, three, DATA) == 3 * 6 * 3 * (6 * 3 * 2 - 2)
    dense = ConnectionConfig(kind="outputs", mixing={"kind": "dense"})
    assert connection_flops(dense, three, DATA) == 3 * 6 * 3 * (3 * 6 * 3 * 2 - 2)
    history = ConnectionConfig(kind="history", n=3, mixing={"kind": "softmax"})
    assert connection_bytes(outputs, three, DATA) == connection_bytes(history, three, DATA)


def test_a_gated_read_is_two_thin_products():
    """n = 4, C = 16, rank 2: W_d and W_u of 64 x 2 each, a mean of four streams, and H_post of 4 numbers."""
    wide = ModelConfig(blocks=1, dim=16, heads=1)
    squares, thin, read, project, write, residual = 2 * 64, 2 * (2 * 64 * 2), 2 * 64, 2 * 4 * 64, 2 * 64, 16
    token = squares + thin + read + project + write - residual
    assert connection_flops(ConnectionConfig(kind="gated", n=4), wide, DATA) == 3 * 2 * 3 * token


@pytest.mark.parametrize("count", [connection_flops, connection_bytes])
def test_a_baseline_adds_nothing(count):
    assert count(ConnectionConfig(), MODEL, DATA) == 0


def test_connection_bytes_by_hand():
    """n = 4: fused forward reads 13C and writes 5C (mHC Table 2: 21C and 13C, less what fusing post, res saves)."""
    c, m = 2, 24
    forward = (21 - (13 - 5)) * c + m + (13 - (12 - 4)) * c + m
    backward = (9 * c + m) + (5 * c + m) + (13 * c + m) + 4 * c
    residual = (2 + 1) * c * 2
    assert connection_bytes(streams(4), MODEL, DATA) == 4 * 2 * 3 * (forward + backward - residual)
