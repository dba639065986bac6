"""A model directory from anybody: whatever is wrong in it is one line that names the file, and nothing else happens."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from damage import header_and_data, safetensors_of, tiny_directory

from glassgpt.api.loaded import load
from glassgpt.cli.main import run

WEIGHTS, CONFIG, TOKENIZER, INDEX = (
    "model.safetensors", "config.json", "tokenizer.json", "model.safetensors.index.json",
)  # fmt: skip
Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as another tool leaves it: no manifest. Beside it one that nobody may read."""
    directory = tmp_path_factory.mktemp("models") / "sound"
    tiny_directory(directory)
    shutil.copytree(directory, directory.parent / "private")
    return directory


def header(change: Callable[[dict[str, Any], str], object]) -> Damage:
    """The header of the weights, changed; `change` gets it and the name of its first tensor."""

    def damage(directory: Path) -> None:
        entries, data = header_and_data(directory / WEIGHTS)
        change(entries, next(name for name in entries if name != "__metadata__"))
        (directory / WEIGHTS).write_bytes(safetensors_of(entries, data))

    return damage


def entry(**values: Any) -> Damage:
    """The first tensor, said to be something else."""
    return header(lambda entries, first: entries[first].update(values))


def dtype(name: str, width: int) -> Damage:
    """All tensors of another type, and of the bytes that they then have."""

    def damage(directory: Path) -> None:
        entries, end = header_and_data(directory / WEIGHTS)[0], 0
        entries.pop("__metadata__")
        for tensor in entries.values():
            start, end = end, end + width * torch.Size(tensor["shape"]).numel()
            tensor |= {"dtype": name, "data_offsets": [start, end]}
        (directory / WEIGHTS).write_bytes(safetensors_of(entries, bytes(end)))

    return damage


def content(name: str, data: bytes) -> Damage:
    return lambda directory: (directory / name).write_bytes(data)


def raw_header(data: bytes) -> Damage:
    return content(WEIGHTS, len(data).to_bytes(8, "little") + data)


def length(change: Callable[[int], int]) -> Damage:
    """A length of the header that lies."""

    def damage(directory: Path) -> None:
        data = (directory / WEIGHTS).read_bytes()
        n = change(int.from_bytes(data[:8], "little"))
        (directory / WEIGHTS).write_bytes(n.to_bytes(8, "little") + data[8:])

    return damage


def cut(name: str, n_bytes: int) -> Damage:
    return lambda directory: os.truncate(directory / name, (directory / name).stat().st_size + n_bytes)


def values(name: str, **changes: Any) -> Damage:
    """A JSON file with these values in it."""

    def damage(directory: Path) -> None:
        path = directory / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def vocabulary(**changes: Any) -> Damage:
    """tokenizer.json with another `model`."""

    def damage(directory: Path) -> None:
        values(TOKENIZER, model=json.loads((directory / TOKENIZER).read_text())["model"] | changes)(directory)

    return damage


def more_tokens(directory: Path) -> None:
    known = json.loads((directory / TOKENIZER).read_text())["model"]["vocab"]
    vocabulary(vocab=known | {"!!": len(known)}, merges=["! !"])(directory)


def renamed(name: str) -> Damage:
    return lambda directory: (directory / WEIGHTS).rename(directory / name)


def only(name: str) -> Damage:
    def damage(directory: Path) -> None:
        for file in directory.iterdir():
            file.unlink()
        (directory / name).write_bytes(pickle.dumps({"model": 1}))

    return damage


def folder(name: str) -> Damage:
    return lambda directory: ((directory / name).unlink(), (directory / name).mkdir())


def link(name: str, target: str) -> Damage:
    return lambda directory: ((directory / name).unlink(missing_ok=True), (directory / name).symlink_to(target))


def fifo(name: str) -> Damage:
    return lambda directory: ((directory / name).unlink(missing_ok=True), os.mkfifo(directory / name))


def shards(file: object) -> Damage:
    """The weights in a file that an index names."""

    def damage(directory: Path) -> None:
        names = [name for name in header_and_data(directory / WEIGHTS)[0] if name != "__metadata__"]
        (directory / WEIGHTS).rename(directory / "shard.safetensors")
        (directory / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, file)}))

    return damage


