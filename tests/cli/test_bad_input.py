"""Bad input gets one clear line and exit code 2, and nothing on disk is harmed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glassgpt.cli.main import run

TRAIN = ["train", "text.txt", "--steps", "2", "--tokenizer", "bytes", "--model.context-length", "32"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story_file: Path) -> Path:
    """A folder with `text.txt` in it, the working directory of the test."""
    (tmp_path / "text.txt").write_text(story_file.read_text())
    (tmp_path / "top.yaml").write_text("steps: 5\n")
    (tmp_path / "shape.yaml").write_text("model: 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("glassgpt.api.texts.DEFAULT_CACHE", tmp_path / "cache")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command line is refused with."""
    code = run(list(arguments))
    out, err = capsys.readouterr()
    assert code == 2, (code, out, err)
    on_the_way = [line for line in out.splitlines() if not (line.startswith("GlassGPT ") or line.endswith(" ..."))]
    assert not on_the_way, out
    assert err.startswith("glassgpt: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "tekst.txt"], "text.txt"),
        (["train", "text.txt", "--model.n-layer", "3"], "did you mean model.n_layers"),
        (["train", "text.txt", "--model.n-embd", "64"], "did you mean model.embedding_dim"),
        (["train", "text.txt", "--block-size", "64"], "did you mean --model.context-length"),
        (["train", "text.txt", "--max-iters", "64"], "did you mean --run.steps"),
        (["train", "text.txt", "--stepz", "64"], "did you mean --steps?"),
        (["train", "text.txt", "--optm.beta1", "0.9"], "did you mean --optim.beta1"),
        (["train", "text.txt", "--steps", "9", "--model.embedding-dim", "65"], "such as 68"),
        (["train", "text.txt", "--model.embedding-dim", "65"], "must be even: rotary turns pairs"),
        (["train", "text.txt", "--model.n-layers", "many"], "must be a whole number"),
        (["train", "text.txt", "--model.n-layers", "0"], "must be at least 1"),
        (["train", "text.txt", "--model.n-layers"], "has no value"),
        (["train", "text.txt", "--optim.accumulation", "3"], "must divide batch_size"),
        (["train", "text.txt", "--steps", "3", "--tokens", "9"], "give one of the two"),
        (["train", "text.txt", "--steps", "0"], "must be at least 1"),
        (["train", "text.txt", "--minutes", "0.001"], "give at least --minutes "),
        (["train", "text.txt", "--minutes", "-1"], "must be above 0"),
        (["train", "text.txt", "--minutes", "0"], "must be above 0"),
        (["train", "text.txt", "--minutes", "1e12"], "at most 525,600 (a year)"),
        (["plan", "gpt2-small", "--minutes", "5"], "gpt2-small is none"),
        (["plan", "text.txt", "--minutes", "-5"], "must be above 0"),
        (["train", "text.txt", "--minutes", "nan"], "must be a number"),
        (["train", "text.txt", "--minutes", "ten"], "ten"),
        (["train", "text.txt", "--minutes", "3", "--steps", "9"], "give one of the two"),
        (["train", "text.txt", "--minutes", "3", "--tokens", "9"], "give one of the two"),
        (["train", "text.txt", "--run.minutes", "none", "--run.evaluations", "-1"], "must be at least 0"),
        (["train", "text.txt", "--data.max-bytes", "0"], "must be at least 1"),
        (["train", "text.txt", "--data.max-ram", "1MB"], "must be at least 64MB"),
        (["train", "text.txt", "--data.max-ram", "some"], "such as 2.5GB"),
        (["train", "text.txt", "--data.encoding", "cp1253x"], "did you mean cp125"),
        (["train", "text.txt", "--preset", "gpt2-huge"], "did you mean gpt2"),
        (["train", "text.txt", "--tokenizer", "bpe:12"], "must be from 258"),
        (["train", "text.txt", "--tokenizer", "wordpiece"], "a tokenizer is gpt2, bpe:N, chars or bytes"),
        (["train", "text.txt", "--model.vocab-size", "100"], "has"),
        (["train", "text.txt", "--model.context-length", "1000000"], "give more text or a shorter context"),
        (["train", "text.txt", "--val-fraction", "1.5"], "must be between 0 and 1"),
        ([*TRAIN, "--model.embedding-dim", "131072", "--model.n-layers", "96"], "the largest that fits is"),
        (
            [*TRAIN[:4], "--run.kernel=torch", "--model.context-length=4000", "--optim.batch-size=8192"],
            "or --run.max-memory",
        ),
        (["train", "text.txt", "--run.max-memory", "lots"], "such as 2.5GB"),
        ([*TRAIN, "--run.max-memory", "10MB"], "GB at the least"),
        ([*TRAIN, "--run.recompute", "--run.kernel", "native"], "give one of the two"),
        (["train", "text.txt", "--run.device", "cuda"], "finds no CUDA device"),
        (["train", "text.txt", "--config", "none.yaml"], "cannot read settings"),
        (["train", "text.txt", "--config", "top.yaml"], "did you mean run.steps"),
        (["train", "text.txt", "--config", "shape.yaml"], "section 'model' of the settings is 3"),
        (["train", "text.txt", "--steps", "1.5"], "must be a whole number"),
        (["generate", "--device", "tpu"], "must be one of auto, cpu, cuda, mps"),
        (["train", "--resume", "nothing"], "no directory nothing"),
        (["train", "text.txt", "--resume", "nothing"], "goes on with the run's own text"),
        (["generate"], "glassgpt train"),
        (["generate", "."], "is no model"),
        (["generate", "text.txt"], "is a file"),
        (["eval", "nothing"], "no directory nothing"),
        (["eval", "nothing", "--dtype", "int3"], "must be one of auto, fp32, bf16, int8, int4"),
        (["export"], "--out is needed by `glassgpt export`"),
        (["export", "--out", "there", "--format", "gguf"], "--format is 'gguf', but must be one of hf"),
        (["export", "--out", "there", "--quantize", "int3"], "must be one of int8, int4"),
        (["export", "nothing", "--out", "there"], "no directory nothing"),
        (["plan", "gpt5"], "did you mean gpt2"),
        (["plan", "gpt2-small", "--model.n-layers", "1000000000"], "at most 10,000"),
        (["plan", "gpt2-small", "--model.vocab-size", "1000000000000"], "below 2^31"),
        (["plan", "gpt2-small", "--model.context-length", "1000000000000000"], "below 2^31"),
        (["plan", "gpt2-small", "--model.embedding-dim", "2147483640", "--model.n-heads", "1"], "below 2^31"),
        (["plan", "gpt2-small", "--model.n-layers", "-3"], "at least 1"),
        (["plan", "gpt2-small", "--optim.batch-size", "1000000000"], "1,048,576 sequences"),
        (["plan", "gpt2-small", "--model.n-heads", "7"], "such as 770"),
        (["plan", "gpt2-small", "--run.steps", "7"], "does not change what a model costs"),
        (["tokenizer", "decode", "gpt2", "50257"], "no token"),
        (["tokenizer", "train", "text.txt", "--out", "."], "is not empty"),
        (["data", "info", "nothing"], "no directory nothing"),
        (["data", "verify", "."], "is no run"),
        (["trian", "text.txt"], "did you mean `glassgpt train`"),
        (["data", "infos"], "did you mean `glassgpt data info`"),
        (["train", "text.txt", "--minutes"], "--minutes has no value"),
        (["train", "text.txt", "--minutes", "abc"], "--minutes is 'abc', but must be a number"),
        (["generate", "--top-p", "x"], "--top-p is 'x', but must be a number"),
        (["generate", "--seed", "1", "--seed", "2"], "--seed is given twice"),
        (["generate", "--json=maybe"], "takes no value"),
        (["generate", "a", "b"], "has no use for 'b'"),
        (["tokenizer", "train", "text.txt"], "--out is needed by `glassgpt tokenizer train`"),
        (["doctor", "nothing"], "no directory nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_wrong_command_line_gets_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert says in refused(capsys, *arguments)
    assert not Path("runs").exists(), "nothing was made for a run that cannot begin"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no text"),
        (b"x", "too few"),
        (b"hello", "too few|tokens to train on"),
        (b"\x7fELF\x00\x01\x02" * 100, "binary"),
        (b"good text " * 50 + b"\xff\xfe bad", "500"),
        (b"%PDF-1.7 \xe2\xe3\xcf\xd3" * 100, "a PDF document; make text of it first"),
    ],
    ids=["empty", "one byte", "short", "binary", "invalid UTF-8", "PDF"],
)  # fmt: skip
def test_a_text_that_is_none_gets_one_line(
    capsys: pytest.CaptureFixture[str], own_folder: Path, content: bytes, says: str
) -> None:
    import re

    (own_folder / ("bad.pdf" if content.startswith(b"%PDF") else "bad.txt")).write_bytes(content)
    name = next(own_folder.glob("bad.*")).name
    assert re.search(says, refused(capsys, "train", name, "--steps", "2"))
    assert not Path("runs").exists()


