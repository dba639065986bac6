import dataclasses

import pytest

from glassgpt.config import (
    OTHER_TOOLS,
    PRESETS,
    SECTIONS,
    DataConfig,
    GPTConfig,
    OptimConfig,
    RunConfig,
    Settings,
    parse_bytes,
    preset,
)
from glassgpt.settings import InputError

SEED = {
    "vocab_size": 50257, "context_length": 1024, "embedding_dim": 768, "h_heads": 12, "n_layers": 12,
    "dropout_rate": 0.1, "qkv_bias": False,
}  # fmt: skip


def refusal(make, *arguments, **values) -> str:
    """The one line that a wrong input is answered with."""
    with pytest.raises(InputError) as error:
        make(*arguments, **values)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_the_seeds_dictionary_is_taken_as_it_is() -> None:
    config = GPTConfig.from_dict(SEED)
    assert config == GPTConfig(n_heads=12, dropout_rate=0.1)
    assert (config.n_kv_heads, config.head_dim, config.feed_forward_dim, config.qk_norm) == (12, 64, 3072, False)


def test_the_books_dialect_makes_the_same_config() -> None:
    renamed = {"embedding_dim": "emb_dim", "h_heads": "n_heads", "dropout_rate": "drop_rate"}
    assert GPTConfig.from_dict({renamed.get(k, k): v for k, v in SEED.items()}) == GPTConfig.from_dict(SEED)


@pytest.mark.parametrize("values", [{}, SEED, *PRESETS.values()])
def test_a_config_as_a_dictionary_makes_itself_again(values: dict[str, object]) -> None:
    config = GPTConfig.from_dict(values)
    assert GPTConfig.from_dict(config.to_dict()) == config


def test_one_setting_under_two_names_is_refused() -> None:
    assert refusal(GPTConfig.from_dict, SEED | {"n_heads": 6}).startswith("model.n_heads is given twice")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("n_embd", "embedding_dim"), ("hidden_size", "embedding_dim"), ("block_size", "context_length"),
        ("n_positions", "context_length"), ("n_layer", "n_layers"), ("num_hidden_layers", "n_layers"),
        ("n_head", "n_heads"), ("num_attention_heads", "n_heads"), ("num_key_value_heads", "n_kv_heads"),
        ("intermediate_size", "feed_forward_dim"), ("rms_norm_eps", "norm_eps"),
        ("tie_word_embeddings", "tie_embeddings"),
    ],
)  # fmt: skip
def test_another_tools_name_is_answered_with_ours(theirs: str, ours: str) -> None:
    assert refusal(GPTConfig.from_dict, {theirs: 1}) == f"unknown setting model.{theirs}: did you mean model.{ours}?"


def test_every_name_of_another_tool_leads_to_a_setting_that_exists() -> None:
    ours = {field.name for section in SECTIONS.values() for field in dataclasses.fields(section)}
    assert set(OTHER_TOOLS.values()) <= ours
    assert not set(OTHER_TOOLS) & ours


@pytest.mark.parametrize(("misspelt", "meant"), [("vocabsize", "vocab_size"), ("n_layrs", "n_layers")])
def test_a_misspelt_name_is_answered_with_the_nearest(misspelt: str, meant: str) -> None:
    assert refusal(GPTConfig.from_dict, {misspelt: 1}).endswith(f"did you mean model.{meant}?")


def test_a_name_like_no_other_is_answered_with_all() -> None:
    assert "known are: architecture, vocab_size, context_length" in refusal(GPTConfig.from_dict, {"zzz": 1})


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({"n_layers": 0}, "model.n_layers is 0, but must be at least 1"),
        ({"vocab_size": -5}, "model.vocab_size is -5, but"),
        ({"vocab_size": 2**31}, "model.vocab_size is 2147483648, but"),
        ({"context_length": 0}, "model.context_length is 0, but"),
        ({"dropout_rate": 1.0}, "model.dropout_rate is 1.0, but must be in [0, 1)"),
        ({"dropout_rate": -0.1}, "model.dropout_rate is -0.1, but"),
        ({"norm_eps": 0.0}, "model.norm_eps is 0.0, but"),
        ({"rope_theta": -1.0}, "model.rope_theta is -1.0, but"),
        ({"feed_forward_dim": -1}, "model.feed_forward_dim is -1, but"),
        ({"embedding_dim": 100}, "model.embedding_dim is 100 and model.n_heads is 12"),
        ({"n_kv_heads": 4}, "model.n_kv_heads is 4, but must equal n_heads in gpt2"),
        ({"head_dim": 32}, "model.head_dim is 32, but must be embedding_dim / n_heads"),
        ({"qk_norm": True}, "model.qk_norm is True, but must be false in gpt2"),
        ({"architecture": "modern", "n_kv_heads": 5}, "model.n_kv_heads is 5, but must divide model.n_heads"),
        ({"architecture": "modern", "qkv_bias": True}, "model.qkv_bias is True, but must be false"),
        ({"architecture": "modern", "head_dim": 7}, "model.head_dim is 7, but must be even"),
    ],
)
def test_an_impossible_size_is_refused_with_its_value_and_the_rule(values: dict[str, object], start: str) -> None:
    assert refusal(GPTConfig, **values).startswith(start)


