from typing import Any

import pytest
import torch
from reference.muon import PlainMuon

from glassgpt.config import OptimConfig
from glassgpt.optim import muon
from glassgpt.optim.muon import Muon

SHAPES = {"square": (8, 8), "another": (8, 8), "wide": (6, 20), "tall": (20, 6)}
EXACT: dict[str, Any] = {"muon_coefficients": "polar-express", "muon_iterations": 10}  # the SVD's result, to rounding


def some_parameters() -> dict[str, torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in SHAPES.items()}


def give_gradients(named: dict[str, torch.nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in named.values():
        parameter.grad = 0.01 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("muon_cautious_decay", [False, True])
@pytest.mark.parametrize("muon_normalise_rows", [False, True])
def test_a_step_is_that_of_the_plain_version(muon_normalise_rows: bool, muon_cautious_decay: bool) -> None:
    config = OptimConfig(
        name="muon", learning_rate=2e-3, muon_learning_rate=0.04, weight_decay=0.3,
        muon_normalise_rows=muon_normalise_rows, muon_cautious_decay=muon_cautious_decay, **EXACT,
    )  # fmt: skip
    named = some_parameters()
    plain = {name: PlainMuon(parameter.detach()) for name, parameter in named.items()}
    optimizer = Muon(named, config)
    for step in range(4):
        give_gradients(named, step)
        optimizer.step(1e-3)  # half of AdamW's, so Muon's is half of its own
        for name, reference in plain.items():
            gradient = named[name].grad
            assert gradient is not None
            reference.step(gradient, 0.02, 0.3, normalise_rows=muon_normalise_rows, cautious=muon_cautious_decay)
    for name, reference in plain.items():
        assert torch.allclose(named[name].double(), reference.weight, atol=2e-5), name


def test_matrices_too_many_to_go_together_go_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    together, apart = some_parameters(), some_parameters()
    config = OptimConfig(name="muon")
    both = Muon(together, config)
    monkeypatch.setattr(muon, "_BATCH_NUMBERS", 1)
    alone = Muon(apart, config)
    assert (len(both.stacks), len(alone.stacks)) == (3, 4)
    for optimizer, named in ((both, together), (alone, apart)):
        for step in range(3):
            give_gradients(named, step)
            optimizer.step(1e-3)
    for name, parameter in together.items():
        assert torch.allclose(parameter, apart[name], atol=1e-5), name


def test_in_bf16_the_step_stays_close_and_state_and_weights_stay_fp32() -> None:
    exact, rounded = some_parameters(), some_parameters()
    for named, dtype in ((exact, "fp32"), (rounded, "bf16")):
        give_gradients(named, 0)
        optimizer = Muon(named, OptimConfig(name="muon", weight_decay=0.0, muon_dtype=dtype))
        optimizer.step(1e-3)
        assert {tensor.dtype for tensor in optimizer.tensors().values()} == {torch.float32}
    before = some_parameters()
    for name, parameter in exact.items():
        update, other = parameter - before[name], rounded[name] - before[name]
        assert (update - other).norm() < 0.05 * update.norm(), name


def test_a_weight_without_a_gradient_moves_by_its_decay_alone() -> None:
    named = some_parameters()
    give_gradients(named, 0)
    named["another"].grad = None
    before = named["another"].detach().clone()
    Muon(named, OptimConfig(name="muon", weight_decay=0.5, muon_learning_rate=0.1, learning_rate=1.0)).step(1.0)
    assert torch.equal(named["another"], before * (1 - 0.1 * 0.5))
