"""A moving average of the weights, which is evaluated and saved in place of the weights that are trained.

Late in training the weights circle around where they are headed; their average is nearer to it than the last of
them, the more so the higher the learning rate still is. An average of fixed length would be too long at the start
and would need the length of the run, which is unknown when a run ends by the clock. So its length grows with the
run: the weights of step i count in proportion to i^(2/s - 2) (Karras et al. 2024, section 3.1), which makes their
mean age the same as that of a plain mean over the last share s of all steps so far; s = 1 is the plain mean of all.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average over the last `share` of the steps, 0 < share <= 1, of parameters given by name."""

    def __init__(self, named: Mapping[str, nn.Parameter], share: float) -> None:
        self.names, self.parameters = list(named), list(named.values())
        self.exponent = 2 / share - 1
        self.reset()

    def reset(self) -> None:
        """Begin anew from the present weights."""
        self.n_steps = torch.zeros((), dtype=torch.int64)
        self.others = [parameter.detach().clone() for parameter in self.parameters]
        """The averages; inside `in_place` the trained weights."""
        self.is_in_place = False

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self.n_steps += 1
        kept = (1 - 1 / int(self.n_steps)) ** self.exponent  # 0 at the first step
        trained: list[Tensor] = [*self.parameters]
        torch._foreach_lerp_(self.others, trained, 1 - kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the parameters hold the average; afterwards every bit of the trained weights is back."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def tensors(self) -> dict[str, Tensor]:
        """The trained weights, for a checkpoint whose model is the average, and the count of steps."""
        trained: Sequence[Tensor] = self.others if self.is_in_place else self.parameters
        named = {f"{name}/trained": weight for name, weight in zip(self.names, trained, strict=True)}
        return named | {"average/n_steps": self.n_steps}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint: the model holds its weights, the average, and `tensors` the trained ones."""
        self.n_steps = tensors["average/n_steps"].clone()
        for name, parameter, average in zip(self.names, self.parameters, self.others, strict=True):
            average.copy_(parameter)
            parameter.copy_(tensors[f"{name}/trained"])

    @torch.no_grad()
    def _exchange(self) -> None:
        # By value, so that whoever knows where a weight lies still finds it there.
        for parameter, other in zip(self.parameters, self.others, strict=True):
            kept = parameter.clone()
            parameter.copy_(other)
            other.copy_(kept)
        self.is_in_place = not self.is_in_place
