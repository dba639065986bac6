"""A run with files cut, altered or lost: `doctor` says so in words, and its report leaves out what is not there."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import glassgpt
from glassgpt.api.report import REPORT_FILE, report
from glassgpt.cli.main import run
from glassgpt.settings import InputError
from glassgpt.text.stories import write_stories

TINY = {"n_layers": 2, "embedding_dim": 16, "n_heads": 2, "context_length": 32}
Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps with two evaluations."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tales.txt").write_text("\n".join(write_stories(60, seed=1)), encoding="utf-8")
    glassgpt.train(
        folder / "tales.txt", steps=20, tokenizer="bytes", model=TINY, optim={"batch_size": 4},
        run={"log_every": 1, "eval_every": 10, "threads": 1}, data={"cache": str(folder / "cache")}, out=folder / "run",
    )  # fmt: skip
    return folder / "run"


@pytest.fixture
def broken(sound: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    shutil.copytree(sound, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def text(name: str, content: str) -> Damage:
    return lambda run: (run / name).write_text(content, encoding="utf-8")


def binary(name: str) -> Damage:
    return lambda run: (run / name).write_bytes(bytes(range(256)) * 20)


def half(name: str) -> Damage:
    def damage(run: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: len(content) // 2])

    return damage


def gone(*names: str) -> Damage:
    return lambda run: [(run / name).unlink() for name in names]


def values(name: str, **changed: object) -> Damage:
    """A JSON object with other values in it."""

    def damage(run: Path) -> None:
        (run / name).write_text(json.dumps(json.loads((run / name).read_bytes()) | changed))

    return damage


def a_folder(name: str) -> Damage:
    def damage(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return damage


def every_line(name: str, **changed: object) -> Damage:
    def damage(run: Path) -> None:
        lines = [json.loads(line) | changed for line in (run / name).read_bytes().splitlines()]
        (run / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

    return damage


WEIGHTS = "step-00000020/model.safetensors"
ODD_BLOCKS = [{"activation_norm": "loud", "dead_units": None, "update_ratio": 10**400}, {"gradient_norm": [1]}]

TELLS: dict[str, tuple[Damage, str | None]] = {
    "metrics cut": (half("metrics.jsonl"), "but the run at step 20"),
    "metrics of other bytes": (binary("metrics.jsonl"), "metrics.jsonl make no sense"),
    "metrics without numbers": (every_line("metrics.jsonl", loss="low", lr=None), "metrics.jsonl make no sense"),
    "metrics that ran away": (every_line("metrics.jsonl", loss=float("nan"), val_bpb=float("inf")), "is no number"),
    "metrics of zeros": (every_line("metrics.jsonl", loss=0, lr=0, grad_norm=0, tokens_per_s=0), ""),
    "metrics gone": (gone("metrics.jsonl"), "metrics.jsonl has no lines, but the run"),
    "metrics a folder": (a_folder("metrics.jsonl"), "metrics.jsonl is no file"),
    "health of other bytes": (binary("health.jsonl"), "health.jsonl make no sense"),
    "health of odd blocks": (every_line("health.jsonl", layers=ODD_BLOCKS, embedding=3, val_bpb="x"), None),
    "health without blocks": (every_line("health.jsonl", layers=[5, "x"], head=[1]), None),
    "health that ran away": (every_line("health.jsonl", layers=[{"activation_norm": float("inf")}]), None),
    "health gone": (gone("health.jsonl"), None),
    "report gone": (gone("report.json"), None),
    "report cut": (half("report.json"), "report.json holds no JSON object"),
    "report a list": (text("report.json", "[1]"), "report.json holds no JSON object"),
    "report of words": (values("report.json", seconds="long", bits_per_byte=[], ngrams={"1": "x"}, steps={}), None),
    "report of large numbers": (values("report.json", seconds=10**400, ngrams=[10**400], tokens=True), None),
    "plan gone": (gone("plan.json"), None),
    "plan with NaN": (values("plan.json", seconds=float("nan"), parameters=float("inf")), "plan.json holds no JSON"),
    "plan of zeros": (values("plan.json", seconds=0, memory_bytes=0, bits_per_byte=0.0, plan=[]), None),
    "plan of words": (values("plan.json", seconds="x", plan=[["a"]], steps="many", parameters="few"), None),
    "plan nested deep": (text("plan.json", "[" * 200_000), "plan.json holds no JSON object"),
    "samples of other bytes": (binary("samples.txt"), None),
    "samples with odd heads": (text("samples.txt", "--- step 1, 1.2.3 bits per byte ---\n\n--- step 2, nan"), None),
    "samples gone": (gone("samples.txt"), None),
    "run.json cut": (half("run.json"), "run.json is gone or holds no JSON object"),
    "only the weights": (
        gone("metrics.jsonl", "health.jsonl", "report.json", "plan.json", "samples.txt", "run.json"), "run.json is gone"
    ),
}  # fmt: skip
"""What is done to a run of which its settings and its model are left, and what `doctor` says of it where it can."""
REFUSED: dict[str, tuple[Damage, str]] = {
    "config of other bytes": (binary("config.yaml"), "config.yaml does not begin with its SHA-256"),
    "config without sense": (text("config.yaml", "model: {n_layers: -1}\n"), "may have been altered"),
    "config empty": (text("config.yaml", ""), "may have been altered"),
    "weights cut": (half(WEIGHTS), "a checkpoint is damaged"),
    "weights gone": (gone(WEIGHTS), "a checkpoint is damaged"),
    "manifest of other bytes": (binary("step-00000020/manifest.json"), "a checkpoint is damaged"),
}
"""What leaves a run that has no report, and what `doctor` says of it."""


@pytest.mark.parametrize("name", [*TELLS, *REFUSED])
def test_the_doctor_reads_a_broken_run(name: str, broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, said = (TELLS | REFUSED)[name]
    damage(broken)
    assert run(["doctor", str(broken)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert (said or "") in " ".join(out.split())
    assert said is not None or "is damaged" not in out


@pytest.mark.parametrize("name", TELLS)
def test_its_report_leaves_out_what_is_not_there(name: str, broken: Path) -> None:
    (broken / REPORT_FILE).unlink()
    TELLS[name][0](broken)
    page = report(broken, seconds=0.1).read_text(encoding="utf-8")
    data = page.partition('<script type="application/json" id="report">')[2].partition("</script>")[0]
    json.loads(data, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


@pytest.mark.parametrize("name", REFUSED)
def test_of_a_run_that_cannot_be_opened_there_is_one_line_and_the_old_report(name: str, broken: Path) -> None:
    before = (broken / REPORT_FILE).read_bytes()
    REFUSED[name][0](broken)
    with pytest.raises(InputError) as refusal:
        report(broken, seconds=0.1)
    assert "\n" not in str(refusal.value)
    assert (broken / REPORT_FILE).read_bytes() == before


def test_what_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("a run\n")
    for name, why in (("empty", "is no run"), ("file", "is a file"), ("nowhere", "no directory")):
        assert run(["doctor", str(tmp_path / name)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert why in " ".join(err.split())
        with pytest.raises(InputError, match=why):
            report(tmp_path / name)


def test_bytes_changed_anywhere_in_its_small_files_are_no_accident(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = random.Random(7)
    names = ("metrics.jsonl", "health.jsonl", "report.json", "plan.json", "config.yaml", "run.json")
    whole = {name: (broken / name).read_bytes() for name in names}
    for _ in range(60):
        for name in names:
            content = bytearray(whole[name])
            for _ in range(generator.choice((0, 1, 4, 30))):
                content[generator.randrange(len(content))] = generator.choice(b'0123456789-eE.,:"[]{}nax')
            (broken / name).write_bytes(content)
        assert run(["doctor", str(broken)]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["report gone", "only the weights", "metrics that ran away", "health that ran away"])
def test_the_page_of_a_broken_run_works(name: str, broken: Path, browser) -> None:
    TELLS[name][0](broken)
    report(broken, seconds=0.5)
    with browser.open(broken / REPORT_FILE) as opened:
        assert "parameters" in opened.page.text_content("#head")
        assert opened.page.locator("#sizes").count() == 1
        opened.assert_clean()
