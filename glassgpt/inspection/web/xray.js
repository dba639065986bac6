// The X-ray of a prompt, drawn into `container`. `data` and `attention` are what xray_data (xray_page.py) makes.
// All views share one choice: of a token (`position`), of a head (`layer` and `head`; null is the mean over all), and
// of the layer that the lens stands before (`lens`). Who changes it tells the others, and each draws itself anew.
function showXray(container, data, attention) {
  const xray = openXray(data, attention);
  const last = xray.n_tokens - 1;
  const choice = makeChoice({position: last, pinned: false, layer: null, head: null, lens: xray.n_layers});
  container.classList.add("xray");
  container.append(...[xrayTokens, xrayHeads, xrayLens, xrayNorms, xrayAblation].map((view) => view(xray, choice)));
  choice.set({});
}

// The data with its sizes, and with functions that look into it.
function openXray(data, attention) {
  const weights = new Uint8Array(attention);
  const [n_tokens, n_layers, n_heads] = [data.ids.length, data.induction.length, data.induction[0].length];
  const size = (n_tokens * (n_tokens + 1)) / 2;
  // A mark that stands on the letter before it gets a circle to stand on.
  const text = (id) => visible(data.texts[id]).replace(/^\p{M}/u, "◌$&") || "(empty)";
  // The row `from` of a head: how much that token looks at each up to itself, 255 for all.
  const row = (layer, head, from) => {
    const start = (layer * n_heads + head) * size + (from * (from + 1)) / 2;
    return weights.subarray(start, start + from + 1);
  };
  const token = (position) => text(data.ids[position]);
  const hasAttention = weights.length > 0; // a long prompt has too much for a page
  return {...data, n_tokens, n_layers, n_heads, hasAttention, text, token, row, maps: new Map()};
}

// Rows of weights, one a token that looks; the mean over the layers or heads that are null. A map is made once.
function attentionMap(xray, {layer, head}) {
  const key = `${layer} ${head}`;
  if (!xray.maps.has(key)) xray.maps.set(key, meanMap(xray, layer, head));
  return xray.maps.get(key);
}

function meanMap(xray, layer, head) {
  const layers = layer === null ? [...Array(xray.n_layers).keys()] : [layer];
  const heads = head === null ? [...Array(xray.n_heads).keys()] : [head];
  const all = 255 * layers.length * heads.length;
  return xray.ids.map((_, from) => {
    const sums = new Float64Array(from + 1);
    const add = (weight, to) => { sums[to] += weight; };
    for (const l of layers) for (const h of heads) xray.row(l, h, from).forEach(add);
    return sums.map((sum) => sum / all);
  });
}

// Values that views share: set() changes some and tells all that listen.
function makeChoice(values) {
  const listeners = [];
  return {
    ...values,
    set(changes) {
      Object.assign(this, changes);
      for (const listener of listeners) listener();
    },
    listen: (listener) => listeners.push(listener),
  };
}

const counted = (n, name) => `${n} ${name}${n === 1 ? "" : "s"}`;

// What is looked at, in words.
function headName({layer, head}) {
  if (layer === null) return head === null ? "Mean of all heads" : `Mean of head ${head} over all layers`;
  return head === null ? `Layer ${layer}, mean of its heads` : `Layer ${layer}, head ${head}`;
}

// A view: its name, what it teaches, and its parts.
function xraySection(name, title, lesson, ...parts) {
  return make("section", {class: `xray-${name}`}, make("h2", {}, title), make("p", {}, lesson), ...parts);
}

// Two lists, of layers and of heads, that show and change which head is chosen.
function headSelects(xray, choice) {
  const list = (kind, n, mean) => {
    const numbers = Array.from({length: n}, (_, at) => make("option", {value: at}, `${kind} ${at}`));
    const select = make("select", {
      "aria-label": kind,
      onchange: () => choice.set({[kind]: select.value === "" ? null : Number(select.value)}),
    }, make("option", {value: ""}, mean), ...numbers);
    choice.listen(() => { select.value = choice[kind] ?? ""; });
    return select;
  };
  return make("span", {class: "xray-selects"},
    list("layer", xray.n_layers, "all layers"), list("head", xray.n_heads, "mean of heads"));
}

// A colour of the page, as canvases need it.
function colour(element, name) {
  return getComputedStyle(element).getPropertyValue(`--${name}`).trim();
}

// Draw once there is room, and anew when the room, the colours or the choice change; at most once a frame.
function redraw(element, choice, draw) {
  let frame = 0;
  const drawIfShown = () => {
    frame = 0;
    if (element.clientWidth) draw(element.clientWidth);
  };
  const soon = () => { frame ||= requestAnimationFrame(drawIfShown); };
  new ResizeObserver(soon).observe(element);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", soon);
  choice.listen(soon);
}

// Arrow keys move among the buttons of `container`, in rows of `columns`; one of them is in the order of the Tab key.
// `arrive` is called with the button that is reached. Gives the function that puts a button into the order.
function walkWithArrows(container, columns, arrive) {
  const buttons = () => [...container.querySelectorAll("button")];
  const enter = (entered) => {
    for (const button of buttons()) button.tabIndex = button === entered ? 0 : -1;
  };
  container.addEventListener("keydown", (event) => {
    const all = buttons();
    const at = all.indexOf(event.target);
    const ends = {Home: -at, End: all.length - 1 - at};
    const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, ...ends};
    const reached = all[at + steps[event.key]];
    if (!reached) return;
    event.preventDefault();
    enter(reached);
    reached.focus();
    arrive(reached);
  });
  return enter;
}
