"""Ids that there are not, numbers of the wrong kind and another model's tokenizer are refused before the first step."""

import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import header_and_data, safetensors_of
from targets import read_signed_shard

import glassgpt
from glassgpt.checkpoint.directory import load_trainer_state
from glassgpt.checkpoint.tensors import TensorFile, safetensors_parts
from glassgpt.cli.main import run
from glassgpt.config import DataConfig
from glassgpt.data.prepare import prepare
from glassgpt.data.shards import FIELDS, HEADER_SIZE, id_dtype, read_shard, write_shard
from glassgpt.files.atomic import FileSum
from glassgpt.files.manifest import MANIFEST, manifest_bytes, saved_names
from glassgpt.model import GPTModel
from glassgpt.settings import InputError
from glassgpt.text.corpus import Corpus
from glassgpt.text.kinds import train_tokenizer
from glassgpt.text.stories import write_stories

TINY = """
model: {n_layers: 1, embedding_dim: 4, n_heads: 1, context_length: 8}
optim: {name: adamw, batch_size: 4}
run: {threads: 1, dtype: fp32, steps: 2, eval_every: 2}
"""
LATEST = "step-00000002"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of 2 steps on bytes, so of 257 ids."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY + f"data: {{cache: {folder / 'cache'}, tokenizer: bytes}}\n")
    (folder / "tales.txt").write_text("\n".join(write_stories(10, seed=4)), encoding="utf-8")
    glassgpt.train(folder / "tales.txt", config=folder / "tiny.yaml", out=folder / "run")
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "run", tmp_path / "run", symlinks=True))


