import pytest
import torch

from glassgpt.config import GPTConfig
from glassgpt.model import GPTModel
from glassgpt.skeleton import DummyGPTModel

SMALL = {
    "vocab_size": 23, "context_length": 9, "embedding_dim": 12, "h_heads": 3, "n_layers": 2,
    "dropout_rate": 0.5, "qkv_bias": False,
}  # fmt: skip


def test_the_sketch_and_the_model_have_the_same_fields_in_the_same_order() -> None:
    expected = ["token_embedding", "position_embedding", "dropout", "blocks", "final_norm", "output_head"]
    assert [name for name, _ in DummyGPTModel(SMALL).named_children()] == expected
    assert [name for name, _ in GPTModel(SMALL).named_children()] == expected


def test_forward_embeds_drops_passes_blocks_normalises_and_scores() -> None:
    model = DummyGPTModel(SMALL).eval()
    ids = torch.tensor([[3, 1, 4], [1, 5, 9]])
    x = model.token_embedding.weight[ids] + model.position_embedding.weight[:3]
    assert torch.equal(model(ids), model.output_head(x))


def test_a_dictionary_and_a_config_make_the_same_sketch() -> None:
    sketches = []
    for config in (SMALL, GPTConfig.from_dict(SMALL)):
        torch.manual_seed(0)
        sketches.append(DummyGPTModel(config)(torch.tensor([[1, 2, 3]])))
    assert torch.equal(*sketches)


def test_training_drops_and_evaluation_does_not() -> None:
    model = DummyGPTModel(SMALL)
    ids = torch.tensor([[3, 1, 4]])
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


@pytest.mark.parametrize(("key", "value"), [("n_layers", 5), ("vocab_size", 31), ("context_length", 4)])
def test_the_dictionarys_values_take_effect(key: str, value: int) -> None:
    model = DummyGPTModel(SMALL | {key: value})
    sizes = {
        "n_layers": len(model.blocks),
        "vocab_size": model.output_head.out_features,
        "context_length": model.position_embedding.num_embeddings,
    }
    assert sizes[key] == value
