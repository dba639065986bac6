"""export() writes a directory that is the same model, proves it, and replaces nothing but an earlier export."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

import glassgpt
from glassgpt.api.export import SAMPLE
from glassgpt.checkpoint.directory import load_model, save_checkpoint
from glassgpt.config import GPTConfig
from glassgpt.files.manifest import MANIFEST
from glassgpt.model import GPTModel, initialise
from glassgpt.quantization.formats import FORMATS, Format
from glassgpt.settings import InputError
from glassgpt.text.kinds import train_tokenizer
from glassgpt.text.tokenizer import Tokenizer

BYTES = train_tokenizer("bytes", [])
SHAPE = {"context_length": 32, "embedding_dim": 64, "n_heads": 2, "n_layers": 2, "vocab_size": BYTES.vocab_size}


def some_model(architecture: str = "gpt2") -> GPTModel:
    model = GPTModel(GPTConfig.from_dict({**SHAPE, "architecture": architecture}))
    initialise(model, torch.Generator().manual_seed(0))
    return model


@pytest.fixture
def source(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "source", some_model(), BYTES)
    return tmp_path / "source"


@pytest.fixture
def own_run(tmp_path: Path, story_file: Path) -> Path:
    small = {"embedding_dim": 32, "n_heads": 2, "n_layers": 1, "context_length": 32}
    return glassgpt.train(story_file, steps=2, tokenizer="bytes", model=small, out=tmp_path / "run").directory


def same_weights(one: Path, other: Path) -> bool:
    theirs = load_model(other).state_dict()
    return all(torch.equal(weight, theirs[name]) for name, weight in load_model(one).state_dict().items())


@pytest.mark.parametrize("architecture", ["gpt2", "modern"])
def test_a_plain_export_is_the_model_bit_for_bit(architecture: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "source", some_model(architecture), BYTES)
    done = glassgpt.export(tmp_path / "source", tmp_path / "out")
    assert (done.dtype, done.largest_logit_difference, done.same_choices) == ("fp32", 0.0, 1.0)
    assert done.bytes_after == done.bytes_before
    assert same_weights(tmp_path / "source", tmp_path / "out")
    assert Tokenizer.load(tmp_path / "out").decode(BYTES.encode(SAMPLE)) == SAMPLE


def test_the_weights_keep_their_precision(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "source", some_model().bfloat16(), BYTES)
    done = glassgpt.export(tmp_path / "source", tmp_path / "out")
    assert (done.dtype, done.bytes_after, done.largest_logit_difference) == ("bf16", done.bytes_before, 0.0)


def test_the_training_s_state_is_left_behind(own_run: Path, tmp_path: Path) -> None:
    checkpoint = (own_run / "latest").resolve()
    assert (checkpoint / "trainer").is_dir()
    glassgpt.export(own_run, tmp_path / "out")
    assert not (tmp_path / "out" / "trainer").exists()
    assert same_weights(own_run / "latest", tmp_path / "out")


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8.25), ("int4", 4.5)])
def test_a_quantised_export_is_small_and_near(kind: Format, bits: float, source: Path, tmp_path: Path) -> None:
    done = glassgpt.export(source, tmp_path / "out", quantize=kind)
    assert done.dtype == kind
    assert 0 < done.largest_logit_difference < 0.5 * done.largest_logit
    assert bits <= 8 * done.bytes_after / done.parameters < bits + 2, "biases, norms and positions are fp32"
    assert math.isfinite(glassgpt.load(tmp_path / "out").bits_per_byte("Once upon a time"))


@pytest.mark.parametrize("kind", FORMATS)
def test_rounded_on_loading_it_is_as_good_as_from_the_file_and_with_pytorch_nearly(
    kind: Format, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glassgpt.export(source, tmp_path / "out", quantize=kind)
    text = "Once upon a time there was a fox. " * 5
    on_loading = glassgpt.load(source, dtype=kind).bits_per_byte(text)
    assert glassgpt.load(tmp_path / "out").bits_per_byte(text) == on_loading
    monkeypatch.setattr("glassgpt.api.gpt.available", lambda: False)
    for directory, dtype in ((source, kind), (tmp_path / "out", "auto")):
        assert glassgpt.load(directory, dtype=dtype).bits_per_byte(text) == pytest.approx(on_loading, rel=2e-3)


def test_a_quantised_model_is_exported_in_full_but_not_quantised_again(source: Path, tmp_path: Path) -> None:
    glassgpt.export(source, tmp_path / "small", quantize="int8")
    for kind in FORMATS:
        with pytest.raises(InputError, match="is quantised to int8 already"):
            glassgpt.export(tmp_path / "small", tmp_path / "again", quantize=kind)
    done = glassgpt.export(tmp_path / "small", tmp_path / "full")
    assert (done.dtype, done.rounded_to, done.largest_logit_difference) == ("fp32", "int8", 0.0)


def test_an_earlier_export_is_replaced(source: Path, tmp_path: Path) -> None:
    first = glassgpt.export(source, tmp_path / "out", quantize="int8")
    second = glassgpt.export(source, tmp_path / "out", quantize="int4")
    assert (first.dtype, first.replaced) == ("int8", None)
    assert (second.dtype, second.replaced) == ("int4", "int8")


def test_an_earlier_export_is_replaced_though_it_is_damaged(source: Path, tmp_path: Path) -> None:
    glassgpt.export(source, tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").write_bytes(b"")
    assert glassgpt.export(source, tmp_path / "out").replaced == "damaged"
    assert same_weights(source, tmp_path / "out")


def test_nothing_else_is_replaced(source: Path, tmp_path: Path) -> None:
    file, folder, model = (tmp_path / name for name in ("file", "folder", "model"))
    file.write_text("mine")
    folder.mkdir()
    (folder / "mine").touch()
    shutil.copytree(source, model)
    (model / MANIFEST).unlink()  # as a model from the hub
    for out in (file, folder, model):
        before = sorted(out.rglob("*"))
        with pytest.raises(InputError, match="is no export of GlassGPT, so it is not replaced"):
            glassgpt.export(source, out)
        assert sorted(out.rglob("*")) == before


def test_a_file_that_was_added_to_an_export_is_named_and_kept(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    glassgpt.export(source, out)
    (out / "NOTES.md").touch()
    with pytest.raises(InputError, match=r"out holds 'NOTES\.md', which no export wrote, so it is not replaced"):
        glassgpt.export(source, out)
    (out / "README.md").touch()
    with pytest.raises(InputError, match=r"holds 'NOTES\.md' \(and 1 more\)"):
        glassgpt.export(source, out)
    assert (out / "NOTES.md").exists()


def test_the_model_that_is_read_is_not_replaced(source: Path, tmp_path: Path) -> None:
    before = sorted(source.rglob("*"))
    for out in (source, tmp_path / "elsewhere" / ".." / "source"):
        with pytest.raises(InputError, match="is the model that is being read, so it is not replaced"):
            glassgpt.export(source, out, quantize="int8")
    assert sorted(source.rglob("*")) == before


def test_a_checkpoint_of_a_run_is_not_replaced(own_run: Path, source: Path) -> None:
    with pytest.raises(InputError, match="is not replaced"):
        glassgpt.export(source, (own_run / "latest").resolve())


def test_weights_that_are_no_numbers_are_not_exported(tmp_path: Path) -> None:
    model = some_model()
    with torch.no_grad():
        model.final_norm.scale[0] = torch.inf
    save_checkpoint(tmp_path / "source", model, BYTES)
    with pytest.raises(InputError, match="damaged"):
        glassgpt.export(tmp_path / "source", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_of_the_user_s_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    values = {"model_type": "glassgpt-code", "glassgpt": {"code": None, "model": {"vocab_size": 9}}}
    (tmp_path / "own" / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="a model of your own"):
        glassgpt.export(tmp_path / "own", tmp_path / "out")
