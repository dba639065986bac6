"""Chapter 5 in full: the 124M model learns the short story by heart. Minutes on two cores."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from glassgpt.model import GPTModel
from glassgpt.ops.loss import chunked_cross_entropy
from glassgpt.text.kinds import train_tokenizer

CONFIG = {
    "vocab_size": 50257, "context_length": 256, "embedding_dim": 768, "h_heads": 12, "n_layers": 12,
    "dropout_rate": 0.1, "qkv_bias": False,
}  # fmt: skip
VERDICT = Path(__file__).parents[2] / "notebooks" / "the-verdict.txt"


def batches(text: str) -> list[tuple[Tensor, Tensor]]:
    """Whole batches of two windows of 256 ids, each with its targets."""
    ids = torch.tensor(train_tokenizer("gpt2", []).encode(text))
    starts = range(0, len(ids) - 256, 256)
    inputs, targets = (torch.stack([ids[i + shift : i + shift + 256] for i in starts]) for shift in (0, 1))
    return [(x, y) for x, y in zip(inputs.split(2), targets.split(2)) if len(x) == 2]


def loss_of(model: GPTModel, x: Tensor, y: Tensor) -> Tensor:
    return chunked_cross_entropy(model.hidden(x).flatten(0, 1), model.output_head.weight, y.flatten())


@torch.no_grad()
def mean_loss(model: GPTModel, chosen: list[tuple[Tensor, Tensor]]) -> float:
    model.eval()
    losses = [loss_of(model, x, y).item() for x, y in chosen]
    model.train()
    return sum(losses) / len(losses)


@pytest.mark.slow
def test_ninety_steps_bring_the_124m_model_below_1_in_training_and_below_7_in_validation() -> None:
    text = VERDICT.read_text(encoding="utf-8")
    cut = int(0.9 * len(text))
    training, validation = batches(text[:cut]), batches(text[cut:])
    torch.manual_seed(123)
    model = GPTModel(CONFIG)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.1, fused=True)
    assert mean_loss(model, training) == pytest.approx(10.987583, abs=3e-6)

    history, step = [], 0
    for _epoch in range(10):
        for i in torch.randperm(len(training)).tolist():
            optimizer.zero_grad()
            loss_of(model, *training[i]).backward()
            optimizer.step()
            if step % 5 == 0:
                history.append((step, mean_loss(model, training[:5]), mean_loss(model, validation)))
                print("step {}: training loss {:.3f}, validation loss {:.3f}".format(*history[-1]))  # noqa: T201
            step += 1
    assert step == 90
    final = mean_loss(model, training), mean_loss(model, validation)
    print("final: training loss {:.3f}, validation loss {:.3f}".format(*final))  # noqa: T201
    assert final[0] < 1
    assert final[1] < 7
