"""The model as one HTML file: it writes what the int8 path in Python writes, and keeps to itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Browser, Opened
from hypothesis import given, settings
from hypothesis import strategies as st

import glassgpt
from glassgpt.api.export import SAMPLE
from glassgpt.checkpoint.directory import save_checkpoint
from glassgpt.config import GPTConfig
from glassgpt.generation.generate import generate_with_logits
from glassgpt.generation.sampling import Sampling, choose_plain, uniform
from glassgpt.generation.sequence import Step
from glassgpt.interop.html import read_page, refuse_too_large
from glassgpt.model import GPTModel, initialise
from glassgpt.quantization import panels
from glassgpt.settings import InputError
from glassgpt.text.kinds import train_tokenizer
from glassgpt.text.stories import write_stories
from glassgpt.text.tokenizer import Tokenizer

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"architecture": "gpt2", "qkv_bias": True, "n_heads": 4},
    "modern": {"architecture": "modern", "n_heads": 4, "n_kv_heads": 2, "tie_embeddings": True},
    "llama": {"architecture": "modern", "n_heads": 2, "qk_norm": False, "embedding_dim": 72, "head_dim": 20},
}
TIE = 0.05
"""Between the two likeliest tokens: what one rounding of an activation to 8 bits that falls otherwise may move."""
SCORES = """ids => {
  const cache = opened.model.makeCache();
  return ids.map((id) => [...opened.model.forward(id, cache)]);
}"""


@pytest.fixture(scope="module", params=SHAPES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, story_file: Path) -> Path:
    """A run of a few seconds."""
    shape = {"embedding_dim": 64, "n_layers": 2, "context_length": 128, **SHAPES[request.param]}
    out = tmp_path_factory.mktemp(request.param) / "run"
    optim = {"batch_size": 8}
    return glassgpt.train(story_file, steps=60, tokenizer="bpe:400", model=shape, optim=optim, out=out).directory


def some_model(directory: Path, tokenizer: Tokenizer) -> Path:
    """A model that has learned nothing, with this tokenizer."""
    shape = {"context_length": 16, "embedding_dim": 32, "n_heads": 2, "n_layers": 1, "vocab_size": tokenizer.vocab_size}
    model = GPTModel(GPTConfig.from_dict(shape))
    initialise(model, torch.Generator().manual_seed(0))
    save_checkpoint(directory, model, tokenizer)
    return directory


@contextmanager
def page_of(source: Path, browser: Browser, folder: Path, **window: Any) -> Iterator[Opened]:
    """The model's page, open; nothing may have gone wrong in it when it is closed."""
    glassgpt.export(source, folder / "model.html", format="html")
    with browser.open(folder / "model.html", **window) as opened:
        yield opened
        opened.assert_clean()


def write(opened: Opened, prompt: str, **settings_of_page: object) -> None:
    """Let the page write from `prompt` until it ends."""
    page = opened.page
    page.locator("summary").click()
    page.fill("#prompt", prompt)
    for name, value in settings_of_page.items():
        page.fill(f"#{name.replace('_', '-')}", str(value))
    page.locator("summary").click()
    page.click("#write")
    page.locator("#stop:disabled").wait_for()


@pytest.mark.thorough
def test_its_greedy_text_and_scores_are_those_of_the_int8_path(trained: Path, tmp_path: Path, browser: Browser) -> None:
    gpt = glassgpt.load(trained, dtype="int8")
    prompt, greedy, end = gpt.prompt_ids("Once upon a time"), Sampling(temperature=0), gpt.tokenizer.end_of_text
    steps = [(token, scores.copy()) for token, scores in gpt.continued(prompt, 64, greedy, stop=end)]
    ids = prompt + [token for token, _ in steps]
    expected = np.array([scores for _, scores in steps])
    with page_of(trained, browser, tmp_path) as opened:
        write(opened, "Once upon a time", temperature=0, length=64)
        written = opened.page.evaluate("opened.text.ids")
        scores = np.array(opened.page.evaluate(SCORES, ids[:-1]), np.float32)[len(prompt) - 1 :]
    assert np.abs(scores - expected).max() < TIE * np.abs(expected).max()
    assert_equal_up_to_a_tie(written, ids, expected, len(prompt))