def linked_shard(directory: Path) -> None:
    shards("a.safetensors")(directory)
    link("a.safetensors", "../private/model.safetensors")(directory)


def manifest(*names: str) -> Damage:
    listed = {"format": 1, "files": {name: {"bytes": 1, "sha256": ""} for name in names}}
    return content("manifest.json", (json.dumps(listed, indent=1) + "\n").encode())


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
DEEP, NOT_UTF8 = b'{"a":' * 100_000, b'{"\xff": 1}'
DAMAGES: dict[str, tuple[Damage, str]] = {
    "weights empty": (content(WEIGHTS, b""), WEIGHTS),
    "weights of 7 bytes": (content(WEIGHTS, b"1234567"), WEIGHTS),
    "weights of zeros": (content(WEIGHTS, bytes(1000)), WEIGHTS),
    "weights cut": (cut(WEIGHTS, -1), WEIGHTS),
    "weights longer": (cut(WEIGHTS, 1), WEIGHTS),
    "weights of 100 GB": (cut(WEIGHTS, 10**11), WEIGHTS),
    "weights a folder": (folder(WEIGHTS), f"no {WEIGHTS}"),
    "weights a pipe": (fifo(WEIGHTS), f"no {WEIGHTS}"),
    "weights gone": (lambda directory: (directory / WEIGHTS).unlink(), f"no {WEIGHTS}"),
    "header longer": (length(lambda n: n + 1), WEIGHTS),
    "header shorter": (length(lambda n: n - 1), WEIGHTS),
    "header of none": (length(lambda n: 0), WEIGHTS),
    "header of 1 GB": (length(lambda n: 10**9), WEIGHTS),
    "header of 2^63": (length(lambda n: 2**63), WEIGHTS),
    "header of 2^64 - 1": (length(lambda n: 2**64 - 1), WEIGHTS),
    "header no JSON": (raw_header(b"{]"), WEIGHTS),
    "header deep": (raw_header(DEEP), WEIGHTS),
    "header no UTF-8": (raw_header(NOT_UTF8), WEIGHTS),
    "header null": (raw_header(b"null"), WEIGHTS),
    "offsets overlap": (entry(data_offsets=[0, 8000]), WEIGHTS),
    "offsets backwards": (entry(data_offsets=[4, 0]), WEIGHTS),
    "offsets below 0": (entry(data_offsets=[-4, 0]), WEIGHTS),
    "offsets of 2^63": (entry(data_offsets=[0, 2**63]), WEIGHTS),
    "offsets of 2^64": (entry(data_offsets=[0, 2**64]), WEIGHTS),
    "one offset": (entry(data_offsets=[0]), WEIGHTS),
    "a hole": (header(lambda entries, first: entries.pop(first)), WEIGHTS),
    "a shape below 0": (entry(shape=[-1]), WEIGHTS),
    "a shape of 2^80": (entry(shape=[2**40, 2**40]), WEIGHTS),
    "a shape of text": (entry(shape="wide"), WEIGHTS),
    "a shape of 1,000 axes": (
        header(lambda entries, first: entries[first].update(shape=[1] * 1000 + entries[first]["shape"])),
        "has the shape (1, 1,",
    ),
    "an unknown type": (entry(dtype="X9"), WEIGHTS),
    "a type that is a number": (entry(dtype=3), WEIGHTS),
    "float64": (dtype("F64", 8), "is F64, but must be"),
    "int32": (dtype("I32", 4), "is I32, but must be"),
    "float8": (dtype("F8_E4M3", 1), "is F8_E4M3, but must be"),
    "a tensor twice": (
        lambda directory: (directory / WEIGHTS).write_bytes(
            safetensors_of(*header_and_data(directory / WEIGHTS), twice="lm_head.weight")
        ),
        "has two tensors of the name 'lm_head.weight'",
    ),
    "a tensor under another name": (
        header(lambda entries, first: entries.update({"a\n\x1b[2Jb": entries.pop(first)})), "lacks the tensor",
    ),
    "a tensor too many": (
        header(lambda entries, _: entries.update({"a\n\x1b[2Jb": EMPTY})),
        r"holds the tensor a\n\x1b[2Jb, for which",
    ),
    "config empty": (content(CONFIG, b""), CONFIG),
    "config a list": (content(CONFIG, b"[]"), CONFIG),
    "config deep": (content(CONFIG, DEEP), CONFIG),
    "config no UTF-8": (content(CONFIG, NOT_UTF8), CONFIG),
    "config of 5 GB": (cut(CONFIG, 5 * 10**9), f"{CONFIG} has more than"),
    "config a folder": (folder(CONFIG), CONFIG),
    "config a pipe": (fifo(CONFIG), CONFIG),
    "config of no model": (content(CONFIG, b"{}"), "model_type None"),
    "config of another model": (values(CONFIG, model_type="bert"), "model_type 'bert'"),
    "config with a long type": (values(CONFIG, model_type="b" * 10**6), "bbb...: only gpt2"),
    "config with words": (values(CONFIG, n_layer="many"), "model.n_layers is 'many'"),
    "config of 10^400": (values(CONFIG, n_embd=10**400), "must be below 2^63"),
    "config of 1,001 layers": (values(CONFIG, n_layer=1001), "at most 1,000"),
    "config of a vast width": (values(CONFIG, n_embd=2**20, n_inner=2**20), "asks for (257, 1048576)"),
    "config of a vast vocabulary": (values(CONFIG, vocab_size=2**31 - 1), "asks for (2147483647, 8)"),
    "config of a vast context": (values(CONFIG, n_positions=2**20), "asks for (1048576, 8)"),
    "config of more layers": (values(CONFIG, n_layer=2), "lacks the tensor transformer.h.1"),
    "config of its own code, damaged": (
        values(CONFIG, model_type="glassgpt-code", glassgpt={"model": {"n_layers": "x"}}), f"{CONFIG}: model.n_layers",
    ),
    "config of its own code, none": (values(CONFIG, model_type="glassgpt-code", glassgpt={"model": 3}), CONFIG),
    "tokenizer empty": (content(TOKENIZER, b""), TOKENIZER),
    "tokenizer deep": (content(TOKENIZER, DEEP), TOKENIZER),
    "tokenizer no UTF-8": (content(TOKENIZER, NOT_UTF8), TOKENIZER),
    "tokenizer of 5 GB": (cut(TOKENIZER, 5 * 10**9), f"{TOKENIZER} has more than"),
    "tokenizer a folder": (folder(TOKENIZER), f"no {TOKENIZER}"),
    "tokenizer gone": (lambda directory: (directory / TOKENIZER).unlink(), f"no {TOKENIZER}"),
    "tokenizer without a model": (content(TOKENIZER, b"{}"), TOKENIZER),
    "tokenizer of another kind": (vocabulary(type="Unigram"), "holds a Unigram tokenizer"),
    "tokenizer with words for ids": (vocabulary(vocab={"a": "b"}), TOKENIZER),
    "tokenizer with a million merges": (vocabulary(merges=["! !"] * 10**6), "1000000 merges, but only 257 tokens"),
    "tokenizer of another model": (more_tokens, "a tokenizer of 258 ids for a model of 257"),
    "tokenizer with a strange end": (values("tokenizer_config.json", eos_token="a\nb"), r"no special token a\nb"),
    "pickle, from transformers": (renamed("pytorch_model.bin"), "pickle (pytorch_model.bin), which can run any code"),
    "pickle, from Llama": (renamed("consolidated.00.pth"), "pickle (consolidated.00.pth)"),
    "pickle, from nanoGPT": (only("ckpt.pt"), "pickle (ckpt.pt)"),
    "pickle under another name": (content(WEIGHTS, pickle.dumps({"a": print})), WEIGHTS),
    "index of a file above": (shards("../private/model.safetensors"), "must be a .safetensors file beside it"),
    "index of a whole path": (shards("/etc/model.safetensors"), "must be a .safetensors file beside it"),
    "index of pickle": (shards("pytorch_model.bin"), "must be a .safetensors file beside it"),
    "index of numbers": (shards(3), "must be a .safetensors file beside it"),
    "index of a file that is missing": (shards("b\n.safetensors"), r"b\n.safetensors"),
    "index of a name that is none": (shards("b\0.safetensors"), "is no name of a file"),
    "index of a link": (linked_shard, "a.safetensors is a link out of its directory"),
    "index deep": (lambda directory: (shards("a")(directory), content(INDEX, DEEP)(directory)), INDEX),
    "weights a link": (link(WEIGHTS, "../private/model.safetensors"), f"{WEIGHTS} is a link out of its directory"),
    "config a link": (link(CONFIG, "../private/config.json"), f"{CONFIG} is a link out of its directory"),
    "tokenizer a link": (link(TOKENIZER, "../private/tokenizer.json"), f"{TOKENIZER} is a link out of its directory"),
    "tokenizer a link to itself": (link(TOKENIZER, TOKENIZER), TOKENIZER),
    "tokenizer a link to a device": (link(TOKENIZER, "/dev/zero"), TOKENIZER),
    "manifest of a file above": (manifest("../private/config.json"), "manifest.json"),
    "manifest of a link": (
        lambda directory: (link("a", "../private")(directory), manifest("a")(directory)), "link out",
    ),
    "manifest of a name that is none": (manifest("a\0b"), r"a\x00b"),
    "manifest of a long name": (manifest("a" * 5000), "cannot read"),
    "manifest deep": (content("manifest.json", DEEP), "manifest.json"),
    "manifest a pipe": (fifo("manifest.json"), "manifest.json"),
}  # fmt: skip


