"""What a disk may hold after a power cut, replayed from a trace of the system calls that wrote to it.

A killed process loses nothing that it wrote, since the system keeps it; a power cut does. So the model keeps for sure
only what POSIX promises: a file's bytes as of its last fsync, a folder's names as of the folder's last fsync. Each
later change may have come to the disk or not, of a file's bytes also a part, and in any combination.
"""

import random
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from system_calls import attached

TRACED = (
    "-xx", "-s", "10000000", "-e",
    "trace=openat,write,pwrite64,lseek,ftruncate,fsync,fdatasync,rename,mkdir,symlink,unlink,unlinkat,rmdir",
)  # fmt: skip
"""Options of strace: every call that changes a file or a folder, with all its bytes."""


@dataclass(eq=False)
class File:
    data: bytes = b""
    durable: bytes = b""


@dataclass(frozen=True)
class Link:
    target: str


@dataclass(eq=False)
class Folder:
    entries: "dict[str, Node]" = field(default_factory=dict)
    durable: "dict[str, Node]" = field(default_factory=dict)
    pending: "list[dict[str, Node | None]]" = field(default_factory=list)
    """Changes since the last fsync: what became of which name, None where it went."""

    def change(self, names: "dict[str, Node | None]") -> None:
        _apply(self.entries, names)
        self.pending.append(names)


Node: TypeAlias = File | Link | Folder
Unit: TypeAlias = "tuple[Folder, int] | File"
"""One change that may have come to the disk or not."""
Left: TypeAlias = dict[str, bytes | Link | None]
"""What is left below the root by its path; None stands for a folder."""


@dataclass(frozen=True)
class Call:
    """A system call that succeeded."""

    name: str
    strings: list[bytes]
    """Its arguments in quotes: paths, or the bytes that are written."""
    descriptor: tuple[int, str] | None
    """The number and the path of the open file that it is about."""
    rest: str
    """Its arguments without strings and descriptors, such as flags."""
    result: int
    opened: str = ""
    """The path of what `openat` opened."""


def calls_of(trace: Path, root: Path) -> list[Call]:
    """The calls of a trace that are about files below `root`; relative paths are meant from `root`."""
    return [call for line in trace.read_text().splitlines() if (call := _parsed(line)) and _concerns(call, root)]


def _parsed(line: str) -> Call | None:
    found = re.match(r"(?:\d+ +)?(\w+)\((.*)\) += (\d+)(?:<(.*)>)?$", line)
    if not found:
        return None
    name, arguments, result, opened = found.groups()
    strings = [_bytes(text) for text in re.findall(r'"([^"]*)"', arguments)]
    assert "..." not in arguments, "the trace was cut short"
    bare = re.sub(r'"[^"]*"', "", arguments)
    descriptor = re.search(r"(\d+)<([^>]*)>", bare)
    about = (int(descriptor[1]), _bytes(descriptor[2]).decode()) if descriptor else None
    return Call(name, strings, about, bare, int(result), _bytes(opened or "").decode())


def _bytes(text: str) -> bytes:
    return re.sub(rb"\\x(..)", lambda found: bytes.fromhex(found[1].decode()), text.encode())


def _concerns(call: Call, root: Path) -> bool:
    if call.name in ("write", "pwrite64", "lseek", "ftruncate", "fsync", "fdatasync", "unlinkat"):
        return call.descriptor is not None and Path(call.descriptor[1]).is_relative_to(root)
    if call.name == "openat":
        return Path(call.opened).is_relative_to(root)
    return (root / call.strings[-1].decode()).is_relative_to(root)


