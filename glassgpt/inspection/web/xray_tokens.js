// The prompt as it is read: each token tinted by surprise, and what is known of the one that is pointed at.
const SURPRISED = 8;

function xrayTokens(xray, choice) {
  const {flow, buttons} = tokenFlow(xray, choice, (position) => {
    const button = make("button", {class: "xray-token"}, make("span", {}, xray.token(position)), make("i"));
    const share = position ? Math.min(1, xray.nats[position - 1] / SURPRISED) : 0;
    button.style.setProperty("--surprise", share.toFixed(3));
    return button;
  });
  const attention = xray.hasAttention;
  if (attention) choice.listen(() => showLooks(xray, choice, buttons));
  const legend = make("div", {class: "xray-legend faint"},
    make("span", {class: "xray-scale"}), `surprise, 0 to ${SURPRISED} nats or more`,
    ...(attention ? [make("span", {class: "xray-bar"}), "where it looks"] : []));
  const looks = make("span", {class: "xray-control"},
    ...(attention ? ["It looks with ", headSelects(xray, choice)] : []));
  const lesson = "The model reads from left to right. Before each token it gave every token of its vocabulary a "
    + "probability of coming next; the tint is its surprise, −log of the probability of the one that came. Point at a "
    + "token, or walk with the arrow keys, to see what was expected there"
    + (attention ? " and which earlier tokens its attention looks at (the bars below them). " : ". ")
    + "A click holds it; Escape lets go.";
  return xraySection("tokens", "Token by token", lesson, summary(xray),
    make("div", {class: "card"},
      make("div", {class: "xray-controls"}, looks, legend), flow, tokenDetail(xray, choice)));
}

function summary(xray) {
  const n = xray.n_tokens;
  const size = `${counted(n, "token")}, ${counted(xray.n_layers, "layer")} of ${counted(xray.n_heads, "head")}`;
  if (n === 1) return make("p", {class: "faint"}, `${size}. One token has no next one, so there is no loss.`);
  const loss = xray.nats.reduce((sum, nats) => sum + nats, 0) / (n - 1);
  const first = xray.ranks.filter((rank) => rank === 1).length;
  return make("p", {class: "faint"}, `${size}. Loss ${loss.toFixed(2)} nats a token; of ${n - 1} next tokens its first `
    + `guess was right for ${first}. Layers and heads are counted from 0.`);
}

// Tokens in lines as the prompt has them, each a button that `build(position)` makes.
function tokenFlow(xray, choice, build) {
  const flow = make("div", {class: "xray-flow", role: "group", "aria-label": "tokens of the prompt"});
  const buttons = xray.ids.map((id, position) => {
    const button = build(position);
    button.type = "button";
    button.addEventListener("pointerenter", () => { if (!choice.pinned) choice.set({position}); });
    button.addEventListener("click", () => {
      choice.set({position, pinned: !(choice.pinned && choice.position === position)});
    });
    flow.append(button);
    if (/[\n\r]$/.test(xray.texts[id])) flow.append(make("br"));
    return button;
  });
  const enter = walkWithArrows(flow, 1, (button) => choice.set({position: buttons.indexOf(button)}));
  flow.addEventListener("keydown", (event) => { if (event.key === "Escape") choice.set({pinned: false}); });
  choice.listen(() => {
    enter(buttons[choice.position]);
    buttons.forEach((button, position) => {
      button.classList.toggle("here", position === choice.position);
      button.classList.toggle("later", position > choice.position);
      button.setAttribute("aria-pressed", choice.pinned && position === choice.position);
    });
  });
  return {flow, buttons};
}

// The bar below each token: how much the chosen one looks at it, as a share of the most it looks at any.
function showLooks(xray, choice, buttons) {
  const row = attentionMap(xray, choice)[choice.position];
  const most = Math.max(...row);
  buttons.forEach((button, position) => {
    const share = position < row.length && most > 0 ? row[position] / most : 0;
    button.lastChild.style.setProperty("--look", Math.sqrt(share).toFixed(3));
  });
}

function tokenDetail(xray, choice) {
  const said = make("p", {class: "xray-said", "aria-live": "polite"});
  const detail = make("div", {class: "xray-detail"});
  choice.listen(() => {
    said.replaceChildren(...aboutToken(xray, choice));
    detail.replaceChildren(expectedHere(xray, choice.position), expectedNext(xray, choice.position),
      ...(xray.hasAttention ? [looksAt(xray, choice)] : []), nearest(xray, choice.position));
  });
  return make("div", {}, said, detail);
}

function aboutToken(xray, {position, pinned}) {
  const begin = [make("b", {}, `Token ${position} `), tokenMark(xray.token(position)), ` (id ${xray.ids[position]})`];
  if (pinned) begin.push(make("span", {class: "xray-pin"}, "held"));
  if (position === 0) return [...begin, " is the first: nothing stood before it to expect it from."];
  const [p, rank, nats] = [xray.probabilities, xray.ranks, xray.nats].map((values) => values[position - 1]);
  return [...begin, ` had a probability of ${percent(p)}, rank ${rank.toLocaleString("en")}: `
    + `${nats.toFixed(2)} nats of surprise.`];
}

function expectedHere(xray, position) {
  const title = "Expected in its place";
  if (position === 0) return panel(title, make("p", {class: "faint"}, "The first token is given."));
  const [ids, shares] = [xray.top_ids[position - 1], xray.top_probabilities[position - 1]];
  const rows = likeliest(xray, ids, shares, xray.ids[position]);
  if (!rows.some((row) => row.mark)) {
    const share = xray.probabilities[position - 1];
    rows.splice(rows.length - 1, 1, {text: xray.token(position), share, mark: true});
  }
  return panel(title, bars(rows));
}

function expectedNext(xray, position) {
  const rows = likeliest(xray, xray.top_ids[position], xray.top_probabilities[position], xray.ids[position + 1]);
  return panel("Expected next", bars(rows));
}

const likeliest = (xray, ids, shares, came) =>
  ids.slice(0, 8).map((id, at) => ({text: xray.text(id), share: shares[at], mark: id === came}));

function looksAt(xray, choice) {
  const row = attentionMap(xray, choice)[choice.position];
  const order = [...row.keys()].sort((one, other) => row[other] - row[one]).slice(0, 8);
  const rows = order.map((to) => ({text: xray.token(to), note: to, share: row[to]}));
  return panel(`Looks at · ${headName(choice).toLowerCase()}`, bars(rows, "look"));
}

function nearest(xray, position) {
  const rows = xray.neighbour_ids[position].map((id, at) => {
    const cosine = xray.neighbour_cosines[position][at];
    return {text: xray.text(id), share: Math.max(0, cosine), said: cosine.toFixed(2)};
  });
  return panel("Nearest embeddings, cosine", bars(rows, "near"));
}

const panel = (title, content) => make("div", {class: "xray-panel"}, make("h3", {}, title), content);

const tokenMark = (text) => make("span", {class: "token xray-mark"}, text);

// Rows of a token, a bar and its share; the one that came is marked.
function bars(rows, kind = "") {
  return make("ul", {class: `xray-bars ${kind}`}, ...rows.map(({text, share, mark, note, said}) => {
    const bar = make("i");
    bar.style.width = `${(100 * share).toFixed(2)}%`;
    const name = make("span", {class: "token", title: text}, make("bdi", {}, text));
    if (note !== undefined) name.append(make("small", {}, ` ${note}`));
    const number = make("b", {}, said ?? percent(share));
    return make("li", {class: mark ? "came" : null}, name, make("span", {}, bar), number);
  }));
}
