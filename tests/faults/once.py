"""One small save, hindered at each of its system calls in turn, and what is left of it."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import save_once
from system_calls import CHANGES, Call, at, calls_of, strace

from glassgpt.files.atomic import link, write_atomically
from glassgpt.files.manifest import MANIFEST, verify_checkpoint
from glassgpt.settings import InputError


def save_traced(folder: Path, way: str, *options: str) -> "subprocess.CompletedProcess[str]":
    script = [sys.executable, save_once.__file__, str(folder), way, "new"]
    return subprocess.run([*strace(folder / "trace", *options), *script], capture_output=True, text=True, check=False)


def fresh(folder: Path) -> Path:
    folder.mkdir()
    save_once.save(folder / "model", "direct", "old")
    write_atomically(folder / "run.json", b"old")
    link(folder / "best", "model")
    return folder


def state_of(folder: Path) -> tuple[str, str]:
    """The versions of the checkpoint and of the file; raises where one of them is torn."""
    verify_checkpoint(folder / "model")
    assert (folder / "model" / MANIFEST).is_file()
    versions = {path.read_text().split()[-1] for path in (folder / "model/trainer").iterdir()}
    versions.add((folder / "model" / "config.json").read_text().split()[-1])
    best = folder / "best"
    assert best.is_dir() or best.read_text() == "model\n"
    (version,) = versions
    return version, (folder / "run.json").read_text()


def every_call(tmp_path: Path, way: str, what: str) -> Iterator[tuple[Path, "subprocess.CompletedProcess[str]"]]:
    """The save once for each of its calls that change the disk, with `what` done to that call."""
    plain = fresh(tmp_path / f"{way}-plain")
    assert save_traced(plain, way, "-e", f"trace={CHANGES}").returncode == 0
    calls = calls_of(plain / "trace")
    assert len(calls) > (10 if way == "aside" else 5)

    def case(call: Call) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
        folder = fresh(tmp_path / f"{way}-{call.name}-{call.n}")
        return folder, save_traced(folder, way, *at(call, what))

    with ThreadPoolExecutor(2) as threads:
        yield from threads.map(case, calls)


def is_torn(folder: Path) -> bool:
    try:
        return state_of(folder) not in {("old", "old"), ("new", "old"), ("new", "new")}
    except (InputError, AssertionError, ValueError):
        return True