class Disk:
    """The files below `root`, as they are and as they are sure to be after a power cut."""

    def __init__(self, root: Path) -> None:
        self.root, self.top = root, _synced(root)
        self.offsets: dict[int, int | None] = {}
        """Where the next write of each open file goes; None: at its end."""

    def make(self, call: Call) -> None:
        """Let the call change the disk."""
        if call.name == "openat":
            self._open(call)
        elif call.name == "mkdir":
            self._change(call.strings[0], Folder())
        elif call.name == "symlink":
            self._change(call.strings[1], Link(call.strings[0].decode()))
        elif call.name in ("unlink", "rmdir"):
            self._change(call.strings[0], None)
        elif call.name == "rename":
            old, new = (self._place(path) for path in call.strings)
            assert old.parent == new.parent, "a rename between folders is not modelled"
            folder = self._folder(old.parent)
            folder.change({old.name: None, new.name: folder.entries[old.name]})
        elif call.descriptor:
            self._write(call, *call.descriptor)

    def _open(self, call: Call) -> None:
        place = Path(call.opened)
        if "O_DIRECTORY" in call.rest or place == self.root:
            return
        folder = self._folder(place.parent)
        if "O_CREAT" in call.rest and place.name not in folder.entries:
            folder.change({place.name: File()})
        node = folder.entries.get(place.name)
        if isinstance(node, File) and "O_TRUNC" in call.rest:
            node.data = b""
        self.offsets[call.result] = None if "O_APPEND" in call.rest else 0

    def _write(self, call: Call, number: int, path: str) -> None:
        node = self._node(Path(path))
        if call.name == "unlinkat":
            assert isinstance(node, Folder)
            node.change({call.strings[0].decode(): None})
        elif call.name in ("fsync", "fdatasync"):
            if isinstance(node, Folder):
                node.durable, node.pending = dict(node.entries), []
            elif isinstance(node, File):
                node.durable = node.data
        elif isinstance(node, File):
            if call.name == "lseek":
                if self.offsets.get(number) is not None:
                    self.offsets[number] = call.result
                return
            last = [int(text) for text in re.findall(r"\b\d+\b", call.rest.split(">")[-1])]
            if call.name == "ftruncate":
                node.data = node.data[: last[-1]].ljust(last[-1], b"\0")
                return
            written, at = call.strings[0][: call.result], self.offsets.get(number)
            if call.name == "pwrite64":
                at = last[-1]
            elif at is not None:
                self.offsets[number] = at + len(written)
            at = len(node.data) if at is None else at
            node.data = node.data[:at].ljust(at, b"\0") + written + node.data[at + len(written) :]

    def _place(self, path: bytes) -> Path:
        return self.root / path.decode()

    def _change(self, path: bytes, node: Node | None) -> None:
        place = self._place(path)
        self._folder(place.parent).change({place.name: node})

    def _node(self, place: Path) -> Node:
        node: Node = self.top
        for name in place.relative_to(self.root).parts:
            assert isinstance(node, Folder)
            node = node.entries[name]
        return node

    def _folder(self, place: Path) -> Folder:
        node = self._node(place)
        assert isinstance(node, Folder)
        return node

    def now(self, name: str) -> bytes:
        """What a file has in it at this moment, on the disk or not."""
        node = self.top.entries.get(name)
        return node.data if isinstance(node, File) else b""

    def survivors(self, chance: random.Random, n_random: int) -> Iterator[Left]:
        """What may be left if the power is cut now: all changes or none, all but one, only one, and some at random."""
        units = [*_units(self.top, set())]
        files = [unit for unit in units if isinstance(unit, File)]
        yield self._left(lambda unit: 0.0)
        yield self._left(lambda unit: 1.0)
        for one in units if len(units) > 1 else []:
            yield self._left(lambda unit, one=one: float(unit != one))
            yield self._left(lambda unit, one=one: float(unit == one))
        for one in files:
            yield self._left(lambda unit, one=one: 0.5 if unit is one else 1.0)
        for _ in range(n_random if len(units) > 1 else 0):
            drawn = {unit: chance.choice((0.0, 0.5, 1.0)) for unit in units}
            yield self._left(drawn.__getitem__)

    def _left(self, share: Callable[[Unit], float]) -> Left:
        left: Left = {}

        def walk(folder: Folder, path: str) -> None:
            entries = dict(folder.durable)
            for index, names in enumerate(folder.pending):
                if share((folder, index)) >= 0.5:
                    _apply(entries, names)
            for name, node in entries.items():
                if isinstance(node, Folder):
                    left[path + name] = None
                    walk(node, f"{path}{name}/")
                else:
                    left[path + name] = node if isinstance(node, Link) else _part(node, share)

        walk(self.top, "")
        return left


def _apply(entries: dict[str, Node], names: "dict[str, Node | None]") -> None:
    for name, node in names.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def _part(file: File, share: Callable[[Unit], float]) -> bytes:
    if file.data == file.durable:
        return file.data
    kept = share(file)
    if kept == 0.5:
        shared = len(file.durable) if file.data.startswith(file.durable) else 0
        return file.data[: (shared + len(file.data)) // 2]
    return file.data if kept else file.durable


def _units(folder: Folder, seen: set[int]) -> Iterator[Unit]:
    """Every change below a folder that is not sure yet, also where a name may have gone."""
    if id(folder) in seen:
        return
    seen.add(id(folder))
    nodes = [*folder.durable.values(), *folder.entries.values()]
    for index, names in enumerate(folder.pending):
        yield folder, index
        nodes += [node for node in names.values() if node is not None]
    for node in nodes:
        if isinstance(node, Folder):
            yield from _units(node, seen)
        elif isinstance(node, File) and id(node) not in seen:
            seen.add(id(node))
            if node.data != node.durable:
                yield node


def _synced(path: Path) -> Folder:
    """A folder that was there long before."""
    folder = Folder()
    for child in path.iterdir():
        if child.is_symlink():
            folder.entries[child.name] = Link(str(child.readlink()))
        elif child.is_dir():
            folder.entries[child.name] = _synced(child)
        else:
            folder.entries[child.name] = File(child.read_bytes(), child.read_bytes())
    folder.durable = dict(folder.entries)
    return folder


def materialise(left: Left, folder: Path) -> None:
    """Put what is left into an empty folder."""
    for name, content in left.items():
        path = folder / name
        if content is None:
            path.mkdir()
        elif isinstance(content, Link):
            path.symlink_to(content.target)
        else:
            path.write_bytes(content)


def traced_run(process: int, trace: Path) -> "subprocess.Popen[str]":
    """strace on a running process, for `calls_of`."""
    return attached(process, trace, *TRACED)
