"""What is planned from the config equals what the model has."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.checkpoint.directory import TrainerState, save_checkpoint
from glassgpt.config import PRESETS, GPTConfig, OptimConfig, RunConfig
from glassgpt.model import GPTModel
from glassgpt.ops import attention, loss
from glassgpt.optim.groups import make_optimizer
from glassgpt.planning import activations, memory
from glassgpt.planning.activations import activation_bytes
from glassgpt.planning.flops import flops_per_token
from glassgpt.planning.memory import (
    cache_bytes_per_token,
    checkpoint_bytes,
    optimizer_bytes,
    storage,
    tensor_bytes,
    training_memory,
)
from glassgpt.planning.parameters import meanings_of_124m, parameters, shapes, total_parameters
from glassgpt.planning.plan import plan
from glassgpt.skeleton import DummyGPTModel
from glassgpt.text.kinds import train_tokenizer
from glassgpt.text.stories import write_stories
from glassgpt.training.step import training_loss

CHAPTER = {"qkv_bias": False, "tie_embeddings": False}


@st.composite
def configs(draw: st.DrawFn) -> GPTConfig:
    n_kv_heads = draw(st.integers(1, 3))
    modern = draw(st.booleans())
    n_heads = n_kv_heads * draw(st.integers(1, 3)) if modern else n_kv_heads
    values = {
        "architecture": "modern" if modern else "gpt2",
        "vocab_size": draw(st.integers(1, 90)),
        "context_length": draw(st.integers(2, 12)),
        "n_heads": n_heads,
        "n_kv_heads": n_kv_heads,
        "embedding_dim": n_heads * 2 * draw(st.integers(1, 20)),
        "n_layers": draw(st.integers(1, 3)),
        "tie_embeddings": draw(st.booleans()),
        "feed_forward_dim": draw(st.just(0) | st.integers(1, 40)),
        "dropout_rate": draw(st.sampled_from([0.0, 0.1])),
    }
    if modern:
        values |= {"qk_norm": draw(st.booleans()), "head_dim": 2 * draw(st.integers(0, 5))}
    else:
        values |= {"qkv_bias": draw(st.booleans())}
    return GPTConfig.from_dict(values)


def on_meta(config: GPTConfig) -> GPTModel:
    with torch.device("meta"):
        return GPTModel(config)


def measured_parameters(model: torch.nn.Module) -> dict[str, int]:
    """By component, told apart by the names of the model's own modules."""
    counted = dict.fromkeys(shapes(GPTConfig()), 0)
    for name, weight in model.named_parameters():  # names a shared weight once, at the embedding
        norm = name.startswith("final_norm") or "_norm." in name
        part = "norms" if norm else next(part for part in counted if part in name.split("."))
        counted[part] += weight.numel()
    return counted


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("changes", [{}, CHAPTER], ids=["as it is", "untied, no bias"])
def test_parameters_of_every_preset_are_those_of_the_model(name: str, changes: dict[str, bool]) -> None:
    config = GPTConfig.from_dict(PRESETS[name] | changes)
    assert parameters(config) == measured_parameters(on_meta(config))


@settings(max_examples=60, deadline=None)
@given(configs())
def test_parameters_of_any_config_are_those_of_the_model(config: GPTConfig) -> None:
    model = on_meta(config)
    assert parameters(config) == measured_parameters(model)
    assert total_parameters(config) == sum(weight.numel() for weight in model.parameters())
    assert storage(config)["fp32"] == sum(weight.nbytes for weight in model.parameters())


def random_config(seed: int) -> GPTConfig:
    draw = random.Random(seed)
    modern, n_kv_heads = draw.random() < 0.5, draw.randint(1, 8)
    n_heads = n_kv_heads * (draw.randint(1, 4) if modern else 1)
    values: dict[str, Any] = {
        "vocab_size": draw.randint(1, 200_000), "context_length": draw.randint(1, 4096), "n_heads": n_heads,
        "n_kv_heads": n_kv_heads, "embedding_dim": n_heads * 2 * draw.randint(1, 64), "n_layers": draw.randint(1, 40),
        "tie_embeddings": draw.random() < 0.5, "feed_forward_dim": draw.choice([0, draw.randint(1, 9000)]),
    }  # fmt: skip
    if modern:
        own = {"architecture": "modern", "qk_norm": draw.random() < 0.5, "head_dim": 2 * draw.randint(0, 64)}
    else:
        own = {"qkv_bias": draw.random() < 0.5}
    return GPTConfig.from_dict(values | own)


