"""The nearest matrix whose singular values are all alike, nearly, from products of matrices alone.

Source: Jordan et al. Muon: An optimizer for hidden layers in neural networks, 2024, section "Newton-Schulz iteration".
"""

from __future__ import annotations

import torch
from torch import Tensor

A, B, C = 3.4445, -4.7750, 2.0315
"""Of a s + b s^3 + c s^5: it lifts small singular values fastest, and leaves all between 0.7 and 1.2 after 5 steps."""
EPSILON = 1e-7


def evened(matrices: Tensor, steps: int) -> Tensor:
    """Each matrix with its singular vectors, and singular values near 1.

    Args:
        matrices: float32 [F, M, N].
        steps: of the iteration; 5 do.

    Returns:
        float32 [F, M, N], computed in bfloat16 on a GPU.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    some = matrices.mT if tall else matrices
    some = some / (some.norm(dim=(1, 2), keepdim=True) + EPSILON)  # no singular value is larger than the norm
    if some.is_cuda:
        some = some.bfloat16()
    for _ in range(steps):
        squares = some @ some.mT
        some = torch.baddbmm(some, torch.baddbmm(squares, squares, squares, beta=B, alpha=C), some, beta=A)
    return (some.mT if tall else some).to(matrices.dtype)
