"""The seed's sketch prints the seed's numbers, whatever dropout this build of PyTorch has."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glassgpt import DummyGPTModel
from glassgpt.ops.dropout import per_element_dropout, portable_dropout

SEED_CELLS = json.loads((Path(__file__).parent / "seed_cells.json").read_text(encoding="utf-8"))
CONFIG = {
    "vocab_size": 50257, "context_length": 1024, "embedding_dim": 768, "h_heads": 12, "n_layers": 12,
    "dropout_rate": 0.1, "qkv_bias": False,
}  # fmt: skip
BATCH = torch.tensor([[6109, 3626, 6100, 345], [6109, 1110, 6622, 257]])
LAST_DIGIT = 1.01e-4


@pytest.fixture(scope="module")
def sketch() -> DummyGPTModel:
    """The 78-million-parameter sketch of the seed, with the generator where its cell leaves it."""
    torch.manual_seed(123)
    model = DummyGPTModel(CONFIG)
    model.state_of_generator = torch.get_rng_state()
    return model


def shown(logits: Tensor) -> Tensor:
    """What print shows of a wide tensor: three columns at either end."""
    return torch.cat([logits[..., :3], logits[..., -3:]], dim=-1)


def test_the_sketch_prints_the_seeds_tensor(sketch: DummyGPTModel) -> None:
    numbers = [float(n) for n in re.findall(r"-?\d\.\d{4}", "".join(SEED_CELLS[2]["printed"]))]
    torch.set_rng_state(sketch.state_of_generator)
    logits = sketch(BATCH)
    assert logits.shape == (2, 4, 50257)
    torch.testing.assert_close(shown(logits), torch.tensor(numbers).view(2, 4, 6), atol=LAST_DIGIT, rtol=0)


def test_with_a_draw_for_each_element_it_prints_the_other_documented_numbers(sketch: DummyGPTModel) -> None:
    torch.set_rng_state(sketch.state_of_generator)
    positions = torch.arange(4)
    x = sketch.token_embedding(BATCH) + sketch.position_embedding(positions)
    logits = sketch.output_head(per_element_dropout(x, 0.1))
    torch.testing.assert_close(logits[0, 0, :3], torch.tensor([-1.2034, 0.3201, -0.7130]), atol=LAST_DIGIT, rtol=0)


def test_the_sketch_has_its_six_fields_in_order_and_77981184_parameters(sketch: DummyGPTModel) -> None:
    fields = ["token_embedding", "position_embedding", "dropout", "blocks", "final_norm", "output_head"]
    assert [name for name, _ in sketch.named_children()] == fields
    assert sum(p.numel() for p in sketch.parameters()) == 77_981_184


def test_dropout_of_ones_keeps_the_first_row() -> None:
    torch.manual_seed(123)
    assert portable_dropout(torch.ones(6, 6), 0.5)[0].tolist() == [2, 2, 2, 2, 2, 2]