@pytest.mark.parametrize("seed", range(20))
def test_parameters_of_random_configs_of_real_sizes_are_those_of_the_model(seed: int) -> None:
    config = random_config(seed)
    assert parameters(config) == measured_parameters(on_meta(config))


def test_the_random_configs_are_of_both_architectures() -> None:
    assert {random_config(seed).architecture for seed in range(20)} == {"gpt2", "modern"}


@pytest.mark.parametrize(
    ("name", "untied", "tied", "megabytes"),
    [
        ("gpt2-small", 163_009_536, 124_412_160, 621.83),
        ("gpt2-medium", 406_212_608, 354_749_440, 1_549.58),
        ("gpt2-large", 838_220_800, 773_891_840, 3_197.56),
        ("gpt2-xl", 1_637_792_000, 1_557_380_800, 6_247.68),
    ],
)
def test_the_chapters_table_of_sizes(name: str, untied: int, tied: int, megabytes: float) -> None:
    config = GPTConfig.from_dict(PRESETS[name] | CHAPTER)
    assert total_parameters(config) == untied
    assert total_parameters(GPTConfig.from_dict(PRESETS[name] | {"qkv_bias": False})) == tied
    assert round(storage(config)["fp32"] / 2**20, 2) == megabytes


def test_the_chapters_block() -> None:
    one = parameters(GPTConfig(n_layers=1))
    assert (one["attention"], one["feed_forward"]) == (2_360_064, 4_722_432)
    final_norm = 2 * 768
    assert one["attention"] + one["feed_forward"] + one["norms"] - final_norm == 7_085_568


def test_124m_means_four_numbers() -> None:
    meanings = meanings_of_124m()
    assert list(meanings.values()) == [77_981_184, 163_009_536, 124_412_160, 124_439_808]
    with torch.device("meta"):
        sketch = DummyGPTModel(GPTConfig())
    assert sum(weight.numel() for weight in sketch.parameters()) == 77_981_184


def test_quantised_bytes_of_a_model_counted_by_hand() -> None:
    sizes = {"vocab_size": 10, "context_length": 3, "embedding_dim": 34, "n_heads": 1, "n_layers": 1}
    config = GPTConfig.from_dict(sizes | {"tie_embeddings": True})
    rows_of_34 = 10 + 3 + 4 * 34 + 4 * 34  # embeddings, four projections, the feed-forward's first matrix
    vectors = 4 * (34 + 4 * 34 + 34 + 6 * 34)
    assert storage(config)["int8"] == rows_of_34 * (34 + 2 * 2) + 34 * (136 + 2 * 5) + vectors
    assert storage(config)["int4"] == rows_of_34 * (17 + 2 * 2) + 34 * (68 + 2 * 5) + vectors
    assert storage(config)["bf16"] * 2 == storage(config)["fp32"]


def test_a_quantised_model_is_smaller_the_fewer_its_bits() -> None:
    sizes = storage(GPTConfig.from_dict(PRESETS["gpt2-small"]))
    assert sizes["fp32"] > sizes["bf16"] > sizes["int8"] > sizes["int4"]
    assert sizes["int4"] * 8 / 124_439_808 == pytest.approx(4.5, abs=0.03)  # 4 bits, and 16 for every 32


def saved_bytes(config: GPTConfig, n_sequences: int, run: RunConfig) -> int:
    """Bytes of the storages that autograd keeps during `hidden`, the weights' own left out."""
    model = GPTModel(config).train()
    loss_of = training_loss(model, run)
    kept = {}
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(config.vocab_size, (n_sequences, config.context_length))
    with loss_of.kernels(ids.device), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.hidden(ids)
    assert hidden.requires_grad
    return sum(tensor.untyped_storage().nbytes() for pointer, tensor in kept.items() if pointer not in own)


