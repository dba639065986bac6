"""load(): what writes, with which weights, and that it writes what the PyTorch model does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import glassgpt
from glassgpt.api.gpt import GPT
from glassgpt.checkpoint.directory import load_model, save_checkpoint
from glassgpt.cli.main import run
from glassgpt.config import GPTConfig
from glassgpt.generation.generate import generate_with_logits
from glassgpt.generation.sampling import Sampling
from glassgpt.generation.sequence import Request
from glassgpt.model import GPTModel
from glassgpt.native.compiled import library
from glassgpt.settings import InputError
from glassgpt.text.kinds import train_tokenizer

needs_native = pytest.mark.skipif(library() is None, reason="the native code was not built")
GREEDY = Sampling(temperature=0)
SIZES: dict[str, Any] = {"vocab_size": 257, "context_length": 32, "embedding_dim": 24, "n_heads": 3, "n_layers": 2}
MODERN = {"architecture": "modern"}
SHAPES = {
    "gpt2": GPTConfig(**SIZES),
    "gpt2-tied-bias": GPTConfig(**SIZES, tie_embeddings=True, qkv_bias=True),
    "llama": GPTConfig(**SIZES | MODERN, qk_norm=False),
    "qwen3-grouped-tied": GPTConfig(**SIZES | MODERN | {"n_heads": 4, "n_kv_heads": 2}, tie_embeddings=True),
}


def saved(folder: Path, config: GPTConfig, dtype: torch.dtype = torch.float32) -> Path:
    """A model directory with weights that matter."""
    model, generator = GPTModel(config), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.3 * drawn if parameter.dim() > 1 else 0.8 + 0.3 * drawn)
    save_checkpoint(folder, model.to(dtype), train_tokenizer("bytes", []))
    return folder


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "model", SHAPES["gpt2-tied-bias"])


class OwnNorm(torch.nn.Sequential):
    """What it has, as a part that nobody knows."""


def in_a_process(program: str, **more: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=os.environ | more
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_native
@pytest.mark.parametrize("flags", [[], ["--dtype", "int8"], ["--num-samples", "3", "--json"], ["--show-probabilities"]])
def test_generate_imports_no_torch(directory: Path, flags: list[str]) -> None:
    command = ["generate", str(directory), "--prompt", "Once", "--max-new-tokens", "4", *flags]
    loaded = "[name for name in sys.modules if name.partition('.')[0] in ('torch', 'transformers', 'safetensors')]"
    program = f"import sys; from glassgpt.cli.main import run; assert run({command}) == 0; print(); print({loaded})"
    assert in_a_process(program).splitlines()[-1] == "[]"


@needs_native
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_native_decoder_writes_what_the_model_does(shape: str, dtype: torch.dtype, tmp_path: Path) -> None:
    gpt = glassgpt.load(saved(tmp_path / "model", SHAPES[shape], dtype))
    assert gpt.decoder
    prompt = gpt.prompt_ids("Once upon")
    ours = [*gpt.continued(prompt, 50, GREEDY)]
    theirs = [*generate_with_logits(gpt.model, prompt, max_new_tokens=50, sampling=GREEDY)]
    assert [token for token, _ in ours] == [token for token, _ in theirs]
    for (_, a), (_, b) in zip(ours, theirs, strict=True):
        assert np.abs(a - b).max() <= 1e-4 * max(1, np.abs(b).max())


@pytest.mark.thorough
@needs_native
def test_without_the_library_pytorch_writes_the_same_text(directory: Path, tmp_path: Path) -> None:
    package = Path(glassgpt.__file__).parent
    shutil.copytree(package, tmp_path / "glassgpt", ignore=shutil.ignore_patterns("libglassgpt.*", "__pycache__"))
    program = (
        f"import glassgpt; gpt = glassgpt.load({str(directory)!r}); assert gpt.decoder is None\n"
        "print([*gpt.ids('Once upon', 40, glassgpt.api.gpt.Sampling(temperature=0))])\n"
        "print(glassgpt.__file__)"
    )
    ids, file = in_a_process(program, PYTHONPATH=str(tmp_path)).splitlines()
    assert Path(file).is_relative_to(tmp_path)
    assert ids == str([*glassgpt.load(directory).ids("Once upon", 40, GREEDY)])


@needs_native
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_quantised_directory_writes_what_rounding_on_loading_does(kind: str, directory: Path, tmp_path: Path) -> None:
    gpt = glassgpt.load(directory, dtype=kind)
    save_checkpoint(tmp_path / "q", load_model(directory), gpt.tokenizer, quantize=kind)
    stored = glassgpt.load(tmp_path / "q")
    assert stored.dtype == gpt.dtype == kind
    assert [*stored.ids("Once", 60)] == [*gpt.ids("Once", 60)]
    with pytest.raises(InputError, match=f"is quantised to {kind} already"):
        glassgpt.load(tmp_path / "q", dtype="bf16")


@pytest.mark.parametrize("kind", ["bf16", "int8", "int4"])
def test_gpt_model_has_the_weights_rounded_too(kind: str, directory: Path) -> None:
    gpt = glassgpt.load(directory, dtype=kind)
    exact = glassgpt.load(directory)
    ids = torch.tensor([gpt.prompt_ids("Once upon a time")])
    with torch.no_grad():
        apart = (gpt.model(ids).float() - exact.model(ids)).abs().max() / exact.model(ids).abs().max()
    assert 0 < apart < {"bf16": 0.05, "int8": 0.05, "int4": 0.5}[kind]


def test_texts_taken_by_turns_are_those_written_alone(directory: Path) -> None:
    gpt = glassgpt.load(directory)
    prompts = ["Once upon", "Once more", "x" * 30]
    alone = [[*glassgpt.load(directory).ids(prompt, 40)] for prompt in prompts]
    by_turns = [gpt.ids(prompt, 40) for prompt in prompts]
    rounds = [[next(text) for text in by_turns] for _ in range(40)]
    assert [list(text) for text in zip(*rounds)] == alone


def test_texts_of_one_batch_are_those_written_one_by_one(directory: Path) -> None:
    gpt = glassgpt.load(directory)
    alone = [[*gpt.ids("Once", 50, sequence=sequence)] for sequence in range(20)]
    assert [[*text] for text in gpt.together("Once", 20, 50)] == alone
    by_turns = gpt.together("Once", 3, 50)
    by_turns[1].close()
    assert [*by_turns[2]] == alone[2]
    assert [*by_turns[0]] == alone[0]


@pytest.mark.parametrize("written_by", ["the native decoder", "PyTorch", "a model of the user's own"])
def test_an_engine_writes_what_generate_writes(written_by: str, directory: Path) -> None:
    gpt = glassgpt.load(directory)
    if written_by != "the native decoder":
        gpt = replace(gpt, native=None)
    if written_by == "a model of the user's own":
        gpt.model.final_norm = OwnNorm(gpt.model.final_norm)
    engine = gpt.engine(n_slots=2)
    prompts = ["Once", "Twice", "Never"]
    requests = [Request(ids=gpt.prompt_ids(prompt), max_new_tokens=40, sampling=GREEDY) for prompt in prompts]
    stop = gpt.tokenizer.end_of_text
    texts = engine.run([replace(request, stop=stop) for request in requests])
    assert [text.written for text in texts] == [[*gpt.ids(prompt, 40, GREEDY)] for prompt in prompts]


@needs_native
@pytest.mark.skipif(os.name == "nt", reason="Windows removes no open file")
def test_a_directory_that_is_removed_after_loading_can_still_be_used(directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    gpt = glassgpt.load(copy)
    shutil.rmtree(copy)
    assert gpt.generate("Once", 5) == glassgpt.load(directory).generate("Once", 5)
    assert isinstance(gpt.model, GPTModel)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_an_altered_file_is_what_is_told_whatever_else_it_led_to(name: str, directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(b"{" * 20 + content[20:])
    with pytest.raises(InputError, match=f"{name} was altered since it was saved"):
        glassgpt.load(copy)


Refused = Callable[[GPT], object]


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda gpt: gpt.continued([]), "the prompt has no tokens"),
        (lambda gpt: gpt.continued([257]), "token 257 is not in the model's vocabulary"),
        (lambda gpt: gpt.continued([-1]), "token -1 is not in"),
        (lambda gpt: gpt.ids("x" * 33), "the prompt has 33 tokens, but the model's context_length is 32"),
        (lambda gpt: gpt.ids("x", 0), "max_new_tokens is 0"),
        (lambda gpt: gpt.together("x" * 33, 2), "the prompt has 33 tokens"),
        (lambda gpt: gpt.generate("x", 5.5), "max_new_tokens is 5.5, but must be a whole number"),
        (lambda gpt: gpt.generate("x", "5"), "max_new_tokens is '5', but must be a whole number"),
        (lambda gpt: gpt.generate(None), "the prompt is None, but must be a text"),
        (lambda gpt: gpt.generate("a\ud800"), r"character 2 of the prompt is '\\ud800', half of a surrogate pair"),
        (lambda gpt: gpt.engine(0), "n_slots is 0, but must be a whole number from 1"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(write: Refused, says: str, directory: Path) -> None:
    with pytest.raises(InputError, match=says):
        write(glassgpt.load(directory))


@needs_native
def test_what_does_not_fit_the_memory_is_refused_in_one_line(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("glassgpt.api.native.memory_free", lambda: 90_000)
    assert run(["generate", str(directory)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "the weights in fp32 take" in err
    assert err.count("\n") == 1
    monkeypatch.undo()
    gpt = glassgpt.load(directory)
    gpt.prepare()
    monkeypatch.setattr("glassgpt.api.native.memory_free", lambda: 10_000)
    with pytest.raises(InputError, match="the cache of 1 x 32 tokens"):
        gpt.ids("Once", 500)
    with pytest.raises(InputError, match="the cache of 16 x 32 tokens"):
        gpt.engine()
