"""The X-ray: against the equations, against transformers, and what must hold of any model."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.plain_gpt import PlainGPT

from glassgpt.config import GPTConfig
from glassgpt.inspection.heads import random_ids
from glassgpt.inspection.xray import XRay, xray
from glassgpt.model import GPTModel, RMSNorm
from glassgpt.quantization.modules import quantize
from glassgpt.settings import InputError

SMALL = {"vocab_size": 61, "context_length": 16, "embedding_dim": 24, "n_heads": 4, "n_layers": 3}
CONFIGS = {
    "gpt2": GPTConfig(**SMALL),
    "gpt2-tied-bias": GPTConfig(**SMALL, qkv_bias=True, tie_embeddings=True, dropout_rate=0.3),
    "llama-grouped": GPTConfig(**SMALL, architecture="modern", n_kv_heads=2, qk_norm=False, rope_theta=500.0),
    "qwen3-tied": GPTConfig(**SMALL, architecture="modern", tie_embeddings=True, head_dim=10),
    "qwen3-one-key-head": GPTConfig(**SMALL, architecture="modern", n_kv_heads=1, feed_forward_dim=33),
}
IDS = [5, 60, 5, 17, 0, 33, 5, 17, 2, 60, 41]


def random_model(config: GPTConfig, seed: int = 0, scale: float = 0.2) -> GPTModel:
    """Every parameter matters: initialisers leave biases at 0 and norms at 1."""
    model, generator = GPTModel(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values * scale if parameter.dim() > 1 else 0.8 + values * 0.3)
    return model.eval()


def assert_near(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == np.shape(wanted)
    assert np.abs(found - wanted).max(initial=0) <= 1e-5 * max(1.0, np.abs(wanted).max(initial=0))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_everything_equals_the_equations(config: GPTConfig) -> None:
    model = random_model(config)
    found, plain = xray(model, IDS, n_alternatives=4), PlainGPT(config, model.state_dict())
    stream = plain.read(IDS)
    assert_near(found.attention, plain.attention)
    assert_near(found.residual_norms, np.linalg.norm(stream, axis=-1))
    assert_near(found.attention_norms, np.linalg.norm(plain.added[::2], axis=-1))
    assert_near(found.feed_forward_norms, np.linalg.norm(plain.added[1::2], axis=-1))
    table = plain.weights["token_embedding.weight"]
    assert_near(found.embedding_norms, np.linalg.norm(table[IDS], axis=-1))

    nexts = IDS[1:]
    for layer, said in enumerate(map(plain.probabilities, stream[::2])):
        best = np.argsort(-said, axis=-1, kind="stable")[:, :4]
        np.testing.assert_array_equal(found.lens_ids[layer], best)
        assert_near(found.lens_probabilities[layer], np.take_along_axis(said, best, axis=-1))
        assert_near(found.lens_true[layer], said[range(len(nexts)), nexts])
    of_next = said[range(len(nexts)), nexts]
    assert_near(found.probabilities, of_next)
    assert_near(found.nats, -np.log(of_next))
    assert found.ranks.tolist() == [1 + int((said[t] > said[t, token]).sum()) for t, token in enumerate(nexts)]

    usual = plain.mean_nats(IDS)
    layers, heads = range(config.n_layers), range(config.n_heads)
    rises = [[plain.mean_nats(IDS, [("head", layer, head)]) - usual for head in heads] for layer in layers]
    assert_near(found.head_ablation, rises)
    assert_near(found.attention_ablation, [plain.mean_nats(IDS, [("attention", layer)]) - usual for layer in layers])
    rises = [plain.mean_nats(IDS, [("feed_forward", layer)]) - usual for layer in layers]
    assert_near(found.feed_forward_ablation, rises)


def test_the_scores_of_heads_are_means_of_their_attention() -> None:
    model = random_model(CONFIGS["gpt2"])
    found = xray(model, IDS, ablate="nothing")
    later = range(1, len(IDS))
    assert_near(found.previous_token, np.mean([found.attention[:, :, t, t - 1] for t in later], axis=0))
    assert_near(found.first_token, np.mean([found.attention[:, :, t, 0] for t in later], axis=0))
    once = random_ids(61, 16).tolist()
    assert len(set(once)) == 8
    twice = xray(model, once + once, ablate="nothing").attention
    assert_near(found.induction, np.mean([twice[:, :, t, t - 8 + 1] for t in range(8, 16)], axis=0))


def test_neighbours_are_the_rows_of_the_embedding_with_the_largest_cosines() -> None:
    model = random_model(CONFIGS["llama-grouped"])
    found = xray(model, IDS, ablate="nothing")
    rows = model.token_embedding.weight.detach().double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for t, token in enumerate(IDS):
        cosines = rows @ rows[token]
        others = [other for other in np.argsort(-cosines) if other != token][:8]
        assert found.neighbour_ids[t].tolist() == others
        assert_near(found.neighbour_cosines[t], cosines[others])


def test_attention_and_streams_equal_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    from glassgpt.checkpoint.directory import save_checkpoint

    for name, config in CONFIGS.items():
        model = random_model(config)
        save_checkpoint(tmp_path / name, model, None)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name, attn_implementation="eager")
        with torch.no_grad():
            wanted = theirs.eval()(torch.tensor([IDS]), output_attentions=True, output_hidden_states=True)
        found = xray(model, IDS, ablate="nothing")
        assert_near(found.attention, torch.cat(wanted.attentions).numpy())
        streams = torch.cat(wanted.hidden_states)  # the last of theirs is normed
        assert_near(found.residual_norms[:-1:2], streams[:-1].norm(dim=-1).numpy())
        said = wanted.logits[0].softmax(dim=-1)
        assert_near(found.top_probabilities, said.topk(10).values.numpy())


models = st.sampled_from([*CONFIGS.values()])
prompts = st.lists(st.integers(0, 60), min_size=1, max_size=16)


@settings(max_examples=40, deadline=None)
@given(models, prompts, st.integers(0, 9))
def test_what_holds_of_every_prompt(config: GPTConfig, ids: list[int], seed: int) -> None:
    model = random_model(config, seed)
    found = xray(model, ids, ablate="nothing")
    np.testing.assert_allclose(found.attention.sum(axis=-1), 1, atol=1e-5)
    assert not np.triu(found.attention, 1).any()
    with torch.no_grad():
        said = model(torch.tensor([ids]))[0].softmax(dim=-1).numpy()
    assert_near(found.top_probabilities, np.take_along_axis(said, found.top_ids, axis=-1))
    np.testing.assert_array_equal(found.lens_ids[-1], found.top_ids)
    np.testing.assert_array_equal(found.lens_probabilities[-1], found.top_probabilities)
    np.testing.assert_array_equal(found.lens_true[-1], found.probabilities)
    assert_near(found.probabilities, said[range(len(ids) - 1), ids[1:]])


@settings(max_examples=20, deadline=None)
@given(models, st.integers(0, 2), st.integers(0, 3))
def test_a_head_that_writes_nothing_is_not_missed(config: GPTConfig, layer: int, head: int) -> None:
    model = random_model(config)
    width = config.head_dim
    with torch.no_grad():
        model.blocks[layer].attention.output_projection.weight[:, head * width : (head + 1) * width] = 0
    found = xray(model, IDS).head_ablation
    assert abs(found[layer, head]) < 1e-6
    found[layer, head] = 1
    assert (np.abs(found) > 1e-6).all(), "the others are"


def looking_back(steps: int) -> GPTModel:
    """A model whose one head looks at the token `steps` before: its keys are the positions, its queries those
    positions moved."""
    config = GPTConfig(vocab_size=300, context_length=64, embedding_dim=64, n_heads=1, n_layers=1)
    model = random_model(config, scale=0.0)
    with torch.no_grad():
        model.position_embedding.weight.copy_(10 * torch.eye(64))
        for norm in (module for module in model.modules() if hasattr(module, "shift")):
            norm.scale.fill_(1.0)
            norm.shift.fill_(0.0)
        attention = model.blocks[0].attention
        attention.key.weight.copy_(10 * torch.eye(64))
        attention.query.weight.copy_(10 * torch.eye(64).roll(-steps, dims=0))
    return model


def test_a_planted_previous_token_head_is_recognised() -> None:
    found = xray(looking_back(1), list(range(20)))
    assert found.previous_token[0, 0] > 0.99
    assert found.induction[0, 0] < 0.01


def test_a_planted_induction_head_is_recognised() -> None:
    n = len(random_ids(300, 64))
    found = xray(looking_back(n - 1), list(range(60)))
    assert found.induction[0, 0] > 0.99
    assert found.previous_token[0, 0] < 0.1


def test_a_prompt_of_one_token_has_no_next_one() -> None:
    found = xray(random_model(CONFIGS["qwen3-tied"]), [7])
    assert found.probabilities.shape == found.ranks.shape == found.nats.shape == (0,)
    assert found.lens_true.shape == (4, 0)
    assert found.attention.shape == (3, 4, 1, 1)
    assert (found.attention == 1).all()
    assert np.isnan(found.head_ablation).all()
    assert np.isnan(found.previous_token).all()
    assert found.top_probabilities.shape == (1, 10)


def test_without_ablation_there_is_none() -> None:
    found = xray(random_model(CONFIGS["gpt2"]), IDS, ablate="nothing")
    assert (found.head_ablation, found.attention_ablation, found.feed_forward_ablation) == (None, None, None)


def test_shapes_and_types_are_those_that_are_promised() -> None:
    found = xray(random_model(CONFIGS["gpt2"]), IDS, n_alternatives=3)
    kinds = {f.name: getattr(found, f.name).dtype for f in dataclasses.fields(XRay)}
    whole = {"ids", "ranks", "top_ids", "lens_ids", "neighbour_ids"}
    assert kinds == {name: np.int64 if name in whole else np.float32 for name in kinds}
    assert found.top_ids.shape == (11, 3)
    assert found.neighbour_ids.shape == (11, 8)


def test_a_vocabulary_smaller_than_what_is_shown_is_shown_whole() -> None:
    found = xray(random_model(GPTConfig(**SMALL | {"vocab_size": 3})), [0, 2, 1])
    assert found.top_ids.shape == (3, 3)
    assert found.neighbour_ids.shape == (3, 2)


def test_a_long_prompt_is_ablated_in_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(CONFIGS["llama-grouped"])
    whole = xray(model, IDS)
    monkeypatch.setattr("glassgpt.inspection.ablation.ROWS", 25)
    monkeypatch.setattr("glassgpt.inspection.lens.AT_ONCE", 61 * 5)
    told: list[tuple[int, int]] = []
    parts = xray(model, IDS, progress=lambda *counts: told.append(counts))
    n_parts = model.config.n_layers * (model.config.n_heads + 2)
    assert told == sorted({*told})
    assert len(told) > model.config.n_layers
    assert told[-1] == (n_parts, n_parts)
    assert_near(parts.head_ablation, whole.head_ablation)
    assert_near(parts.feed_forward_ablation, whole.feed_forward_ablation)
    assert_near(parts.lens_probabilities, whole.lens_probabilities)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_quantised_model_is_seen_as_it_is(kind: str) -> None:
    config = GPTConfig(**SMALL | {"embedding_dim": 32}, architecture="modern", tie_embeddings=True)
    model = random_model(config)
    quantize(model, kind)
    found = xray(model, IDS)
    with torch.no_grad():
        said = model(torch.tensor([IDS]))[0].log_softmax(dim=-1)
    assert_near(found.nats, -said[range(10), IDS[1:]].numpy())
    assert np.isfinite(found.head_ablation).all()
    assert_near(found.neighbour_cosines[0], found.neighbour_cosines[2])


def test_the_model_is_left_as_it_was() -> None:
    model = random_model(CONFIGS["gpt2-tied-bias"]).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    xray(model, IDS)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "attend" not in vars(module)


@pytest.mark.parametrize(
    ("ids", "why"),
    [([], "no tokens"), (list(range(17)), "17 tokens.*context_length is 16.*leave out 1"), ([61], "token 61"),
     ([-1], "token -1"), ([1.5], "no whole number")],
)  # fmt: skip
def test_ids_that_the_model_cannot_read_are_refused(ids: list[int], why: str) -> None:
    with pytest.raises(InputError, match=why):
        xray(random_model(CONFIGS["gpt2"]), ids)


@contextmanager
def refused(why: str) -> Iterator[None]:
    with pytest.raises(InputError, match=f"built as glassgpt.model is, and this one is not: .*{why}"):
        yield


def test_a_model_that_is_built_otherwise_is_refused() -> None:
    class Parallel(torch.nn.Module):
        def __init__(self, block: torch.nn.Module) -> None:
            super().__init__()
            self.attention, self.feed_forward = block.attention, block.feed_forward
            self.attention_norm, self.feed_forward_norm = block.attention_norm, block.feed_forward_norm

        def forward(self, x, cache=None):
            return x + self.attention(self.attention_norm(x)) + self.feed_forward(self.feed_forward_norm(x))

    model = random_model(CONFIGS["gpt2"])
    model.blocks[1] = Parallel(model.blocks[1])
    with refused("in block 1, its attention is not added"):
        xray(model, IDS)
    del model.blocks[1].feed_forward_norm
    with refused("its block 1 has no feed_forward_norm"):
        xray(model, IDS)
    del model.blocks
    with refused("it has no blocks"):
        xray(model, IDS)


def test_attention_of_another_kind_is_seen_as_long_as_it_sums_values() -> None:
    model = random_model(CONFIGS["gpt2"])
    attention = model.blocks[0].attention
    usual = type(attention).attend

    class Halved(type(attention)):
        def attend(self, queries, keys, values):
            return usual(self, queries, keys, values) / 2

    class Squared(type(attention)):
        def attend(self, queries, keys, values):
            return usual(self, queries, keys, values) ** 2

    attention.__class__ = Halved
    np.testing.assert_allclose(xray(model, IDS).attention[0].sum(axis=-1), 0.5, atol=1e-5)
    attention.__class__ = Squared
    with refused("no weighted sum"):
        xray(model, IDS)


def test_a_feed_forward_of_ones_own_is_no_hindrance() -> None:
    model = random_model(CONFIGS["gpt2"])
    model.blocks[1].feed_forward = torch.nn.Sequential(RMSNorm(24), torch.nn.Linear(24, 24))
    assert np.isfinite(xray(model, IDS).feed_forward_ablation).all()
