"""What is fuzzed: every parser that reads a file from outside. Each takes any bytes, or refuses them as it should."""

import contextlib
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from damage import tiny_directory

from glassgpt.api.loaded import load
from glassgpt.api.merge import stored_settings
from glassgpt.checkpoint.directory import TrainerState, load_trainer_state, save_checkpoint
from glassgpt.checkpoint.run import RunDirectory, find_checkpoint
from glassgpt.checkpoint.stored import INDEX, WEIGHTS
from glassgpt.checkpoint.tensors import TensorFile
from glassgpt.config import GPTConfig, Settings
from glassgpt.data.prepare import Facts, facts_file, open_prepared
from glassgpt.data.sealed import SEAL, sealed
from glassgpt.data.shards import FIELDS, HEADER_SIZE, read_shard, write_shard
from glassgpt.files.manifest import MANIFEST, verify_checkpoint
from glassgpt.model import GPTModel
from glassgpt.settings import InputError, to_yaml
from glassgpt.text.formats import FormatOptions, NotText, read_file
from glassgpt.text.kinds import train_tokenizer
from glassgpt.text.tokenizer import Tokenizer
from glassgpt.training.metrics import read_metrics

REFUSALS = (InputError, NotText)


@dataclass(frozen=True)
class Target:
    """A parser and the file that it reads."""

    file: str
    """Its place in the folder."""
    read: Callable[[Path], object]
    """Reads the file; gets its path."""
    around: Callable[[Path], object] = lambda folder: None
    """Makes what lies around it in the folder, and the file itself where a valid one can be made."""
    seeds: tuple[bytes, ...] = ()
    """More that it may hold."""


def checkpoint(folder: Path) -> None:
    """A checkpoint with everything in it."""
    config = GPTConfig(vocab_size=257, context_length=8, embedding_dim=8, n_heads=2, n_layers=1)
    state = TrainerState(counters={"step": 3, "seconds": 0.5, "threads": 2, "last": None})
    save_checkpoint(folder / "step-00000003", GPTModel(config), train_tokenizer("bytes", []), state)


def unlisted_checkpoint(folder: Path) -> None:
    checkpoint(folder)
    (folder / "step-00000003" / MANIFEST).unlink()


def run_directory(folder: Path) -> None:
    checkpoint(folder)
    RunDirectory(folder).record(3, 1.5)


def indexed(folder: Path) -> None:
    tiny_directory(folder)
    names = list(TensorFile(folder / WEIGHTS))
    (folder / WEIGHTS).rename(folder / "a.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, "a.safetensors")}))


def prepared(folder: Path) -> None:
    """A prepared text, by hand."""
    train_tokenizer("bytes", []).save(folder)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("tokenizer*.json")}
    for name in ("train.shard", "val.shard"):
        sums[name] = write_shard(folder / name, [np.arange(9)], 257).sha256
    facts = Facts(
        documents=1, characters=18, bytes=18, words=4, train_characters=9, val_characters=9, val_fraction=0.5,
        tokenizer="bytes", vocab_size=257, train_tokens=9, val_tokens=9,
    )  # fmt: skip
    (folder / "prepared.json").write_bytes(facts_file(facts, folder.name, sums))


def read_tokenizer(path: Path) -> None:
    tokenizer = Tokenizer.load(path.parent)
    assert tokenizer.decode(tokenizer.encode("a text 文")) == "a text 文"


def read_model(path: Path) -> None:
    load(path.parent)


def read_run(path: Path) -> None:
    run = RunDirectory(path.parent)
    assert run.best is None or run.best.parent == path.parent
    assert run.latest is not None
    assert run.latest.parent == path.parent
    run.record(4, 1.25)
    run.model()


def read_signed_shard(path: Path) -> None:
    """A shard whose checksum is right, whatever else is in it."""
    content = bytearray(path.read_bytes())
    if len(content) >= HEADER_SIZE:
        signed = content[HEADER_SIZE:] + content[: FIELDS.size]
        content[FIELDS.size : HEADER_SIZE] = hashlib.sha256(signed).digest()
        path.write_bytes(content)
    read_shard(path)


def read_sealed_facts(path: Path) -> None:
    """The facts of a prepared text whose own sum is right, whatever they say."""
    values: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(path.read_bytes())
    if isinstance(values, dict):
        values.pop(SEAL, None)
        path.write_bytes(sealed(values))
    open_prepared(path.parent)


def read_history(path: Path) -> None:
    """As a resumed run and the drawing of its curve do."""
    for line in read_metrics(path):
        assert line.step < 2**63
        assert f"{line.loss * line.tokens_per_s + (line.val_bpb or 0.0):.3f}"


class Characters:
    """A sink that only counts."""

    def __init__(self) -> None:
        self.n = 0

    def write(self, text: str) -> None:
        self.n += len(text)

    def end_document(self) -> None:
        pass

    def restart(self) -> None:
        self.n = 0


