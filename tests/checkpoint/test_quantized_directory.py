"""Quantised directories: what they hold and where, what opens them, and what is refused."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny_models import CONFIGS, random_model, same_weights, some_ids
from torch import nn

from glassgpt.checkpoint.directory import load_model, save_checkpoint
from glassgpt.checkpoint.huggingface_config import CONFIG
from glassgpt.checkpoint.packed import matrices, open_stored
from glassgpt.checkpoint.stored import WEIGHTS
from glassgpt.checkpoint.tensors import TensorFile, safetensors_parts
from glassgpt.files.manifest import MANIFEST
from glassgpt.model import GPTModel
from glassgpt.native.packing import unpack
from glassgpt.quantization import panels
from glassgpt.quantization.formats import FORMATS, Format
from glassgpt.quantization.modules import quantize
from glassgpt.quantization.panels import packed
from glassgpt.settings import InputError
from glassgpt.text.kinds import train_tokenizer


@torch.no_grad()
def rounded(model: GPTModel, kind: Format) -> GPTModel:
    model = copy.deepcopy(model)
    for matrix in {module.weight for module in model.modules() if type(module) in (nn.Linear, nn.Embedding)}:
        matrix.copy_(torch.from_numpy(unpack(packed(matrix, kind))))
    return model


def header(file: Path) -> tuple[dict[str, dict], int]:
    """The entries of a safetensors file, and where its data begins."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    del entries["__metadata__"]
    return entries, 8 + length


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "small", random_model(CONFIGS["gpt2-tied-bias"]), None, quantize="int8")
    return tmp_path / "small"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_shape_of_model_comes_back_with_its_rounded_weights(name: str, kind: Format, tmp_path: Path) -> None:
    model = random_model(CONFIGS[name])
    save_checkpoint(tmp_path / "q", model, None, quantize=kind)
    assert open_stored(tmp_path / "q").format == kind
    assert same_weights(load_model(tmp_path / "q"), rounded(model, kind))


def test_what_is_loaded_computes_what_the_quantised_model_does(saved: Path) -> None:
    model = random_model(CONFIGS["gpt2-tied-bias"])
    quantize(model, "int8")
    ids = some_ids(model.config.vocab_size, 9)
    with torch.inference_mode():
        torch.testing.assert_close(load_model(saved)(ids), model(ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", CONFIGS)
def test_what_the_decoder_maps_begins_on_the_lines_of_the_cache(name: str, kind: Format, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "q", random_model(CONFIGS[name]), None, quantize=kind)
    entries, data = header(tmp_path / "q" / WEIGHTS)
    for ours in matrices(CONFIGS[name]):
        assert (data + entries[f"{ours}.values"]["data_offsets"][0]) % 64 == 0
        assert (data + entries[f"{ours}.scales"]["data_offsets"][0]) % 32 == 0
    rest = {name: entry for name, entry in entries.items() if not name.endswith((".values", ".scales"))}
    assert {entry["dtype"] for entry in rest.values()} == {"F32"}
    assert all((data + entry["data_offsets"][0]) % 4 == 0 for entry in rest.values())
    assert not [name for name, entry in rest.items() if len(entry["shape"]) == 2 and "wpe" not in name]


def test_without_native_code_the_same_file_is_written(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "library", lambda: None)
    save_checkpoint(saved.with_name("plain"), random_model(CONFIGS["gpt2-tied-bias"]), None, quantize="int8")
    assert (saved.with_name("plain") / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()


def test_the_safetensors_library_opens_the_file(saved: Path) -> None:
    with safe_open(saved / WEIGHTS, framework="pt") as file:
        assert set(file.keys()) == set(header(saved / WEIGHTS)[0])
        assert torch.equal(file.get_tensor("transformer.ln_f.weight"), load_model(saved).final_norm.scale.detach())


def test_the_tokenizer_and_a_manifest_lie_beside_it(tmp_path: Path) -> None:
    tokenizer = train_tokenizer("bytes", [])
    config = CONFIGS["qwen3"].__class__(**{**CONFIGS["qwen3"].to_dict(), "vocab_size": tokenizer.vocab_size})
    save_checkpoint(tmp_path / "q", random_model(config), tokenizer, quantize="int4")
    names = set(json.loads((tmp_path / "q" / MANIFEST).read_text())["files"])
    assert {CONFIG, WEIGHTS, "tokenizer.json"} <= names


def test_transformers_refuses_it_rather_than_misreads_it(saved: Path) -> None:
    transformers = pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="glassgpt-gpt2"):
        transformers.AutoModelForCausalLM.from_pretrained(saved)


def test_any_flipped_bit_and_any_cut_is_one_line(saved: Path, tmp_path: Path) -> None:
    content = (saved / WEIGHTS).read_bytes()
    flipped = bytearray(content)
    flipped[-40] ^= 1
    for damaged in (bytes(flipped), content[:-1], content[:100], b""):
        (saved / WEIGHTS).write_bytes(damaged)
        with pytest.raises(InputError, match=r"model\.safetensors") as error:
            load_model(saved)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("blocks.0.feed_forward.up.weight.scales"), "lacks the tensor blocks.0.feed_forward.up.weight"),
        (lambda t: t.pop("transformer.wpe.weight"), "lacks the tensor transformer.wpe.weight"),
        (lambda t: t.update(extra=torch.zeros(3)), "holds the tensor extra, for which"),
        (lambda t: t.update({"lm_head.weight": torch.zeros(61, 24)}), "holds the tensor lm_head.weight, for which"),
        (
            lambda t: t.update({"token_embedding.weight.values": t["token_embedding.weight.values"][:1]}),
            "is U8 (1, 16, 16, 4), but its config.json asks for U8 (4, 16, 16, 4)",
        ),
        (
            lambda t: t.update({"token_embedding.weight.scales": t["token_embedding.weight.scales"].float()}),
            "is F32 (4, 1, 16), but its config.json asks for BF16 (4, 1, 16)",
        ),
        (
            lambda t: t.update({"transformer.ln_f.bias": torch.zeros(24, dtype=torch.uint8)}),
            "transformer.ln_f.bias is U8, but must be",
        ),
    ],
)
def test_a_file_that_is_sound_and_fits_not_is_one_line(saved: Path, change: object, says: str) -> None:
    tensors = {name: tensor.clone() for name, tensor in TensorFile(saved / WEIGHTS).items()}
    change(tensors)
    (saved / WEIGHTS).write_bytes(b"".join(map(bytes, safetensors_parts(tensors))))
    (saved / MANIFEST).unlink()
    with pytest.raises(InputError) as error:
        load_model(saved)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bits", [0xFFFF, 0x7F80, 0xFF80, 0x7FC0])
