"""The page of a run: what `report` gathered, drawn by `web/report.js`."""

import html
from collections.abc import Callable, Mapping
from typing import Any

from glassgpt.inspection.page import asset, page
from glassgpt.inspection.xray import XRay
from glassgpt.inspection.xray_page import xray_data, xray_script, xray_style

SECTIONS = {
    "measured": "Predicted and measured",
    "learning": "How it learned",
    "samples": "What it wrote on the way",
    "writing": "What it writes, and whose sentences these are",
    "inside": "A look inside",
    "health": "Layer by layer",
    "tokens": "The vocabulary",
    "sizes": "What it is made of",
    "doctor": "What the doctor says",
}
"""By id, in their order; a script fills each, and takes away what a run has nothing for."""


def report_page(name: str, values: Mapping[str, Any], found: XRay | None, piece: Callable[[int], str]) -> str:
    """The HTML of a run's report; `found` is the X-ray of a sample, `piece` the text of a token."""
    head = f'<header id="head"><h1>{html.escape(name)}</h1></header>'
    sections = "".join(f'<section id="{part}"><h2>{title}</h2></section>\n' for part, title in SECTIONS.items())
    body = f'<main>{head}\n{sections}<footer id="foot"></footer></main>'
    data: dict[str, Any] = {"report": values} | (xray_data(found, piece) if found else {})
    return page(
        f"{name}: report",
        body=body,
        data=data,
        styles=xray_style() + asset("report.css"),
        scripts=xray_script() + asset("report.js"),
    )