@pytest.mark.thorough
def test_a_damaged_checkpoint_is_refused_and_named(capsys: pytest.CaptureFixture[str], own_folder: Path) -> None:
    assert run([*TRAIN, "--out", "a"]) == 0
    capsys.readouterr()
    weights = own_folder / "a" / "step-00000002" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 4
    weights.write_bytes(content)
    said = refused(capsys, "generate", "a")
    assert str(Path("a", "step-00000002", "model.safetensors")) in said
    assert f"take {Path('a', 'step-00000001')}, which is intact" in said
    weights.write_bytes(content[:-100])
    assert "model.safetensors" in refused(capsys, "eval", "a")
    other = own_folder / "a" / "step-00000001" / "model.safetensors"
    whole = other.read_bytes()
    other.write_bytes(whole[:-1])
    assert "model.safetensors" in refused(capsys, "train", "--resume", "a", "--steps", "4")
    other.write_bytes(whole)
    assert run(["train", "--resume", "a", "--steps", "4"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "resumed from step-00000001" in said
    assert f"passed over: {Path('a', 'step-00000002', 'model.safetensors')} has" in said


@pytest.mark.thorough
def test_a_damaged_shard_is_named_and_used_by_nothing(capsys: pytest.CaptureFixture[str], own_folder: Path) -> None:
    assert run([*TRAIN, "--out", "a"]) == 0
    capsys.readouterr()
    shard = next((own_folder / "cache").glob("*/val.shard"))
    whole = shard.read_bytes()
    damaged = whole[:80] + bytes([whole[80] ^ 1]) + whole[81:]
    shard.write_bytes(damaged)
    assert run(["data", "verify", "a"]) == 2
    assert "val.shard was altered" in capsys.readouterr().out
    assert "val.shard" in refused(capsys, "data", "verify", str(shard.parent))
    with pytest.warns(UserWarning, match=r"the text was prepared again: .*val\.shard was altered"):
        assert run(["eval", "a"]) == 0
    assert shard.read_bytes() == whole
    capsys.readouterr()
    shard.write_bytes(damaged)
    (own_folder / "text.txt").rename(own_folder / "elsewhere.txt")
    assert "val.shard was altered" in refused(capsys, "eval", "a")
    assert "val.shard was altered" in refused(capsys, "train", "--resume", "a", "--steps", "3")


@pytest.mark.thorough
def test_a_prompt_longer_than_the_context_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*TRAIN, "--out", "a"]) == 0
    capsys.readouterr()
    says = refused(capsys, "generate", "a", "--prompt", "word " * 100)
    assert "context_length is 32" in says


