"""A checkpoint holds what was saved, and every damage to it is found before use, with the file named."""

import ctypes
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
import torch
from forked import needs_fork
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as load_safetensors
from safetensors.torch import save_file
from tiny_models import CONFIGS, random_model, same_weights

from glassgpt.checkpoint.directory import TrainerState, load_model, load_trainer_state, save_checkpoint
from glassgpt.checkpoint.run import RunDirectory
from glassgpt.checkpoint.tensors import safetensors_parts
from glassgpt.config import GPTConfig
from glassgpt.files.atomic import SaveError, remove_litter
from glassgpt.files.manifest import MANIFEST, verify_checkpoint
from glassgpt.settings import InputError
from glassgpt.text.kinds import train_tokenizer
from glassgpt.text.tokenizer import Tokenizer

TINY = GPTConfig(vocab_size=257, context_length=8, embedding_dim=8, n_heads=2, n_layers=1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with everything in it; tests that damage one copy it first."""
    directory = tmp_path_factory.mktemp("run") / "step-00000003"
    state = TrainerState(tensors={"moment.weight": torch.randn(3, 5), "rng": torch.get_rng_state()},
                         counters={"step": 3, "loss": 0.1 + 0.2})  # fmt: skip
    save_checkpoint(directory, random_model(TINY), train_tokenizer("bytes", []), state)
    return directory


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "step-00000003"))


def test_a_checkpoint_holds_model_tokenizer_and_trainer(saved: Path) -> None:
    verify_checkpoint(saved)
    assert same_weights(load_model(saved), random_model(TINY))
    assert Tokenizer.load(saved).fingerprint() == train_tokenizer("bytes", []).fingerprint()
    listed = json.loads((saved / MANIFEST).read_text())["files"]
    present = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert present == {*listed, MANIFEST}


def test_the_trainer_s_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(7.0), "empty": torch.empty(0, 3), "half": torch.randn(3).bfloat16(),
        "nan": torch.tensor([float("nan"), -0.0]), "long": torch.tensor([2**62 + 1, -1]),
        "bytes": torch.get_rng_state(),
        "flags": torch.tensor([True, False]), "transposed": torch.randn(3, 4).T,
        "slice": torch.randn(9)[2:7:2],
        "expanded": torch.randn(1, 3).expand(4, 3),
    }  # fmt: skip
    tensors["shared"] = tensors["transposed"]
    counters = {"step": 10**20, "lr": 0.1, "tiny": 5e-324, "plan": [[0, 100]], "name": "é", "none": None}
    save_checkpoint(tmp_path / "c", random_model(TINY), None, TrainerState(tensors=tensors, counters=counters))
    back = load_trainer_state(tmp_path / "c")
    assert back.counters == counters
    assert back.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back.tensors[name].dtype == tensor.dtype
        assert back.tensors[name].shape == tensor.shape
        flat = tensor.contiguous().reshape(-1).view(torch.uint8)
        assert torch.equal(back.tensors[name].reshape(-1).view(torch.uint8), flat)


dtypes = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.tuples(dtypes, st.lists(st.integers(0, 3), max_size=3)), max_size=5))
def test_the_safetensors_library_reads_what_we_write(
    kinds: dict[str, tuple[torch.dtype, list[int]]],
) -> None:
    kinds.pop("__metadata__", None)
    tensors = {name: torch.randn(shape).to(dtype) for name, (dtype, shape) in kinds.items()}
    back = load_safetensors(b"".join(safetensors_parts(tensors)))
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    assert all(back[name].dtype == tensor.dtype for name, tensor in tensors.items())


def open_all(directory: Path) -> None:
    load_model(directory)
    Tokenizer.load(directory)
    load_trainer_state(directory)


def test_any_flipped_bit_is_found_and_its_file_named(copy: Path) -> None:
    chance = random.Random(0)
    for path in [path for path in copy.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        for _ in range(25):
            place, bit = chance.randrange(len(content)), chance.randrange(8)
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(InputError, match=path.name.replace(".", r"\.")):
                verify_checkpoint(copy)
            with pytest.raises(InputError, match=path.name.replace(".", r"\.")):
                open_all(copy)
        path.write_bytes(content)
    open_all(copy)


def test_any_truncated_or_missing_file_is_found_and_named(copy: Path) -> None:
    chance = random.Random(0)
    for path in [path for path in copy.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        for length in (0, len(content) - 1, *(chance.randrange(len(content)) for _ in range(5))):
            path.write_bytes(content[:length])
            with pytest.raises(InputError, match=path.name.replace(".", r"\.")):
                open_all(copy)
        path.unlink()
        if path.name != MANIFEST:
            with pytest.raises(InputError, match=path.name.replace(".", r"\.")):
                open_all(copy)
        path.write_bytes(content)


def test_a_file_of_another_checkpoint_is_found(saved: Path, copy: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other", random_model(TINY, seed=9), train_tokenizer("bytes", []))
    shutil.copy(tmp_path / "other/model.safetensors", copy)
    with pytest.raises(InputError, match=r"model\.safetensors was altered"):
        load_model(copy)


def test_without_the_manifest_a_flipped_weight_goes_unseen(copy: Path) -> None:
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    (copy / MANIFEST).unlink()
    assert not same_weights(load_model(copy), random_model(TINY))


def test_a_manifest_cannot_point_outside(copy: Path) -> None:
    (copy.parent / "outside").write_text("x")
    values = json.loads((copy / MANIFEST).read_text())
    values["files"]["../outside"] = {"bytes": 1, "sha256": "0"}
    (copy / MANIFEST).write_text(json.dumps(values, indent=1) + "\n")
    with pytest.raises(InputError, match=r"manifest\.json was altered"):
        verify_checkpoint(copy)


def test_the_model_opens_though_the_trainer_s_state_is_damaged(copy: Path) -> None:
    (copy / "trainer/state.safetensors").write_bytes(b"")
    load_model(copy)
    with pytest.raises(InputError, match=r"state\.safetensors"):
        load_trainer_state(copy)


def test_added_files_are_no_damage(copy: Path) -> None:
    (copy / "README.md").write_text("A model of mine.")
    (copy / "model.safetensors.index.json").write_text("{}")
    open_all(copy)


def test_a_checkpoint_is_replaced_and_anything_else_is_not(copy: Path, tmp_path: Path) -> None:
    save_checkpoint(copy, random_model(TINY, seed=4), None)
    assert same_weights(load_model(copy), random_model(TINY, seed=4))
    assert not (copy / "trainer").exists()
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/to-anna.txt").write_text("dear Anna")
    for place in (tmp_path / "letters", tmp_path / "letters/to-anna.txt"):
        with pytest.raises(InputError, match="is no checkpoint, so it is not replaced"):
            save_checkpoint(place, random_model(TINY), None)
    assert (tmp_path / "letters/to-anna.txt").read_text() == "dear Anna"
    assert {path.name for path in tmp_path.iterdir()} == {copy.name, "letters"}


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the tokenizer has 257 ids, the model only 61"):
        save_checkpoint(tmp_path / "c", random_model(CONFIGS["gpt2"]), train_tokenizer("bytes", []))


@pytest.mark.parametrize(
    "header",
    [b"", b"\xff" * 8, (10**12).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"{]"],
    ids=["empty", "endless", "longer than the file", "no JSON"],
)
def test_a_safetensors_header_that_lies_is_named(header: bytes, copy: Path) -> None:
    (copy / MANIFEST).unlink()
    (copy / "model.safetensors").write_bytes(header)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_model(copy)


def test_a_config_for_another_model_is_refused_before_memory_is_taken(copy: Path) -> None:
    (copy / MANIFEST).unlink()
    values = json.loads((copy / "config.json").read_text())
    for change in (
        {"n_layer": 2**20},
        {"n_embd": 2**20, "n_head": 2**20, "n_inner": 2**20},
        {"vocab_size": 2**31 - 1},
    ):
        (copy / "config.json").write_text(json.dumps(values | change))
        with pytest.raises(InputError, match=r"config\.json"):
            load_model(copy)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "../model.safetensors"}}, "must be a .safetensors file beside it"),
        ({"weight_map": {"a": "shard.bin"}}, "must be a .safetensors file beside it"),
        ({"weight_map": {"a": "missing.safetensors"}}, r"missing\.safetensors"),
        (
            {"weight_map": {"b": "shard.safetensors"}},
            "says that tensor b is in shard.safetensors, but it is not",
        ),
        ({"weight_map": 3}, "has no weight_map"),
        ([], "has no weight_map"),
    ],
)
def test_an_index_of_shards_that_lies_is_refused(index: object, message: str, copy: Path) -> None:
    (copy / MANIFEST).unlink()
    (copy / "model.safetensors").unlink()
    save_file({"a": torch.zeros(1)}, copy / "shard.safetensors")
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        load_model(copy)


@needs_fork
def test_pickle_is_never_opened(copy: Path) -> None:
    (copy / MANIFEST).unlink()
    torch.save({"a": torch.zeros(1)}, copy / "pytorch_model.bin")

    def watched() -> None:
        seen = []
        sys.addaudithook(lambda event, args: seen.append(args) if event == "pickle.find_class" else None)
        load_model(copy)
        (copy / "model.safetensors").unlink()
        with pytest.raises(InputError, match=r"pytorch_model\.bin.*: convert it to safetensors"):
            load_model(copy)
        assert not seen
        pickle.loads(pickle.dumps(InputError))
        assert seen, "the hook sees nothing"

    forked.run(watched)


def test_a_directory_that_is_no_model_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        load_model(tmp_path)


def test_the_global_random_state_is_left_alone(saved: Path) -> None:
    before = torch.get_rng_state()
    load_model(saved)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.thorough
@needs_fork
def test_a_kill_at_any_moment_leaves_checkpoints_that_load(tmp_path: Path) -> None:
    """Real saves, killed 25 times after random delays; each child goes on where the one before it died."""
    run, chance = RunDirectory(tmp_path), random.Random(0)
    models = [random_model(TINY, seed=seed) for seed in range(5)]
    n_litter = reached = 0

    def train() -> None:
        for step in range(reached + 1, reached + 10_000):
            weights = dict(models[step % 5].named_parameters())
            trainer = TrainerState(tensors=weights, counters={"step": step})
            save_checkpoint(run.checkpoint_path(step), models[step % 5], None, trainer)
            run.record(step, 1.0 / step)
            run.prune()

    for _ in range(25):
        child = forked.start(train)
        time.sleep(chance.uniform(0.02, 0.08))
        forked.kill(child)
        n_litter += sum(".partial-" in path.name for path in tmp_path.iterdir())
        remove_litter(tmp_path)
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
        for checkpoint in run.checkpoints():
            assert (checkpoint / MANIFEST).is_file()
            verify_checkpoint(checkpoint)
        if run.checkpoints():
            point = run.resume_point()
            step = load_trainer_state(point.checkpoint).counters["step"]
            assert not point.passed_over
            assert step >= reached
            assert same_weights(load_model(point.checkpoint), models[step % 5])
            assert run.model() in run.checkpoints()
            reached = step
    assert reached > 3
    assert n_litter > 0, "no save was ever hit"


@pytest.mark.skipif(
    sys.platform != "linux" or (os.geteuid() != 0 and "CI" not in os.environ),
    reason="mounting a small tmpfs needs root on Linux",
)
def test_a_full_disk_leaves_the_last_checkpoint_and_one_line(tmp_path: Path) -> None:
    old, new = random_model(CONFIGS["gpt2"], 0), random_model(CONFIGS["gpt2"], 1)
    first, second = tmp_path / "step-00000001", tmp_path / "step-00000002"

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(tmp_path)], check=True)

    def fill() -> None:
        clone_newns = 0x20000  # mounts of our own, which end with this process
        assert ctypes.CDLL(None, use_errno=True).unshare(clone_newns) == 0
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        mount("size=1m")
        save_checkpoint(first, old, None)
        disk = os.statvfs(tmp_path)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024
        for room in (4, 8, 12, 24, 40, 56):
            mount(f"remount,size={used + room}k")
            with pytest.raises(SaveError, match="No space left on device; what was saved before") as refused:
                save_checkpoint(second, new, None)
            assert "\n" not in str(refused.value)
            assert [path.name for path in tmp_path.iterdir()] == [first.name]
            assert same_weights(load_model(first), old)
        mount("remount,size=1m")
        save_checkpoint(second, new, None)
        assert same_weights(load_model(second), new)

    forked.run(fill)
