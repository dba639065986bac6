"""Python's own documentation: a text of about two megabytes that lies on every machine with Python.

It is the topics of `help()` (the language reference) and the docstrings of the standard library. The
sources are parsed and never imported, since importing a module runs it. The text differs between versions
of Python.
"""

import ast
import contextlib
import json
import os
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from glassgpt.settings import InputError

_INSTALLED = {"site-packages", "dist-packages"}
_NOT_LIBRARY = {*_INSTALLED, "test", "tests", "idlelib", "lib2to3", "turtledemo", "pydoc_data"}
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_Named = list[tuple[str, str]]


def read_pydoc(cache_dir: Path | None = None) -> _Named:
    """(name, text) of every help topic, then of every module of the standard library, in a fixed order.

    Parsing takes a few seconds; with `cache_dir` the result is kept there, in a file named after the
    version of Python, and found again. Raises InputError where this Python comes without its sources.
    """
    library = Path(sysconfig.get_path("stdlib"))
    cache = cache_dir / f"pydoc-{platform.python_version()}.json" if cache_dir else None
    if cache and (kept := _read_cache(cache)):
        return kept
    found = [*_topics(library), *_modules(library)]
    if not found:
        raise InputError(f"pydoc: this Python has no documentation in {library}; name a text of your own")
    if cache:
        _write_cache(cache, found)
    return found


def _topics(library: Path) -> Iterator[tuple[str, str]]:
    """The topics of `help()`, which lie in a module that is one literal dictionary."""
    tree = _parse(library / "pydoc_data" / "topics.py")
    for statement in tree.body if tree else []:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
            topics = ast.literal_eval(statement.value)
            yield from ((f"topics/{name}", topics[name]) for name in sorted(topics))


def _modules(library: Path) -> Iterator[tuple[str, str]]:
    """The documentation of each module that has some."""
    for folder, folders, files in os.walk(library):
        folders[:] = sorted(set(folders) - _NOT_LIBRARY)  # os.walk goes on with what is left here
        for path in (Path(folder, file) for file in sorted(files) if file.endswith(".py")):
            tree = _parse(path)
            documentation = "\n\n\n".join(_docstrings(tree, "")) if tree else ""
            if documentation:
                name = ".".join(path.relative_to(library).with_suffix("").parts).removesuffix(".__init__")
                yield f"modules/{name}", f"module {name}\n\n{documentation}\n"


def _docstrings(node: _Documented, prefix: str) -> Iterator[str]:
    """The docstring of `node` and of the classes and functions in it, each under its definition."""
    if docstring := ast.get_docstring(node):
        yield f"{_definition(node, prefix)}{docstring}"
    if isinstance(node, ast.Module | ast.ClassDef):
        inside = f"{prefix}{node.name}." if isinstance(node, ast.ClassDef) else ""
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _docstrings(child, inside)


def _definition(node: _Documented, prefix: str) -> str:
    """The line above a docstring, such as "def Fraction.limit_denominator(self, max_denominator)"."""
    match node:
        case ast.ClassDef():
            bases = ", ".join(map(ast.unparse, node.bases))
            return f"class {prefix}{node.name}({bases})\n\n"
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return f"def {prefix}{node.name}({ast.unparse(node.args)})\n\n"
        case _:
            return ""


def _parse(path: Path) -> ast.Module | None:
    """The syntax tree of a file, or None where it cannot be read or is no valid Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _write_cache(path: Path, found: _Named) -> None:
    """Keep what was read. Where that fails nothing is lost but time: the next call parses again."""
    aside = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(found), encoding="utf-8")
        os.replace(aside, path)


def _read_cache(path: Path) -> _Named | None:
    """What was kept, or None where nothing was or it is damaged."""
    try:
        return [(str(name), str(text)) for name, text in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return None
