// All heads in small, layers by heads; and the one that is chosen, large.
function xrayHeads(xray, choice) {
  const lesson = "Attention is how a token takes over what earlier tokens know. Each head is a square: a row is a token "
    + "that looks, a column one that it looks at, and none sees what comes after it, so the upper right half is free; "
    + "here it shows the head's score. A previous-token head looks one token back, a first-token head rests on the "
    + "first, and an induction head finds an earlier copy of the present token and looks at what followed it. Click a "
    + "head to see it large.";
  const large = headLarge(xray, choice);
  return xraySection("heads", "Attention heads", lesson,
    make("div", {class: "card xray-pair"}, headGrid(xray, choice), large));
}

// What heads are coloured and sorted by: name, score of a head (null where unknown) and the score in words.
function headScores(xray) {
  const share = (name, title, sentence) => ({
    title, share: (layer, head) => xray[name][layer][head], positive: "accent", negative: "accent",
    say: (value) => `${title} ${value.toFixed(2)}`, sentence,
  });
  const scores = [
    share("previous_token", "previous-token", "Attention to the token before, averaged over the prompt."),
    share("first_token", "first-token", "Attention to the first token, averaged over the prompt."),
    share("induction", "induction", "Attention to what followed the same token before, on random tokens said twice."),
  ];
  if (!hasAblation(xray)) return scores;
  const largest = largestOf(xray.head_ablation.flat());
  const ablation = {
    title: "ablation", positive: "warm", negative: "good", say: (rise) => `without it ${signed(rise)} nats`,
    sentence: "Change of the loss without the head: rises are orange, falls green.",
    share: (layer, head) => xray.head_ablation[layer][head] / largest,
    value: (layer, head) => xray.head_ablation[layer][head],
  };
  return [...scores, ablation];
}

function headGrid(xray, choice) {
  const scores = headScores(xray);
  const shown = {score: scores[0], sorted: false};
  const grid = make("div", {class: "xray-grid", role: "group", "aria-label": "all heads"});
  const said = make("p", {class: "faint xray-caption"});
  const heads = xray.previous_token.flatMap((row, layer) => row.map((_, head) => ({layer, head})));
  for (const one of heads) one.button = headButton(xray, choice, one, () => said.replaceChildren(inWords(one)));
  const inWords = ({layer, head}) => [headName({layer, head}), ...scores.map((score) => {
    const value = (score.value ?? score.share)(layer, head);
    return value === null ? "" : score.say(value);
  }).filter(Boolean)].join(" · ");
  const paint = () => {
    const palette = Object.fromEntries(["raised", "ink", "accent", "warm", "good"].map((name) => [name, rgb(grid, name)]));
    for (const {layer, head, button} of heads) {
      paintHead(xray, button.firstChild, layer, head, shown.score, palette);
      button.title = inWords({layer, head});
      button.setAttribute("aria-label", button.title);
    }
  };
  const arrange = () => {
    arrangeHeads(xray, grid, heads, shown);
    said.textContent = shown.score.sentence;
    if (grid.clientWidth) paint();
  };
  const select = make("select", {onchange: () => { shown.score = scores[select.selectedIndex]; arrange(); }},
    ...scores.map((score) => make("option", {}, score.title)));
  const box = make("input", {type: "checkbox", onchange: () => { shown.sorted = box.checked; arrange(); }});
  arrange();
  walkWithArrows(grid, xray.n_heads, () => {})(heads[0].button);
  new ResizeObserver(paint).observe(grid);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  choice.listen(() => {
    for (const {layer, head, button} of heads) {
      button.setAttribute("aria-pressed", layer === choice.layer && head === choice.head);
    }
  });
  return make("div", {class: "xray-small"}, make("div", {class: "xray-controls"},
    make("label", {class: "xray-control"}, "Colour by ", select),
    make("label", {class: "xray-control"}, box, " strongest first")),
  make("div", {class: "wide"}, grid), said);
}

function headButton(xray, choice, {layer, head}, tell) {
  const canvas = make("canvas", {width: xray.n_tokens, height: xray.n_tokens});
  const click = () => {
    const again = choice.layer === layer && choice.head === head;
    choice.set(again ? {layer: null, head: null} : {layer, head});
  };
  return make("button", {class: "xray-head", type: "button", onclick: click, onpointerenter: tell, onfocus: tell,
    "data-layer": layer, "data-head": head}, canvas);
}

// Buttons in rows of layers, or the strongest first.
function arrangeHeads(xray, grid, heads, {score, sorted}) {
  const n = xray.n_heads;
  const width = Math.max(22, Math.min(170, Math.floor(400 / n), Math.floor(480 / xray.n_layers)));
  grid.style.gridTemplateColumns = `${sorted ? "" : "auto "}repeat(${n}, minmax(18px, ${width}px))`;
  const strength = ({layer, head}) => Math.abs(score.share(layer, head) ?? 0);
  const order = sorted ? [...heads].sort((one, other) => strength(other) - strength(one)) : heads;
  const buttons = order.map(({button}) => button);
  const label = (text) => make("span", {class: "xray-label"}, text);
  const corner = [label(""), ...Array.from({length: n}, (_, head) => label(head))];
  const row = (layer) => [label(layer), ...buttons.slice(layer * n, (layer + 1) * n)];
  grid.replaceChildren(...(sorted ? buttons : [...corner, ...Array.from({length: xray.n_layers}, (_, l) => row(l)).flat()]));
}

// One pixel a weight, below the diagonal; above it the colour of the score.
function paintHead(xray, canvas, layer, head, score, palette) {
  const n = xray.n_tokens;
  const image = new ImageData(n, n);
  const share = score.share(layer, head) ?? 0;
  const field = mix(palette.raised, palette[share < 0 ? score.negative : score.positive], 0.06 + 0.94 * Math.abs(share));
  for (let from = 0; from < n; from++) {
    for (let to = 0; to < n; to++) {
      const pixel = to > from ? field : mix(palette.raised, palette.ink, Math.sqrt(xray.weight(layer, head, from, to)));
      image.data.set([...pixel, 255], 4 * (from * n + to));
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.classList.toggle("few", n < canvas.clientWidth);
}

const mix = (one, other, share) => one.map((value, at) => value + (other[at] - value) * Math.min(1, share));

// A colour of the page as three numbers.
function rgb(element, name) {
  const context = make("canvas", {width: 1, height: 1}).getContext("2d", {willReadFrequently: true});
  context.fillStyle = colour(element, name);
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}
