"""report.html: what a run was, in one offline page: prediction and measurement, the curve, what it wrote and whose
sentences these are, its vocabulary, its sizes, and the X-ray of a sample.

It is made from what lies in the run's directory and from its best checkpoint, opened as anyone would open it. What
takes long in a large model or text (writing, searching, looking inside) is given a share of `seconds`, and does as much
as it can in it.
"""

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt import __version__
from glassgpt.api.loaded import load
from glassgpt.api.outlook import MOST_OF_REPORT
from glassgpt.api.run_record import record_of
from glassgpt.api.texts import prepared_again
from glassgpt.checkpoint.run import RunDirectory, find_run
from glassgpt.checkpoint.run_settings import read_settings
from glassgpt.config import Settings
from glassgpt.data.prepare import Prepared
from glassgpt.data.shards import Ids
from glassgpt.evaluation.copied import Copied, copied
from glassgpt.files.atomic import write_atomically
from glassgpt.generation.sampling import Sampling
from glassgpt.inspection.ablation import ablation_flops
from glassgpt.inspection.finding import Line, number
from glassgpt.inspection.report_page import report_page
from glassgpt.inspection.run_health import findings
from glassgpt.inspection.token_statistics import token_statistics
from glassgpt.inspection.xray import XRay, xray
from glassgpt.planning.plan import plan
from glassgpt.settings import InputError
from glassgpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from glassgpt.api.gpt import GPT

REPORT_FILE = "report.html"
WRITTEN, TEXTS = 6000, 4
"""Characters that are written to be searched for copies, and in how many texts."""
LEAST = 500
"""Characters that are written even where there is little time."""
LOOKED_AT, TOO_SHORT = 48, 12
"""Tokens of the sample that is looked into; with fewer, the validation text is looked at."""
SLOW_FLOPS = 2e10
"""A second, which any machine reaches: what looking inside is expected to take is counted with it."""
BLOCK = 1 << 18
"""Tokens that are turned into text at a time."""


def report(directory: str | Path | None = None, *, seconds: float = MOST_OF_REPORT, trust_code: bool = False) -> Path:
    """Write report.html of a run anew, and return where it lies. Left out, `directory` is the newest run.

    `seconds` is about the time that it may take. Raises InputError where there is no run, it is damaged, or its text
    is no longer there.
    """
    run = find_run(directory).path
    chosen = read_settings(run)
    gpt = load(run, trust_code=trust_code)
    return write_report(run, chosen, prepared_again(chosen), gpt, seconds)


def write_report(
    run: Path,
    chosen: Settings,
    prepared: Prepared,
    gpt: "GPT",
    seconds: float,
    spent: Callable[[], float] = lambda: 0.0,
) -> Path:
    """The same, of what is open already. `spent` gives the seconds that the run takes besides those in report.json."""
    values, found = gather(run, chosen, prepared, gpt, seconds)
    if values["measured"].get("seconds") is not None:
        values["measured"]["seconds"] += spent()
    path = run / REPORT_FILE
    write_atomically(path, report_page(run.name, values, found, gpt.token_text).encode())
    return path


def gather(
    run: Path, chosen: Settings, prepared: Prepared, gpt: "GPT", seconds: float
) -> tuple[dict[str, Any], XRay | None]:
    """What the page says, in plain values, and the X-ray; None of a model of one's own."""
    facts, tokenizer = prepared.facts, prepared.tokenizer
    record = record_of(RunDirectory(run))
    texts = _write(gpt, chosen.run.seed, 0.4 * seconds)
    looked_at, kind = tokenizer.encode(texts[0] if texts else ""), "written"
    if len(looked_at) < TOO_SHORT:
        looked_at, kind = prepared.val[:LOOKED_AT].tolist(), "validation"
    values = {
        "about": {"name": run.name, "version": __version__, "device": chosen.run.device, "dtype": chosen.run.dtype},
        "text": {"sources": [Path(source).name or source for source in chosen.text], **asdict(facts)},
        "model": chosen.model.to_dict(),
        "optim": {"name": chosen.optim.name, "batch_size": chosen.optim.batch_size},
        "plan": plan(chosen.model, chosen.optim, chosen.run).to_dict(),
        "predicted": _figures(record.predicted),
        "measured": _figures(record.measured) | {"ngrams": record.ngrams},
        "curve": _curve(record.lines, facts.bytes / max(1, facts.train_tokens + facts.val_tokens)),
        "samples": _samples(run),
        "health": _health(record.health),
        "findings": [asdict(finding) for finding in findings(record)],
        "tokens": token_statistics(prepared.train, tokenizer.vocab_size, gpt.token_text),
        "writing": _writing(texts, prepared, 0.3 * seconds),
        "looked_at": kind,
    }
    return values, _look(gpt, looked_at, 0.3 * seconds)


