import math

import pytest
import torch
from torch import Tensor, nn

from glassgpt.config import GPTConfig
from glassgpt.model import (
    GELU,
    FeedForward,
    GPTModel,
    LayerNorm,
    MultiHeadAttention,
    RMSNorm,
    RotaryPositions,
    SwiGLU,
    TransformerBlock,
    initialise,
)
from glassgpt.settings import InputError

SMALL = {
    "vocab_size": 31, "context_length": 16, "embedding_dim": 24, "h_heads": 4, "n_layers": 2,
    "dropout_rate": 0.1, "qkv_bias": False,
}  # fmt: skip
SHAPES = {
    "gpt2": SMALL,
    "gpt2 tied, with bias": SMALL | {"tie_embeddings": True, "qkv_bias": True},
    "modern": SMALL | {"architecture": "modern"},
    "modern grouped, wide heads": SMALL | {"architecture": "modern", "n_kv_heads": 2, "head_dim": 10},
    "llama": SMALL | {"architecture": "modern", "n_kv_heads": 1, "qk_norm": False, "tie_embeddings": True},
}


class TinyCache:
    """The least that a model needs as a cache: it joins what it is given."""

    def __init__(self) -> None:
        self.length = 0
        self.kept: tuple[Tensor, Tensor] | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        new = (keys, values)
        self.kept = new if self.kept is None else tuple(torch.cat(pair, dim=2) for pair in zip(self.kept, new))
        self.length = self.kept[0].shape[2]
        return self.kept


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest) -> GPTModel:
    torch.manual_seed(0)
    return GPTModel(SHAPES[request.param]).eval()


def random_ids(*shape: int) -> Tensor:
    return torch.randint(31, shape, generator=torch.Generator().manual_seed(1))


# What a GPT is.


def test_logits_are_one_score_a_token_of_the_vocabulary(model: GPTModel) -> None:
    assert model(random_ids(3, 7)).shape == (3, 7, 31)


def test_a_later_token_never_changes_an_earlier_logit(model: GPTModel) -> None:
    ids = random_ids(1, 10)
    logits = model(ids)
    for t in range(1, 10):
        changed = ids.clone()
        changed[:, t:] = (changed[:, t:] + 1) % 31
        torch.testing.assert_close(model(changed)[:, :t], logits[:, :t], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(model(changed)[:, t], logits[:, t], atol=1e-3)


def test_texts_of_a_batch_do_not_see_each_other(model: GPTModel) -> None:
    ids = random_ids(3, 8)
    apart = torch.cat([model(row[None]) for row in ids])
    torch.testing.assert_close(model(ids), apart, atol=1e-5, rtol=1e-5)


def test_order_matters(model: GPTModel) -> None:
    ids = torch.tensor([[3, 7, 5], [7, 3, 5]])
    last = model(ids)[:, -1]
    assert not torch.allclose(last[0], last[1], atol=1e-3)


@pytest.mark.parametrize("pieces", [[12], [1] * 12, [5, 1, 1, 5], [4, 8]])
def test_cached_pieces_give_the_logits_of_one_pass(model: GPTModel, pieces: list[int]) -> None:
    ids = random_ids(2, 12)
    cache = [TinyCache() for _ in model.blocks]
    logits = torch.cat([model(piece, cache) for piece in ids.split(pieces, dim=1)], dim=1)
    torch.testing.assert_close(logits, model(ids), atol=1e-5, rtol=1e-5)
    assert all(layer.length == 12 for layer in cache)


def test_forward_is_the_head_on_the_context_vectors(model: GPTModel) -> None:
    ids = random_ids(2, 5)
    hidden = model.hidden(ids)
    assert hidden.shape == (2, 5, 24)
    assert torch.equal(hidden @ model.output_head.weight.T, model(ids))


def test_more_tokens_than_the_context_are_refused_in_one_line(model: GPTModel) -> None:
    with pytest.raises(InputError, match=r"^17 tokens do not fit the model's context_length of 16.*longer context$"):
        model(random_ids(1, 17))
    cache = [TinyCache() for _ in model.blocks]
    model(random_ids(1, 16), cache)
    with pytest.raises(InputError, match="17 tokens"):
        model(random_ids(1, 1), cache)


def test_every_parameter_gets_a_gradient(model: GPTModel) -> None:
    model(random_ids(2, 16)).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias of the keys moves all scores of a query alike, and softmax does not see that.
    assert [name for name in without if not name.endswith("key.bias")] == []


# What the dictionary's values do.


@pytest.mark.parametrize(
    ("key", "value", "seen"),
    [
        ("vocab_size", 40, lambda m: m.token_embedding.num_embeddings + m.output_head.out_features - 40),
        ("context_length", 5, lambda m: m.position_embedding.num_embeddings),
        ("embedding_dim", 32, lambda m: m.hidden(random_ids(1, 2)).shape[-1]),
        ("h_heads", 3, lambda m: m.blocks[0].attention.query.out_features // m.blocks[0].attention.head_dim),
        ("n_layers", 5, lambda m: len(m.blocks)),
        ("dropout_rate", 0.25, lambda m: sum({d.p for d in m.modules() if isinstance(d, nn.Dropout)})),
        ("qkv_bias", True, lambda m: all(getattr(m.blocks[1].attention, n).bias is not None for n in QKV)),
        ("qkv_bias", False, lambda m: any(getattr(m.blocks[1].attention, n).bias is not None for n in QKV)),
    ],
)
def test_each_of_the_seven_values_takes_effect(key: str, value: object, seen) -> None:
    assert seen(GPTModel(SMALL | {key: value})) == value


QKV = ("query", "key", "value")


def test_heads_change_the_result_though_not_the_weights() -> None:
    models = []
    for heads in (2, 4):
        torch.manual_seed(0)
        models.append(GPTModel(SMALL | {"h_heads": heads}).eval())
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters()))
    assert not torch.allclose(models[0](random_ids(1, 8)), models[1](random_ids(1, 8)), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_dictionary_and_its_config_make_the_same_model(shape: dict[str, object]) -> None:
    logits = []
    for config in (shape, GPTConfig.from_dict(shape)):
        torch.manual_seed(0)
        logits.append(GPTModel(config)(random_ids(2, 6)))
    assert torch.equal(*logits)


def test_a_tied_head_is_the_token_embedding() -> None:
    tied = GPTModel(SMALL | {"tie_embeddings": True})
    assert tied.output_head.weight is tied.token_embedding.weight
    untied = GPTModel(SMALL)
    assert untied.output_head.weight is not untied.token_embedding.weight
    difference = sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters())
    assert difference == 31 * 24


