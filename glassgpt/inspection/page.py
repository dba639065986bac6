"""One HTML file that needs nothing else: styles, scripts and data inside it, and no way out.

What the page shows comes from texts and models that nobody has vetted, so it is safe by construction. Data stands in
elements that are not run, with `<` spelled \\u003c; scripts put it on the page as text; and the policy in the head
(Content Security Policy, level 3) lets run only the scripts whose SHA-256 it names, and nothing be fetched.
"""

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from glassgpt.settings import InputError

WEB = files("glassgpt.inspection") / "web"
STYLE, SCRIPT = "base.css", "base.js"
"""What every page has: colours and type for light and dark; and the data, read."""
ENDINGS = (".html", ".htm")
MARK = '<meta name="generator" content="GlassGPT">'
"""What stands in the head of every page."""
_HEAD = 2**12
"""Characters in which `MARK` stands."""


def page(title: str, *, body: str, data: Mapping[str, Any], styles: str = "", scripts: str = "") -> str:
    """The file. `body` is HTML of our own; `styles` and `scripts` are CSS and JavaScript behind those of every page.

    `data` is there for the scripts by name: `read("name")` gives the value of JSON, of bytes an ArrayBuffer.
    """
    style = asset(STYLE) + styles
    script = f'"use strict";\n{asset(SCRIPT)}{scripts}'
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{MARK}
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
{body}
{"".join(_element(name, value) for name, value in data.items())}<script>{script}</script>
</body>
</html>
"""


def refuse_target(target: Path) -> None:
    """Raise InputError where `target` is no place for a page: it may be nothing yet, or a page that was written."""
    if target.suffix.lower() not in ENDINGS:
        raise InputError(f"{target} is no name of a page: let it end in .html, such as {target.name or 'page'}.html")
    if target.is_dir():
        raise InputError(f"{target} is a folder: name a file in it, such as {target / 'page.html'}")
    if not target.parent.is_dir():
        raise InputError(f"no folder {target.parent} for {target.name}: make it, or name a file in one that is there")
    if target.exists() and not is_page(target):
        raise InputError(f"{target} exists and is no page of GlassGPT, so it is not replaced: choose another name")


def is_page(path: Path) -> bool:
    """Whether the file was written from what `page` gave."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return MARK in file.read(_HEAD)
    except OSError:
        return False


def asset(name: str) -> str:
    """A file of `inspection/web`."""
    return (WEB / name).read_text(encoding="utf-8")


def _element(name: str, value: Any) -> str:
    if isinstance(value, bytes):
        return f'<script type="application/octet-stream" id="{name}">{base64.b64encode(value).decode()}</script>\n'
    written = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    safe = written.replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{safe}</script>\n'


def _finite(value: Any) -> Any:
    """The same value; null for each number that JSON has no sign for, such as a loss that ran away."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(part) for part in value]
    return value


def _digest(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"
