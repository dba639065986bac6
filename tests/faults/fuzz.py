"""Fuzz a parser: give it very many inputs, each a change of one that took it somewhere new (libFuzzer, by atheris).

    python tests/faults/fuzz.py TARGET --seconds 5        TARGET is one of `targets.TARGETS`, or all: each for so long

It ends with code 0 where every input was taken or refused as it should be, within 5 seconds and 1 GB of memory. Else
the input is in FOLDER/TARGET/found-*, and `python tests/faults/fuzz.py TARGET --input FILE` gives it again. Inputs that
took the parser somewhere new are kept in FOLDER/TARGET/corpus, and the next run goes on from there.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

LONGEST = 20_000
"""Bytes of an input. The limits that larger files run into have tests of their own."""


def read(name: str, folder: Path, data: bytes) -> None:
    """Give a target these bytes, in a folder that is ready. Raises what it should not."""
    from targets import CONTROL, REFUSALS, TARGETS

    target = (TARGETS | CONTROL)[name]
    path = folder / target.file
    path.write_bytes(data)
    line = ""
    try:
        target.read(path)
    except REFUSALS as refusal:
        line = str(refusal)
    assert len(line.splitlines()) <= 1, line


def make_ready(name: str, place: Path) -> Path:
    """The folder that a target reads in; beside it the corpus with its seeds."""
    from targets import CONTROL, TARGETS

    folder, corpus = place / "folder", place / "corpus"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    corpus.mkdir(exist_ok=True)
    target = (TARGETS | CONTROL)[name]
    target.around(folder)
    made = folder / target.file
    if made.exists():
        content = made.read_bytes()
        target.read(made)  # a valid file is taken
        made.write_bytes(content)
    for number, seed in enumerate([*([made.read_bytes()] if made.exists() else []), *target.seeds]):
        (corpus / f"seed-{number}").write_bytes(seed)
    return folder


def import_instrumented() -> None:
    """Import the parsers so that libFuzzer sees which of their branches an input takes."""
    import atheris

    with atheris.instrument_imports(include=["glassgpt", "targets"]):
        import targets  # noqa: F401


def fuzz(name: str, place: Path, seconds: int) -> None:
    """Fuzz one target, then leave the process."""
    import atheris

    folder = make_ready(name, place)
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=5", "-rss_limit_mb=1024"]
    output = ["-verbosity=0", "-print_final_stats=1", f"-artifact_prefix={place}/found-"]
    atheris.Setup([sys.argv[0], *limits, *output, str(place / "corpus")], lambda data: read(name, folder, data))
    atheris.Fuzz()


def fuzz_all(folder: Path, seconds: int) -> list[str]:
    """Fuzz every target for so long, on each core one at a time. Returns the names of those that failed."""
    from targets import TARGETS

    n_cores = os.cpu_count() or 1
    waiting, running, failed = list(TARGETS), dict[int, str](), list[str]()
    while waiting or running:
        if waiting and len(running) < n_cores:
            name = waiting.pop(0)
            if (child := os.fork()) == 0:
                (folder / name).mkdir(parents=True, exist_ok=True)
                log = os.open(folder / name / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1)
                os.dup2(log, 2)
                fuzz(name, folder / name, seconds)
            running[child] = name
            continue
        child, status = os.wait()
        name = running.pop(child)
        log_text = (folder / name / "log").read_text(errors="replace")
        print(f"{name}: {'failed' if status else 'ok'}\n{log_text}", flush=True)
        if status:
            failed.append(name)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"))
    parser.add_argument("--input", type=Path)
    given = parser.parse_args()
    folder = given.folder.absolute()
    if given.input:
        read(given.target, make_ready(given.target, folder / given.target), given.input.read_bytes())
        return 0
    import_instrumented()
    if given.target != "all":
        fuzz(given.target, folder / given.target, given.seconds)
    failed = fuzz_all(folder, given.seconds)
    print(f"failed: {', '.join(failed)}; see {folder}/TARGET/found-*" if failed else "all is well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