@pytest.mark.thorough
def test_every_tier_and_pytorch_write_its_greedy_text(
    trained: Path, tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to a tie: the sums of norms have another order there, and PyTorch does not round what goes into a matrix."""
    with page_of(trained, browser, tmp_path) as opened:
        write(opened, "Once upon a time", temperature=0, length=64)
        written = opened.page.evaluate("opened.text.ids")
    for tier in ("plain", "avx2", "avx512"):  # a processor without it takes its best
        monkeypatch.setenv("GLASSGPT_NATIVE_TIER", tier)
        gpt = glassgpt.load(trained, dtype="int8")
        prompt, end = gpt.prompt_ids("Once upon a time"), gpt.tokenizer.end_of_text
        follow(written, prompt, gpt.continued(prompt, 64, Sampling(temperature=0), stop=end))
    monkeypatch.setattr(panels, "library", lambda: None)
    model = glassgpt.load(trained, dtype="int8").model
    greedy = Sampling(temperature=0)
    follow(written, prompt, generate_with_logits(model, prompt, max_new_tokens=64, sampling=greedy, stop=end))


def follow(written: list[int], prompt: list[int], steps: Iterator[Step]) -> None:
    tokens, scores = zip(*((token, scores.copy()) for token, scores in steps))
    assert_equal_up_to_a_tie(written, [*prompt, *tokens], np.array(scores), len(prompt))


@pytest.mark.thorough
def test_a_gpt2_of_transformers_writes_its_text(tmp_path: Path, browser: Browser) -> None:
    """With the 50257 tokens of GPT-2 and random weights, so large that they prefer some tokens."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = transformers.GPT2Config(n_embd=64, n_head=4, n_layer=2, n_positions=64, initializer_range=0.1)
    transformers.GPT2LMHeadModel(shape).save_pretrained(tmp_path / "hf")
    train_tokenizer("gpt2", []).save(tmp_path / "hf")
    gpt = glassgpt.load(tmp_path / "hf", dtype="int8")
    prompt, greedy, end = gpt.prompt_ids("Once upon a time"), Sampling(temperature=0), gpt.tokenizer.end_of_text
    with page_of(tmp_path / "hf", browser, tmp_path) as opened:
        write(opened, "Once upon a time", temperature=0, length=12)
        written = opened.page.evaluate("opened.text.ids")
        assert opened.page.text_content("h1") == "hf"
    assert len(written) == len(prompt) + 12
    follow(written, prompt, gpt.continued(prompt, 12, greedy, stop=end))


@pytest.mark.thorough
def test_its_drawn_text_is_that_of_the_same_seed_in_python(trained: Path, tmp_path: Path, browser: Browser) -> None:
    gpt = glassgpt.load(trained, dtype="int8")
    prompt, sampling = gpt.prompt_ids("Once upon a time"), Sampling(temperature=0.8, seed=5)
    drawn = gpt.continued(prompt, 64, sampling, stop=gpt.tokenizer.end_of_text)
    steps = [(token, scores.copy()) for token, scores in drawn]
    with page_of(trained, browser, tmp_path) as opened:
        write(opened, "Once upon a time", temperature=0.8, seed=5, length=64)
        written = opened.page.evaluate("opened.text.ids")[len(prompt) :]
    for place, (one, (other, scores)) in enumerate(zip(written, steps), len(prompt)):
        if one != other:  # then the draw fell where one ends and the other begins
            weights = np.exp((scores.astype(np.float64) - scores.max()) / 0.8)
            ends = weights.cumsum() / weights.sum()
            assert abs(ends[min(one, other)] - uniform(5, 0, place)) < TIE
            break
    else:
        assert len(written) == len(steps)


def assert_equal_up_to_a_tie(written: list[int], ids: list[int], expected: np.ndarray, n_prompt: int) -> None:
    """Where the two texts part, the two likeliest tokens are as good as equal."""
    parted = next((i for i, (one, other) in enumerate(zip(written, ids, strict=True)) if one != other), None)
    if parted is not None:
        second, first = np.sort(expected[parted - n_prompt])[-2:]
        assert first - second < TIE


@pytest.mark.thorough
def test_it_draws_the_token_that_python_draws(tmp_path: Path, browser: Browser) -> None:
    with page_of(some_model(tmp_path / "m", train_tokenizer("bytes", [])), browser, tmp_path) as opened:
        draws = [opened.page.evaluate(f"uniform({seed}n, {at}n)") for seed, at in ((0, 0), (1337, 7), (2**62, 300))]
        logits = np.random.default_rng(0).normal(0, 3, 50).astype(np.float32)
        drawn = opened.page.evaluate(
            "([logits, n]) => Array.from({length: n}, (_, at) => "
            "choose(Float32Array.from(logits), {temperature: 0.7, topK: 20, seed: 5n}, at))",
            [logits.tolist(), 200],
        )
    assert draws == [uniform(0, 0, 0), uniform(1337, 0, 7), uniform(2**62, 0, 300)]
    sampling = Sampling(temperature=0.7, top_k=20, seed=5)
    assert drawn == [choose_plain(logits, sampling, 0, range(at)) for at in range(200)]


@pytest.mark.thorough
@pytest.mark.parametrize("spec", ["bytes", "chars", "bpe:600", "gpt2"])
def test_its_tokenizer_gives_the_same_ids_and_texts(spec: str, tmp_path: Path, browser: Browser) -> None:
    tokenizer = train_tokenizer(spec, [*write_stories(100, seed=1), "Füchsin 狐狸 🦊 don't"])
    texts: list[str] = [" a\u0085b\ufeff c\x1c d  e \n", "狐狸 🦊 we'll  \n\n x", "\x00\x1f\u2028", "<|endoftext|>"]

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @given(st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=40) | st.text(" \n'asdl1é\u3000\ufeff\x85"))
    def gather(text: str) -> None:
        texts.append(text)

    gather()
    with page_of(some_model(tmp_path / "m", tokenizer), browser, tmp_path) as opened:
        ids, back = opened.page.evaluate(
            "texts => { const ids = texts.map((text) => opened.tokenizer.encode(text));"
            " return [ids, ids.map((of) => opened.tokenizer.decode(of))]; }",
            texts,
        )
        lone = opened.page.evaluate(r"opened.tokenizer.encode('a\ud800b')")
    assert ids == [tokenizer.encode(text) for text in texts]
    assert back == texts
    assert lone == tokenizer.encode("a\ufffdb")


