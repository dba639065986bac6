// One head large: a square of cells with the tokens at both sides. Framed is the cell that is pointed at, else where
// the chosen token looks most.
function headLarge(xray, choice) {
  const title = make("h3");
  const said = make("p", {class: "xray-said", "aria-live": "polite"});
  const canvas = make("canvas", {class: "xray-map", tabindex: 0, role: "img"});
  const frame = make("div", {class: "wide"}, canvas);
  const cell = {from: null, to: null};
  let map, layout;
  const draw = (width) => {
    map = attentionMap(xray, choice);
    layout = mapLayout(xray, canvas, width);
    drawMap(xray, canvas, layout, map, at());
    title.textContent = headName(choice);
    said.replaceChildren(...cellInWords(xray, map, at()));
    canvas.setAttribute("aria-label", `${headName(choice)}. ${said.textContent}`);
  };
  const at = () => (cell.from === null ? {from: choice.position, to: mostLookedAt(map[choice.position])} : cell);
  const point = (from, to) => {
    [cell.from, cell.to] = [from, to];
    draw(frame.clientWidth);
  };
  const under = (event) => {
    const from = Math.floor((event.offsetY - layout.top) / layout.size);
    const to = Math.floor((event.offsetX - layout.left) / layout.size);
    if (map[from] && to >= 0 && to <= from) point(from, to);
  };
  canvas.addEventListener("pointermove", under);
  canvas.addEventListener("click", (event) => {
    under(event);
    choice.set({position: at().from, pinned: true});
  });
  canvas.addEventListener("pointerleave", () => point(null, null));
  canvas.addEventListener("keydown", (event) => {
    const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    if (!step) return;
    event.preventDefault();
    const from = Math.min(Math.max(at().from + step[0], 0), xray.n_tokens - 1);
    point(from, Math.min(Math.max(at().to + step[1], 0), from));
  });
  choice.listen(() => { if (choice.position !== cell.from) cell.from = null; });
  redraw(frame, choice, draw);
  return make("div", {class: "xray-large"}, make("div", {class: "xray-controls"}, title, headSelects(xray, choice)),
    said, frame, make("p", {class: "faint"}, "Each row is a token that looks, each column one that it looks at: the "
      + "stronger the blue, the more (square-root scale)."));
}

const mostLookedAt = (row) => row.indexOf(Math.max(...row));

function cellInWords(xray, map, {from, to}) {
  return [tokenMark(xray.token(from)), ` at ${from} looks at `, tokenMark(xray.token(to)), ` at ${to}: `,
    make("b", {}, percent(map[from][to]))];
}

// Cells as large as there is room for, but large enough to read the tokens beside them.
function mapLayout(xray, canvas, width) {
  const n = xray.n_tokens;
  const context = canvas.getContext("2d");
  const family = getComputedStyle(canvas).fontFamily;
  const lengths = (fontSize) => {
    context.font = `${fontSize} ${family}`;
    return xray.ids.map((_, at) => context.measureText(shortened(xray.token(at))).width);
  };
  const fitting = (gutter) => Math.min(34, Math.max(9, Math.floor((width - gutter) / n)));
  const fontSize = Math.min(13, Math.max(9, fitting(Math.max(...lengths("9px"))) - 2));
  const labels = lengths(`${fontSize}px`);
  const left = Math.ceil(Math.max(...labels)) + 8;
  const size = fitting(left);
  const top = Math.ceil(Math.max(...labels.map((length, at) => length - at * size))) + 6;
  return {size, left, top, font: `${fontSize}px ${family}`};
}

const shortened = (text) => ([...text].length > 9 ? `${[...text].slice(0, 8).join("")}…` : text);

function drawMap(xray, canvas, layout, map, at) {
  const {size, left, top} = layout;
  const context = sizedContext(canvas, left + xray.n_tokens * size + 2, top + xray.n_tokens * size + 2);
  const [ink, accent] = [colour(canvas, "ink"), colour(canvas, "accent")];
  const gap = size > 12 ? 1 : 0;
  context.fillStyle = accent;
  map.forEach((row, from) => row.forEach((weight, to) => {
    context.globalAlpha = 0.05 + 0.95 * Math.sqrt(weight);
    context.fillRect(left + to * size, top + from * size, size - gap, size - gap);
  }));
  context.globalAlpha = 1;
  drawLabels(xray, context, layout, (chosen) => (chosen ? ink : colour(canvas, "faint")), at);
  context.strokeStyle = ink;
  context.lineWidth = 1.5;
  context.strokeRect(left + at.to * size - 0.5, top + at.from * size - 0.5, size + 1 - gap, size + 1 - gap);
}

// A canvas of so many pixels of the page, as sharp as the screen.
function sizedContext(canvas, width, height) {
  const scale = devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  return context;
}

// The tokens: who looks at the left of its row; who is looked at above the first cell of its column.
function drawLabels(xray, context, {size, left, top, font}, tint, at) {
  context.font = font;
  context.textBaseline = "middle";
  xray.ids.forEach((_, position) => {
    const text = shortened(xray.token(position));
    context.textAlign = "right";
    context.fillStyle = tint(position === at.from);
    context.fillText(text, left - 5, top + (position + 0.5) * size);
    context.save();
    context.translate(left + (position + 0.5) * size, top + position * size - 4);
    context.rotate(-Math.PI / 2);
    context.textAlign = "left";
    context.fillStyle = tint(position === at.to);
    context.fillText(text, 0, 0);
    context.restore();
  });
}
