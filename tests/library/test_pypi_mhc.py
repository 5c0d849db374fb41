"""What PyPI's `mhc` promises, put to its current release and to this package: the table of docs/your-model.md."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mhc_repro import expand_and_reduce, hyper_connection, inject
from mhc_repro.connections.history import project_to_simplex
from own_models import DIM, branch, seeded

package = pytest.importorskip("mhc")
PAGE = Path(__file__).parents[2] / "docs" / "your-model.md"
X = torch.randn(4, 5, DIM, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.work = branch()

    def forward(self, x):
        return x + self.work(x)


def net() -> nn.Sequential:
    return seeded(lambda: nn.Sequential(*(Block() for _ in range(4))))


def changed(model: nn.Module) -> float:
    """Return how far outputs are from those of the net before injection, relative to the largest."""
    before = net()(X)
    with torch.no_grad():
        return ((model(X) - before).abs().max() / before.abs().max()).item()


def skip_gradient(forward) -> float:
    """Return the norm of the gradient at the input of branches that give nothing, over that of x itself."""
    x = X.clone().requires_grad_()
    forward(x).square().sum().backward()
    return (x.grad.norm() / (2 * X).norm()).item()


class Nothing(nn.Module):
    def forward(self, x):
        return 0 * x


def of_package(**options) -> float:
    return skip_gradient(package.MHCSequential([Nothing() for _ in range(4)], **options))


def of_ours(name: str) -> float:
    expand, reduce = expand_and_reduce(name, dim=DIM)
    layers = [hyper_connection(Nothing(), name, dim=DIM, layer=layer) for layer in range(4)]
    return skip_gradient(nn.Sequential(expand, *layers, reduce))


def measured() -> list[tuple[str, str, str]]:
    """Return the rows of the table: what is promised, what mhc does, what is done here."""
    theirs = changed(package.inject_mhc(net(), target_types=Block))
    names = "history", "history_simplex", "mhc"
    ours = max(changed(inject(net(), Block, name, sample=X)) for name in names)
    logits = torch.tensor([1.5, 0.2, -3.0])
    projections = package.constraints.project_simplex, project_to_simplex
    zeros = [int((project(logits) == 0).sum()) for project in projections]
    skips = (
        package.MHCSkip(mode=mode, constraint=constraint, init="uniform")
        for mode, constraint in (("hc", None), ("mhc", "simplex"))
    )
    same = torch.equal(*(skip(X, [X, 2 * X, 3 * X]) for skip in skips))
    hc, history = (hyper_connection(nn.Identity(), name, dim=DIM, layer=1) for name in ("hc", "history"))
    apart = sum(p.numel() for p in hc.parameters()) != sum(p.numel() for p in history.parameters())
    return [
        (
            "`inject` leaves the function alone",
            f"outputs change by <!-- q:mhc 0.5.5 -->{100 * theirs:.0f} %<!-- /q -->",
            "unchanged, to 1e-5 or better" if ours < 1e-5 else f"changes by {ours:.1e}",
        ),
        (
            "gradients flow past the layers",
            f"by default {of_package():.4g} of the gradient, {of_package(detach_history=False):.4g} with "
            "`detach_history=False`",
            f"{of_ours('history'):.4g} of it (`history`); {of_ours('history_detached'):.4g} in `history_detached`",
        ),
        (
            "weights are projected onto the simplex",
            f"a softmax: {zeros[0]} exact zeros of 3 at `(1.5, 0.2, -3)`",
            f"the nearest point: {zeros[1]} exact zeros (`history_simplex`)",
        ),
        (
            "`hc` and `mhc` are two methods",
            "the same numbers to the last bit" if same else "different",
            "two modules" if apart else "the same",
        ),
    ]


def test_the_page_says_what_is_measured():
    rows = [f"| {' | '.join(row)} |" for row in measured()]
    page = PAGE.read_text(encoding="utf-8")
    for row in rows:
        assert row in page, row


MIXING = [{"temperature": 0.5}, {"clamp": 0.1}, {"gumbel": True}, {"detach": True}]


@pytest.mark.parametrize("changes", [*({"mixing": mixing} for mixing in MIXING), {"n": 2}])
def test_every_option_of_its_readme_can_be_injected(changes):
    for name in ("history", "history_simplex"):
        model = inject(net(), Block, name, sample=X, **changes)
        assert changed(model.eval()) < 1e-5
        model.train()(X).square().sum().backward()
        grads = [block.wrapped.connection.theta.grad for block in model]
        # temperature and noise may take a projection to a vertex of the simplex, where no gradient is left
        inside = name == "history" or not {"temperature", "gumbel"} & {*changes.get("mixing", ())}
        assert all(grad.abs().max() > 0 for grad in grads[1:]) or not inside
