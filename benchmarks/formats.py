"""A text as LibreOffice's .docx, .odt and .epub, and as an .epub made with `zip`: is what we read what went in?

    python benchmarks/formats.py book.txt

Needs `soffice` and `zip`. LibreOffice is given the text as a flat OpenDocument file with a paragraph a line, since its
import of plain text cuts paragraphs of over 10,000 characters in two.
"""

import argparse
import html
import io
import subprocess
import tempfile
import time
from pathlib import Path
from xml.sax.saxutils import escape

import history

from glassgpt.text.formats import FormatOptions, read_file

NAMESPACE = "urn:oasis:names:tc:opendocument:xmlns"
FLAT = f"""<?xml version="1.0" encoding="UTF-8"?>
<office:document xmlns:office="{NAMESPACE}:office:1.0" xmlns:text="{NAMESPACE}:text:1.0" office:version="1.3"
 office:mimetype="application/vnd.oasis.opendocument.text">
<office:body><office:text>{{}}</office:text></office:body></office:document>
"""
CONTAINER = """<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>
"""
PACKAGE = """<package version="3.0" xmlns="http://www.idpf.org/2007/opf"><metadata/>
<manifest><item id="text" href="text.xhtml" media-type="application/xhtml+xml"/></manifest>
<spine><itemref idref="text"/></spine></package>
"""
PAGE = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Book</title></head><body>{}</body></html>\n'


class Text:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def write(self, text: str) -> None:
        self.pieces.append(text)

    def end_document(self) -> None: ...

    def restart(self) -> None:
        self.pieces.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description="Is what we read from each format what went in?")
    parser.add_argument("text", type=Path)
    arguments = parser.parse_args()
    text = arguments.text.read_text(encoding="utf-8")
    figures: dict[str, object] = {"text": arguments.text.name, "soffice": version()}
    with tempfile.TemporaryDirectory() as folder:
        made = [
            *(by_libreoffice(text, form, Path(folder)) for form in ("docx", "odt", "epub")),
            by_zip(text, Path(folder)),
        ]
        print(f"{'file':16}{'paragraphs':>12}{'of':>8}{'whole text':>12}{'MB/s':>8}")
        for path in made:
            figures[path.name] = figure = compare(text, path)
            equal = "equal" if figure["whole_text_is_equal"] else "differs"
            print(f"{path.name:16}{figure['n_equal']:12}{figure['n_paragraphs']:8}{equal:>12}{figure['mb_per_s']:8.1f}")
    history.append("formats", figures)


def compare(text: str, path: Path) -> dict[str, float]:
    """How many paragraphs come out as they went in, at their place, and whether all else is equal, too."""
    data, sink = path.read_bytes(), Text()
    started = time.perf_counter()
    read_file(io.BytesIO(data), path.name, sink, FormatOptions())
    seconds = time.perf_counter() - started
    out = "".join(sink.pieces)
    expected, found = paragraphs(text), paragraphs(out)
    return {
        "n_paragraphs": max(len(expected), len(found)),
        "n_equal": sum(one == other for one, other in zip(expected, found)),
        "whole_text_is_equal": out == text,
        "mb_per_s": round(len(text.encode()) / 1e6 / seconds, 1),
    }


def paragraphs(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def by_libreoffice(text: str, form: str, folder: Path) -> Path:
    source = folder / "book.fodt"
    lines = (f"<text:p>{escape(line)}</text:p>" for line in text.removesuffix("\n").split("\n"))
    source.write_text(FLAT.format("".join(lines)), encoding="utf-8")
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = ["soffice", profile, "--headless", "--convert-to", form, "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return folder / f"book.{form}"


def by_zip(text: str, folder: Path) -> Path:
    inside = folder / "inside"
    (inside / "META-INF").mkdir(parents=True)
    (inside / "mimetype").write_text("application/epub+zip")
    (inside / "META-INF" / "container.xml").write_text(CONTAINER)
    (inside / "book.opf").write_text(PACKAGE)
    body = "".join(f"<p>{html.escape(line)}</p>\n" for line in paragraphs(text))
    (inside / "text.xhtml").write_text(PAGE.format(body), encoding="utf-8")
    made = folder / "by-zip.epub"
    subprocess.run(["zip", "-q", "-X", "-0", str(made), "mimetype"], cwd=inside, check=True)
    subprocess.run(["zip", "-q", "-X", "-r", str(made), ".", "-x", "mimetype"], cwd=inside, check=True)
    return made


def version() -> str:
    done = subprocess.run(["soffice", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
