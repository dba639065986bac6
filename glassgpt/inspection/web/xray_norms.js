// How long the residual stream is at the chosen token, and what each part adds to it.
function xrayNorms(xray, choice) {
  const said = make("p", {class: "xray-said"});
  const [stream, parts] = [make("figure"), make("figure")];
  redraw(stream, choice, (width) => stream.replaceChildren(
    make("figcaption", {}, "Length of the stream", legendOf("accent", "this token"), legendOf("faint", "median token")),
    streamChart(xray, choice.position, width)));
  redraw(parts, choice, (width) => parts.replaceChildren(
    make("figcaption", {}, "Length of what is added",
      legendOf("accent", "attention"), legendOf("warm", "feed-forward")),
    partsChart(xray, choice.position, width)));
  choice.listen(() => said.replaceChildren(...normsInWords(xray, choice.position)));
  const lesson = "A token travels through the model as one vector, the residual stream. Attention and feed-forward of "
    + "each layer read it and add to it; nothing is ever overwritten. Lengths (L2 norms) show which part writes "
    + "much: the longer the stream has become, the more a layer must add to turn it elsewhere.";
  return xraySection("norms", "Residual stream", lesson,
    make("div", {class: "card"}, said, make("div", {class: "xray-charts"}, stream, parts)));
}

const legendOf = (name, text) => make("span", {class: `xray-key ${name}`}, text);

function normsInWords(xray, position) {
  const parts = xray.attention_norms.flatMap((row, layer) => [
    {name: `the attention of layer ${layer}`, length: row[position]},
    {name: `the feed-forward of layer ${layer}`, length: xray.feed_forward_norms[layer][position]},
  ]);
  const most = parts.reduce((one, other) => (other.length > one.length ? other : one));
  const [begin, end] = [xray.residual_norms[0], xray.residual_norms.at(-1)].map((row) => rounded(row[position]));
  const lengths = ` the stream begins with a length of ${begin} and ends with ${end}; most is added by `;
  return ["At ", tokenMark(xray.token(position)), lengths,
    make("b", {}, most.name), ` (${rounded(most.length)}).`];
}

const rounded = (length) => (length >= 100 ? Math.round(length).toLocaleString("en") : length.toPrecision(3));

function streamChart(xray, position, width) {
  const lengths = xray.residual_norms.map((row) => row[position]);
  const medians = xray.residual_norms.map((row) => [...row].sort((one, other) => one - other)[row.length >> 1]);
  const chart = openChart(width, Math.max(...lengths, ...medians), xray.n_layers + 1);
  const x = (at) => chart.left + (at / 2 + 0.5) * chart.step;
  const points = (values) => values.map((length, at) => `${x(at)},${chart.y(length)}`).join(" ");
  const line = (values, name) => svg("polyline", {class: name, points: points(values)});
  const name = (at) => (at === 0 ? "embedding" : `${at % 2 ? "attention" : "feed-forward"} of layer ${(at - 1) >> 1}`);
  const dots = lengths.map((length, at) => svg("circle", {cx: x(at), cy: chart.y(length), r: chart.step > 24 ? 3.5 : 2},
    svg("title", {}, `after the ${name(at)}: ${rounded(length)}`)));
  return chart.drawing([line(medians, "median"), line(lengths, "stream"), ...dots]);
}

function partsChart(xray, position, width) {
  const layers = [
    {embedding: xray.embedding_norms[position]},
    ...xray.attention_norms.map((row, layer) =>
      ({attention: row[position], feed: xray.feed_forward_norms[layer][position]})),
  ];
  const chart = openChart(width, Math.max(...layers.flatMap(Object.values)), layers.length);
  const bar = Math.min(22, chart.step * 0.36);
  const columns = layers.flatMap((layer, at) => Object.entries(layer).map(([kind, length], number, all) => {
    const x = chart.left + (at + 0.5) * chart.step + (number - all.length / 2) * bar;
    const part = kind === "feed" ? "feed-forward" : kind;
    const title = kind === "embedding" ? "token embedding" : `${part} of layer ${at - 1}`;
    return svg("rect", {class: kind, x: x + 0.5, y: chart.y(length), width: Math.max(1, bar - 1),
      height: chart.y(0) - chart.y(length)}, svg("title", {}, `${title}: ${rounded(length)}`));
  }));
  return chart.drawing(columns);
}

// Room for `n` layers (the embedding is the first) and lengths up to `most`, with lines and numbers.
function openChart(width, most, n) {
  const [height, left, bottom, top] = [220, 44, 36, 8];
  const step = (width - left - 4) / n;
  const tick = niceStep(most / 4);
  const limit = Math.max(tick, Math.ceil(most / tick) * tick);
  const y = (length) => height - bottom - (length / limit) * (height - bottom - top);
  const marks = Array.from({length: Math.round(limit / tick) + 1}, (_, at) => at * tick).flatMap((length) => [
    svg("line", {class: "rule", x1: left, x2: width, y1: y(length), y2: y(length)}),
    svg("text", {x: left - 6, y: y(length) + 4, "text-anchor": "end"}, String(Number(length.toPrecision(3)))),
  ]);
  const every = Math.ceil(n / Math.max(1, Math.floor((width - left) / 26)));
  const names = Array.from({length: n}, (_, at) => at).filter((at) => at === 0 || (at - 1) % every === 0).map((at) =>
    svg("text", {x: left + (at + 0.5) * step, y: height - bottom + 16, "text-anchor": "middle"}, at ? at - 1 : "E"));
  const axis = svg("text", {class: "axis", x: left + (width - left) / 2, y: height - 3, "text-anchor": "middle"},
    "layer (E: embedding)");
  const drawing = (shapes) => svg("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img"},
    ...marks, ...names, axis, ...shapes);
  return {left, step, y, drawing};
}

// The next of 1, 2, 5, 10, 20, … that is at least `size`.
function niceStep(size) {
  const power = 10 ** Math.floor(Math.log10(size || 1));
  return [1, 2, 5, 10].map((digit) => digit * power).find((step) => step >= size * 0.999);
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
