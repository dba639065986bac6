"""The X-ray of a prompt as a page to point at: tokens, attention, logit lens, norms, ablation.

`xray_data`, `xray_style` and `xray_script` are the same view for a larger page: its own script calls
`showXray(container, read("xray"), read("xray-attention"))`.
"""

import html
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.inspection.page import asset, page
from glassgpt.inspection.xray import XRay

PARTS = "", "_tokens", "_heads", "_map", "_lens", "_norms", "_ablation"
"""Of the script, xray*.js in web/: the whole, then its views."""
START = 'showXray(document.getElementById("seen"), read("xray"), read("xray-attention"));\n'


MOST_ATTENTION = 20_000_000
"""Weights that a page has, a byte each: those of longer prompts are left out."""
LONGEST_MAP = 512
"""Tokens of a map that can still be drawn: beyond it browsers refuse the canvas."""


def xray_page(found: XRay, pieces: Callable[[int], str], about: Mapping[str, str | int]) -> str:
    """The page, one HTML file. `pieces` gives the text of a token.

    `about` says what was looked at: "model" becomes the title, the rest is listed below it in its order.
    """
    title = f"X-ray of {about['model']}" if "model" in about else "X-ray"
    facts = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(said))}</dd></div>"
        for name, said in about.items()
        if name != "model"
    )
    body = f'<h1>{html.escape(title)}</h1>\n<dl class="xray-about">{facts}</dl>\n<main id="seen"></main>'
    data = xray_data(found, pieces)
    return page(title, body=body, data=data, styles=xray_style(), scripts=xray_script() + START)


def xray_data(found: XRay, pieces: Callable[[int], str]) -> dict[str, Any]:
    """What `page` takes as data: "xray", JSON with four digits a number, and "xray-attention", its weights.

    The JSON has the names and shapes of XRay, and "texts", the tokens that occur in it by id. A weight is a byte (255
    is 1); of each head (layer by layer) there are the rows one after another, each up to its diagonal. Where there are
    more than `most_tokens`, there are none.
    """
    ids = {name: getattr(found, name) for name in ("ids", "ranks", "top_ids", "lens_ids", "neighbour_ids")}
    numbers = (
        *("probabilities", "nats", "top_probabilities", "previous_token", "first_token", "induction"),
        *("lens_probabilities", "lens_true", "residual_norms", "attention_norms", "feed_forward_norms"),
        *("embedding_norms", "head_ablation", "attention_ablation", "feed_forward_ablation", "neighbour_cosines"),
    )
    occurring = np.unique(np.concatenate([array.ravel() for name, array in ids.items() if name != "ranks"]))
    seen = {
        "texts": {str(token): pieces(token) for token in occurring.tolist()},
        **{name: array.tolist() for name, array in ids.items()},
        **{name: _rounded(getattr(found, name)) for name in numbers},
    }
    n_layers, n_heads, length, _ = found.attention.shape
    seen["most_tokens"] = most_tokens(n_layers, n_heads)
    shown = length <= seen["most_tokens"]
    return {"xray": seen, "xray-attention": _lower_triangles(found.attention) if shown else b""}


def most_tokens(n_layers: int, n_heads: int) -> int:
    """Of a prompt whose attention a page has: n tokens have n (n + 1) / 2 weights a head."""
    weights = MOST_ATTENTION // (n_layers * n_heads)
    return min(LONGEST_MAP, (math.isqrt(1 + 8 * weights) - 1) // 2)


def xray_style() -> str:
    """The CSS of the view; all of it is below .xray."""
    return asset("xray.css")


def xray_script() -> str:
    """The JavaScript that defines `showXray(container, data, attention)`."""
    return "".join(asset(f"xray{part}.js") for part in PARTS)


def _rounded(numbers: NDArray[np.float32] | None) -> Any:
    """Nested lists; JSON has no nan and no infinity, so they are None."""

    def written(value: Any) -> Any:
        if isinstance(value, list):
            return [written(part) for part in value]
        return float(f"{value:.4g}") if math.isfinite(value) else None

    return None if numbers is None else written(numbers.tolist())


def _lower_triangles(attention: NDArray[np.float32]) -> bytes:
    rows, columns = np.tril_indices(attention.shape[-1])
    return np.rint(255 * attention[:, :, rows, columns]).astype(np.uint8).tobytes()
