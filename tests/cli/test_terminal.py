"""What training shows in a terminal, looked at in one (tmux), and the parts that draw it."""

import io
import math
import os
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from glassgpt.cli.live_region import LiveRegion
from glassgpt.cli.loss_chart import LABEL, MOST_POINTS, LossSeries, loss_chart
from glassgpt.cli.training_view import LiveView, PlainView, view_of
from glassgpt.cli.words import printable, wrapped
from glassgpt.evaluation.bits_per_byte import Evaluation
from glassgpt.training.loop import Progress
from glassgpt.training.metrics import Metrics

TRAIN = [sys.executable, "-m", "glassgpt", "train", "text.txt", "--steps", "1000000", "--tokenizer", "bytes",
         "--model.embedding-dim", "32", "--model.n-layers", "1", "--model.n-heads", "2", "--model.context-length",
         "32", "--optim.batch-size", "4", "--run.eval-every", "40", "--data.cache", "cache"]  # fmt: skip
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7]|4[0-8])(?:;\d+)*m")


class Terminal:
    """A command in a terminal of its own, whose screen can be looked at."""

    def __init__(self, folder: Path, width: int, height: int, environment: str = "") -> None:
        self.folder = folder
        self.fifo = folder / "output"
        os.mkfifo(self.fifo)
        self.stream = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.output = ""
        command = f"read go; {environment} {shlex.join(TRAIN)}; read stay"
        self.tmux("new-session", "-d", "-x", str(width), "-y", str(height), command)
        self.tmux("pipe-pane", f"cat > {shlex.quote(str(self.fifo))}")
        self.tmux("send-keys", "Enter")

    def tmux(self, *arguments: str) -> str:
        # the socket's path must be short, which a test's own folder is not
        command = ["tmux", "-f", "/dev/null", "-L", f"glassgpt-{os.getpid()}-{id(self)}", *arguments]
        environment = os.environ | {"LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        environment.pop("NO_COLOR", None)
        return subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=self.folder, env=environment
        ).stdout  # fmt: skip

    def wait_for(self, text: str, after: int = 0) -> int:
        """Until `text` is printed behind the first `after` signs; returns how many there are then."""
        deadline = time.monotonic() + 90
        while text not in self.output[after:]:
            ready, _, _ = select.select([self.stream], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come; the screen:\n{self.screen()}"
            self.output += os.read(self.stream, 65536).decode("utf-8", errors="replace")
        return len(self.output)

    def screen(self) -> list[str]:
        """The lines, wrapped ones joined again."""
        return self.tmux("capture-pane", "-pJ").rstrip().splitlines()

    def shows(self, what: Callable[[list[str]], bool]) -> None:
        """Look until it does; between two drawings the screen may be half of each."""
        deadline = time.monotonic() + 90
        while not what(self.screen()):
            assert time.monotonic() < deadline, self.screen()

    def close(self) -> None:
        self.tmux("kill-server")
        os.close(self.stream)


@pytest.fixture
def terminal(tmp_path: Path, story_file: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens a terminal in which training begins."""
    if shutil.which("tmux") is None and os.environ.get("CI") != "true":
        pytest.skip("tmux is not installed")
    (tmp_path / "text.txt").write_text(story_file.read_text())
    opened: list[Terminal] = []

    def made(*arguments: object, **more: object) -> Terminal:
        opened.append(Terminal(tmp_path, *arguments, **more))
        return opened[-1]

    yield made
    for one in opened:
        one.close()


def assert_in_order(lines: list[str], width: int, rows: int) -> None:
    """One chart of so many rows, one state, and nothing wider than the terminal."""
    shown = "\n".join(lines)
    assert max(cell_len(line.rstrip()) for line in lines) <= width, shown
    assert sum("┤" in line for line in lines) == 2, shown
    assert sum("┤" in line or " │" in line for line in lines) == rows, shown
    assert sum("loss, nats a token" in line for line in lines) == 1, shown
    assert sum("/1,000,000 " in line for line in lines) == 1, shown
    assert "Traceback" not in shown


def sample_is_below_the_curve(lines: list[str]) -> bool:
    axis = next((number for number, line in enumerate(lines) if "● validation" in line), len(lines))
    return any("val bpb" in line and line.startswith("step ") for line in lines[axis:])


def in_order(width: int, rows: int) -> Callable[[list[str]], bool]:
    def holds(lines: list[str]) -> bool:
        try:
            assert_in_order(lines, width, rows)
        except (AssertionError, ValueError):
            return False
        return True

    return holds


@pytest.mark.thorough
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_the_live_view_fits_the_terminal_and_follows_its_size(
    terminal: Callable[..., Terminal], width: int, height: int
) -> None:
    view = terminal(width, height)
    drawn = view.wait_for("validation", view.wait_for("| val bpb 0"))
    view.shows(in_order(width, height // 5))
    view.shows(sample_is_below_the_curve)
    for width, height in ((60, 20), (100, 30)):
        view.tmux("resize-window", "-x", str(width), "-y", str(height))
        drawn = view.wait_for("validation", view.wait_for("loss, nats", view.wait_for("validation", drawn)))
        view.shows(in_order(width, height // 5))
    view.tmux("send-keys", "C-c")
    view.wait_for("glassgpt train --resume runs/text")
    assert not any("┤" in line for line in view.screen()), "the live lines are taken away"
    assert COLOUR.search(view.output)
    assert view.output.rindex("\x1b[?25h") > view.output.rindex("\x1b[?25l"), "the cursor is there again"


@pytest.mark.thorough
def test_no_color_leaves_the_view_live_and_without_colours(terminal: Callable[..., Terminal]) -> None:
    view = terminal(80, 24, environment="NO_COLOR=1")
    view.wait_for("loss, nats", view.wait_for("| val bpb 0"))
    view.shows(in_order(80, 4))
    assert not COLOUR.search(view.output)


@pytest.mark.thorough
def test_a_dumb_terminal_gets_plain_lines(terminal: Callable[..., Terminal]) -> None:
    view = terminal(80, 24, environment="TERM=dumb")
    view.wait_for("the best so far")
    assert "1/1,000,000 0% | loss" in view.output
    assert "\x1b" not in view.output


@pytest.mark.thorough
def test_the_first_line_comes_before_torch() -> None:
    begin = "import sys; sys.modules['torch'] = None; from glassgpt.cli.main import run"
    script = f"{begin}; sys.exit(run(['train', 'pydoc']))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert found.stdout.splitlines()[0].startswith("GlassGPT ")
    assert "torch" in found.stderr


def line(step: int, loss: float = 2.0) -> Metrics:
    return Metrics(step, 100 * step, 0.1 * step, loss, None, 1e-3, 1.0, 5000.0, 10**8)


@pytest.mark.parametrize(("width", "height"), [(20, 8), (40, 14), (80, 24), (120, 30), (200, 50)])
def test_wide_signs_and_long_words_stay_inside_the_width(width: int, height: int) -> None:
    view = LiveView(io.StringIO())
    for step in range(1, 200):
        view.stepped(line(step, 2 + 3 / step))
    sample = "春眠不覚暁、処処聞啼鳥。" * 9 + "\n👩‍👩‍👧‍👦 emoji ✌️ " * 5 + "\n" + "x" * 300 + "\t\x1b[31mred\n\n" * 40
    view.evaluated(Progress(150), Evaluation(100.0, 50, 200), sample)
    drawn = view.lines(width, height)
    assert 0 < len(drawn) < height, "something of what scrolls above is left"
    for row in drawn:
        assert cell_len(row.plain) <= width
        assert "\x1b" not in row.plain


def test_lines_are_broken_between_words_and_words_only_where_they_must() -> None:
    assert wrapped("one two three", 8) == ["one two", "three"]
    assert wrapped("  name  one two", 11, "        ") == ["  name  one", "        two"]
    assert wrapped("春眠不覚暁", 6) == ["春眠不", "覚暁"]
    assert wrapped("run 春眠不覚暁", 8, "  ") == ["run", "  春眠不", "  覚暁"]
    assert wrapped("abcdefgh", 3) == ["abc", "def", "gh"]
    assert wrapped("", 9) == [""]
    assert "".join(wrapped("a b c d e f g", 3)).replace(" ", "") == "abcdefg"


def test_what_could_move_the_cursor_or_turn_the_line_is_shown_as_a_dot() -> None:
    assert printable("a\x1b[2Jb\u202ec\x07") == "a·[2Jb·c·"
    assert printable("naïve 👩‍👧 नमस्ते\n\t") == "naïve 👩‍👧 नमस्ते\n\t"


def test_a_run_of_many_steps_is_remembered_by_few_points() -> None:
    series = LossSeries()
    for step in range(1, 100_001):
        series.add(step, float(step))
        assert len(series.points) <= MOST_POINTS
    assert series.points[0] == (1, 1.0)
    assert len(series.points) > MOST_POINTS / 3
    widths = {later - earlier for (earlier, _), (later, _) in zip(series.points[1:], series.points[2:], strict=False)}
    assert len(widths) == 1, "equally many steps a point"
    for before, (step, mean) in zip(series.points, series.points[1:], strict=False):
        assert mean == pytest.approx((before[0] + 1 + step) / 2), "the mean of its steps"


def test_the_chart_shows_where_a_loss_is() -> None:
    falling = [(step, 3.0 - step / 50) for step in range(1, 101)]
    rows = [row.plain for row in loss_chart(falling, [(50, 2.0), (100, 1.2)], 40, 5)]
    assert len(rows) == 6
    assert all(cell_len(row) <= 40 for row in rows)
    assert rows[0].strip().startswith("2.")
    assert rows[4].strip().startswith("1.0")
    assert rows[0][LABEL:].strip(), "high at first"
    assert rows[4].rstrip() == rows[4], "low at the end"
    assert sum(row.count("●") for row in rows[:5]) == 2
    assert "step 100" in rows[5]
    for odd in ([(1, 2.0)], [(1, math.nan), (2, math.inf)], [(1, 2.0), (2, 2.0)], [(7, 1.0), (8, math.nan), (9, 2.0)]):
        assert len(loss_chart(odd, [], 30, 3)) == 4


def test_where_output_goes_decides_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(view_of(Tty(io.BytesIO(), encoding="utf-8")), LiveView)
    for stream in (io.StringIO(), Tty(io.BytesIO(), encoding="latin-1")):
        assert type(view_of(stream)) is PlainView
    monkeypatch.setenv("TERM", "dumb")
    assert type(view_of(Tty(io.BytesIO(), encoding="utf-8"))) is PlainView


def test_what_is_printed_while_the_region_is_there_scrolls_above() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=20, height=10, color_system=None)
    region = LiveRegion(console, lambda width, height: [Text("state")])
    region.start()
    region.print(Text("kept"))
    region.stop()
    written = stream.getvalue()
    assert "kept\n" in written
    assert written.index("state") < written.index("kept") < written.rindex("state")
    assert written.endswith("\x1b[?25h")