def test_a_scale_that_is_not_finite_is_one_line_that_names_its_tensor(saved: Path, bits: int) -> None:
    name = "blocks.0.attention.query.weight.scales"
    entries, data = header(saved / WEIGHTS)
    content = bytearray((saved / WEIGHTS).read_bytes())
    place = data + entries[name]["data_offsets"][0] + 6
    content[place : place + 2] = bits.to_bytes(2, "little")
    (saved / WEIGHTS).write_bytes(content)
    (saved / MANIFEST).unlink()
    for opened in (open_stored, load_model):
        with pytest.raises(InputError, match=f"tensor {name} has values that are not finite") as error:
            opened(saved)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "glassgpt", "format": "int3", "group_size": 64},
        {"quant_method": "glassgpt", "format": "int8", "group_size": 128},
        "int8",
        [1],
    ],
)
def test_another_way_of_quantising_is_refused(saved: Path, quantization: object) -> None:
    values = json.loads((saved / CONFIG).read_text())
    (saved / CONFIG).write_text(json.dumps(values | {"quantization_config": quantization}))
    (saved / MANIFEST).unlink()
    with pytest.raises(InputError, match="only GlassGPT's own int8 and int4 can be opened"):
        load_model(saved)


def test_a_format_that_is_not_the_files_is_one_line(saved: Path) -> None:
    text = (saved / CONFIG).read_text()
    (saved / CONFIG).write_text(text.replace('"int8"', '"int4"').replace('"group_size": 64', '"group_size": 32'))
    (saved / MANIFEST).unlink()
    with pytest.raises(InputError, match="asks for U8"):
        load_model(saved)


def test_a_quantised_model_is_not_saved_again(tmp_path: Path) -> None:
    model = random_model(CONFIGS["gpt2"])
    quantize(model, "int8")
    with pytest.raises(InputError, match="quantised already"):
        save_checkpoint(tmp_path / "q", model, None, quantize="int4")
    with pytest.raises(InputError, match="quantised already"):
        save_checkpoint(tmp_path / "q", model, None)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_quantised_leaves_what_was_there(saved: Path) -> None:
    before = shutil.copytree(saved, saved.with_name("before"))
    model = random_model(CONFIGS["gpt2-tied-bias"])
    with torch.no_grad():
        model.blocks[0].attention.key.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"blocks\.0\.attention\.key\.weight has values that are not finite"):
        save_checkpoint(saved, model, None, quantize="int8")
    assert same_weights(load_model(saved), load_model(before))
    assert len(list(saved.parent.iterdir())) == 2