def test_a_width_that_heads_cannot_share_is_answered_with_one_that_they_can() -> None:
    assert refusal(GPTConfig, embedding_dim=100).endswith("such as 108")
    assert GPTConfig(embedding_dim=108).head_dim == 9


@pytest.mark.parametrize(
    ("make", "values", "start"),
    [
        (DataConfig, {"val_fraction": 0.0}, "data.val_fraction is 0.0"),
        (DataConfig, {"val_fraction": 1.0}, "data.val_fraction is 1.0"),
        (OptimConfig, {"learning_rate": 0.0}, "optim.learning_rate is 0.0"),
        (OptimConfig, {"min_learning_rate": 1.0}, "optim.min_learning_rate is 1.0"),
        (OptimConfig, {"beta2": 1.0}, "optim.beta2 is 1.0"),
        (OptimConfig, {"batch_size": 0}, "optim.batch_size is 0"),
        (OptimConfig, {"accumulation": 0}, "optim.accumulation is 0"),
        (OptimConfig, {"accumulation": 3}, "optim.accumulation is 3, but must divide batch_size"),
        (OptimConfig, {"grad_clip": -1.0}, "optim.grad_clip is -1.0"),
        (OptimConfig, {"average_share": 1.5}, "optim.average_share is 1.5"),
        (OptimConfig, {"muon_learning_rate": 0.0}, "optim.muon_learning_rate is 0.0"),
        (OptimConfig, {"muon_momentum": 1.0}, "optim.muon_momentum is 1.0"),
        (OptimConfig, {"muon_iterations": 0}, "optim.muon_iterations is 0"),
        (RunConfig, {"steps": 0}, "run.steps is 0"),
        (RunConfig, {"steps": 5, "tokens": 5}, "run.steps is 5 and run.tokens is 5: give one"),
        (RunConfig, {"seed": -1}, "run.seed is -1"),
        (RunConfig, {"log_every": 0}, "run.log_every is 0"),
        (RunConfig, {"threads": -1}, "run.threads is -1"),
    ],
)
def test_a_wrong_value_of_another_section_is_named(make: type, values: dict[str, object], start: str) -> None:
    assert refusal(make, **values).startswith(start)


def test_gpt2_small_has_several_names() -> None:
    assert preset("gpt2-124m") == preset("gpt2") == preset("gpt2-small")
    assert GPTConfig.from_dict(preset("gpt2-xl")).n_heads == 25


def test_a_preset_that_does_not_exist_is_answered_with_the_nearest() -> None:
    assert refusal(preset, "gpt2-smal") == "no preset 'gpt2-smal': did you mean gpt2-small?"
    assert "known are gpt2-small" in refusal(preset, "zzz")


def test_a_preset_is_a_copy() -> None:
    preset("gpt2-small")["n_layers"] = 1
    assert preset("gpt2-small")["n_layers"] == 12


def test_the_content_of_a_configuration_file_makes_itself_again() -> None:
    settings = Settings.from_dict({"text": "book.txt", "model": SEED, "optim": {"learning_rate": "6e-4"}})
    assert settings.optim.learning_rate == 6e-4
    assert Settings.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({"modle": {}}, "unknown section 'modle' in the settings: did you mean model?"),
        ({"model": [1]}, "section 'model' of the settings is [1]"),
        ({"optim": {"lr": 1}}, "unknown setting optim.lr: did you mean optim.learning_rate?"),
        ({"run": {"max_iters": 1}}, "unknown setting run.max_iters: did you mean run.steps?"),
    ],
)
def test_a_wrong_key_in_a_configuration_file_is_named(values: dict[str, object], start: str) -> None:
    assert refusal(Settings.from_dict, values).startswith(start)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("2.5GB", 2_500_000_000), ("800 MiB", 800 * 2**20), ("1000000000", 10**9), ("3g", 3 * 10**9), (".5kB", 500)],
)
def test_bytes_are_read_with_and_without_a_unit(text: str, n_bytes: int) -> None:
    assert parse_bytes(text, "run.max_memory") == n_bytes


@pytest.mark.parametrize("text", ["", "much", "GB", "-1GB", "0", "2,5GB", "1 2GB", "5 apples"])
def test_other_amounts_of_memory_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r"run\.max_memory is .* such as 2\.5GB"):
        RunConfig(max_memory=text)
