"""The models of the benchmark, made once: random weights as a Hugging Face directory, and in the peers' own formats.

All weights are normal with standard deviation 0.02, the residual stream's too, so that the text depends on every
matrix, and a mistake in a conversion shows in its tokens.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

SHAPES: dict[str, dict[str, Any]] = {
    "124m": {"vocab_size": 50257, "context_length": 1024, "embedding_dim": 768, "n_heads": 12, "n_layers": 12},
    "tiny": {"vocab_size": 65, "context_length": 64, "embedding_dim": 128, "n_heads": 4, "n_layers": 4},
}


def model_file(folder: Path, shape: str, form: str) -> Path:
    """Where the model of `shape` lies in `form`, made first where it is not there yet."""
    path = folder / (f"{shape}-{form}" if form.endswith(".gguf") else f"{shape}/{form}")
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name("making-" + path.name)
    makers: dict[str, Callable[[], None]] = {
        "hf": lambda: make_huggingface(aside, shape),
        "int8": lambda: quantize(model_file(folder, shape, "hf"), aside, "int8"),
        "int4": lambda: quantize(model_file(folder, shape, "hf"), aside, "int4"),
        "ct2-int8": lambda: make_ctranslate2(model_file(folder, shape, "hf"), aside),
        "f16.gguf": lambda: make_gguf(model_file(folder, shape, "hf"), aside),
        "q8_0.gguf": lambda: quantize_gguf(model_file(folder, shape, "f16.gguf"), aside, "Q8_0"),
        "q4_0.gguf": lambda: quantize_gguf(model_file(folder, shape, "f16.gguf"), aside, "Q4_0"),
    }
    makers[form]()
    return aside.replace(path)


def make_huggingface(path: Path, shape: str) -> None:
    """GPT-2 with its own vocabulary, biases of q, k, v and a tied head; tiny has neither bias nor tokenizer."""
    import torch

    from glassgpt.checkpoint.directory import save_checkpoint
    from glassgpt.config import GPTConfig
    from glassgpt.model import GPTModel
    from glassgpt.text.gpt2 import gpt2_vocabulary
    from glassgpt.text.tokenizer import Tokenizer

    config = GPTConfig(**SHAPES[shape], qkv_bias=shape == "124m", tie_embeddings=True, dropout_rate=0.0)
    model = GPTModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("norm.scale") else 0.0, 0.02, generator=generator)
    save_checkpoint(path, model, Tokenizer("gpt2", gpt2_vocabulary()) if shape == "124m" else None)


def quantize(source: Path, path: Path, form: Literal["int8", "int4"]) -> None:
    from glassgpt.api.export import export

    export(source, path, quantize=form)


def make_ctranslate2(source: Path, path: Path) -> None:
    """By its converter; it needs a token for the unknown, which a vocabulary of all bytes has no use for."""
    import json

    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(source)).convert(str(path), quantization="int8")
    settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
    settings["unk_token"] = settings["eos_token"]
    (path / "config.json").write_text(json.dumps(settings), encoding="utf-8")


def make_gguf(source: Path, path: Path) -> None:
    """The weights under llama.cpp's names: matrices in float16, vectors and positions in float32, no vocabulary."""
    import json

    import gguf
    from safetensors.numpy import load_file

    config = json.loads((source / "config.json").read_text())
    names = {
        "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "ln_2": "ffn_norm",
        "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    }  # fmt: skip
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("no_vocab")
    for name, tensor in load_file(source / "model.safetensors").items():
        part, _, kind = name.removeprefix("transformer.").rpartition(".")
        block = ""
        if part.startswith("h."):
            _, number, part = part.split(".", 2)
            block = f"blk.{number}."
        if ".c_" in part and kind == "weight":
            tensor = tensor.T  # GPT-2's matrices are (inputs, outputs)
        matrix = tensor.ndim == 2 and part != "wpe"
        writer.add_tensor(f"{block}{names[part]}.{kind}", tensor.astype("float16" if matrix else "float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize_gguf(source: Path, path: Path, kind: str) -> None:
    """llama.cpp's own quantisation, with its defaults (Q4_0 keeps the output head in six bits)."""
    import ctypes

    from llama_cpp import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    if llama_cpp.llama_model_quantize(str(source).encode(), str(path).encode(), ctypes.byref(options)):
        raise SystemExit(f"llama.cpp did not make {kind} of {source}")