def test_an_output_folder_that_holds_something_is_refused(
    capsys: pytest.CaptureFixture[str], own_folder: Path
) -> None:
    (own_folder / "mine").mkdir()
    (own_folder / "mine" / "thesis.txt").write_text("years of work")
    assert "not empty" in refused(capsys, *TRAIN, "--out", "mine")
    assert (own_folder / "mine" / "thesis.txt").read_text() == "years of work"


FULL_DISK = """
set -e
mount -t tmpfs -o size=2m none {place}
{python} -m glassgpt train {text} --steps 4 --tokenizer bytes --out {place}/run --model.embedding-dim 64 \
    --model.n-layers 2 --model.context-length 32 --run.eval-every 2 --data.cache {cache} && code=0 || code=$?
ls {place}/run
{python} -m glassgpt generate {place}/run --max-new-tokens 5 >&2
exit $code
"""


@pytest.mark.thorough
def test_a_full_disk_is_one_line_and_the_last_good_checkpoint_survives(own_folder: Path) -> None:
    place = own_folder / "small"
    place.mkdir()
    script = FULL_DISK.format(python=sys.executable, text="text.txt", place=place, cache=own_folder / "cache")
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("only root may mount a small file system")
    found = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert found.returncode == 1, found
    failures = [line for line in found.stderr.splitlines() if line.startswith("glassgpt: ")]
    assert len(failures) == 1, found.stderr
    assert "No space left" in failures[0]
    assert "Traceback" not in found.stderr
    listed = found.stdout.splitlines()
    assert "step-00000002" in listed, found.stdout
    assert not [name for name in listed if name.startswith(".") or "partial" in name]
