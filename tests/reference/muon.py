"""Muon one matrix at a time, as its papers write it, in float64 and with a singular value decomposition."""

import torch
from torch import Tensor


class PlainMuon:
    """The state of one matrix W (r, c)."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.double()
        self.momentum = torch.zeros_like(self.weight)
        self.row_squares = torch.zeros(len(weight), dtype=torch.float64)

    def step(
        self, gradient: Tensor, rate: float, decay: float, beta: float = 0.95,
        normalise_rows: bool = False, cautious: bool = False,
    ) -> None:  # fmt: skip
        rows, columns = gradient.shape
        self.momentum = beta * self.momentum + (1 - beta) * gradient.double()
        nesterov = beta * self.momentum + (1 - beta) * gradient.double()
        left, _, right = torch.linalg.svd(nesterov, full_matrices=False)
        update = left @ right
        if normalise_rows:
            self.row_squares = 0.95 * self.row_squares + 0.05 * (update**2).mean(dim=1)
            normalised = update / self.row_squares.sqrt()[:, None]
            update = normalised * update.norm() / normalised.norm()
        decayed = (self.weight * update > 0).double() if cautious else torch.ones_like(update)
        self.weight = self.weight - rate * (max(1, rows / columns) ** 0.5 * update + decay * decayed * self.weight)
