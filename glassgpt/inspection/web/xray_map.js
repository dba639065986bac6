// One head large: a square of cells with the tokens at both sides. The row of the chosen token is framed.
function headLarge(xray, choice) {
  const title = make("h3");
  const said = make("p", {class: "xray-said", "aria-live": "polite"});
  const canvas = make("canvas", {class: "xray-map", tabindex: 0, role: "img"});
  const frame = make("div", {class: "wide"}, canvas);
  const cell = {from: null, to: null};
  let map, layout;
  const draw = (width) => {
    map = attentionMap(xray, choice.layer, choice.head);
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
    const from = Math.floor((event.offsetY - layout.gutter) / layout.size);
    const to = Math.floor((event.offsetX - layout.gutter) / layout.size);
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
  redraw(frame, choice, draw);
  return make("div", {class: "xray-large"}, make("div", {class: "xray-controls"}, title, headSelects(xray, choice)), said,
    frame, make("p", {class: "faint"}, "Rows look, columns are looked at; the darker, the more (square-root scale)."));
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
  const longest = (font) => {
    context.font = font;
    return Math.max(...xray.ids.map((_, at) => context.measureText(shortened(xray.token(at))).width));
  };
  let gutter = Math.ceil(longest(`9px ${family}`)) + 8;
  const size = Math.min(34, Math.max(9, Math.floor((width - gutter) / n)));
  const font = `${Math.min(13, Math.max(9, size - 2))}px ${family}`;
  gutter = Math.ceil(longest(font)) + 8;
  const fitting = Math.min(size, Math.max(9, Math.floor((width - gutter) / n)));
  return {size: fitting, gutter, font, side: gutter + n * fitting};
}

const shortened = (text) => ([...text].length > 9 ? `${[...text].slice(0, 8).join("")}…` : text);

function drawMap(xray, canvas, {size, gutter, font, side}, map, at) {
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.height = Math.round(side * scale);
  canvas.style.width = canvas.style.height = `${side}px`;
  const context = canvas.getContext("2d");
  const [raised, ink, accent, line, faint] = ["raised", "ink", "accent", "line", "faint"].map((name) => colour(canvas, name));
  context.scale(scale, scale);
  context.font = font;
  context.textBaseline = "middle";
  const gap = size > 12 ? 1 : 0;
  map.forEach((row, from) => row.forEach((weight, to) => {
    const [x, y] = [gutter + to * size, gutter + from * size];
    context.fillStyle = raised;
    context.fillRect(x, y, size - gap, size - gap);
    context.globalAlpha = 0.05 + 0.95 * Math.sqrt(weight);
    context.fillStyle = accent;
    context.fillRect(x, y, size - gap, size - gap);
    context.globalAlpha = 1;
  }));
  xray.ids.forEach((_, position) => {
    const text = shortened(xray.token(position));
    const middle = gutter + (position + 0.5) * size;
    context.textAlign = "right";
    context.fillStyle = position === at.from ? ink : faint;
    context.fillText(text, gutter - 5, middle);
    context.save();
    context.translate(middle, gutter + position * size - 4);
    context.rotate(-Math.PI / 2);
    context.textAlign = "left";
    context.fillStyle = position === at.to ? ink : faint;
    context.fillText(text, 0, 0);
    context.restore();
  });
  context.strokeStyle = line;
  context.strokeStyle = ink;
  context.lineWidth = 1.5;
  context.strokeRect(gutter + at.to * size - 0.5, gutter + at.from * size - 0.5, size + 1 - gap, size + 1 - gap);
}