@pytest.mark.parametrize("dropout", ["torch", "portable"])
def test_dropout_acts_in_training_only(dropout: str) -> None:
    model = GPTModel(SMALL | {"dropout": dropout, "dropout_rate": 0.5})
    ids = random_ids(1, 8)
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


def test_training_without_dropout_equals_evaluation(model: GPTModel) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    ids = random_ids(2, 8)
    expected = model(ids)
    assert torch.equal(model.train()(ids), expected)


# What the parts compute.


def test_layer_norm_is_its_formula() -> None:
    x, norm = torch.randn(4, 5, 24), LayerNorm(24)
    nn.init.normal_(norm.scale), nn.init.normal_(norm.shift)
    deviation = (x - x.mean(dim=-1, keepdim=True)) / (x.var(dim=-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), deviation * norm.scale + norm.shift, atol=1e-5, rtol=1e-5)


def test_rms_norm_is_its_formula() -> None:
    x, norm = torch.randn(4, 5, 24), RMSNorm(24)
    nn.init.normal_(norm.scale)
    expected = x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * norm.scale
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)


def test_gelu_is_its_formula() -> None:
    x = torch.linspace(-6, 6, 1001)
    expected = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    torch.testing.assert_close(GELU()(x), expected, atol=1e-6, rtol=1e-5)


def test_both_feed_forwards_are_their_formulas() -> None:
    x = torch.randn(2, 3, 24)
    plain = FeedForward(GPTConfig.from_dict(SMALL))
    torch.testing.assert_close(plain(x), plain.down(GELU()(plain.up(x))))
    gated = SwiGLU(GPTConfig.from_dict(SMALL | {"architecture": "modern"}))
    gate = gated.gate(x)
    torch.testing.assert_close(gated(x), gated.down(gate * torch.sigmoid(gate) * gated.up(x)))


