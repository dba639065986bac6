"""Any flipped bit, truncation or file of another artefact is refused before use, with the file named.

Each file of a prepared text and of a checkpoint is damaged very often and given to what every command asks before it
uses the file; some of the damage goes through all of `load`, `resume` and `prepare` as well.
"""

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from targets import read_sealed_facts, read_signed_shard

import glassgpt
from glassgpt.api.start import resumed_start
from glassgpt.checkpoint.directory import TrainerState, load_model, load_trainer_state, save_checkpoint
from glassgpt.config import DataConfig, GPTConfig
from glassgpt.data.prepare import Facts, facts_file, open_prepared, prepare
from glassgpt.data.sealed import unsealed
from glassgpt.files.manifest import MANIFEST, verify_checkpoint
from glassgpt.model import GPTModel, initialise
from glassgpt.settings import InputError
from glassgpt.text.corpus import Corpus
from glassgpt.text.kinds import train_tokenizer
from glassgpt.text.stories import write_stories
from glassgpt.text.tokenizer import Tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
Opener = Callable[[Path], object]


def a_text(seed: int) -> str:
    """2,000 letters, of 16 sorts: texts of two seeds have as many tokens and as large a vocabulary."""
    chance = random.Random(seed)
    letters = chance.sample(LETTERS, 16)
    return "".join(letters + chance.choices(letters, k=1984))


def a_prepared_text(folder: Path, seed: int) -> Path:
    return prepare(Corpus.of([a_text(seed)]), DataConfig(tokenizer="chars"), folder, 1).directory


def prepare_once_more(prepared: Path) -> None:
    """As `train` does with the same text. What was altered is replaced, and told; here that counts as refused."""
    said: list[str] = []
    prepare(Corpus.of([a_text(0)]), DataConfig(tokenizer="chars"), prepared.parent, 1, said.append)
    if said:
        raise InputError(said[0])


def a_checkpoint(folder: Path, seed: int) -> Path:
    """Of a tiny model; all of one seed and none of two are equal, in sizes all."""
    generator = torch.Generator().manual_seed(seed)
    config = GPTConfig(
        vocab_size=257, context_length=8, embedding_dim=8, n_heads=2, n_layers=1, dropout_rate=0.1 + 1e-4 * (seed + 1)
    )
    model = GPTModel(config)
    initialise(model, generator)
    tensors = {"moment": torch.randn(64, generator=generator), "rng": generator.get_state()}
    counters = {"step": 100 + seed, "seconds": 1.5 + seed, "threads": 1, "last": None}
    tokenizer = train_tokenizer("chars", [a_text(seed)])
    save_checkpoint(folder / "step", model, tokenizer, TrainerState(tensors=tensors, counters=counters))
    return folder / "step"


def open_unchecked(checkpoint: Path) -> None:
    """Without its manifest."""
    (checkpoint / MANIFEST).rename(checkpoint / "aside")
    try:
        load_model(checkpoint)
        assert Tokenizer.load(checkpoint).vocab_size == 257
        load_trainer_state(checkpoint)
    finally:
        (checkpoint / "aside").rename(checkpoint / MANIFEST)


def open_signed(prepared: Path) -> None:
    """With sums made anew for what is there now, as if there were none."""
    facts_path = prepared / "prepared.json"
    before = {path: path.read_bytes() for path in prepared.iterdir()}
    values = unsealed(before[facts_path])
    sums = values.pop("files")
    for name in ("train.shard", "val.shard"):
        read_signed_shard(prepared / name)
        sums[name] = (prepared / name).read_bytes()[32:64].hex()
    for name in sums.keys() - {"train.shard", "val.shard"}:
        sums[name] = hashlib.sha256(before[prepared / name]).hexdigest()
    facts_path.write_bytes(facts_file(Facts(**{k: v for k, v in values.items() if k != "hash"}), prepared.name, sums))
    try:
        open_prepared(prepared)
    finally:
        for path, content in before.items():
            path.write_bytes(content)


@dataclass(frozen=True)
class Artefact:
    """A kind of folder, the files in it, and how it is opened."""

    make: Callable[[Path, int], Path]
    files: tuple[str, ...]
    check: Opener
    """What every use of it begins with."""
    unchecked: Opener
    """The same without any sums."""
    use: Opener
    """A whole use."""


def use_checkpoint(directory: Path) -> None:
    load_trainer_state(directory)
    glassgpt.load(directory)


PREPARED = Artefact(
    a_prepared_text, ("train.shard", "val.shard", "tokenizer.json", "tokenizer_config.json", "prepared.json"),
    open_prepared, open_signed, prepare_once_more,
)  # fmt: skip
CHECKPOINT = Artefact(
    a_checkpoint,
    ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "trainer/state.safetensors",
     "trainer/counters.json"),
    verify_checkpoint, open_unchecked, use_checkpoint,
)  # fmt: skip
KINDS = {"prepared text": PREPARED, "checkpoint": CHECKPOINT}
FILES = [(name, file) for name, kind in KINDS.items() for file in kind.files]


def flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory, amount: Callable[[int, int], int]) -> dict[str, list[Path]]:
    """Artefacts of other seeds, from which files are swapped in."""
    seeds = range(1, amount(5, 100) + 1)
    return {
        name: [kind.make(tmp_path_factory.mktemp("other"), seed) for seed in seeds]
        for name, kind in KINDS.items()
    }


def damaged(content: bytes, file: str, others: list[Path], amount: Callable[[int, int], int]) -> Iterator[bytes]:
    """The damage that a file is to be refused with."""
    chance = random.Random(file)
    yield from (flipped(content, chance) for _ in range(amount(35, 1000)))
    yield from (cut(content, chance) for _ in range(amount(10, 200)))
    yield from ((other / file).read_bytes() for other in others)


def refusal(opener: Opener, folder: Path) -> str | None:
    """The line that a folder is refused with, or None where it is taken."""
    try:
        opener(folder)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "file"), FILES, ids=[", ".join(names) for names in FILES])
def test_any_damage_is_refused_before_use_and_the_file_named(
    name: str, file: str, others: dict[str, list[Path]], tmp_path: Path, amount: Callable[[int, int], int], tally: Any
) -> None:
    kind = KINDS[name]
    folder = kind.make(tmp_path, 0)
    path, content = folder / file, (folder / file).read_bytes()
    unchecked = (lambda folder: read_sealed_facts(path)) if file == "prepared.json" else kind.unchecked
    for opener in (kind.check, kind.use, unchecked):
        opener(folder)
        assert path.read_bytes() == content
    trials = failures = in_use = 0
    for number, other in enumerate(damaged(content, file, others[name], amount)):
        assert other != content
        path.write_bytes(other)
        trials += 1
        failures += str(path) not in (refusal(kind.check, folder) or "")
        if number % amount(20, 25) == 0:
            in_use += 1
            failures += str(path) not in (refusal(kind.use, folder) or "")
    chance, controls, unseen = random.Random(0), amount(20, 200), 0
    for _ in range(controls):
        path.write_bytes(flipped(content, chance))
        unseen += refusal(unchecked, folder) is None
    control = f"sums left out: {unseen} of {controls} bits unseen"
    tally("R4", f"{name}: {file} ({in_use} through a whole use)", trials, failures, control=control)
    assert failures == 0
    assert unseen > 0


def test_a_whole_prepared_text_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    mine, other = (a_prepared_text(tmp_path, seed) for seed in (0, 1))
    shutil.rmtree(mine)
    other.rename(mine)
    assert f"{mine / 'prepared.json'} is of another text" in (refusal(open_prepared, mine) or "")


SETTINGS = """
model: {n_layers: 1, embedding_dim: 4, n_heads: 1, context_length: 8}
optim: {name: adamw, batch_size: 4}
run: {threads: 1, dtype: fp32, steps: 6, eval_every: 6, save_every: 2}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.yaml").write_text(SETTINGS)
    (folder / "tales.txt").write_text("\n".join(write_stories(10, seed=4)), encoding="utf-8")
    data = {"cache": str(folder / "cache"), "tokenizer": "bytes"}
    glassgpt.train(folder / "tales.txt", config=folder / "tiny.yaml", out=folder / "run", data=data)
    return folder / "run"


@pytest.mark.thorough
def test_a_resumed_run_uses_nothing_that_is_damaged(run: Path, amount: Callable[[int, int], int], tally: Any) -> None:
    def resume() -> Path | None:
        return resumed_start(str(run), {"run": {"steps": 20}}).checkpoint

    latest = resume()
    assert latest is not None
    assert latest.name == "step-00000006"
    [text] = [path for path in (run.parent / "cache").iterdir() if path.is_dir()]
    in_text = [text / name for name in PREPARED.files]
    chance, failures = random.Random(3), 0
    places = [*in_text, *(latest / name for name in CHECKPOINT.files)] * amount(1, 15)
    for path in places:
        content = path.read_bytes()
        path.write_bytes(chance.choice((flipped, cut))(content, chance))
        try:
            start = resumed_start(str(run), {"run": {"steps": 20}})
            healed = path in in_text and path.read_bytes() == content  # the text is there, so it was prepared again
            failures += (not healed and start.checkpoint == latest) or str(path) not in " ".join(start.notes)
            start.directory.release()
        except InputError as error:
            failures += str(path) not in str(error)
        path.write_bytes(content)
    assert resume() == latest
    tally("R4", "files of a run that is resumed", len(places), failures, control="as in the lines of each file")
    assert failures == 0
