"""The chapter runs from its first cell to its last and prints every number it promises."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.thorough  # a minute: every cell runs

NAME = "04_gpt_from_scratch.ipynb"
COMMITTED = Path(__file__).parents[2] / "notebooks" / NAME
SEED_CELLS = json.loads((Path(__file__).parents[1] / "golden" / "seed_cells.json").read_text(encoding="utf-8"))

TEXTS = [
    # chapter 2
    "[6109, 3626, 6100,  345]", "[6109, 1110, 6622,  257]",
    "15496 11 466 345 588 8887 30 220 50256 554 262 4252 18250 8812 2114 1659 617 34680 27271 13",
    "33901 86 343 86 220 959", "20,479 characters, 5,145 tokens", "40 367 2885 1464 -> 367 2885 1464 1807",
    # chapter 3
    "2,360,064", "[2., 2., 2., 2., 2., 2.]",
    # chapter 4
    "torch.Size([2, 4, 50257])", "(2, 3, 768) -> (2, 3, 3072) -> (2, 3, 768)", "(2, 4, 768) -> (2, 4, 768)",
    "4,722,432", "7,085,568",
    "77,981,184", "163,009,536", "124,412,160", "124,439,808", "621.83",
    "406,212,608", "354,749,440", "1,549.58", "838,220,800", "773,891,840", "3,197.56",
    "1,637,792,000", "1,557,380,800", "6,247.68",
    "27018 24086 47843 30961 42348 7267 49706 43231 47062 34657",
    # chapter 5
    "73/0/0/582/2/0/0/343/0", "9 training batches and 1 for validation, each [2, 256]",
]  # fmt: skip

NUMBERS = {  # what must be printed in this order, to the last digit given but for rounding
    "seed": ("-0.9289 0.2748 -0.7557 -1.6070 0.2702 -0.5888", 1e-4),
    "other dropout": ("-1.2034 0.3201 -0.7130", 1e-4),
    "activations": ("0.2260 0.3470 0.0000 0.2216 0.0000 0.0000 0.2133 0.2394 0.0000 0.5198 0.3297 0.0000", 1e-4),
    "means, variances": ("0.1324 0.2170 0.0231 0.0398", 1e-4),
    "normalised": ("0.6159 1.4126 -0.8719 0.5872 -0.8719 -0.8719", 1e-4),
    "GPTModel": ("0.1381 0.0077 -0.1963 -0.0222 -0.1060 0.1717", 1e-4),
    "without shortcuts": ("2.01736e-4 1.20112e-4 7.15204e-4 1.398874e-3 5.049645e-3", 2e-9),
    "with shortcuts": ("0.221698 0.206941 0.328970 0.266573 1.325854", 2e-6),
    "top-3": ("0.0615 0.5775 0.3610", 1e-4),
    "two sentences": ("10.7940", 1e-4),
    "perplexity": ("48725.82", 0.5),
    "initial losses": ("10.987583 10.981106", 3e-6),
}

MEANING = re.compile(r"-?\d[\d,]*\.\d+(?:e[+-]\d+)?")


def numbers_in(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in MEANING.findall(text)]


def printed(notebook: dict[str, Any]) -> str:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return "\n".join("".join(output.get("text", "")) for output in outputs)


def code_of(notebook: dict[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def executed(folder: Path, without_network: dict[str, str]) -> dict[str, Any]:
    """The notebook as nbmake leaves it after running all cells."""
    notebook = read(folder / NAME)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    (folder / NAME).write_text(json.dumps(notebook), encoding="utf-8")
    options = ["--nbmake", "--overwrite", "--nbmake-timeout=600", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", *options, f"--rootdir={folder}", NAME]
    done = subprocess.run(command, cwd=folder, env=without_network, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return read(folder / NAME)


@pytest.fixture(params=["executed", "committed"])
def notebook(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Run here and now, and as it lies in the repository."""
    return request.getfixturevalue("executed") if request.param == "executed" else read(COMMITTED)


def test_every_text_of_the_chapter_is_printed(notebook: dict[str, Any]) -> None:
    text = printed(notebook)
    assert [wanted for wanted in TEXTS if wanted not in text] == []


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_of_the_chapter_is_printed(notebook: dict[str, Any], name: str) -> None:
    """The numbers appear one after the other; a number that the chapter does not give may stand between."""
    wanted, tolerance = NUMBERS[name]
    remaining = iter(numbers_in(printed(notebook)))
    for number in map(float, wanted.split()):
        assert any(abs(candidate - number) <= 1.01 * tolerance for candidate in remaining), number


def test_it_ends_with_a_model_that_learned_and_writes(executed: dict[str, Any]) -> None:
    text = printed(executed)
    losses = [float(loss) for loss in re.findall(r"training loss (\d+\.\d+)", text)]
    assert len(losses) == 4
    assert losses[-1] < 2 < losses[0]
    assert text.count("[sample]") == 2
    assert "[greedy] Every effort moves you" in text


def test_the_cells_of_the_seed_are_in_it_unchanged() -> None:
    cells = code_of(read(COMMITTED))
    positions = [cells.index("\n".join(cell["source"])) for cell in SEED_CELLS]
    assert positions == sorted(positions)


def test_every_cell_of_the_committed_notebook_ran_in_order_without_an_error() -> None:
    cells = [cell for cell in read(COMMITTED)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [
        o for cell in cells for o in cell["outputs"] if o["output_type"] == "error" or o.get("name") == "stderr"
    ]


def test_it_has_plots() -> None:
    outputs = [output for cell in read(COMMITTED)["cells"] for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 6


def test_the_committed_notebook_is_small_and_names_no_path_of_the_machine_it_ran_on() -> None:
    text = COMMITTED.read_text(encoding="utf-8")
    assert len(text) < 400_000
    assert not re.search(r"/(home|root|work|tmp|Users)/|[A-Z]:\\\\", text)


def test_what_it_names_in_the_package_exists() -> None:
    """`glassgpt/model.py`, class `LayerNorm`: the file is there and defines it."""
    repository = COMMITTED.parents[1]
    prose = "".join("".join(cell["source"]) for cell in read(COMMITTED)["cells"] if cell["cell_type"] == "markdown")
    assert [
        path for path in re.findall(r"`((?:glassgpt|tests)/[\w/.]*)`", prose) if not (repository / path).exists()
    ] == []
    pointers = re.findall(r"`(glassgpt/[\w/]+\.py)`, (?:class(?:es)?|functions?) ((?:`\w+`(?:, | and )?)+)", prose)
    assert len(pointers) >= 10
    for path, names in pointers:
        source = (repository / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(class|def) {name}\b", source, re.MULTILINE), f"{path} has no {name}"


def test_the_story_beside_it_is_the_chapters() -> None:
    story = (COMMITTED.parent / "the-verdict.txt").read_bytes()
    assert len(story) == len(story.decode("utf-8")) == 20_479