def files_of(directory: Path) -> dict[str, Any]:
    """Every file below a directory, with what is in it if that is not vast."""
    found = {}
    for path in sorted(directory.rglob("*")):
        vast = path.is_symlink() or not path.is_file() or path.stat().st_size > 10**8
        found[str(path)] = path.lstat().st_size if vast else path.read_bytes()
    return found


@pytest.fixture
def model(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound.parent / "private", tmp_path / "private")
    return Path(shutil.copytree(sound, tmp_path / "model"))


def test_the_sound_directory_opens(model: Path) -> None:
    assert load(model).generate("a", max_new_tokens=2)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_directory_is_refused_in_one_line_and_left_alone(
    name: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, says = DAMAGES[name]
    damage(model)
    before = files_of(model.parent)
    assert run(["generate", str(model), "--max-new-tokens", "1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("glassgpt: ")
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()
    assert len(err) < 1500
    assert says in err
    assert files_of(model.parent) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_write_nothing_and_measure_nothing(
    value: float, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header, data = header_and_data(model / WEIGHTS)
    start = header["transformer.ln_f.weight"]["data_offsets"][0]
    broken = torch.tensor([value]).numpy().tobytes()
    (model / WEIGHTS).write_bytes(safetensors_of(header, data[:start] + broken + data[start + len(broken) :]))
    (model / "text.txt").write_text("a text")
    for arguments in (["generate", str(model)], ["eval", str(model), "--data", str(model / "text.txt"), "--json"]):
        assert run(arguments) == 2
        out, err = capsys.readouterr()
        assert out.strip() == ""
        assert "damaged" in err


def test_the_links_of_hugging_faces_cache_are_followed(sound: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "1a2b", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    shutil.copytree(sound, blobs)
    for file in sound.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert load(snapshot).generate("a", max_new_tokens=2)


WATCH = """
import sys
from pathlib import Path
seen, opened, watching = [], [], False
def hook(event, args):
    if watching and event == "pickle.find_class":
        seen.append(args)
    if watching and event == "open" and isinstance(args[0], str):
        opened.append(args[0])
sys.addaudithook(hook)
import pickle, shutil
sys.path[:0] = sys.argv[2:]
from test_model_directories import DAMAGES
from glassgpt.api.loaded import load
from glassgpt.settings import InputError
root = Path(sys.argv[1])
load(root / "sound")  # imports what it needs
for number, (name, (damage, _)) in enumerate(DAMAGES.items()):
    model = Path(shutil.copytree(root / "sound", root / f"model-{number}"))
    damage(model)
    watching = True
    try:
        load(model)
    except InputError:
        pass
    watching = False
private = [path for path in opened if "private" in Path(path).resolve().parts]
assert opened and not private, private
assert not seen, seen
watching = True
pickle.loads(pickle.dumps(InputError))
assert seen, "the hook sees nothing"
"""


@pytest.mark.thorough
def test_no_damaged_directory_makes_us_unpickle_or_open_a_file_elsewhere(sound: Path) -> None:
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    command = [sys.executable, "-c", WATCH, str(sound.parent), *paths]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
