"""The seam: what every connection gives the trunk, and how streams are made and joined."""

from dataclasses import fields

import pytest
import torch

from drawn_numbers import drawn
from mhc_repro.arm_files import settings
from mhc_repro.config import ConnectionConfig
from mhc_repro.connections import build
from mhc_repro.connections.ends import Copies, Plain
from mhc_repro.validation import unused_by


def test_building_draws_nothing_at_random(connection, arm):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second = (build(connection(arm), layer=2, dim=8).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["baseline", "mhc", "history", "attention_residuals", "gated_residual"])
def test_a_kind_knows_the_settings_that_its_class_reads(name):
    read: set[str] = set()

    class Watched(ConnectionConfig):
        def __getattribute__(self, key: str) -> object:
            read.add(key)
            return super().__getattribute__(key)

    config = Watched(**settings(name))
    read.clear()
    build(config, layer=0, dim=8)
    of_some = {each.name for each in fields(ConnectionConfig) if each.metadata["of"]}
    known = of_some - {*unused_by(settings(name).get("kind", "residual"))}
    assert read & of_some == known - {"expand"}  # which is of what makes the streams


@pytest.mark.parametrize(("name", "scale"), [("baseline", 1), ("baseline_quarter", 1 / 4)])
def test_a_residual_connection_adds_the_branch_to_one_stream(connection, name, scale):
    module, x = build(connection(name), layer=0, dim=8), drawn(2, 3, 1, 8)
    out, (_, _, h_res), _ = module(x, lambda h: 3 * h + 1)
    torch.testing.assert_close(out, x + scale * (3 * x + 1), rtol=1e-14, atol=1e-14)
    assert h_res.tolist() == [[[1.0] * 6]]
    assert list(module.parameters()) == []


@pytest.mark.parametrize("n", [1, 2, 4])
def test_streams_are_copies_of_the_embedding(n):
    x = drawn(2, 3, 8)
    copies = Copies(n)(x)
    assert copies.shape == (2, 3, n, 8)
    assert all(torch.equal(copies[:, :, i], x) for i in range(n))
    before = x.clone()
    copies[:, :, 0] += 1  # copies, not views: a write to one must not reach the others
    assert torch.equal(copies[:, :, -1], before + (n == 1))


def test_streams_are_joined_by_sum_or_mean():
    x = drawn(2, 3, 4, 8)
    torch.testing.assert_close(Plain("sum")(x), x[:, :, 0] + x[:, :, 1] + x[:, :, 2] + x[:, :, 3])
    torch.testing.assert_close(Plain("mean")(x), Plain("sum")(x) / 4)
