// All heads in small, layers by heads; and the one that is chosen, large.
function xrayHeads(xray, choice) {
  const lesson = "Attention is how a token gathers what the tokens before it hold. Each head is a square: a row is a "
    + "token that looks, a column one that it looks at, the darker the more. None sees what comes after it, so the "
    + "upper right half is free; here its colour is the head's score. A previous-token head looks one token back, a "
    + "first-token head rests on the first, and an induction head finds an earlier copy of the present token and looks "
    + "at what followed it. Click a head to see it large.";
  const title = "Attention heads";
  if (!xray.hasAttention) {
    return xraySection("heads", title, `The maps of the heads are left out: ${counted(xray.n_tokens, "token")} are too `
      + `many for a page. An X-ray of at most ${xray.most_tokens} tokens of this model has them.`);
  }
  const large = headLarge(xray, choice);
  return xraySection("heads", title, lesson,
    make("div", {class: "card xray-pair"}, headGrid(xray, choice), large));
}

// What heads are coloured and sorted by: for a head its share of the largest (null where unknown) and its number.
function headScores(xray) {
  const score = (name, title, sentence) => {
    const share = (layer, head) => xray[name][layer][head];
    const number = (layer, head) => share(layer, head).toFixed(2);
    return {title, sentence, share, number, positive: "accent", negative: "accent"};
  };
  const scores = [
    score("previous_token", "previous-token", "Attention to the token before, averaged over the prompt."),
    score("first_token", "first-token", "Attention to the first token, averaged over the prompt."),
    score("induction", "induction", "Attention to what followed the same token before, on random tokens said twice."),
  ];
  const known = scores.filter((one) => one.share(0, 0) !== null);
  if (!hasHeadAblation(xray)) return known.length ? known : scores;
  const largest = largestOf(xray.head_ablation.flat());
  return [...known, {
    title: "ablation", positive: "warm", negative: "good",
    sentence: "Change of the loss without the head, nats a token: rises are orange, falls green.",
    share: (layer, head) => xray.head_ablation[layer][head] / largest,
    number: (layer, head) => signed(xray.head_ablation[layer][head]),
  }];
}

function headGrid(xray, choice) {
  const scores = headScores(xray);
  const shown = {score: scores[0], sorted: false};
  const grid = make("div", {class: "xray-grid", role: "group", "aria-label": "all heads"});
  const said = make("p", {class: "faint xray-caption"});
  const strongest = make("div", {class: "xray-strongest"});
  const heads = xray.induction.flatMap((row, layer) => row.map((_, head) => ({layer, head})));
  for (const one of heads) one.button = headButton(xray, choice, one, scoresInWords(scores, one), said);
  const paint = () => { if (grid.clientWidth) paintHeads(xray, grid, heads, shown.score); };
  const arrange = () => {
    arrangeHeads(xray, grid, heads, shown);
    said.textContent = shown.score.sentence;
    strongest.replaceChildren(...strongestHeads(heads, shown.score));
    paint();
  };
  const select = make("select", {onchange: () => { shown.score = scores[select.selectedIndex]; arrange(); }},
    ...scores.map((score) => make("option", {}, score.title)));
  const box = make("input", {type: "checkbox", onchange: () => { shown.sorted = box.checked; arrange(); }});
  arrange();
  walkWithArrows(grid, xray.n_heads, () => {})(heads[0].button);
  new ResizeObserver(paint).observe(grid);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  return make("div", {class: "xray-small"},
    make("div", {class: "xray-controls"}, make("label", {class: "xray-control"}, "Colour by ", select),
      make("label", {class: "xray-control"}, box, " strongest first")),
    make("div", {class: "wide"}, grid), said, strongest);
}

// "Layer 2, head 1 · previous-token 0.43 · …"
function scoresInWords(scores, {layer, head}) {
  const known = scores.filter((score) => score.share(layer, head) !== null);
  return [headName({layer, head}), ...known.map((score) => `${score.title} ${score.number(layer, head)}`)].join(" · ");
}

