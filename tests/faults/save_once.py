"""What the tests kill: `python save_once.py FOLDER aside|direct VERSION` writes a small checkpoint.

It imports no torch, so that it can be run once for every system call. `direct` is the negative control: the
same files, written straight to their place.
"""

import sys
from pathlib import Path

from glassgpt.files.atomic import SaveError, link, write_atomically, write_through, written_aside
from glassgpt.files.manifest import MANIFEST, manifest_bytes


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


if __name__ == "__main__":
    folder, way, version = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    try:
        save(folder / "model", way, version)
        write_atomically(folder / "run.json", version.encode())
        link(folder / "best", "model")
    except SaveError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
