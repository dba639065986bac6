import pytest
import torch

from glassgpt.config import GPTConfig, RunConfig
from glassgpt.model import GPTModel
from glassgpt.training.step import NextTokenLoss, training_loss


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("changes", [{}, {"architecture": "modern"}, {"dropout_rate": 0.2}], ids=str)
def test_loss_and_gradients_keep_their_bits(changes: dict[str, object], dtype: str) -> None:
    sizes = {"vocab_size": 40, "context_length": 16, "embedding_dim": 32, "n_heads": 2, "n_layers": 3}
    ids = torch.randint(40, (3, 17), generator=torch.Generator().manual_seed(2))
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = GPTModel(GPTConfig.from_dict(sizes | {"tie_embeddings": True} | changes))
        loss_of = training_loss(model, RunConfig(kernel="torch", dtype=dtype, recompute=recompute))
        assert isinstance(loss_of, NextTokenLoss)
        torch.manual_seed(1)
        loss = loss_of(ids[:, :-1], ids[:, 1:])
        loss.backward()
        found.append([loss.detach(), torch.rand(3), *(p.grad for p in model.parameters())])
    for kept, again in zip(*found, strict=True):
        assert torch.equal(kept, again)


def test_a_recomputed_model_still_evaluates_and_generates() -> None:
    model = GPTModel(GPTConfig(vocab_size=9, context_length=8, embedding_dim=8, n_heads=2, n_layers=1))
    with torch.no_grad():
        before = model(torch.arange(8)[None])
        training_loss(model, RunConfig(kernel="torch", recompute=True))
        assert torch.equal(model(torch.arange(8)[None]), before)