def _figures(values: Mapping[str, Any]) -> dict[str, Any]:
    """What plan.json or report.json tells; None for what should be a number and is none."""
    return {name: value if name == "plan" else number(values, name) for name, value in values.items()}


def _curve(lines: Sequence[Line], bytes_per_token: float) -> dict[str, list[list[float]]]:
    """[step, bits per byte] of the batches trained on, and of the validation text, where these are numbers."""
    to_bits = 1 / (math.log(2) * bytes_per_token)
    training = [(line.step, line.loss * to_bits) for line in lines]
    validation = [(line.step, line.val_bpb) for line in lines if line.val_bpb is not None]
    curves = {"training": training, "validation": validation}
    return {
        name: [[step, round(score, 4)] for step, score in points if math.isfinite(step) and math.isfinite(score)]
        for name, points in curves.items()
    }


def _health(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The values of the blocks at each evaluation, of as many blocks as at the first."""
    told = [line for line in lines if isinstance(line.get("layers"), list)]
    told = [line for line in told if all(isinstance(part, dict) for part in line["layers"])]
    alike = [line for line in told if len(line["layers"]) == len(told[0]["layers"])]
    return [
        {"step": line["step"], "layers": [{name: number(part, name) for name in part} for part in line["layers"]]}
        for line in alike
    ]


def _samples(run: Path) -> list[dict[str, Any]]:
    """What it wrote at each evaluation: {step, bits_per_byte, text}."""
    path = run / "samples.txt"
    written = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    head = re.compile(r"^--- step (\d{1,15}), (\d{1,9}\.\d{1,9}|nan|inf) bits per byte ---\n", re.MULTILINE)
    _, *parts = head.split(written)
    return [
        {"step": int(step), "bits_per_byte": float(score), "text": text.strip("\n")}
        for step, score, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        if math.isfinite(float(score))
    ]


def _write(gpt: "GPT", seed: int, seconds: float) -> list[str]:
    """Texts that begin after a line break, drawn as `generate` draws by default, while there is time for more; some
    lines there are in any case, but where they would take many times as long."""
    texts: list[str] = []
    began, left = time.perf_counter(), WRITTEN
    for sequence in range(TEXTS):
        ids = gpt.ids("\n", WRITTEN, Sampling(temperature=0.8, seed=seed), sequence)
        text = ""
        for piece in gpt.decode_stream(ids):
            text += piece
            spent = time.perf_counter() - began
            enough = WRITTEN - left + len(text) >= LEAST
            if len(text) * (TEXTS - sequence) >= left or spent > (seconds if enough else 5 * seconds):
                break
        texts.append(text)
        left -= len(text)
    return [text for text in texts if text.strip()]


def _writing(texts: list[str], prepared: Prepared, seconds: float) -> dict[str, Any]:
    """What the model wrote, and how much of it, and of as much of the validation text, was copied."""
    n_characters = sum(map(len, texts))
    val = prepared.tokenizer.decode(prepared.val[: 2 * n_characters + 2].tolist())[:n_characters]
    found = copied(texts, _decoded(prepared.train, prepared.tokenizer), _before(seconds / 2))
    others = copied([val], _decoded(prepared.train, prepared.tokenizer), _before(seconds / 2))
    return {"texts": texts, "copied": _plain(found), "validation": _plain(others)}


def _plain(found: Copied) -> dict[str, Any]:
    return asdict(found) | {"shares": [[least, share] for least, share in found.shares.items()]}


def _decoded(ids: Ids, tokenizer: Tokenizer) -> Iterator[str]:
    """A text of ids, block by block; a character that two blocks share is replaced."""
    for start in range(0, len(ids), BLOCK):
        yield tokenizer.decode(ids[start : start + BLOCK].tolist())


def _look(gpt: "GPT", ids: Sequence[int], seconds: float) -> XRay | None:
    """The X-ray of the beginning of a text, with ablation where that does not take too long."""
    ids = ids[: min(LOOKED_AT, gpt.config.context_length)]
    affordable = ablation_flops(gpt.config, len(ids)) < seconds * SLOW_FLOPS
    try:
        return xray(gpt.model, ids, ablate="heads" if affordable else "nothing")
    except InputError:  # a model of one's own that is built otherwise
        return None


def _before(seconds: float) -> Callable[[], bool]:
    """Whether there is time left."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end
