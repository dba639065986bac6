// What the loss does when a part is silenced.
function xrayAblation(xray, choice) {
  const title = "Ablation";
  if (!hasAblation(xray)) {
    return xraySection("ablation", title, "Nothing was silenced for this X-ray, so what each part is worth is not known.");
  }
  const lesson = "Set the output of one part to zero and see how the loss over the prompt changes. Where it rises "
    + "(orange), the part helped; where it falls (green), the model was better off without it here. The head's scale and "
    + "that of whole parts differ: removing all heads of a layer costs more than one.";
  const said = make("p", {class: "xray-said", "aria-live": "polite"});
  const parts = ablatedParts(xray);
  const strongest = parts.reduce((one, other) => (Math.abs(other.rise) > Math.abs(one.rise) ? other : one));
  const tell = (part) => said.replaceChildren(...ablationInWords(xray, part));
  tell(strongest);
  const n_heads = hasHeadAblation(xray) ? xray.n_heads : 0;
  const columns = n_heads + 2;
  const cells = parts.map((part) => ablationCell(part, choice, tell, columns <= 14));
  const label = (text, kind = "") => make("span", {class: `xray-label ${kind}`}, text);
  const head = [label(""), ...Array.from({length: n_heads}, (_, number) => label(number)),
    label("attn", "part"), label("ff", "part")];
  const rows = xray.attention_ablation.flatMap((_, layer) => [label(layer), ...cells.slice(layer * columns, (layer + 1) * columns)]);
  const grid = make("div", {class: "xray-ablated", role: "group", "aria-label": "change of the loss by part"}, ...head, ...rows);
  grid.classList.toggle("dense", columns > 14);
  const most = columns <= 6 ? "7rem" : "4.5rem";
  const room = columns <= 14 ? `minmax(2.4rem, ${most})` : "minmax(14px, 26px)";
  grid.style.gridTemplateColumns = `auto ${n_heads ? `repeat(${n_heads}, ${room})` : ""} repeat(2, minmax(2.6rem, ${most}))`;
  walkWithArrows(grid, columns, (cell) => tell(parts[cells.indexOf(cell)]))(cells[parts.indexOf(strongest)]);
  return xraySection("ablation", title, lesson, make("div", {class: "card"}, said, make("div", {class: "wide"}, grid),
    make("p", {class: "faint"}, "Rows are layers; attn is all heads of a layer at once, ff its feed-forward. Nats a token. "
      + (n_heads ? "The other columns are heads: click one to see its attention large."
        : "Heads were not measured one by one: that takes longer."))));
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
  return [`Without ${name} of layer ${layer} the loss ${change} by `, make("b", {}, `${signed(rise).slice(1)} nats a token`),
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
    "aria-label": `layer ${part.layer}, ${part.name}: ${signed(part.rise)} nats`}, roomy || whole ? signed(part.rise) : "");
  cell.style.setProperty("--share", Math.abs(part.share).toFixed(3));
  return cell;
}
