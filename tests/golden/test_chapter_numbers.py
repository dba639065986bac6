"""The numbers that chapters 2 to 5 print, from the package's own parts."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassgpt.config import GPTConfig
from glassgpt.model import GELU, FeedForward, GPTModel, LayerNorm, MultiHeadAttention, TransformerBlock
from glassgpt.ops.loss import chunked_cross_entropy, plain_cross_entropy
from glassgpt.text.kinds import train_tokenizer

CONFIG = {
    "vocab_size": 50257, "context_length": 1024, "embedding_dim": 768, "h_heads": 12, "n_layers": 12,
    "dropout_rate": 0.1, "qkv_bias": False,
}  # fmt: skip
VERDICT = Path(__file__).parents[2] / "notebooks" / "the-verdict.txt"


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def windows(ids: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    starts = range(0, len(ids) - length, stride)
    inputs, targets = (torch.stack([ids[i + shift : i + shift + length] for i in starts]) for shift in (0, 1))
    return inputs, targets


@pytest.fixture(scope="module")
def verdict() -> str:
    return VERDICT.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def untrained() -> GPTModel:
    """The 124M model with 256 positions, seed 123."""
    torch.manual_seed(123)
    return GPTModel(CONFIG | {"context_length": 256}).eval()


def test_the_verdict_in_windows_of_four(verdict: str) -> None:
    ids = torch.tensor(train_tokenizer("gpt2", []).encode(verdict))
    assert (len(verdict), len(ids)) == (20_479, 5_145)
    inputs, targets = windows(ids, length=4, stride=1)
    assert (inputs[0].tolist(), targets[0].tolist()) == ([40, 367, 2885, 1464], [367, 2885, 1464, 1807])


def test_layer_norm_of_the_two_examples() -> None:
    torch.manual_seed(123)
    examples = torch.randn(2, 5)
    activations = nn.Sequential(nn.Linear(5, 6), nn.ReLU())(examples)
    expected = torch.tensor([[0.2260, 0.3470, 0, 0.2216, 0, 0], [0.2133, 0.2394, 0, 0.5198, 0.3297, 0]])
    torch.testing.assert_close(activations, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(activations.mean(dim=-1), torch.tensor([0.1324, 0.2170]), atol=1e-4, rtol=0)
    torch.testing.assert_close(activations.var(dim=-1), torch.tensor([0.0231, 0.0398]), atol=1e-4, rtol=0)
    row = torch.tensor([0.6159, 1.4126, -0.8719, 0.5872, -0.8719, -0.8719])
    with_n = LayerNorm(6, eps=1e-12)(activations)[0]  # divides by n, the printed numbers by n - 1
    torch.testing.assert_close(with_n * (5 / 6) ** 0.5, row, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("shortcuts", "expected"),
    [
        (False, [2.01736e-4, 1.20112e-4, 7.15204e-4, 1.398874e-3, 5.049645e-3]),
        (True, [0.221698, 0.206941, 0.328970, 0.266573, 1.325854]),
    ],
)
def test_gradients_of_five_layers_with_and_without_shortcuts(shortcuts: bool, expected: list[float]) -> None:
    torch.manual_seed(123)
    sizes = [3, 3, 3, 3, 3, 1]
    layers = [nn.Sequential(nn.Linear(a, b), GELU()) for a, b in pairwise(sizes)]
    x = torch.tensor([[1.0, 0.0, -1.0]])
    for layer in layers:
        out = layer(x)
        x = x + out if shortcuts and x.shape == out.shape else out
    F.mse_loss(x, torch.zeros(1, 1)).backward()
    gradients = [layer[0].weight.grad.abs().mean().item() for layer in layers]
    assert gradients == pytest.approx(expected, rel=1e-5)


def test_parameters_of_the_parts_of_a_block() -> None:
    config = GPTConfig.from_dict(CONFIG)
    with torch.device("meta"):
        assert count(FeedForward(config)) == 4_722_432
        assert count(MultiHeadAttention(config)) == 2_360_064
        assert count(TransformerBlock(config)) == 7_085_568


def test_the_parts_keep_the_width() -> None:
    config = GPTConfig.from_dict(CONFIG)
    assert FeedForward(config)(torch.randn(2, 3, 768)).shape == (2, 3, 768)
    assert TransformerBlock(config)(torch.randn(2, 4, 768)).shape == (2, 4, 768)


@pytest.mark.parametrize(
    ("n_layers", "width", "heads", "untied", "tied", "megabytes"),
    [
        (12, 768, 12, 163_009_536, 124_412_160, 621.83),
        (24, 1024, 16, 406_212_608, 354_749_440, 1_549.58),
        (36, 1280, 20, 838_220_800, 773_891_840, 3_197.56),
        (48, 1600, 25, 1_637_792_000, 1_557_380_800, 6_247.68),
    ],
)
def test_the_four_sizes_when_built(
    n_layers: int, width: int, heads: int, untied: int, tied: int, megabytes: float
) -> None:
    shape = CONFIG | {"n_layers": n_layers, "embedding_dim": width, "h_heads": heads}
    with torch.device("meta"):
        assert count(GPTModel(shape)) == untied
        assert count(GPTModel(shape | {"tie_embeddings": True})) == tied
    assert round(untied * 4 / 2**20, 2) == megabytes


def test_tied_with_qkv_bias_is_openais_124m() -> None:
    with torch.device("meta"):
        assert count(GPTModel(CONFIG | {"tie_embeddings": True, "qkv_bias": True})) == 124_439_808


@pytest.mark.thorough
def test_the_124m_model_in_training_gives_the_chapters_logits() -> None:
    torch.manual_seed(123)
    model = GPTModel(CONFIG | {"dropout": "portable"})
    with torch.no_grad():
        row = model(torch.tensor([[6109, 3626, 6100, 345], [6109, 1110, 6622, 257]]))[0, 0]
    expected = torch.tensor([0.1381, 0.0077, -0.1963, -0.0222, -0.1060, 0.1717])
    torch.testing.assert_close(torch.cat([row[:3], row[-3:]]), expected, atol=1.01e-4, rtol=0)


def test_the_loss_of_two_sentences(untrained: GPTModel) -> None:
    inputs = torch.tensor([[16833, 3626, 6100], [40, 1107, 588]])
    targets = torch.tensor([[3626, 6100, 345], [1107, 588, 11311]])
    with torch.no_grad():
        hidden = untrained.hidden(inputs).flatten(0, 1)
        loss = plain_cross_entropy(hidden, untrained.output_head.weight, targets.flatten())
    assert loss.item() == pytest.approx(10.7940, abs=1e-4)
    assert loss.exp().item() == pytest.approx(48_725.82, abs=0.5)


@pytest.mark.thorough
def test_the_initial_validation_loss_on_the_verdict(untrained: GPTModel, verdict: str) -> None:
    """The training loss costs ten times as much: the notebook's test and the slow one compare it."""
    text = verdict[int(0.9 * len(verdict)) :]
    inputs, targets = windows(torch.tensor(train_tokenizer("gpt2", []).encode(text)), length=256, stride=256)
    assert len(inputs) == 2
    with torch.no_grad():
        hidden = untrained.hidden(inputs).flatten(0, 1)
        loss = chunked_cross_entropy(hidden, untrained.output_head.weight, targets.flatten())
    assert loss.item() == pytest.approx(10.981106, abs=3e-6)


def test_a_thousand_draws_from_nine_words() -> None:
    logits = torch.tensor([4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79])
    probabilities = logits.softmax(dim=-1)
    torch.manual_seed(123)
    draws = [torch.multinomial(probabilities, num_samples=1).item() for _ in range(1000)]
    assert [draws.count(i) for i in range(9)] == [73, 0, 0, 582, 2, 0, 0, 343, 0]
    best = logits.topk(3)
    top_3 = torch.full((9,), -torch.inf).scatter(0, best.indices, best.values).softmax(dim=-1)
    torch.testing.assert_close(top_3[[0, 3, 7]], torch.tensor([0.0615, 0.5775, 0.3610]), atol=1e-4, rtol=0)
