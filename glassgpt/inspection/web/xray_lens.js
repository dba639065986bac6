// The logit lens: what the model would say if it ended early.
function xrayLens(xray, choice) {
  const output = make("output");
  const slider = make("input", {type: "range", min: 0, max: xray.n_layers, step: 1, "aria-label": "layers read so far",
    oninput: () => choice.set({lens: Number(slider.value)})});
  const {flow, buttons} = tokenFlow(xray, choice, (position) =>
    make("button", {class: "xray-guess"}, make("small", {}, xray.token(position)), make("span")));
  flow.classList.add("xray-guesses");
  choice.listen(() => {
    slider.value = choice.lens;
    output.textContent = lensName(xray, choice.lens);
    slider.setAttribute("aria-valuetext", output.textContent);
    buttons.forEach((button, position) => showGuess(xray, button, position, choice.lens));
  });
  const lesson = "Each layer adds to what the model thinks at a position. The logit lens reads it early, as if the "
    + "model ended there: the final norm and the output head are applied to the residual stream before the first layer "
    + "and after each one. Slide to watch the guesses form. The small token is the one that was read, below it is the "
    + "guess of the next: the bluer, the surer; green where it is the one that came. The table has all layers for the "
    + "token that is chosen.";
  const label = make("label", {class: "xray-slider"}, slider, output);
  return xraySection("lens", "Logit lens", lesson, make("div", {class: "card"}, label, flow, lensTable(xray, choice)));
}

function lensName(xray, lens) {
  if (lens === 0) return "the embedding, before layer 0";
  return `after layer ${lens - 1}${lens === xray.n_layers ? ", the last" : `; the last is ${xray.n_layers - 1}`}`;
}

function showGuess(xray, button, position, lens) {
  const [id, share] = [xray.lens_ids[lens][position][0], xray.lens_probabilities[lens][position][0]];
  button.lastChild.textContent = xray.text(id);
  button.style.setProperty("--sure", share.toFixed(3));
  button.classList.toggle("right", id === xray.ids[position + 1]);
  button.title = `${xray.token(position)} → ${xray.text(id)} ${percent(share)}`;
}

function lensTable(xray, choice) {
  const title = make("h3");
  const table = make("table", {class: "xray-table"});
  choice.listen(() => {
    const next = choice.position + 1;
    const known = next < xray.n_tokens;
    title.replaceChildren("After ", tokenMark(xray.token(choice.position)),
      ...(known ? [" came ", tokenMark(xray.token(next))] : [" (the end of the prompt)"]));
    const head = ["layer", ...(known ? ["true token"] : []), "likeliest, from left to right"];
    table.replaceChildren(
      make("thead", {}, make("tr", {}, ...head.map((name) => make("th", {scope: "col"}, name)))),
      make("tbody", {}, ...xray.lens_ids.map((_, lens) => lensRow(xray, choice, lens, known))));
  });
  return make("div", {}, title, make("div", {class: "xray-scroll"}, table));
}

function lensRow(xray, choice, lens, known) {
  const {position} = choice;
  const shares = xray.lens_probabilities[lens][position];
  const guesses = xray.lens_ids[lens][position].slice(0, 5).map((id, at) => {
    const guess = make("span", {class: id === xray.ids[position + 1] ? "xray-chip right" : "xray-chip"},
      make("span", {class: "token", title: xray.text(id)}, xray.text(id)), make("small", {}, percent(shares[at])));
    guess.style.setProperty("--sure", shares[at].toFixed(3));
    return guess;
  });
  const truth = known ? [make("td", {class: "number"}, percent(xray.lens_true[lens][position]))] : [];
  return make("tr", {class: lens === choice.lens ? "here" : null, onclick: () => choice.set({lens})},
    make("th", {scope: "row"}, lens ? lens - 1 : "embedding"), ...truth, make("td", {}, ...guesses));
}