@pytest.mark.thorough
def test_another_token_can_be_taken_to_go_on_from(trained: Path, tmp_path: Path, browser: Browser) -> None:
    with page_of(trained, browser, tmp_path, width=390) as opened:
        page = opened.page
        write(opened, "Once upon a time", temperature=0, length=12)
        before = page.evaluate("opened.text.ids")
        place = len(before) - 6
        page.locator("#text .piece").nth(place).click()
        assert page.locator("#alternatives .option").count() == 10
        assert page.evaluate("opened.spans.some((span) => span.style.getPropertyValue('--look'))")
        other = page.evaluate(f"opened.text.guesses[{place}].ids[2]")
        page.locator(".option").nth(2).click()
        page.locator("#stop:disabled").wait_for()
        after = page.evaluate("opened.text.ids")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert after[: place + 1] == [*before[:place], other]
    gpt = glassgpt.load(trained, dtype="int8")
    steps = gpt.continued(after[: place + 1], 12, Sampling(temperature=0), stop=gpt.tokenizer.end_of_text)
    ids, scores = zip(*((token, scores.copy()) for token, scores in steps))
    assert_equal_up_to_a_tie(after, [*after[: place + 1], *ids], np.array(scores), place + 1)


@pytest.mark.thorough
def test_stop_ends_the_writing_and_keeps_the_text(tmp_path: Path, browser: Browser) -> None:
    source = some_model(tmp_path / "m", train_tokenizer("bytes", []))
    with page_of(source, browser, tmp_path) as opened:
        page = opened.page
        page.locator("summary").click()
        page.fill("#length", "100000")
        page.evaluate("() => { opened.tokenizer.endOfText = -1; }")  # so that it ends by itself nowhere
        page.click("#write")
        page.locator("#text .piece").nth(40).wait_for()  # beyond the context of 16
        page.click("#stop")
        length = page.evaluate("opened.text.ids.length")
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.evaluate("opened.text.ids.length") == length
        assert "sees the last" in page.text_content("#status")
        assert page.evaluate("opened.text.kept - opened.text.start") <= 16


