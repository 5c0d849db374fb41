"""Sinkhorn-Knopp on many small matrices at once (mHC, arXiv 2512.24880, Eq. 9).

Matrices are stored tokens last, (n, n, ...): the sums over streams then run over the leading
axes and vectorise over the tokens. Axis 0 is the output stream i, axis 1 the input stream j, so
T_c divides by sums over axis 0, T_r by sums over axis 1, and rows, which come last, end up exact.

Two departures from typing Eq. 9 in as it stands:
1. The first iteration is two softmaxes, the same numbers without exp's overflow and underflow:
   after it every row sums to 1, whatever the logits.
2. The gradient is carried with respect to log M. There the backward of a normalisation,
   G <- G - M sum(G), divides by nothing, so it stays finite however small an entry became, and
   it keeps only the logits: the iterates are made again.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

RIDGE = 1e-7  # keeps the implicit gradient finite where M is a permutation and no logit matters


def _iterates(logits: Tensor, iterations: int, eps: float = 0.0) -> list[Tensor]:
    """The matrices after each of the 2 x iterations normalisations, columns first."""
    tiny = torch.finfo(logits.dtype).tiny
    columns = torch.log_softmax(logits, dim=0)
    matrices = [columns.exp() + eps] if eps else [columns.exp(), torch.softmax(columns, dim=1)]
    for step in range(len(matrices), 2 * iterations):
        last = matrices[-1]
        total = last.sum(step % 2, keepdim=True)
        matrices.append(last / (total + eps if eps else total.clamp_min(tiny)))
    return matrices


class _Sinkhorn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, iterations: int, eps: float) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.iterations, ctx.eps = iterations, eps
        return _iterates(logits, iterations, eps)[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (logits,) = ctx.saved_tensors
        matrices = _iterates(logits, ctx.iterations, ctx.eps)
        grad, first = grad * matrices[-1], matrices[0]
        for step in reversed(range(1, 2 * ctx.iterations)):
            grad = grad - matrices[step] * grad.sum(step % 2, keepdim=True)
        if ctx.eps:  # the first is a softmax that eps was added to
            softmax = first - ctx.eps
            grad, first = grad * softmax / first, softmax
        return grad - first * grad.sum(0, keepdim=True), None, None


class _ImplicitSinkhorn(torch.autograd.Function):
    """The same matrix; the gradient is that of the limit, taken at the matrix that was reached.

    In the limit dL/dlogits = M (G - a 1^T - 1 b^T), with a and b such that its rows and columns sum to 0. Where the
    columns have not converged it is therefore only near the limit's own gradient.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, iterations: int, _: float) -> Tensor:
        matrix = _iterates(logits, iterations)[-1]
        ctx.save_for_backward(matrix)
        return matrix

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (matrix,) = ctx.saved_tensors
        m, grad = (x.movedim((0, 1), (-2, -1)) for x in (matrix, matrix * grad))
        eye = torch.eye(m.shape[-1], dtype=m.dtype, device=m.device)
        rows, columns = grad.sum(-1), grad.sum(-2)
        # I - M^T M is 0 along 1, to which b may be moved (a then moves back): J/n there makes it regular.
        system = (1 + RIDGE) * eye - m.mT @ m + 1 / len(matrix)
        right = columns - (m.mT @ rows[..., None])[..., 0]
        b = torch.linalg.solve_ex(system, right).result  # solve would wait for a GPU to check the system
        a = rows - (m @ b[..., None])[..., 0]
        return (grad - m * (a[..., None] + b[..., None, :])).movedim((-2, -1), (0, 1)), None, None


def sinkhorn(logits: Tensor, iterations: int = 20, gradient: str = "unrolled", eps: float = 0.0) -> Tensor:
    """Make every (n, n, ...) slice of exp(logits) doubly stochastic (mHC Eq. 9).

    Row sums are 1 to rounding, column sums to the truncation error of `iterations`. Finite, with
    a finite gradient through the unrolled iterations, for finite logits up to +-1e4. With `gradient`
    "implicit" the gradient is that of infinitely many iterations: another optimiser near I, where the
    unrolled one has not converged (at App. A.6 the two differ by 60 %). With `eps`, it is added to the first
    column softmax and to every sum after it, as DeepSeek's kernels do; row sums are then 1 to some eps, from two
    iterations on.
    """
    function = _ImplicitSinkhorn if gradient == "implicit" else _Sinkhorn
    return function.apply(logits, iterations, eps)