def sign(checkpoint: Path) -> None:
    """Make the manifest anew for what is there now."""
    names = saved_names(checkpoint) - {MANIFEST}
    contents = {name: (checkpoint / name).read_bytes() for name in names}
    sums = {name: FileSum(n_bytes=len(c), sha256=hashlib.sha256(c).hexdigest()) for name, c in contents.items()}
    (checkpoint / MANIFEST).write_bytes(manifest_bytes(sums))


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The line that a command is refused with."""
    code = run([str(argument) for argument in arguments])
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("glassgpt: ")]
    assert (code, len(lines)) == (2, 1), err
    assert "Traceback" not in err
    return lines[0]


def refusal(function: Callable[[], object]) -> str | None:
    try:
        function()
    except InputError as error:
        return str(error)
    return None


def test_an_id_outside_the_vocabulary_is_neither_written_nor_read(
    tmp_path: Path, amount: Callable[[int, int], int], tally: Any
) -> None:
    chance, path, trials = random.Random(1), tmp_path / "a.shard", amount(15, 1000)
    failures = unseen = 0
    for _ in range(trials):
        vocab_size = chance.choice([257, 1024, 65_535, 65_536, 65_537, 100_000])
        ids = np.array([chance.randrange(vocab_size) for _ in range(20)])
        wrong = chance.choice([vocab_size, vocab_size + chance.randrange(1000), -1 - chance.randrange(1000)])
        place = chance.randrange(20)
        bad = np.where(np.arange(20) == place, wrong, ids)
        said = refusal(lambda bad=bad, size=vocab_size: write_shard(path, [bad], size))
        failures += f"token id {wrong} is outside the vocabulary of {vocab_size}" not in (said or "")
        write_shard(path, [ids], vocab_size)  # and now as another program, or a mistake, would have it
        content = bytearray(path.read_bytes())
        lower = int(ids.max())
        content[16:24] = lower.to_bytes(8, "little")
        if id_dtype(lower) == id_dtype(vocab_size):
            path.write_bytes(content)
            said = refusal(lambda: read_signed_shard(path))
            failures += f"holds id {lower}, its vocabulary ends at {lower - 1}" not in (said or "")
            unseen += int(np.frombuffer(content[HEADER_SIZE:], id_dtype(lower)).max()) >= lower
    control = f"taken as they are: {unseen} shards hold an id that there is not"
    tally("R8", "an id outside the vocabulary, to be written or in a shard", trials, failures, control=control)
    assert failures == 0
    assert unseen > 0


def test_vocabularies_beyond_65_536_take_four_bytes_and_no_shard_of_another_width_is_read(
    tmp_path: Path, amount: Callable[[int, int], int], tally: Any
) -> None:
    chance, path, trials = random.Random(2), tmp_path / "a.shard", amount(15, 1000)
    failures = wrapped = 0
    for number in range(trials):
        vocab_size = [65_535, 65_536, 65_537][number] if number < 3 else chance.randrange(60_000, 200_000)
        ids = np.array([vocab_size - 1, *(chance.randrange(vocab_size) for _ in range(9))])
        write_shard(path, [ids], vocab_size)
        failures += read_shard(path)[0].tolist() != ids.tolist()
        wrapped += ids.astype("<u2").tolist() != ids.tolist()
        other = np.dtype("<u4" if id_dtype(vocab_size).itemsize == 2 else "<u2")
        content = path.read_bytes()
        fields = FIELDS.pack(*FIELDS.unpack(content[: FIELDS.size])[:2], other.itemsize, vocab_size, len(ids))
        path.write_bytes(fields + bytes(32) + ids.astype(other).tobytes())
        said = refusal(lambda: read_signed_shard(path))
        failures += f"ids of {other.itemsize} bytes, which do not suit a vocabulary of {vocab_size}" not in (said or "")
    tally(
        "R8", "vocabularies about and above 65,536", trials, failures,
        control=f"always 2 bytes: {wrapped} texts come back as others",
    )  # fmt: skip
    assert failures == 0
    assert wrapped > trials // 2


@pytest.mark.thorough
def test_a_text_of_seventy_thousand_characters_is_prepared_and_read_as_it_is(tmp_path: Path) -> None:
    text = "".join(map(chr, [*range(0x4E00, 0xA000), *range(0x20000, 0x2A6DF), *range(0xAC00, 0xD7A4)]))
    prepared = prepare(Corpus.of([text + text[::-1]]), DataConfig(tokenizer="chars"), tmp_path)
    assert prepared.tokenizer.vocab_size > 2**16
    assert prepared.train.dtype == np.uint32
    ids = np.concatenate([prepared.train, prepared.val])
    assert prepared.tokenizer.decode(ids.tolist()) == text + text[::-1]
    assert prepared.tokenizer.decode((prepared.train.astype(np.uint16)).tolist()) not in text, "two bytes would wrap"


DTYPES = [torch.int64, torch.int32, torch.uint8, torch.bool, torch.float64]


def retyped(path: Path, name: str, dtype: torch.dtype) -> bytes:
    tensors = {key: tensor.clone() for key, tensor in TensorFile(path).items()}
    return b"".join(safetensors_parts(tensors | {name: tensors[name].to(dtype)}))


@pytest.mark.thorough
def test_weights_and_moments_of_a_wrong_type_are_refused_before_a_step(
    copy: Path, capsys: pytest.CaptureFixture[str], amount: Callable[[int, int], int], tally: Any
) -> None:
    checkpoint = copy / LATEST
    path, trials, failures = checkpoint / "model.safetensors", 0, 0
    content = path.read_bytes()
    for name in TensorFile(path):
        for dtype in DTYPES[: amount(1, len(DTYPES))]:
            trials += 1
            path.write_bytes(retyped(path, name, dtype))
            sign(checkpoint)
            failures += name not in (refusal(lambda: glassgpt.load(checkpoint)) or "")
            path.write_bytes(content)
    header, data = header_and_data(path)
    name = next(name for name in header if name != "__metadata__")
    path.write_bytes(safetensors_of(header | {name: header[name] | {"dtype": "I32"}}, data))  # of the same bytes
    sign(checkpoint)
    before = files_of(copy)
    for command in (["generate", copy], ["eval", copy], ["train", "--resume", copy, "--steps", "9"]):
        trials += 1
        failures += f"tensor {name} is I32" not in refused(capsys, *command)
    assert files_of(copy) == before
    path.write_bytes(content)

    state = checkpoint / "trainer" / "state.safetensors"
    content = state.read_bytes()
    silent = 0
    for name in TensorFile(state):
        dtype = torch.float32 if name.endswith("n_steps") else torch.int64
        is_wrong = TensorFile(state)[name].is_floating_point() == (dtype == torch.int64)
        state.write_bytes(retyped(state, name, dtype))
        sign(checkpoint)
        load_trainer_state(checkpoint)  # which knows of no types
        if is_wrong:
            trials += 1
            silent += 1
            failures += name not in refused(capsys, "train", "--resume", copy, "--steps", "9")
        state.write_bytes(content)
    assert (copy / "metrics.jsonl").read_bytes() == before[copy / "metrics.jsonl"]
    tally(
        "R8", "weights and moments of a wrong type", trials, failures,
        control=f"types not compared: {silent} of {silent} states are read",
    )  # fmt: skip
    assert failures == 0
    assert silent > 0


class Own(GPTModel):
    """A model of the user's own."""