@pytest.mark.thorough
@pytest.mark.parametrize(("width", "height", "n_tokens"), [(1280, 900, 1500), (390, 800, 600)])
def test_the_buttons_stay_in_reach_of_a_long_text(
    width: int, height: int, n_tokens: int, tmp_path: Path, browser: Browser
) -> None:
    source = some_model(tmp_path / "m", train_tokenizer("bytes", []))
    with page_of(source, browser, tmp_path, width=width, height=height) as opened:
        page = opened.page
        page.evaluate("() => { opened.tokenizer.endOfText = -1; }")
        write(opened, "x", length=n_tokens)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        form_ends = page.evaluate("document.querySelector('form').getBoundingClientRect().bottom")
        assert form_ends < 0, "the beginning has been scrolled away"
        for button in ("write", "another", "onward", "stop"):
            box = page.locator(f"#{button}").bounding_box()
            at = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
            assert page.evaluate("([x, y]) => document.elementFromPoint(x, y)?.id", at) == button
        assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("field", "given", "said"),
    [
        ("seed", "abc", f"Seed is “abc”, but must be a whole number from 0 to {'9' * 18}: type one such as 1337."),
        ("seed", "", "Seed is empty, but must be a whole number"),
        ("length", "0", "Tokens is “0”, but must be a whole number from 1 to 999999: type one such as 200."),
        ("top-k", "-1", "Top k is “-1”, but must be a whole number from 0 to 9999999: type one such as 0."),
    ],
)
def test_a_bad_setting_is_said_and_shown(field: str, given: str, said: str, tmp_path: Path, browser: Browser) -> None:
    with page_of(some_model(tmp_path / "m", train_tokenizer("bytes", [])), browser, tmp_path) as opened:
        page = opened.page
        page.evaluate("() => { opened.tokenizer.endOfText = -1; }")
        write(opened, "x", length=3)
        before = page.text_content("#text")
        page.eval_on_selector(f"#{field}", "(input, given) => { input.value = given; }", given)
        for button in ("write", "another", "onward"):
            page.eval_on_selector("details", "(details) => { details.open = false; }")
            page.click(f"#{button}")
            assert page.text_content("[role=alert]").startswith(said)
            assert page.locator("[role=alert]").is_visible()
            assert page.evaluate("document.activeElement.id") == field
        page.locator("#text .piece").last.click()
        page.locator(".option").nth(1).click()
        assert page.text_content("#text") == before, "another token is not taken either"
        page.fill(f"#{field}", "5")
        page.keyboard.press("Enter")
        page.locator("#stop:disabled").wait_for()
        assert page.text_content("[role=alert]") == ""
        assert page.text_content("#text") != before


@pytest.mark.thorough
def test_its_speed_is_that_of_writing_alone(tmp_path: Path, browser: Browser) -> None:
    """By a clock on which each token that is read takes a millisecond."""
    with page_of(some_model(tmp_path / "m", train_tokenizer("bytes", [])), browser, tmp_path) as opened:
        page = opened.page
        page.evaluate("""() => {
          let now = 0;
          performance.now = () => now;
          const { model } = opened, forward = model.forward.bind(model);
          model.forward = (...given) => { now += model.counted; return forward(...given); };
          model.counted = 1;
          opened.tokenizer.endOfText = -1;
        }""")
        write(opened, "a prompt that is longer than the context", length=40)
        assert page.text_content("#status").startswith("wrote 40 tokens, 1000 tokens/s · sees the last")
        page.click("#onward")
        page.locator("#stop:disabled").wait_for()
        assert page.text_content("#status").startswith("wrote 40 tokens, 1000 tokens/s")
        page.evaluate("() => { opened.model.counted = 0; }")  # a coarse clock
        page.click("#onward")
        page.locator("#stop:disabled").wait_for()
        assert page.text_content("#status").startswith("wrote 40 tokens · sees")


