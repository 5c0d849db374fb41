"""Other people's code and the arms here, at equal weights: one function to rounding, or as far off as is said."""

from pathlib import Path

import pytest

import peers
from mhc_repro.analysis.tables import agreement as page

RESULTS = Path(__file__).parents[2] / "results"
# What an epsilon of 1e-6 costs, and what 1e-6 beside entries that matter does where logits are far apart.
LIMITS = {"deepseek": (2e-5, 1.0), "lucidrains_mhc": (1e-6, 0.1), "lucidrains_v2": (1e-6, 0.1)}


@pytest.fixture(params=peers.PEERS)
def peer(request: pytest.FixtureRequest) -> str:
    """Run a test for each peer whose package is installed."""
    if package := peers.PEERS[request.param].package:
        pytest.importorskip(package.replace("-", "_"))
    return request.param


def test_at_equal_weights_they_agree(peer):
    near, far = LIMITS.get(peer, (1e-6, 1e-5))
    assert max(peers.difference(peers.PEERS[peer])) < near
    read, passed = peers.difference(peers.PEERS[peer], wide=True)
    assert read < max(near, 1e-5)
    assert passed < far


def test_the_arm_that_has_their_epsilon_is_far_nearer_than_the_one_without():
    without, with_it = (peers.difference(peers.PEERS[name])[1] for name in ("deepseek", "deepseek_v4"))
    assert without > 10 * with_it
    assert peers.difference(peers.PEERS["deepseek"], wide=True)[1] > 0.1


def test_the_wrong_way_round_would_be_seen(peer, monkeypatch):
    """H_res handed over transposed moves what is passed on, and what is read not at all."""
    agreed = peers.difference(peers.PEERS[peer])
    monkeypatch.setattr(peers, "ours", lambda p, n, x, ours=peers.ours: ours(p, peers.turned(n), x))
    read, passed = peers.difference(peers.PEERS[peer])
    assert read == agreed[0]
    assert passed > 0.05


def test_their_head_is_the_readout():
    pytest.importorskip("transformers")
    assert peers.head_difference() < 1e-6


def test_the_page_shows_what_is_measured_now():
    kept = page.read(RESULTS)
    assert kept is not None
    assert [row.code for row in kept.measured][:-1] == [peer.code for peer in peers.PEERS.values()]
    for row, (name, peer) in zip(kept.measured, peers.PEERS.items(), strict=False):
        if not peer.package:
            read, passed = peers.difference(peer)
            for kept_of, now in ((row.read, read), (row.streams, passed)):  # rounding, by machine
                assert now / 10 <= kept_of <= 10 * now, name