@pytest.mark.thorough
def test_a_wrong_type_is_refused_in_a_model_of_the_users_own(trained: Path, tmp_path: Path) -> None:
    made = glassgpt.train(
        trained / "tales.txt", config=trained / "tiny.yaml", out=tmp_path / "run", model=Own
    ).directory  # fmt: skip
    path = made / LATEST / "model.safetensors"
    name = next(iter(TensorFile(path)))
    path.write_bytes(retyped(path, name, torch.int64))
    sign(made / LATEST)
    assert f"tensor {name} is torch.int64" in (refusal(lambda: glassgpt.load(made, model=Own).model) or "")


@pytest.mark.thorough
def test_another_models_tokenizer_is_refused_by_every_command(
    trained: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tally: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    checkpoint, failures, trials = copy / LATEST, 0, 0

    def must_say(says: str, *arguments: str | Path) -> None:
        nonlocal failures, trials
        before = files_of(copy)
        trials += 1
        failures += says not in refused(capsys, *arguments)
        assert files_of(copy) == before, "no step was taken and nothing written"

    resume = ("train", "--resume", copy, "--steps", "9")
    text = trained / "tales.txt"
    train = ("train", text, "--config", trained / "tiny.yaml", "--model.vocab-size", "100")
    must_say("model.vocab_size is 100, but the tokenizer bytes has 257 tokens", *train)
    assert not (tmp_path / "runs").exists()

    same_size = train_tokenizer("chars", ["abcdefghijklmnop"])
    assert same_size.vocab_size == 257
    same_size.save(checkpoint)
    must_say("tokenizer.json was altered since it was saved", "generate", checkpoint)
    sign(checkpoint)
    must_say("another tokenizer than the text", *resume)
    must_say("another tokenizer than the text", "eval", checkpoint)

    train_tokenizer("bpe:400", [text.read_text()]).save(checkpoint)
    sign(checkpoint)
    must_say("another tokenizer than the text", *resume)
    larger = f"has a tokenizer of {train_tokenizer('bpe:400', [text.read_text()]).vocab_size} ids for a model of 257"
    for arguments in (["generate"], ["eval"], ["eval", "--data", text], ["inspect", "--prompt", "a"]):
        must_say(larger, arguments[0], checkpoint, *arguments[1:])
    with pytest.raises(InputError, match="ids for a model of 257"):
        glassgpt.load(checkpoint)

    monkeypatch.setattr("glassgpt.api.start._fits", lambda vocab_size, prepared: None)
    with pytest.raises(IndexError):  # in the middle of the first step
        glassgpt.train(
            text, config=trained / "tiny.yaml", model={"vocab_size": 100}, run={"kernel": "torch"}, out=tmp_path / "bad"
        )
    tally(
        "R8", "another model's tokenizer in train, resume, generate, eval and inspect", trials, failures,
        control="sizes not compared: IndexError in the middle of a step",
    )  # fmt: skip
    assert failures == 0