@pytest.mark.parametrize("dropout_rate", [0.0, 0.1])
@pytest.mark.parametrize(
    "run", [{}, {"dtype": "bf16"}, {"recompute": True}, {"dtype": "bf16", "recompute": True}], ids=str
)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qkv_bias": True, "tie_embeddings": True, "feed_forward_dim": 50},
        {"dropout": "portable"},
        {"architecture": "modern"},
        {"architecture": "modern", "n_kv_heads": 2, "head_dim": 10},
        {"architecture": "modern", "n_kv_heads": 1, "qk_norm": False},
    ],
    ids=["gpt2", "gpt2 bias", "gpt2 portable", "modern", "modern grouped", "llama"],
)
def test_activations_are_what_autograd_saves(
    changes: dict[str, object], run: dict[str, Any], dropout_rate: float
) -> None:
    sizes = {"vocab_size": 50, "context_length": 24, "embedding_dim": 32, "n_heads": 4, "n_layers": 3}
    config = GPTConfig.from_dict(sizes | {"dropout_rate": dropout_rate} | changes)
    found = saved_bytes(config, 2, RunConfig(kernel="torch", **run))
    assert activation_bytes(config, 2, run.get("dtype", "fp32"), bool(run.get("recompute"))) == found


def test_attention_in_blocks_of_queries_keeps_less_than_every_pair() -> None:
    sizes = {"vocab_size": 9, "context_length": 600, "embedding_dim": 8, "n_heads": 2, "n_layers": 1}
    config = GPTConfig.from_dict(sizes)
    assert activation_bytes(config, 1, "bf16") == saved_bytes(config, 1, RunConfig(kernel="torch", dtype="bf16"))


def test_sizes_that_planning_repeats_are_those_of_the_arithmetic() -> None:
    assert (memory.CHUNK, memory.BLOCK, memory.SLICE) == (loss.CHUNK, loss.BLOCK, loss.SLICE)
    assert activations.QUERIES == attention.QUERIES


def test_training_memory_holds_its_parts_but_not_all_at_once() -> None:
    config = GPTConfig.from_dict(PRESETS["gpt2-small"] | {"context_length": 256})
    needed = training_memory(config, OptimConfig(name="adamw", batch_size=4))
    parts = {part: n for part, n in needed.items() if part != "total"}
    assert needed["gradients"] == needed["weights"]
    assert needed["optimizer"] == 2 * needed["weights"]
    assert max(parts.values()) < needed["total"] < sum(parts.values())


@pytest.mark.parametrize("changes", [{}, {"architecture": "modern", "n_kv_heads": 1}])
@pytest.mark.parametrize(
    "optim", [{}, {"name": "muon", "average_share": 0.1}, {"name": "muon", "muon_normalise_rows": True}], ids=str
)
def test_the_optimiser_keeps_what_was_planned(changes: dict[str, object], optim: dict[str, object]) -> None:
    sizes = {"vocab_size": 50, "context_length": 24, "embedding_dim": 32, "n_heads": 4, "n_layers": 3}
    config, optim_config = GPTConfig.from_dict(sizes | changes), OptimConfig(**optim)
    kept = make_optimizer(GPTModel(config), optim_config).tensors()
    planned = optimizer_bytes(config, optim_config)
    assert planned == sum(4 * tensor.numel() for name, tensor in kept.items() if not name.endswith("n_steps"))
    zeros = 3 * 32 * 3 if not changes else 0  # Hugging Face's GPT-2 has biases on query, key and value
    assert tensor_bytes(config, optim=optim_config) == 4 * (total_parameters(config) + zeros) + planned


def test_accumulation_saves_activations() -> None:
    config = GPTConfig.from_dict(PRESETS["gpt2-small"])
    whole, parts = (training_memory(config, OptimConfig(batch_size=8, accumulation=n)) for n in (1, 4))
    assert parts["activations"] < whole["activations"] / 3
    assert parts["total"] < whole["total"]


def test_cache_and_checkpoint_of_gpt2_small() -> None:
    config = GPTConfig.from_dict(PRESETS["gpt2-small"])
    assert cache_bytes_per_token(config) == 2 * 12 * 768 * 4
    assert cache_bytes_per_token(config, 2) == 2 * 12 * 768 * 2
    assert tensor_bytes(config, with_trainer=False) == 4 * 124_439_808
    assert tensor_bytes(config) == 12 * 124_439_808
    without_bias = GPTConfig.from_dict(PRESETS["gpt2-small"] | {"qkv_bias": False})
    with_zeros = tensor_bytes(without_bias, with_trainer=False)
    assert with_zeros == tensor_bytes(config, with_trainer=False)