def read_text(path: Path) -> None:
    with path.open("rb") as file:
        read_file(file, path.name, Characters(), FormatOptions())


def zipped(parts: dict[str, bytes]) -> bytes:
    """An uncompressed archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return content.getvalue()


def read_part(name: str, others: dict[str, bytes]) -> Callable[[Path], None]:
    """Reads an archive of which the file is the part `name`."""

    def read(path: Path) -> None:
        archive = path.with_suffix(".whole" + path.suffix)
        archive.write_bytes(zipped({**others, name: path.read_bytes()}))
        read_text(archive)

    return read


def read_badly(path: Path) -> None:
    """A parser with a mistake, which only a certain beginning brings to light."""
    data = path.read_bytes()
    if data[:1] == b"G" and data[1:2] == b"P" and len(data) > 2:
        1 // (1 - data[2] // 128)


METRICS = (
    b'{"step": 1, "tokens": 8, "seconds": 0.5, "loss": 5.5, "val_bpb": null, "lr": 0.001, "grad_norm": 1.0, '
    b'"tokens_per_s": 16.0, "memory_bytes": 1000}\n'
)
WORD = (
    b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>'
    b"a &amp; b</w:t><w:tab/></w:r></w:p><w:p/></w:body></w:document>"
)
OPEN = (
    b'<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    b'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:text><text:p>a<text:s '
    b'text:c="3"/>b</text:p></office:text></office:body></office:document-content>'
)
CONTAINER = (
    b'<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile full-path="a.opf" '
    b'media-type="application/oebps-package+xml"/></rootfiles></container>'
)
PACKAGE = (
    b'<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="a" href="a.xhtml" '
    b'media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>'
)
PAGE = b"<!doctype html><html><head><title>t</title><style>p{}</style></head><body><p>a &eacute;<br>b<!-- c --></p>"
EPUB = {"mimetype": b"application/epub+zip", "META-INF/container.xml": CONTAINER, "a.opf": PACKAGE, "a.xhtml": PAGE}
ODT = {"mimetype": b"application/vnd.oasis.opendocument.text", "content.xml": OPEN}
SETTINGS = to_yaml(Settings.from_dict({"text": "book.txt", "run": {"steps": 3}, "plan": [[0, 9]]}).to_dict()).encode()
STEP = "step-00000003"

TARGETS: dict[str, Target] = {
    "settings": Target("a.yaml", stored_settings, seeds=(SETTINGS, b"model:\n  n_layers: 4\n")),
    "config": Target("config.json", read_model, tiny_directory),
    "tokenizer": Target("tokenizer.json", read_tokenizer, tiny_directory),
    "tokenizer-config": Target("tokenizer_config.json", read_tokenizer, tiny_directory),
    "weights": Target(WEIGHTS, read_model, tiny_directory),
    "index": Target(INDEX, read_model, indexed),
    "manifest": Target(f"{STEP}/{MANIFEST}", lambda path: verify_checkpoint(path.parent), checkpoint),
    "counters": Target(
        f"{STEP}/trainer/counters.json", lambda path: load_trainer_state(path.parent.parent), unlisted_checkpoint
    ),
    "run": Target("run.json", read_run, run_directory),
    "best": Target("best", find_checkpoint, checkpoint, seeds=(STEP.encode(), b"../" + STEP.encode() + b"\n")),
    "shard": Target("train.shard", read_signed_shard, prepared),
    "prepared": Target("prepared.json", read_sealed_facts, prepared),
    "metrics": Target("metrics.jsonl", read_history, seeds=(METRICS, METRICS.replace(b"null", b"2.5"))),
    "text": Target("a.txt", read_text, seeds=("Füße und 文\r\n".encode(), "Füße".encode("cp1252"))),
    "jsonl": Target("a.jsonl", read_text, seeds=(b'{"text": "a\\u00e9", "id": 1}\n{"text": ""}\n',)),
    "html": Target("a.html", read_text, seeds=(PAGE, b'<meta charset="koi8-r"><pre>\xc1\n</pre>')),
    "gz": Target("a.txt.gz", read_text, seeds=(gzip.compress(b"some text\n" * 9),)),
    "zip": Target("a.zip", read_text, seeds=(zipped({"word/document.xml": WORD}), zipped(ODT), zipped(EPUB))),
    "docx": Target("a.docx", read_part("word/document.xml", {}), seeds=(WORD,)),
    "odt": Target("a.odt", read_part("content.xml", ODT), seeds=(OPEN,)),
    "epub": Target("a.epub", read_part("a.opf", EPUB), seeds=(PACKAGE,)),
}
"""By name."""
CONTROL = {"control": Target("a.txt", read_badly, seeds=(b"G",))}
"""What the fuzzing must find fault with."""
