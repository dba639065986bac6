// What the loss does when a part is silenced.
function xrayAblation(xray, choice) {
  const title = "Ablation";
  if (!hasAblation(xray)) {
    return xraySection("ablation", title,
      "Nothing was silenced for this X-ray, so what each part is worth is not known.");
  }
  const n_heads = hasHeadAblation(xray) ? xray.n_heads : 0;
  const lesson = "Silence one part, that is, let it add nothing to the stream, and see how the loss over the prompt "
    + "changes. Where it rises (orange), the part helped; where it falls (green), the model does better without it on "
    + `this prompt.${n_heads ? " Heads and whole parts each have a scale of colours of their own, since silencing all "
      + "heads of a layer costs more than one." : ""}`;
  const said = make("p", {class: "xray-said", "aria-live": "polite"});
  const parts = ablatedParts(xray);
  const strongest = parts.reduce((one, other) => (Math.abs(other.rise) > Math.abs(one.rise) ? other : one));
  const tell = (part) => said.replaceChildren(...ablationInWords(xray, part));
  tell(strongest);
  const cells = parts.map((part) => ablationCell(part, choice, tell, n_heads <= MOST_WRITTEN));
  const grid = ablationGrid(xray, n_heads, cells);
  walkWithArrows(grid, n_heads + 2, (cell) => tell(parts[cells.indexOf(cell)]))(cells[parts.indexOf(strongest)]);
  const ofHeads = xray.hasAttention ? "heads: click one to see its attention large." : "heads.";
  return xraySection("ablation", title, lesson, make("div", {class: "card"}, said, make("div", {class: "wide"}, grid),
    make("p", {class: "faint"}, n_heads
      ? "Nats a token. Rows are layers; attn is all heads of a layer at once, ff its feed-forward, the other columns "
        + `are ${ofHeads}`
      : "Nats a token. Attention is all heads of a layer at once. Heads were not silenced one by one, which takes "
        + "longer: --ablate heads does it.")));
}

// Heads a layer that have room for their numbers.
const MOST_WRITTEN = 12;

// Layers by heads, then the attention and the feed-forward as wholes; without heads these two have more room.
function ablationGrid(xray, n_heads, cells) {
  const label = (text, kind = "") => make("span", {class: `xray-label ${kind}`}, text);
  const names = n_heads ? ["attn", "ff"] : ["attention", "feed-forward"];
  const head = [label(n_heads ? "" : "layer"), ...Array.from({length: n_heads}, (_, number) => label(number)),
    ...names.map((name) => label(name, "part"))];
  const row = (layer) => [label(layer), ...cells.slice(layer * (n_heads + 2), (layer + 1) * (n_heads + 2))];
  const grid = make("div", {class: "xray-ablated", role: "group", "aria-label": "change of the loss by part"},
    ...head, ...xray.attention_ablation.flatMap((_, layer) => row(layer)));
  const dense = n_heads > MOST_WRITTEN;
  grid.classList.toggle("dense", dense);
  const most = n_heads ? (n_heads <= 4 ? "7rem" : "4.5rem") : "12rem";
  const room = dense ? "minmax(14px, 26px)" : `minmax(2.4rem, ${most})`;
  const heads = n_heads ? `repeat(${n_heads}, ${room})` : "";
  grid.style.gridTemplateColumns = `auto ${heads} repeat(2, minmax(2.6rem, ${most}))`;
  return grid;
}

const hasAblation = (xray) => xray.attention_ablation !== null && xray.attention_ablation[0] !== null;

const hasHeadAblation = (xray) => hasAblation(xray) && xray.head_ablation !== null;

const largestOf = (values) => Math.max(1e-9, ...values.map(Math.abs));

const signed = (rise) => `${rise < 0 ? "−" : "+"}${Math.abs(rise).toFixed(Math.abs(rise) < 0.0095 ? 3 : 2)}`;

// Row by row: the heads of a layer, then its attention and its feed-forward as wholes.
function ablatedParts(xray) {
  const byHead = xray.head_ablation ?? [];
  const [heads, wholes] = [byHead.flat(), [...xray.attention_ablation, ...xray.feed_forward_ablation]].map(largestOf);
  return xray.attention_ablation.flatMap((_, layer) => [
    ...(byHead[layer] ?? []).map((rise, head) => ({layer, head, rise, share: rise / heads, name: `head ${head}`})),
    ...["attention", "feed_forward"].map((kind) => {
      const rise = xray[`${kind}_ablation`][layer];
      return {layer, head: null, rise, share: rise / wholes, name: `the ${kind.replace("_", "-")}`};
    }),
  ]);
}

function ablationInWords(xray, {name, layer, rise}) {
  const loss = xray.nats.reduce((sum, nats) => sum + nats, 0) / xray.nats.length;
  const change = rise < 0 ? "falls" : "rises";
  const size = make("b", {}, `${signed(rise).slice(1)} nats a token`);
  return [`Without ${name} of layer ${layer} the loss ${change} by `, size,
    `, from ${loss.toFixed(2)} to ${(loss + rise).toFixed(2)}.`];
}

function ablationCell(part, choice, tell, roomy) {
  const show = () => tell(part);
  const click = () => {
    show();
    choice.set({layer: part.layer, head: part.head});
  };
  const whole = part.head === null;
  const cell = make("button", {class: `xray-cell ${part.rise < 0 ? "falls" : "rises"} ${whole ? "part" : ""}`,
    type: "button", onclick: click, onpointerenter: show, "data-layer": part.layer, "data-part": part.name,
    "aria-label": `layer ${part.layer}, ${part.name}: ${signed(part.rise)} nats`},
  roomy || whole ? signed(part.rise) : "");
  cell.style.setProperty("--share", Math.abs(part.share).toFixed(3));
  return cell;
}