@pytest.mark.parametrize("changes", [{}, {"architecture": "modern", "n_kv_heads": 2, "tie_embeddings": True}])
@pytest.mark.parametrize("optim", [{}, {"name": "muon"}, {"name": "muon", "average_share": 0.1}], ids=str)
def test_a_checkpoint_has_the_size_that_was_planned(
    changes: dict[str, object], optim: dict[str, object], tmp_path: Path
) -> None:
    sizes = {"vocab_size": 512, "context_length": 64, "embedding_dim": 128, "n_heads": 4, "n_layers": 4}
    config, optim_config = GPTConfig.from_dict(sizes | changes), OptimConfig(**optim)
    model, tokenizer = GPTModel(config), train_tokenizer("bpe:512", "\n".join(write_stories(300, seed=1)))
    trainer = TrainerState(tensors=make_optimizer(model, optim_config).tensors(), counters={"step": 1})
    save_checkpoint(tmp_path / "step", model, tokenizer, trainer)
    found = sum(file.stat().st_size for file in (tmp_path / "step").rglob("*") if file.is_file())
    known = sum(map(len, tokenizer.files().values()))
    assert checkpoint_bytes(config, optim=optim_config, tokenizer=known) == pytest.approx(found, rel=0.002)
    assert checkpoint_bytes(config, optim=optim_config) == pytest.approx(found, rel=0.005), "the tokenizer not known"


def test_flops_are_two_for_each_weight_and_twice_that_backward() -> None:
    config = GPTConfig.from_dict(PRESETS["gpt2-small"])
    weights = 12 * (4 * 768 * 768 + 8 * 768 * 768) + 50257 * 768
    assert flops_per_token(config, 0) == {"forward": 2 * weights, "backward": 4 * weights}
    assert flops_per_token(config)["forward"] == 2 * weights + 4 * 12 * 768 * 1024


@pytest.mark.parametrize("name", ["gpt2-small", "modern-medium"])
def test_flops_are_what_torch_counts(name: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    config = GPTConfig.from_dict(PRESETS[name] | {"context_length": 64, "dropout_rate": 0.0})
    with torch.device("meta"):
        model, ids = GPTModel(config), torch.zeros(1, 64, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    flops = flops_per_token(config)
    assert counter.get_total_flops() / 64 == pytest.approx(flops["forward"] + flops["backward"], rel=0.02)


def test_a_plan_as_a_dictionary_has_the_keys_of_the_interface() -> None:
    config = GPTConfig.from_dict(PRESETS["modern-mini"])
    shown = plan(config, OptimConfig(batch_size=8, accumulation=2)).to_dict()
    assert shown["parameters"] == {"total": total_parameters(config), "by_component": parameters(config)}
    assert shown["bytes"] == storage(config)
    assert shown["training_memory_bytes"] == training_memory(config, OptimConfig(batch_size=8, accumulation=2))["total"]
    assert shown["flops_per_token"] == flops_per_token(config)


@pytest.mark.parametrize("context_length", [64, 256, 1024])
@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("run", [{}, {"dtype": "bf16"}, {"recompute": True}, {"kernel": "native"}], ids=str)
def test_the_parts_of_a_plan_sum_to_the_peak(context_length: int, accumulation: int, run: dict[str, Any]) -> None:
    config = GPTConfig.from_dict(PRESETS["gpt2-small"] | {"context_length": context_length})
    optim = OptimConfig(batch_size=4, accumulation=accumulation)
    shown = plan(config, optim, RunConfig(**run)).to_dict()
    parts = shown["training_memory_by_part"]
    assert sum(parts.values()) == shown["training_memory_bytes"]
    assert min(parts.values()) >= 0
    assert parts["weights"] == 4 * total_parameters(config)


def test_planning_needs_no_torch() -> None:
    script = (
        "import sys; from glassgpt.planning.plan import plan; from glassgpt.config import GPTConfig;"
        "plan(GPTConfig()).to_dict(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
