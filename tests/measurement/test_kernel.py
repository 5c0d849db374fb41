"""The depth kernel is the net's own arithmetic, and stays where the composite gain is moved at will."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mhc_repro.connections import Maps
from mhc_repro.linear import linear
from mhc_repro.measurement import kernel
from mhc_repro.measurement.gains import amax_gain, composite_forward
from mhc_repro.measurement.probe import look
from mhc_repro.measurement.seen import Seen, kernels
from yaml_files import ARM_NAMES

TOKENS = torch.arange(18).view(3, 6) % 17
LAYERS = 4
# All arms but those whose streams start with another weight for each feature.
EXACT = sorted({*ARM_NAMES} - {"mhc_lss"})


@dataclass
class Net:
    """A trunk as its maps: u (n, N), H_pre with the readout (L + 1, n, N), H_post (L, n, N), H_res (L, n, n, N)."""

    model: object
    start: Tensor
    read: Tensor
    write: Tensor
    mix: Tensor

    def kernel(self) -> Tensor:
        return kernel.depth_kernel(self.start, self.read, self.write, self.mix)

    def logits(self) -> Tensor:
        """Run the branches between the maps as equation 3 of mHC has it, token by token."""
        count = TOKENS.numel()
        x = torch.einsum("sN,Nc->Nsc", self.start, self.model.embed(TOKENS).flatten(0, 1))
        maps = zip(self.read, self.write, self.mix, strict=False)  # the last read is the readout's
        for branch, (read, write, mix) in zip(self.model.branches, maps, strict=True):
            y = branch(torch.einsum("sN,Nsc->Nc", read, x).view(*TOKENS.shape, -1)).view(count, -1)
            x = torch.einsum("ijN,Njc->Nic", mix, x) + torch.einsum("sN,Nc->Nsc", write, y)
        return head(self.model, torch.einsum("sN,Nsc->Nc", self.read[-1], x))

    def moved(self, basis: list[Tensor]) -> "Net":
        """The same function in another basis: X_l -> G_l X_l with G (N, n, n) for l = 1 ... L + 1."""
        g = torch.stack(basis)
        back = torch.linalg.inv(g)
        return Net(
            self.model,
            torch.einsum("Nij,jN->iN", g[0], self.start),
            torch.einsum("liN,lNij->ljN", self.read, back),
            torch.einsum("lNij,ljN->liN", g[1:], self.write),
            torch.einsum("lNij,ljkN,lNkm->limN", g[1:], self.mix, back[:-1]),
        )

    def gain(self) -> float:
        """The composite gain after the last sub-layer."""
        return amax_gain(composite_forward(self.mix.permute(0, 3, 1, 2))[-1].mean(0)).item()


def head(model, x: Tensor) -> Tensor:
    return linear(model.norm(x), model.embedding.weight)


@torch.no_grad()
def net_of(model) -> Net:
    seen = look(model, TOKENS)
    model.eval()
    count, n = TOKENS.numel(), model.expansion.n
    return Net(
        model,
        torch.ones(n, count, dtype=torch.float64),
        torch.stack([*(maps.read for maps in seen.maps), seen.readout.expand(-1, count)]),
        torch.stack([maps.write for maps in seen.maps]),
        torch.stack([maps.mix for maps in seen.maps]),
    )


def as_one_number(model) -> None:
    """Give all features of a gated read one gate, and queries, keys and values one read."""
    for connection in model.connections:
        if hasattr(connection, "down_phi"):
            connection.phi.zero_()
            connection.gain.fill_(1.0)
        for parameter in getattr(connection, "weigh", torch.nn.Module()).parameters():
            if parameter.shape[0] == 4 * connection.n or parameter.shape[0] == 4:
                first, rest = parameter[: len(parameter) // 4], parameter[: 3 * len(parameter) // 4]
                rest.view(3, *first.shape).copy_(first.clone())


@pytest.mark.parametrize("name", EXACT)
@torch.no_grad()
def test_the_kernel_alone_makes_the_logits(tiny, name):
    model = tiny(name, awake=0.5)
    as_one_number(model)
    made, _ = kernels(look(model, TOKENS))
    model.eval()
    outputs = [model.embed(TOKENS).flatten(0, 1)]
    for row, branch in zip(made, model.branches, strict=False):
        heard = sum(weight[:, None] * y for weight, y in zip(row, outputs, strict=False))
        outputs.append(branch(heard.view(*TOKENS.shape, -1)).flatten(0, 1))
    heard = sum(weight[:, None] * y for weight, y in zip(made[-1], outputs, strict=True))
    torch.testing.assert_close(head(model, heard).view(3, 6, 17), model(TOKENS), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["hc", "mhc"])
@pytest.mark.parametrize("own", [False, True], ids=["static", "a token's own"])
@torch.no_grad()
def test_a_change_of_basis_moves_the_gain_and_not_the_kernel(tiny, name, own):
    net = net_of(tiny(name, awake=0.5))
    torch.testing.assert_close(net.logits(), net.model(TOKENS).flatten(0, 1), rtol=0, atol=1e-12)
    generator = torch.Generator().manual_seed(3)
    shape = (TOKENS.numel() if own else 1, 4, 4)
    basis = [
        9.0**layer * torch.randn(shape, generator=generator, dtype=torch.float64).expand(18, 4, 4)
        for layer in range(LAYERS + 1)
    ]
    moved = net.moved(basis)
    assert moved.gain() > 100 * net.gain()
    scale = net.kernel().abs().max()
    assert (moved.kernel() - net.kernel()).abs().max() < 1e-9 * scale
    torch.testing.assert_close(moved.logits(), net.logits(), rtol=0, atol=1e-9)


@torch.no_grad()
def test_relative_sizes_do_not_see_the_scale_of_a_row_or_of_an_output(tiny):
    net = net_of(tiny("mhc", awake=0.5))
    y, h = (torch.rand(LAYERS + 1, 18, dtype=torch.float64) + 0.5 for _ in range(2))
    before = kernel.relative_sizes(net.kernel(), y, h)
    row = torch.tensor([1.0, 20.0, 0.1, 3.0, 7.0], dtype=torch.float64)
    net.read *= row[:, None, None]
    net.write[1] /= 6
    y[2] *= 6
    after = kernel.relative_sizes(net.kernel(), y, h * row[:, None])
    torch.testing.assert_close(after, before, rtol=1e-12, atol=0)


@torch.no_grad()
def test_a_residual_net_hears_all_alike(tiny):
    model = tiny("baseline")
    made, kappa = kernels(look(model, TOKENS))
    assert torch.equal(made, torch.ones(5, 5, dtype=torch.float64).tril()[..., None].expand(-1, -1, 18))
    rows = kernel.kernel_rows(made, kappa)
    assert [row["k_hat"] for row in rows] == [[1.0] * count for count in range(1, 6)]
    outputs = [model.embed(TOKENS)]
    for branch in model.branches:
        outputs.append(branch(sum(outputs)))
    heard = sum(outputs).std(-1, correction=0)
    ratio = [(each.std(-1, correction=0) / heard).mean().item() for each in outputs]
    assert rows[-1]["kappa"] == pytest.approx(ratio, rel=1e-12)


def test_the_summary_by_hand():
    kernel_of_two = torch.tensor([[1.0, 0, 0], [1, 1, 0], [4, -2, 2]])[..., None]
    kappa = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [2, 1, 1]])[..., None]
    rows = kernel.kernel_rows(kernel_of_two, kappa)
    assert rows[2]["k_hat"] == pytest.approx([1.5, 0.75, 0.75])
    assert rows[2]["share"] == pytest.approx([0.5, 0.25, 0.25])
    assert rows[2]["effective"] == pytest.approx(1 / 0.375)
    expected = {"late_share": 0.25, "early_share": 0.25, "cancellation": 4.0, "effective": 1 / 0.375}
    assert kernel.summary(rows) == pytest.approx({f"kernel/{key}": expected[key] for key in expected})


def test_how_many_outputs_are_heard_is_counted_token_by_token():
    kappa = torch.tensor([[[1.0, 1.0], [0, 0]], [[3, 2], [0, 2]]])
    assert [row["effective"] for row in kernel.kernel_rows(kappa, kappa)] == [1.0, (1 + 2) / 2]


def test_a_row_is_divided_by_its_mean_token_by_token():
    made = torch.tensor([[[1.0, 1.0], [0, 0]], [[3, 20], [1, 60]]])
    assert kernel.kernel_rows(made, made)[1]["k_hat"] == pytest.approx([(1.5 + 0.5) / 2, (0.5 + 1.5) / 2])


def test_a_cancellation_that_is_no_number_is_not_passed_over():
    rows = [{"cancellation": 1.0}, {"cancellation": math.nan, "share": [0.5, 0.5], "effective": 2.0}]
    assert math.isnan(kernel.summary(rows)["kernel/cancellation"])


def of_inputs(*inputs: list[float]) -> Seen:
    """What a residual net of one sub-layer shows of tokens that read so much, the readout's last."""
    ones = torch.ones(1, len(inputs[0]), dtype=torch.float64)
    return Seen(
        maps=[Maps(ones, ones, ones[None])],
        inputs=[torch.tensor(each, dtype=torch.float64) for each in inputs],
        outputs=[ones[0], ones[0]],
        start=ones[:, :1],
        readout=ones[:, :1],
    )


def test_a_token_of_which_some_sub_layer_reads_nothing_is_left_out():
    made, kappa = kernels(of_inputs([0.0, 0.5, 1.0], [2.0, 4.0, 0.0]))
    assert made.shape == kappa.shape == (2, 2, 1)
    assert kappa[..., 0].tolist() == [[2.0, 0.0], [0.25, 0.25]]
    of_all, _ = kernels(of_inputs([0.0, 0.0], [2.0, 0.0]))
    assert of_all.shape == (2, 2, 2)  # none is, where nothing would be left


@pytest.mark.parametrize(
    ("layers", "early", "late"),
    [(1, 1, 1), (4, 1, 4), (7, 1, 7), (8, 1 + 2, 7 + 8), (12, 1 + 2 + 3, 10 + 11 + 12)],
)
def test_early_and_late_are_a_quarter_of_the_sub_layers_and_not_the_embedding(layers, early, late):
    readout = {"share": [9.0, *range(1, layers + 1)], "cancellation": 1.0, "effective": 1.0}
    found = kernel.summary([readout])
    assert (found["kernel/early_share"], found["kernel/late_share"]) == (early, late)
