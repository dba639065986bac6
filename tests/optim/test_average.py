import pytest
import torch

from glassgpt.optim.average import WeightAverage


def steps_of(weight: torch.nn.Parameter, n_steps: int, average: WeightAverage, seed: int = 0) -> torch.Tensor:
    """Give the weight random values step by step; all of them, (n_steps, 3)."""
    values = torch.randn(n_steps, 3, generator=torch.Generator().manual_seed(seed))
    for value in values:
        with torch.no_grad():
            weight.copy_(value)
        average.update()
    return values


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_weights_count_by_a_power_of_their_step_and_have_the_mean_age_of_the_share(share: float) -> None:
    n = 1000
    weight = torch.nn.Parameter(torch.zeros(3))
    average = WeightAverage({"weight": weight}, share)
    values = steps_of(weight, n, average)
    steps = torch.arange(1, n + 1, dtype=torch.float64)
    counted = steps ** (2 / share - 2)
    counted /= counted.sum()
    with average.in_place():
        assert torch.allclose(weight.double(), counted @ values.double(), atol=0.01)
    assert float(counted @ (n - steps)) == pytest.approx(n * share / 2, rel=0.02)


def test_the_whole_share_is_the_plain_mean() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    average = WeightAverage({"weight": weight}, 1.0)
    values = steps_of(weight, 10, average)
    with average.in_place():
        assert torch.allclose(weight, values.mean(dim=0), atol=1e-6)


def test_the_trained_weights_come_back_where_they_were_bit_for_bit_also_after_an_error() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    average = WeightAverage({"weight": weight}, 0.5)
    values = steps_of(weight, 10, average)
    place = weight.data_ptr()
    try:
        with average.in_place():
            assert not torch.equal(weight, values[-1])
            assert torch.equal(average.tensors()["weight/trained"], values[-1])
            raise InterruptedError
    except InterruptedError:
        pass
    assert torch.equal(weight, values[-1])
    assert weight.data_ptr() == place


def test_saved_in_place_and_restored_it_goes_on_identically() -> None:
    first, second = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.ones(3))
    average, other = (WeightAverage({"weight": weight}, 0.3) for weight in (first, second))
    steps_of(first, 7, average)
    with average.in_place(), torch.no_grad():
        second.copy_(first)  # as the model of the checkpoint
        other.restore({name: tensor.clone() for name, tensor in average.tensors().items()})
    assert torch.equal(first, second)
    for weight, own in ((first, average), (second, other)):
        steps_of(weight, 5, own, seed=1)
    with average.in_place(), other.in_place():
        assert torch.equal(first, second)
