"""Dropout that draws the same numbers on every platform.

`torch.nn.functional.dropout` leaves it to the build of PyTorch how a mask is drawn on the CPU. Builds with
Intel's MKL draw it from a small generator of their own, and the printed numbers of the seed's chapter come from
that one. It is a multiplicative linear congruential generator (MCG31m1 in Intel's notes, "Tables of linear
congruential generators of different sizes and good lattice structure", L'Ecuyer 1999):

    x[0]   = s mod m                one raw 32-bit draw s of PyTorch's Mersenne twister starts it
    x[k+1] = a * x[k] mod m         m = 2^31 - 1, a = 1132489760

and element k, in memory order, is kept where x[k] / m < 1 - p. Anyone can compute that, so `portable_dropout`
does. Builds without MKL draw one float64 uniform an element; `per_element_dropout` is that variant.
"""

import torch
from torch import Tensor, nn

MODULUS = 2**31 - 1
MULTIPLIER = 1132489760


def portable_dropout(x: Tensor, p: float) -> Tensor:
    """Zero each element of `x` with probability `p` and scale the kept ones by 1 / (1 - p).

    Draws from torch's global CPU generator and leaves it where a build with MKL leaves it.
    """
    stream = congruential_stream(_raw_draw(), x.numel())
    kept = stream.to(torch.float64) / MODULUS < 1 - p
    return x * kept.view(x.shape).to(x.device, x.dtype).div_(1 - p)


def per_element_dropout(x: Tensor, p: float) -> Tensor:
    """The other documented variant: one Bernoulli draw an element, as builds of PyTorch without MKL do."""
    kept = torch.empty(x.shape, dtype=x.dtype).bernoulli_(torch.full(x.shape, 1 - p, dtype=torch.float64))
    return x * kept.to(x.device).div_(1 - p)


def congruential_stream(start: int, n: int) -> Tensor:
    """The first `n` numbers x[0] ... x[n-1] of the generator above, int64, by doubling instead of a loop.

    If the powers a^0 ... a^(j-1) are known, the next j are those times a^j; products stay below 2^62.
    """
    powers = torch.ones(1, dtype=torch.int64)
    factor = MULTIPLIER  # a^len(powers) mod m
    while len(powers) < n:
        powers = torch.cat([powers, powers * factor % MODULUS])
        factor = factor * factor % MODULUS
    return powers[:n] * (start % MODULUS or 1) % MODULUS


def _raw_draw() -> int:
    """One raw 32-bit output of the global Mersenne twister, which then stands one output further."""
    state = torch.get_rng_state()
    both = int(torch.empty(1, dtype=torch.int64).random_(-(2**63), None))  # two outputs; the first is the high half
    torch.set_rng_state(state)
    torch.empty(1, dtype=torch.int32).random_()
    return (both >> 32) & 0xFFFFFFFF


class PortableDropout(nn.Dropout):
    """`nn.Dropout` with the portable stream."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.Dropout's own name for it)
        return portable_dropout(input, self.p) if self.training and self.p > 0 else input