// The heads with the highest scores, as bars.
function strongestHeads(heads, score) {
  const rows = byStrength(heads, score).slice(0, 6).filter((one) => score.share(one.layer, one.head) !== null);
  if (rows.length < 2) return [];
  return [panel(`Strongest by ${score.title}`, bars(rows.map(({layer, head}) => {
    const share = score.share(layer, head);
    return {text: `layer ${layer}, head ${head}`, share: Math.abs(share), said: score.number(layer, head)};
  }), "look"))];
}

function byStrength(heads, score) {
  const strength = ({layer, head}) => Math.abs(score.share(layer, head) ?? 0);
  return [...heads].sort((one, other) => strength(other) - strength(one));
}

// A head in small; what is `known` of it stands in `said` while it is pointed at. A second click lets it go.
function headButton(xray, choice, {layer, head}, known, said) {
  const tell = () => { said.textContent = known; };
  const chosen = () => choice.layer === layer && choice.head === head;
  const click = () => choice.set(chosen() ? {layer: null, head: null} : {layer, head});
  const canvas = make("canvas", {width: xray.n_tokens, height: xray.n_tokens});
  const button = make("button", {class: "xray-head", type: "button", title: known, "aria-label": known, onclick: click,
    onpointerenter: tell, onfocus: tell, "data-layer": layer, "data-head": head}, canvas);
  choice.listen(() => button.setAttribute("aria-pressed", chosen()));
  return button;
}

// Buttons in rows of layers, or the strongest first.
function arrangeHeads(xray, grid, heads, {score, sorted}) {
  const n = xray.n_heads;
  const width = Math.max(16, Math.min(170, Math.floor(360 / n), Math.floor(480 / xray.n_layers)));
  grid.style.gridTemplateColumns = `${sorted ? "" : "auto "}repeat(${n}, minmax(14px, ${width}px))`;
  const buttons = (sorted ? byStrength(heads, score) : heads).map(({button}) => button);
  const label = (text) => make("span", {class: "xray-label"}, text);
  const corner = [label(""), ...Array.from({length: n}, (_, head) => label(head))];
  const row = (layer) => [label(layer), ...buttons.slice(layer * n, (layer + 1) * n)];
  const byLayer = () => [...corner, ...Array.from({length: xray.n_layers}, (_, layer) => row(layer)).flat()];
  grid.replaceChildren(...(sorted ? buttons : byLayer()));
}

function paintHeads(xray, grid, heads, score) {
  const names = ["raised", "ink", "accent", "warm", "good"];
  const palette = Object.fromEntries(names.map((name) => [name, rgb(grid, name)]));
  palette.shades = Uint32Array.from({length: 256}, (_, weight) =>
    pixel(mix(palette.raised, palette.ink, Math.sqrt(weight / 255))));
  for (const {layer, head, button} of heads) paintHead(xray, button.firstChild, layer, head, score, palette);
}

// One pixel a weight, below the diagonal; above it the colour of the score.
function paintHead(xray, canvas, layer, head, score, palette) {
  const n = xray.n_tokens;
  const image = new ImageData(n, n);
  const share = score.share(layer, head) ?? 0;
  const tint = palette[share < 0 ? score.negative : score.positive];
  const ground = pixel(mix(palette.raised, tint, 0.06 + 0.94 * Math.abs(share)));
  const pixels = new Uint32Array(image.data.buffer).fill(ground);
  for (let from = 0; from < n; from++) {
    xray.row(layer, head, from).forEach((weight, to) => { pixels[from * n + to] = palette.shades[weight]; });
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.classList.toggle("few", n < canvas.clientWidth);
}

const mix = (one, other, share) => one.map((value, at) => value + (other[at] - value) * Math.min(1, share));

// Red, green and blue as an image has them, the first in the lowest byte.
const pixel = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

// A colour of the page as three numbers.
function rgb(element, name) {
  const context = make("canvas", {width: 1, height: 1}).getContext("2d", {willReadFrequently: true});
  context.fillStyle = colour(element, name);
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}
