import mmap
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glassgpt.training.curve import loss_blocks, loss_svg
from glassgpt.training.metrics import Metrics, append_metrics, peak_bytes, read_metrics, resident_bytes

LINE = Metrics(
    step=1, tokens=10, seconds=0.5, loss=1 / 3, val_bpb=None, lr=1e-3, grad_norm=1.0, tokens_per_s=20, memory_bytes=9
)


def test_metrics_come_back_exactly_and_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    append_metrics(path, LINE)
    append_metrics(path, LINE)
    with path.open("a") as file:
        file.write('{"step": 3, "tok')
    assert read_metrics(path) == [LINE, LINE]


@pytest.mark.parametrize("line", ["\udcc3", "[" * 100_000, "3", "{}"])
def test_a_line_that_is_none_is_left_out(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f"{line}\n".encode(errors="surrogateescape"))
    append_metrics(path, LINE)
    assert read_metrics(path) == [LINE]


@pytest.mark.parametrize("values", [{"loss": "x"}, {"loss": None}, {"step": 10**100}, {"lr": True}, {"val_bpb": [1]}])
def test_a_line_with_other_things_than_numbers_is_left_out(tmp_path: Path, values: dict[str, Any]) -> None:
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, replace(LINE, **values))
    append_metrics(path, LINE)
    assert read_metrics(path) == [LINE]


def test_this_process_has_memory_and_its_peak_is_no_less() -> None:
    before = resident_bytes()
    block = mmap.mmap(-1, 64 * 2**20)  # fresh pages: what malloc gives may have been resident before
    block.write(b"1" * len(block))
    assert resident_bytes() - before > 50 * 2**20
    assert peak_bytes() >= before + 50 * 2**20
    block.close()


def test_the_curve_is_a_picture_with_both_lines_and_an_escaped_title() -> None:
    svg = loss_svg([(1, 5.0), (50, 3.0), (100, 2.5)], [(50, 3.1), (100, 2.7)], "a <b> & c")
    root = ElementTree.fromstring(svg)
    tags = [child.tag.rpartition("}")[2] for child in root]
    assert tags.count("polyline") == 2
    assert tags.count("circle") == 2
    assert "a <b> & c" in "".join(root.itertext())
    for circle in (child for child in root if child.tag.endswith("circle")):
        assert 0 <= float(circle.get("cx", -1)) <= 720
        assert 0 <= float(circle.get("cy", -1)) <= 400
    ElementTree.fromstring(loss_svg([], [(10, 2.0)], "one point"))


def test_blocks_fall_with_the_loss_and_keep_to_the_width() -> None:
    assert loss_blocks([8, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"
    assert len(loss_blocks(list(range(1000)), 40)) == 40
    assert loss_blocks([2.0, 2.0], 10) == "▁▁"
    assert loss_blocks([], 10) == ""
