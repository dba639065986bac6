"""What the tests kill, hinder and trace: saves without torch, so that there can be one for every system call.

    python save_once.py FOLDER aside|direct VERSION     a small checkpoint, a file and a link
    python save_once.py FOLDER run                      all that a run writes, in its order
    python save_once.py FOLDER prepare                  a prepared text

`direct` is a negative control: the same files, written straight to their place.
"""

import json
import os
import sys
from pathlib import Path

from glassgpt.files.atomic import (
    SaveError,
    append_line,
    link,
    sync_file,
    write_atomically,
    write_through,
    written_aside,
)
from glassgpt.files.manifest import MANIFEST, manifest_bytes

NO_TENSORS = (2).to_bytes(8, "little") + b"{}"
"""A safetensors file."""


def save(directory: Path, way: str, version: str) -> None:
    def write(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        names = ("config.json", "trainer/state.safetensors")
        sums = {name: write_through(folder / name, [f"{name} {version}".encode()]) for name in names}
        write_through(folder / MANIFEST, [manifest_bytes(sums)])

    if way == "direct":
        write(directory)
    else:
        with written_aside(directory) as partial:
            write(partial)


def whole_run(folder: Path) -> None:
    """Steps of which each is logged and saved, and every second evaluated; `saved` beside it tells which are sure."""
    from glassgpt.checkpoint.run import new_run
    from glassgpt.checkpoint.run_settings import write_settings
    from glassgpt.config import Settings

    told = os.open(folder / "saved", os.O_CREAT | os.O_RDWR)
    run = new_run(str(folder / "run"), "run")
    write_settings(run.path, Settings.from_dict({"text": ["pydoc"], "run_id": "1"}))
    write_atomically(run.path / "plan.json", b"{}\n")
    metrics, samples = run.path / "metrics.jsonl", run.path / "samples.txt"
    for log in (metrics, samples):
        write_atomically(log, b"")
    for step in range(1, 5):
        sync_file(metrics)
        sync_file(samples)
        with written_aside(run.checkpoint_path(step)) as partial:
            counters = json.dumps({"step": step, "run_id": "1"}).encode()
            files = {"config.json": b"{}", "model.safetensors": NO_TENSORS, "trainer/counters.json": counters}
            files["trainer/state.safetensors"] = NO_TENSORS
            sums = {name: write_through(partial / name, [content]) for name, content in files.items()}
            write_through(partial / MANIFEST, [manifest_bytes(sums)])
        run.record(step, None)
        run.prune()
        os.pwrite(told, str(step).encode(), 0)
        if step % 2 == 0:
            run.record(step, 9.0 - step if step < 4 else 8.0)
            run.prune()
            append_line(samples, f"--- step {step} ---\n")
            write_atomically(run.path / "loss.svg", b"<svg></svg>\n")
        append_line(metrics, json.dumps({"step": step, "val_bpb": 8.0 if step % 2 == 0 else None}) + "\n")


def prepared_text(folder: Path) -> None:
    from glassgpt.config import DataConfig
    from glassgpt.data.prepare import prepare
    from glassgpt.text.corpus import Corpus

    told = os.open(folder / "saved", os.O_CREAT | os.O_RDWR)
    corpus = Corpus.of(["a text of a few words\n" * 40, "another one\n" * 40])
    prepare(corpus, DataConfig(tokenizer="bytes"), folder / "cache", n_threads=1)
    os.pwrite(told, b"1", 0)


def main(folder: Path, way: str, version: str = "") -> None:
    if way == "run":
        whole_run(folder)
    elif way == "prepare":
        prepared_text(folder)
    else:
        save(folder / "model", way, version)
        write_atomically(folder / "run.json", version.encode())
        link(folder / "best", "model")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *sys.argv[2:])
    except SaveError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
