"""report.html says what the run's files say, shows hostile text as text, and does something when it is pointed at."""

import json
import re
from pathlib import Path

import pytest

import glassgpt
from glassgpt.api.report import REPORT_FILE, report
from glassgpt.settings import InputError
from glassgpt.text.stories import write_stories

HOSTILE = "</script><script>document.title = 'ran'</script><b onclick=\"x\">bold</b> \u202e & 🙂 \x07\n"
SMALL = {"n_layers": 2, "embedding_dim": 32, "n_heads": 2, "context_length": 64}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 40 steps with four evaluations."""
    folder = tmp_path_factory.mktemp("report")
    lines = [line + HOSTILE * (n % 5 == 0) for n, line in enumerate(write_stories(150, seed=1))]
    (folder / "<i>tales.txt").write_text("\n".join(lines), encoding="utf-8")
    glassgpt.train(
        folder / "<i>tales.txt", steps=40, tokenizer="bpe:300", model=SMALL, optim={"batch_size": 4},
        run={"log_every": 2, "eval_every": 10}, data={"cache": str(folder / "cache")}, out=folder / "<i>run",
    )  # fmt: skip
    return folder / "<i>run"


def data_of(run: Path) -> dict:
    page = (run / REPORT_FILE).read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="report">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_report_says_what_the_files_of_the_run_say(run):
    values = data_of(run)
    measured = json.loads((run / "report.json").read_bytes())
    assert values["predicted"] == json.loads((run / "plan.json").read_bytes())
    assert values["measured"] | {"seconds": 0} == measured | {"seconds": 0}
    assert 0 <= measured["seconds"] - values["measured"]["seconds"] < 1  # to write the page
    assert [sample["step"] for sample in values["samples"]] == [10, 20, 30, 40]
    assert [step for step, _ in values["curve"]["validation"]] == [10, 20, 30, 40]
    assert values["samples"][0]["text"].strip() in (run / "samples.txt").read_text(encoding="utf-8")
    assert values["plan"]["parameters"]["total"] == measured["parameters"]
    assert sum(times for _, times in values["tokens"]["frequent"]) <= values["tokens"]["counted"]
    assert values["tokens"]["counted"] == values["text"]["train_tokens"]


def test_what_it_wrote_is_searched_for_in_all_of_the_training_text(run):
    values = data_of(run)
    written = values["writing"]
    assert written["copied"]["n_characters"] == sum(map(len, written["texts"])) > 0
    assert written["copied"]["n_searched"] == values["text"]["train_characters"]
    assert written["validation"]["n_characters"] > 0


def test_it_can_be_written_anew(run):
    before = data_of(run)
    (run / REPORT_FILE).unlink()
    assert report(run) == run / REPORT_FILE
    after = data_of(run)
    assert after["curve"] == before["curve"]
    assert after["tokens"] == before["tokens"]


def test_where_there_is_no_run_it_is_one_line(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        report(tmp_path / "nowhere")


@pytest.mark.thorough
def test_the_page_works_and_hostile_text_is_shown(run, browser):
    with browser.open(run / REPORT_FILE) as opened:
        page = opened.page
        assert page.title() == "<i>run: report"
        assert "<i>tales.txt" in page.text_content("#head")
        assert page.locator("main > section").count() >= 7
        assert page.locator("#doctor, #inside, #health").count() == 3
        assert "validation text is small" in page.text_content("#doctor")

        before = page.text_content("#samples pre")
        slider = page.locator("#samples input[type=range]")
        slider.focus()
        slider.press("Home")
        assert page.text_content("#samples pre") != before
        assert "step 10," in page.text_content("#samples")

        readout = page.locator("#learning .readout")
        assert "step" not in readout.text_content()
        page.locator("#learning svg").hover(position={"x": 300, "y": 100})
        assert re.search(r"step \d+: \d\.\d+ bits per byte", readout.text_content())

        if page.locator("#writing button").count():
            before = page.text_content("#writing pre")
            page.click("#writing button")
            assert page.text_content("#writing pre") != before
        opened.assert_clean()


@pytest.mark.thorough
@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_it_without_scrolling_sideways(run, browser, dark):
    with browser.open(run / REPORT_FILE, width=390, dark=dark) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) is dark
        opened.assert_clean()