@pytest.mark.thorough
def test_layers_and_heads_are_counted_from_0(tmp_path: Path, browser: Browser) -> None:
    with page_of(some_model(tmp_path / "m", train_tokenizer("bytes", [])), browser, tmp_path) as opened:
        named = opened.page.locator("#head option").all_text_contents()
    assert named == ["all heads, averaged", "layer 0, head 0", "layer 0, head 1"]


@pytest.mark.thorough
def test_it_is_used_by_keyboard_alone(trained: Path, tmp_path: Path, browser: Browser) -> None:
    with page_of(trained, browser, tmp_path) as opened:
        page = opened.page
        write(opened, "Once upon", length=8)
        page.locator("#text .piece").first.focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Enter", "ArrowDown"):
            page.keyboard.press(key)
        assert page.evaluate("[...document.querySelectorAll('.option')].indexOf(document.activeElement)") == 1
        page.keyboard.press("Escape")
        assert page.evaluate("opened.spans.indexOf(document.activeElement)") == 3


@pytest.mark.thorough
def test_what_is_hostile_is_shown_as_text(tmp_path: Path, browser: Browser) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    tokenizer = train_tokenizer("bpe:300", [f"</script><script>{hostile}"] * 50)
    with page_of(some_model(tmp_path / hostile.replace("/", ""), tokenizer), browser, tmp_path) as opened:
        assert opened.page.text_content("h1") == hostile
        write(opened, f"</script>{hostile}", length=4)
        assert opened.page.text_content("#text").startswith(f"</script>{hostile}")
        assert opened.page.locator("img").count() == 0


@pytest.mark.thorough
def test_a_file_that_was_cut_short_or_altered_says_so(tmp_path: Path, browser: Browser) -> None:
    glassgpt.export(some_model(tmp_path / "m", train_tokenizer("bytes", [])), tmp_path / "model.html", format="html")
    whole = (tmp_path / "model.html").read_text(encoding="utf-8")
    at = whole.index('id="weights">') + 20
    other = "B" if whole[at] == "A" else "A"
    damaged = {"cut short": whole[: at + 100], "altered": whole[:at] + other + whole[at + 1 :]}
    for said, text in damaged.items():
        (tmp_path / "damaged.html").write_text(text, encoding="utf-8")
        with browser.open(tmp_path / "damaged.html") as opened:
            assert said in opened.page.text_content("#broken")


def test_the_page_holds_what_the_checkpoint_rounds_to(tmp_path: Path) -> None:
    tokenizer = train_tokenizer("bytes", [])
    done = glassgpt.export(some_model(tmp_path / "m", tokenizer), tmp_path / "model.html", format="html")
    assert (done.dtype, done.replaced, done.round_trip) == ("int8", None, len(tokenizer.encode(SAMPLE)))
    assert 0 < done.largest_logit_difference < 0.1 * done.largest_logit
    assert read_page(tmp_path / "model.html").pieces == tokenizer.vocabulary.pieces
    assert glassgpt.export(tmp_path / "m", tmp_path / "model.html", format="html").replaced == "html"


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_quantised_model_keeps_its_numbers(kind: str, tmp_path: Path) -> None:
    glassgpt.export(some_model(tmp_path / "m", train_tokenizer("bytes", [])), tmp_path / "small", quantize=kind)
    done = glassgpt.export(tmp_path / "small", tmp_path / "model.html", format="html")
    assert (done.dtype, done.largest_logit_difference) == (kind, 0.0)


def test_what_no_browser_opens_is_refused() -> None:
    with pytest.raises(InputError, match="browsers open no more than 500 MB"):
        refuse_too_large(GPTConfig(embedding_dim=1280, n_heads=20, n_layers=36))
