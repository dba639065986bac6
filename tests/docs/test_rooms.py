"""The pages of docs/ run, lead to what exists, and are in the contents."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ROOMS = sorted((DOCS / "rooms").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page writes stays in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("glassgpt.api.texts.DEFAULT_CACHE", tmp_path / "cache")


@pytest.mark.thorough
@pytest.mark.parametrize("page", ROOMS, ids=lambda page: page.stem)
def test_the_python_of_a_room_runs_from_top_to_bottom(page: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", ROOMS, ids=lambda page: page.stem)
def test_a_room_says_what_it_must_and_no_more(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for part in ("**In:**", "**Out:**", "**The idea.**", "**Read:**", "**What can go wrong.**"):
        assert part in text
    assert len(text.splitlines()) <= 90


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_that_exists(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)", page.read_text(encoding="utf-8"))
    local = [target.partition("#")[0] for target in targets if not target.startswith(("http", "#"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_contents_name_every_page_and_number_the_rooms_in_order() -> None:
    contents = (DOCS / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\(([\w/.-]+\.md)\)", contents)
    assert {DOCS / name for name in named} == set(DOCS.rglob("*.md")) - {DOCS / "README.md"}
    numbered = re.findall(r"^(\d+)\. \[[^\]]*\]\(rooms/(\d+)-", contents, re.MULTILINE)
    assert [(int(a), int(b)) for a, b in numbered] == [(n, n) for n in range(1, len(ROOMS) + 1)]


def test_every_room_of_the_package_has_its_page() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in ROOMS)
    rooms = [path.name for path in (ROOT / "glassgpt").iterdir() if (path / "__init__.py").exists()]
    assert [room for room in rooms if f"glassgpt/{room}" not in pages and f"{room}/" not in pages] == []
