"""The X-ray's page: its data are the arrays, and in a browser what one points at is what is shown."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from glassgpt.config import GPTConfig
from glassgpt.inspection.page import page
from glassgpt.inspection.xray import XRay, xray
from glassgpt.inspection.xray_page import most_tokens, xray_data, xray_page, xray_script, xray_style
from glassgpt.model import GPTModel

ABOUT = {"model": "runs/<small>", "size": "3 layers of 4 heads"}
HOSTILE = (
    *("<script>document.title='ran'</script>", "<img src=x onerror=\"document.title='ran'\">", "</script>", "&lt;"),
    *("\u202eevil", "\u200f", "\x00\x07", "\\xe2", "\n\n", "", "\u05e9\u05dc", "\u0301", "\u2028", "a" * 200, " " * 60),
)
N_TOKENS = 24


def word(token: int) -> str:
    return f" w{token}" if token % 7 else f"w{token}\n"


def model_of(n_layers: int = 3, n_heads: int = 4) -> GPTModel:
    """Weights far from zero, so that heads, layers and tokens differ."""
    torch.manual_seed(0)
    model = GPTModel(
        GPTConfig(vocab_size=50, context_length=64, embedding_dim=8 * n_heads, n_heads=n_heads, n_layers=n_layers)
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2.0 if weight.dim() > 1 else 1.0)
    return model.eval()


@pytest.fixture(scope="module")
def found() -> XRay:
    ids = torch.randint(50, (N_TOKENS,), generator=torch.Generator().manual_seed(1)).tolist()
    return xray(model_of(), ids)


def written(tmp_path, found, pieces=word):
    path = tmp_path / "xray.html"
    path.write_text(xray_page(found, pieces, ABOUT), encoding="utf-8")
    return path


def test_the_data_are_the_arrays(found):
    seen = xray_data(found, word)["xray"]
    for field in dataclasses.fields(XRay):
        if field.name == "attention":
            continue
        array = getattr(found, field.name)
        assert np.shape(seen[field.name]) == array.shape, field.name
        np.testing.assert_allclose(seen[field.name], array, rtol=1e-3, err_msg=field.name)
    occurring = {*found.ids, *found.top_ids.flat, *found.lens_ids.flat, *found.neighbour_ids.flat}
    assert seen["texts"] == {str(token): word(token) for token in occurring}


def test_attention_is_a_byte_a_weight_of_the_lower_triangles(found):
    weights = np.frombuffer(xray_data(found, word)["xray-attention"], dtype=np.uint8) / 255
    n_layers, n_heads, n, _ = found.attention.shape
    weights = weights.reshape(n_layers, n_heads, n * (n + 1) // 2)
    for row in range(n):
        start = row * (row + 1) // 2
        differences = weights[:, :, start : start + row + 1] - found.attention[:, :, row, : row + 1]
        assert np.abs(differences).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("ablate", ["heads", "nothing"])
def test_what_no_token_has_is_null(ablate):
    seen = xray_data(xray(model_of(1, 1), [3], ablate=ablate), word)["xray"]
    assert seen["previous_token"] == [[None]]
    assert seen["probabilities"] == []
    assert seen["head_ablation"] == ([[None]] if ablate == "heads" else None)


def test_a_page_of_gpt2s_shape_and_64_tokens_is_below_3_mb():
    shapes = {"layers": 12, "heads": 12, "n": 64, "alternatives": 10, "neighbours": 8}
    assert len(xray_page(xray_of_shape(**shapes), lambda token: f" token{token}", ABOUT)) < 3e6


def xray_of_shape(layers: int, heads: int, n: int, alternatives: int, neighbours: int) -> XRay:
    """Random numbers, which take the most room."""
    generator = np.random.default_rng(0)
    ids = lambda *shape: generator.integers(50257, size=shape)  # noqa: E731
    numbers = lambda *shape: generator.random(shape, dtype=np.float32)  # noqa: E731
    return XRay(
        ids=ids(n),
        probabilities=numbers(n - 1),
        ranks=ids(n - 1),
        nats=numbers(n - 1),
        top_ids=ids(n, alternatives),
        top_probabilities=numbers(n, alternatives),
        attention=numbers(layers, heads, n, n),
        previous_token=numbers(layers, heads),
        first_token=numbers(layers, heads),
        induction=numbers(layers, heads),
        lens_ids=ids(layers + 1, n, alternatives),
        lens_probabilities=numbers(layers + 1, n, alternatives),
        lens_true=numbers(layers + 1, n - 1),
        residual_norms=numbers(2 * layers + 1, n),
        attention_norms=numbers(layers, n),
        feed_forward_norms=numbers(layers, n),
        embedding_norms=numbers(n),
        head_ablation=numbers(layers, heads),
        attention_ablation=numbers(layers),
        feed_forward_ablation=numbers(layers),
        neighbour_ids=ids(n, neighbours),
        neighbour_cosines=numbers(n, neighbours),
    )


def percent(share: float) -> str:
    """As the page says it."""
    if 0 < share < 0.001:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if 100 * share < 9.95 else f"{math.floor(100 * share + 0.5)} %"


def shown(token: int) -> str:
    return word(token).replace(" ", "·").replace("\n", "⏎")


@pytest.mark.thorough
def test_a_token_that_is_pointed_at_is_told_and_a_click_holds_it(tmp_path, browser, found):
    with browser.open(written(tmp_path, found)) as opened:
        said, tokens = opened.page.locator(".xray-tokens .xray-said"), opened.page.locator(".xray-token")
        assert tokens.count() == N_TOKENS
        for position in (9, 4):
            tokens.nth(position).hover()
            assert f"Token {position} {shown(found.ids[position])} (id {found.ids[position]})" in said.text_content()
            assert f"probability of {percent(found.probabilities[position - 1])}, rank" in said.text_content()
            likeliest = opened.page.locator(".xray-panel").nth(1).locator("li")
            assert likeliest.first.locator(".token").text_content() == shown(found.top_ids[position][0])
            assert likeliest.first.locator("b").text_content() == percent(found.top_probabilities[position][0])
        tokens.nth(4).click()
        tokens.nth(9).hover()
        assert "Token 4 " in said.text_content()
        assert tokens.nth(4).get_attribute("aria-pressed") == "true"
        opened.page.keyboard.press("Escape")
        tokens.nth(11).hover()
        assert "Token 11 " in said.text_content()
        opened.assert_clean()


@pytest.mark.thorough
def test_the_bars_below_the_tokens_are_the_attention_of_the_one_pointed_at(tmp_path, browser, found):
    with browser.open(written(tmp_path, found)) as opened:
        opened.page.locator(".xray-head[data-layer='1'][data-head='2']").click()
        opened.page.locator(".xray-token").nth(8).hover()
        bars = "all => all.map((token) => Number(token.lastChild.style.getPropertyValue('--look')))"
        looks = opened.page.locator(".xray-token").evaluate_all(bars)
        row = found.attention[1, 2, 8]
        np.testing.assert_allclose(np.square(looks), row / row.max(), atol=0.02)
        assert row[:9].std() > 0.02
        listed = opened.page.locator(".xray-panel").nth(2).locator("li").first
        assert listed.locator(".token").text_content() == f"{shown(found.ids[row.argmax()])} {row.argmax()}"
        opened.assert_clean()


@pytest.mark.thorough
def test_a_head_that_is_clicked_is_large_with_its_own_numbers(tmp_path, browser, found):
    with browser.open(written(tmp_path, found), height=2500) as opened:
        large, canvas = opened.page.locator(".xray-large"), opened.page.locator(".xray-map")
        for layer, head in ((2, 3), (0, 1)):
            opened.page.locator(f".xray-head[data-layer='{layer}'][data-head='{head}']").click()
            wait_for_large(opened, f"Layer {layer}, head {head}")
            place = opened.page.evaluate(PLACE_OF_THE_CELLS)
            for row, column in ((N_TOKENS - 1, 0), (15, 6)):
                x, y = (place[side] + (at + 0.5) * place["size"] for side, at in (("left", column), ("top", row)))
                canvas.hover(position={"x": x, "y": y})
                sentence = large.locator(".xray-said").text_content()
                places = f"{shown(found.ids[row])} at {row} looks at {shown(found.ids[column])} at {column}: "
                assert sentence.startswith(places)
                weight = round(255 * float(found.attention[layer, head, row, column])) / 255
                assert sentence == places + percent(weight)
        opened.assert_clean()


def wait_for_large(opened, name):
    """It is drawn with the next frame; fails after 30 s."""
    opened.page.wait_for_function("(name) => document.querySelector('.xray-large h3').textContent === name", arg=name)


PLACE_OF_THE_CELLS = """() => {
  const xray = openXray(read("xray"), read("xray-attention"));
  const map = document.querySelector(".xray-map");
  return mapLayout(xray, map, map.parentElement.clientWidth);
}"""


@pytest.mark.thorough
def test_small_heads_are_drawn_with_their_weights_and_their_score(tmp_path, browser, found):
    with browser.open(written(tmp_path, found)) as opened:
        opened.page.wait_for_function(PAINTED)
        for layer, head in ((0, 0), (2, 1)):
            button = opened.page.locator(f".xray-head[data-layer='{layer}'][data-head='{head}']")
            pixels = button.evaluate("(head) => [...head.firstChild.getContext('2d').getImageData(0, 0, 24, 24).data]")
            reds = np.reshape(pixels, (N_TOKENS, N_TOKENS, 4))[:, :, 0]
            looks = np.tril_indices(N_TOKENS)
            ink = 255 + (0x1D - 255) * np.sqrt(np.rint(255 * found.attention[layer, head]) / 255)
            assert np.abs(reds[looks] - ink[looks]).max() <= 1
            score = 255 + (0x0B - 255) * (0.06 + 0.94 * found.previous_token[layer, head])
            assert np.abs(reds[np.triu_indices(N_TOKENS, 1)] - score).max() <= 1
        opened.assert_clean()


PAINTED = "() => document.querySelector('.xray-head canvas.few') !== null"


@pytest.mark.thorough
def test_heads_are_sorted_by_what_they_are_coloured_by(tmp_path, browser, found):
    with browser.open(written(tmp_path, found)) as opened:
        names = "all => all.map((head) => [Number(head.dataset.layer), Number(head.dataset.head)])"
        heads = opened.page.locator(".xray-head")
        assert heads.evaluate_all(names) == [[layer, head] for layer in range(3) for head in range(4)]
        opened.page.locator(".xray-small input").check()
        for name, scores in (("induction", found.induction), ("ablation", np.abs(found.head_ablation))):
            opened.page.locator(".xray-small select").select_option(name)
            order = [scores[layer, head] for layer, head in heads.evaluate_all(names)]
            np.testing.assert_allclose(order, sorted(order, reverse=True), rtol=1e-3)
        opened.assert_clean()


@pytest.mark.thorough
def test_the_slider_goes_through_the_layers_of_the_lens(tmp_path, browser, found):
    with browser.open(written(tmp_path, found)) as opened:
        slider, guesses = opened.page.locator(".xray-slider input"), opened.page.locator(".xray-guess > span")
        slider.focus()
        opened.page.keyboard.press("Home")
        seen = []
        for lens in range(4):
            assert guesses.all_text_contents() == [shown(token) for token in found.lens_ids[lens, :, 0]]
            chosen = opened.page.locator(".xray-table tr.here")
            assert chosen.locator("th").text_content() == ("embedding" if lens == 0 else str(lens - 1))
            assert percent(found.lens_probabilities[lens, -1, 0]) in chosen.text_content()
            seen.append(guesses.all_text_contents())
            opened.page.keyboard.press("ArrowRight")
        assert seen[0] != seen[3]
        opened.assert_clean()


@pytest.mark.thorough
def test_the_keyboard_walks_tokens_and_heads(tmp_path, browser, found):
    with browser.open(written(tmp_path, found)) as opened:
        press = opened.page.keyboard.press
        said = opened.page.locator(".xray-tokens .xray-said")
        opened.page.locator(".xray-token").last.focus()
        press("ArrowLeft")
        assert f"Token {N_TOKENS - 2} " in said.text_content()
        press("Home")
        press("ArrowRight")
        press("Enter")
        assert "Token 1 " in said.text_content()
        assert "held" in said.text_content()
        assert opened.page.locator(".xray-token[tabindex='0']").count() == 1
        opened.page.locator(".xray-head").first.focus()
        for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Enter"):
            press(key)
        wait_for_large(opened, "Layer 1, head 2")
        opened.page.locator(".xray-map").focus()
        press("ArrowDown")
        position = opened.page.locator(".xray-large .xray-said").text_content().split(" looks")[0]
        assert position == f"{shown(found.ids[2])} at 2"
        opened.assert_clean()


@pytest.mark.thorough
def test_ablation_says_what_the_loss_does_without_a_part(tmp_path, browser, found):
    with browser.open(written(tmp_path, found)) as opened:
        said = opened.page.locator(".xray-ablation .xray-said")
        loss = float(found.nats.mean())
        parts = [("head 3", found.head_ablation[2, 3]), ("the feed-forward", found.feed_forward_ablation[2])]
        for name, rise in parts:
            opened.page.locator(f".xray-cell[data-layer='2'][data-part='{name}']").hover()
            change = "rises" if rise >= 0 else "falls"
            assert said.text_content().startswith(f"Without {name} of layer 2 the loss {change} by ")
            assert float(said.text_content().split(" by ")[1].split()[0]) == pytest.approx(abs(rise), abs=0.006)
            assert said.text_content().endswith(f", from {loss:.2f} to {loss + rise:.2f}.")
        opened.page.locator(".xray-cell[data-layer='2'][data-part='head 3']").click()
        wait_for_large(opened, "Layer 2, head 3")
        opened.assert_clean()


@pytest.mark.thorough
def test_hostile_tokens_are_shown_as_text(tmp_path, browser, found):
    def pieces(token):
        return HOSTILE[token % len(HOSTILE)]

    with browser.open(written(tmp_path, found, pieces), width=390) as opened:
        tokens = opened.page.locator(".xray-token span").all_text_contents()
        for position, token in enumerate(found.ids):
            text = pieces(token)
            if text.isascii() and text.isprintable() and text:
                assert tokens[position] == text.replace(" ", "·")
        signs = {"\u202eevil": "\\u{202e}evil", "\u200f": "\\u{200f}", "\x00\x07": "\\u{0}\\u{7}", "": "(empty)"}
        expected = [signs.get(pieces(token)) for token in found.ids]
        assert sum(sign is not None for sign in expected) >= 3
        assert all(sign in (None, tokens[position]) for position, sign in enumerate(expected))
        assert opened.page.title() == "X-ray of runs/<small>"
        assert opened.page.locator("main script, main img").count() == 0
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
        opened.assert_clean()


@pytest.mark.thorough
@pytest.mark.parametrize(("n_layers", "n_heads", "n"), [(1, 1, 1), (3, 4, 2), (12, 12, 64), (48, 25, 20)])
def test_every_shape_fits_a_phone(tmp_path, browser, n_layers, n_heads, n):
    found = xray_of_shape(n_layers, n_heads, n, 10, 8)
    if n == 1:
        found = xray(model_of(1, 1), [3], ablate="nothing")
    with browser.open(written(tmp_path, found, lambda token: f" token{token}"), width=390) as opened:
        assert opened.page.locator(".xray-head").count() == n_layers * n_heads
        opened.page.locator(".xray-head").last.click()
        wait_for_large(opened, f"Layer {n_layers - 1}, head {n_heads - 1}")
        assert opened.page.locator(".xray-norms svg").count() == 2
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
        opened.assert_clean()


def test_attention_that_is_too_much_for_a_page_is_left_out():
    assert most_tokens(1, 1) == 512
    n = most_tokens(48, 25)
    assert 1200 * n * (n + 1) / 2 <= 20e6 < 1200 * (n + 1) * (n + 2) / 2
    assert len(xray_data(xray_of_shape(48, 25, n, 1, 1), word)["xray-attention"]) == 1200 * n * (n + 1) / 2
    assert xray_data(xray_of_shape(48, 25, n + 1, 1, 1), word)["xray-attention"] == b""


@pytest.mark.thorough
def test_a_prompt_too_long_for_maps_is_shown_without_them(tmp_path, browser):
    with browser.open(written(tmp_path, xray_of_shape(1, 2, 513, 3, 3)), width=390) as opened:
        heads = opened.page.locator(".xray-heads p").text_content()
        assert "513 tokens are too many for a page. An X-ray of at most 512 tokens" in heads
        assert opened.page.locator(".xray-head, .xray-map, .xray-selects").count() == 0
        opened.page.locator(".xray-token").nth(8).click()
        said = opened.page.locator(".xray-tokens .xray-said").text_content()
        assert said.startswith("Token 8 ")
        opened.page.locator(".xray-cell[data-part='head 1']").click()
        assert "looks at" not in opened.page.locator(".xray-tokens").inner_text()
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
        opened.assert_clean()


@pytest.mark.thorough
def test_layers_alone_have_their_ablation_with_names_in_full(tmp_path, browser):
    found = xray(model_of(), [3, 4, 5], ablate="layers")
    with browser.open(written(tmp_path, found)) as opened:
        names = opened.page.locator(".xray-ablated .part.xray-label").all_text_contents()
        assert names == ["attention", "feed-forward"]
        assert opened.page.locator(".xray-cell").count() == 6
        assert "Heads were not silenced one by one" in opened.page.locator(".xray-ablation").text_content()
        opened.assert_clean()


@pytest.mark.thorough
def test_the_dark_page_has_another_ground_and_other_small_heads(tmp_path, browser, found):
    def seen(dark):
        with browser.open(written(tmp_path, found), dark=dark) as opened:
            opened.page.wait_for_function(PAINTED)
            ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
            first = "document.querySelector('.xray-head canvas').getContext('2d').getImageData(5, 5, 1, 1).data.join()"
            opened.assert_clean()
            return ground, opened.page.evaluate(first)

    assert all(light != dark for light, dark in zip(seen(False), seen(True)))


@pytest.mark.thorough
def test_a_larger_page_can_hold_two_of_them(tmp_path, browser, found):
    other = xray(model_of(1, 1), [3, 4, 5], ablate="nothing")
    renamed = {f"other-{name}": value for name, value in xray_data(other, word).items()}
    shows = """showXray(document.getElementById("a"), read("xray"), read("xray-attention"));
    showXray(document.getElementById("b"), read("other-xray"), read("other-xray-attention"));"""
    path = tmp_path / "two.html"
    body = '<main><div id="a"></div><div id="b"></div></main>'
    data = xray_data(found, word) | renamed
    path.write_text(page("Two", body=body, data=data, styles=xray_style(), scripts=xray_script() + shows))
    with browser.open(path) as opened:
        assert opened.page.locator("#a .xray-token").count() == N_TOKENS
        opened.page.locator("#b .xray-token").nth(1).hover()
        assert "Token 1 " in opened.page.locator("#b .xray-tokens .xray-said").text_content()
        assert f"Token {N_TOKENS - 1} " in opened.page.locator("#a .xray-tokens .xray-said").text_content()
        assert opened.page.evaluate("[...document.querySelectorAll('main [id] [id]')].length") == 0
        opened.assert_clean()
