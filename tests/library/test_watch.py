"""What a look at a model keeps: tokens at equal distances, and of narrow streams the readout that was applied."""

import pytest
import torch

from mhc_repro.library.adapters import Watch
from mhc_repro.library.adapters.base import Sighting
from mhc_repro.library.sighted import linked, seen_by
from own_models import LAYERS, Stack, batches, heard, looked_at, seeded, stirred

# In how they are read at the end, or in what they hand on
UNLIKE = ("hc", "mhc", "history", "single_pass", "mhc_exponent", "gated_residual", "deepseek_v4")


@pytest.mark.parametrize(
    ("shape", "tokens", "kept"),
    [((3, 6), None, 18), ((8, 16), None, 64), ((32, 16), None, 128), ((64, 32), None, 256), ((8, 16), 5, 5)],
)
def test_tokens_are_picked_at_equal_distances_first_and_last_among_them(shape, tokens, kept):
    count = shape[0] * shape[1]
    x = torch.arange(2 * count).view(2, *shape).movedim(0, -1)  # no memory of its own order
    picked = Watch(tokens).pick(x, 2)
    assert picked.shape == (kept, 2)
    places = picked[:, 0]
    assert places[[0, -1]].tolist() == [0, count - 1]
    assert torch.equal(picked[:, 1], places + count)
    steps = places.diff()
    assert 0 < steps.min() <= steps.max() <= steps.min() + 1


def test_what_was_passed_on_is_what_the_next_one_reads_if_it_is_of_as_many_tokens():
    watch = Watch()
    reads = [torch.full((tokens, 4, 8), float(place)) for place, tokens in enumerate((6, 6, 3))]
    watch.sightings = [Sighting(None, before) for before in reads]
    watch.last = torch.zeros(3, 4, 8)
    first, second, third = (each.after for each in linked(watch))
    assert first is reads[1]
    assert second is None
    assert third is watch.last


@pytest.mark.parametrize("name", UNLIKE)
@pytest.mark.parametrize("how", ["cast whole", "autocast"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_of_narrow_streams_ours_shows_the_readout_that_it_applied(name, how, dtype):
    """Their weights explain what was joined, to the digits of narrow numbers."""
    model = stirred(seeded(lambda: Stack(name)), by=0.1)
    model = model.to(dtype) if how == "cast whole" else model
    read = heard(model.norm)
    with torch.autocast("cpu", dtype, enabled=how == "autocast"):
        watch, _ = looked_at(model, batches(1)[0].to(dtype))
    ((given, _),) = read
    weights = watch.readout.expand(-1, len(watch.last))
    joined = torch.einsum("nk,knc->kc", weights, watch.last.to(watch.readout))
    assert watch.readout.dtype in (torch.float32, torch.float64)
    assert torch.allclose(joined.float(), given.flatten(0, 1).float(), rtol=0.02, atol=0.02)
    seen, applied = seen_by(watch)
    assert len(seen.inputs) == LAYERS + 1
    assert applied.finding is None
    assert {each.dtype for each in seen.maps[0]} == {torch.float32}