def test_rotary_positions_turn_each_pair_by_its_angle() -> None:
    config = GPTConfig.from_dict(SHAPES["modern grouped, wide heads"])
    x = torch.randn(1, 2, 3, 10)
    turned = RotaryPositions(config)(x, start=4)
    for t in range(3):
        for i in range(5):
            angle = (4 + t) * config.rope_theta ** (-2 * i / 10)
            turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
            pairs = x[0, :, t, [i, i + 5]]
            torch.testing.assert_close(turned[0, :, t, [i, i + 5]], pairs @ turn.T, atol=1e-5, rtol=1e-5)


def test_a_rotary_product_depends_on_the_distance_only() -> None:
    rotary = RotaryPositions(GPTConfig.from_dict(SHAPES["modern"]))
    query, key = torch.randn(2, 1, 1, 1, 6)
    products = [(rotary(query, start + 3) * rotary(key, start)).sum() for start in (0, 5, 12)]
    torch.testing.assert_close(torch.stack(products), products[0].expand(3), atol=1e-5, rtol=1e-5)


def test_a_block_adds_attention_and_feed_forward_to_its_input(model: GPTModel) -> None:
    block, x = model.blocks[0], torch.randn(2, 5, 24)
    assert isinstance(block, TransformerBlock)
    h = x + block.attention(block.attention_norm(x))
    assert torch.equal(block(x), h + block.feed_forward(block.feed_forward_norm(h)))


def test_with_dropout_on_the_cpu_attention_is_the_step_by_step_one() -> None:
    """Keeping everything makes both agree, so the difference between them is dropout alone."""
    config = GPTConfig.from_dict(SMALL | {"dropout_rate": 1e-9})
    attention, x = MultiHeadAttention(config), torch.randn(2, 6, 24)
    torch.testing.assert_close(attention.train()(x), attention.eval()(x), atol=1e-5, rtol=1e-5)


# How weights start.


def test_initialise_is_reproducible_with_its_generator_alone(model: GPTModel) -> None:
    initialise(model, torch.Generator().manual_seed(5))
    first = {name: p.clone() for name, p in model.named_parameters()}
    torch.manual_seed(99)
    initialise(model, torch.Generator().manual_seed(5))
    assert all(torch.equal(p, first[name]) for name, p in model.named_parameters())
    initialise(model, torch.Generator().manual_seed(6))
    assert not torch.equal(model.token_embedding.weight, first["token_embedding.weight"])


def test_initialise_leaves_the_global_generator_alone(model: GPTModel) -> None:
    before = torch.get_rng_state()
    initialise(model, torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("architecture", ["gpt2", "modern"])
def test_initialise_gives_the_deviations_it_states(architecture: str) -> None:
    shape = SMALL | {"architecture": architecture, "embedding_dim": 128, "n_layers": 8, "vocab_size": 500}
    model = GPTModel(shape)
    initialise(model, torch.Generator().manual_seed(5))
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert not p.any()
        elif "norm" not in name:
            writes = name.endswith(("output_projection.weight", "down.weight"))
            if architecture == "gpt2":
                expected = 0.005 if writes else 0.02
            else:
                expected = 0.0 if writes else (0.6 if "blocks" in name else 1.0) / p.shape[1] ** 0.5
            assert p.std().item() == pytest.approx(expected, rel=0.05), name
        elif name.endswith("scale"):
            quiet = architecture == "modern" and name == "final_norm.scale"
            assert torch.equal(p, torch.full_like(p, 0.3 if quiet else 1.0)), name


def test_a_fresh_models_loss_after_initialise_is_that_of_guessing(model: GPTModel) -> None:
    """In modern the blocks are silent at first: a tied head scores the token itself 0.3 sqrt(C) above others."""
    initialise(model, torch.Generator().manual_seed(5))
    ids = random_ids(4, 16)
    loss = nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    config = model.config
    above = 0.1 if config.architecture == "gpt2" else 0.8
    if config.architecture == "modern" and config.tie_embeddings:
        above = 0.3 * config.embedding_dim**0.5 + 0.1
    assert math.log(31) - 0.1 <= loss.item() <= math.log(31) + above


def test_a_matrix_more_leaves_the_first_weights_of_all_others_as_they_are() -> None:
    plain, more = GPTModel(SMALL), GPTModel(SMALL)
    more.blocks[0].gate = nn.Linear(24, 24)
    for model in (plain, more):
        initialise(model, torch.Generator().manual_seed(5))
    for name, p in plain.named_parameters():
        assert torch.equal(p, more.get_parameter(name)), name
