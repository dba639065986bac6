// The page: a beginning, the text that the model makes of it, token by token; for each token what else it might have
// been, and where the model looked.

const ALTERNATIVES = 10;
const SLICE = 12; // milliseconds of computing between two frames
const NUMBERS = { // whole ones, by the id of their field
  "top-k": { label: "Top k (0: all)", name: "Top k", least: 0n, most: 9999999n, usual: 0 },
  seed: { label: "Seed", name: "Seed", least: 0n, most: 10n ** 18n - 1n, usual: 1337 },
  length: { label: "Tokens", name: "Tokens", least: 1n, most: 999999n, usual: 200 },
};

// A text, and what the model has read of it: ids[start] to ids[kept - 1] are in the cache.
class Text {
  constructor(model, ids) {
    Object.assign(this, { model, ids, start: 0, kept: 0, cache: model.makeCache() });
    this.guesses = []; // for each token what the model thought before it was there; nothing for the first
  }

  get pending() {
    return this.ids.length - this.kept;
  }

  // Let the model read the next token. Where the text has outgrown its context, it begins anew with the later part.
  read() {
    const { contextLength } = this.model.config, start = visibleStart(this.ids.length, contextLength);
    if (start !== this.start) this.forget(this.start = start);
    this.logits = this.model.forward(this.ids[this.kept], this.cache);
    this.kept++;
    if (this.pending && !this.guesses[this.kept]) this.guesses[this.kept] = guess(this.logits, this.ids[this.kept]);
  }

  // Add the token that `sampling` draws. False where it is the end of the text.
  write(sampling, endOfText) {
    const id = choose(this.logits, sampling, this.ids.length);
    if (id === endOfText) return false;
    this.guesses[this.ids.length] = guess(this.logits, id);
    this.ids.push(id);
    return true;
  }

  // Put another token in the place of the one at `place`, and end the text with it.
  swap(place, id) {
    const thought = this.guesses[place];
    this.ids.length = this.guesses.length = place;
    this.ids.push(id);
    this.guesses.push({ ...thought, probability: thought.shares[thought.ids.indexOf(id)] });
    this.forget(Math.max(this.start, Math.min(this.kept, place)));
  }

  // Read the last token once more, so that another can be drawn after it.
  rewind() {
    this.forget(Math.max(this.start, Math.min(this.kept, this.ids.length - 1)));
  }

  // Keep what was read before the token at `kept`.
  forget(kept) {
    this.kept = kept;
    for (const layer of this.cache) layer.length = kept - this.start;
  }

  // Have the model look again as it did before the token at `place`. False where that lies outside the cache.
  lookBefore(place) {
    const { kept } = this;
    if (place <= this.start || place > kept) return false;
    this.forget(place - 1);
    this.model.forward(this.ids[place - 1], this.cache); // puts into the cache what stands there
    this.forget(kept);
    return true;
  }
}

// Where the window starts through which the model sees a text: glassgpt/generation/sequence.py.
function visibleStart(length, contextLength) {
  const step = Math.max(1, Math.floor(contextLength / 4));
  return Math.ceil(Math.max(0, length - contextLength) / step) * step;
}

function guess(logits, id) {
  const all = probabilities(logits), ids = likeliest(all, ALTERNATIVES);
  return { probability: all[id], ids, shares: ids.map((other) => all[other]) };
}

// How much the model looked at each token it has read, by its last token: of one head, or averaged over all.
function attention(model, layer, head) {
  if (layer >= 0) return model.blocks[layer].attention.weights[head];
  const heads = model.blocks.flatMap((block) => block.attention.weights);
  return heads[0].map((_, s) => heads.reduce((sum, weights) => sum + weights[s], 0) / heads.length);
}

function inRange(written, { least, most }) {
  return /^\d+$/.test(written) && BigInt(written) >= least && BigInt(written) <= most;
}

function refusal(written, { name, least, most, usual }) {
  const given = written === "" ? "empty" : `“${written}”`;
  return `${name} is ${given}, but must be a whole number from ${least} to ${most}: type one such as ${usual}.`;
}

const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));

class Page {
  constructor(main, data, model, tokenizer) {
    Object.assign(this, { model, tokenizer, about: data.about, data });
    this.turn = 0; // of writing; whoever finds that it has moved on stops
    this.writing = false;
    this.selected = null;
    this.spans = [];
    const columns = make("div", { class: "columns" }, this.paper(), this.side());
    main.replaceChildren(...this.header(), this.form(), this.controls(), columns);
    this.show();
  }

  header() {
    const { about, data } = this, config = this.model.config;
    const facts = [
      `${amount(data.n_parameters)} parameters in ${data.format === "int8" ? 8 : 4} bits each`,
      about.texts.length ? `trained on ${listed(about.texts)}` : "",
      about.bits_per_byte ? `${about.bits_per_byte.toFixed(2)} bits per byte` : "",
      about.date && new Date(`${about.date}T12:00`).toLocaleDateString("en-GB", { dateStyle: "long" }),
      `sees ${config.contextLength.toLocaleString("en")} tokens at once`,
    ];
    const text = about.texts.length ? listed(about.texts) : "the text that it was trained on";
    const these = about.texts.length > 1 ? "those texts" : "that text";
    return [
      make("header", {},
        make("h1", {}, about.name),
        make("p", { class: "lead" },
          "A small language model in one file. It writes here, on this device, without a network."),
        make("p", { class: "facts faint" }, facts.filter(Boolean).join(" · "))),
      make("p", { class: "privacy", role: "note" }, make("strong", {}, `This file contains a model of ${text}.`),
        ` Whoever has it can make it repeat parts of ${these}.`),
    ];
  }

  form() {
    const number = (id) => make("label", { for: id }, NUMBERS[id].label,
      make("input",
        { id, value: NUMBERS[id].usual, inputmode: "numeric", autocomplete: "off", "aria-describedby": "wrong" }));
    this.prompt = make("textarea", { id: "prompt", rows: 2, spellcheck: "false" });
    this.prompt.value = this.about.example;
    const shown = make("output", { for: "temperature" }, "0.8");
    const temperature = make("input", { id: "temperature", type: "range", min: 0, max: 1.5, step: 0.1, value: 0.8,
      oninput: () => { shown.value = temperature.value; } });
    this.wrong = make("p", { id: "wrong", role: "alert" });
    this.choices = make("details", {}, make("summary", {}, "How it chooses"), make("div", { class: "row settings" },
      make("label", { for: "temperature" }, make("span", {}, "Temperature ", shown), temperature),
      ...Object.keys(NUMBERS).map(number)), this.wrong,
      make("p", { class: "faint" }, "Before each token it draws one by its probability. A higher temperature gives "
        + "unlikely tokens more chance, at 0 it always takes the likeliest; top k leaves only the k likeliest to "
        + "draw from. The same seed gives the same text."));
    return make("form", { class: "card", id: "beginning", novalidate: true, // refused in words of our own
      onsubmit: (event) => { event.preventDefault(); this.begin(); } },
      make("label", { for: "prompt" }, "How the text begins"), this.prompt, this.choices);
  }

  // Outside the form, whose end they would scroll away with.
  controls() {
    this.buttons = {
      write: make("button", { type: "submit", form: "beginning", class: "primary", id: "write" }, "Write"),
      another: make("button", { type: "button", id: "another", onclick: () => this.another() }, "Another"),
      onward: make("button", { type: "button", id: "onward", onclick: () => this.write() }, "Go on"),
      stop: make("button", { type: "button", id: "stop", onclick: () => this.stop() }, "Stop"),
    };
    return make("div", { class: "row controls" }, ...Object.values(this.buttons));
  }

  paper() {
    this.words = make("div", { id: "text", role: "group", "aria-label": "The text, token by token",
      onclick: (event) => this.open(this.spans.indexOf(event.target)), onkeydown: (event) => this.move(event) });
    this.status = make("p", { id: "status", class: "faint", role: "status" });
    this.heads = make("select", { id: "head", onchange: () => this.shade() },
      make("option", { value: "-1 0" }, "all heads, averaged"),
      ...this.model.blocks.map((_, layer) => make("optgroup", { label: `Layer ${layer}` },
        ...Array.from({ length: this.model.config.nHeads }, (_, head) =>
          make("option", { value: `${layer} ${head}` }, `layer ${layer}, head ${head}`)))));
    return make("section", { class: "card paper", "aria-label": "What it writes" }, this.words,
      make("div", { class: "row foot" }, this.status, make("label", { for: "head" }, "Attention of ", this.heads)));
  }

  side() {
    this.legend = make("div", { class: "legend" },
      make("h2", {}, "How to read it"),
      make("p", {}, make("span", { class: "given" }, "Bold"), " is yours, the rest is the model's."),
      make("p", {}, ...[0, 0.33, 0.66, 1].map((share, i) => {
        const swatch = make("span", { class: "piece" }, ["expected", "likely", "unlikely", "surprising"][i]);
        swatch.style.setProperty("--surprise", share);
        return swatch;
      }).flatMap((swatch) => [swatch, " "])),
      make("p", {}, (() => {
        const swatch = make("span", { class: "piece" }, "Blue");
        swatch.style.setProperty("--look", 0.8);
        return swatch;
      })(), " is where the model looks while it chooses the next token."),
      make("p", {}, "Choose a token to see what else it might have been, and to go on from that."));
    this.alternatives = make("div", { id: "alternatives", hidden: true, onkeydown: (event) => {
      if (event.key === "Escape") this.close();
    } });
    return make("aside", { class: "card" }, this.legend, this.alternatives);
  }

  // Whether the settings are sound. Of one that is not it says, in the section that it opens, what to type.
  sound() {
    const fields = Object.keys(NUMBERS).map((id) => document.getElementById(id));
    const bad = fields.find((field) => !inRange(field.value, NUMBERS[field.id]));
    for (const field of fields) field.setAttribute("aria-invalid", String(field === bad));
    this.wrong.textContent = bad ? refusal(bad.value, NUMBERS[bad.id]) : "";
    if (!bad) return true;
    this.choices.open = true;
    bad.focus();
    return false;
  }

  // A new text from the prompt.
  begin() {
    if (!this.sound()) return;
    this.stop();
    const ids = this.tokenizer.encode(this.prompt.value);
    this.text = new Text(this.model, ids.length ? ids : [this.tokenizer.endOfText]);
    this.nGiven = ids.length;
    this.clear();
    return this.write();
  }

  another() {
    const seed = document.getElementById("seed");
    if (!this.sound()) return;
    seed.value = String(BigInt(seed.value) + 1n);
    return this.begin();
  }

  // Read what the model has not read and write on, a few tokens between two frames, until the end or a stop.
  async write() {
    if (!this.sound()) return;
    this.stop();
    const turn = this.turn, { text } = this, sampling = this.sampling();
    const length = Number(document.getElementById("length").value), end = text.ids.length + length;
    this.writing = true;
    this.close();
    if (!text.pending) text.rewind();
    let since = performance.now(), lap = since, spent = 0, said = `wrote ${length} tokens`;
    const speed = () => {
      const written = text.ids.length - end + length;
      return written && spent ? `, ${(1000 * written / spent).toFixed(0)} tokens/s` : "";
    };
    try {
      while (text.ids.length < end) {
        text.read();
        const now = performance.now();
        if (!text.pending) spent += now - lap; // the speed is that of writing, not of reading
        lap = now;
        if (!text.pending && !text.write(sampling, this.tokenizer.endOfText)) {
          said = "the model ended the text here";
          break;
        }
        if (performance.now() - since < SLICE) continue;
        this.show(text.pending > 1 ? `reads: ${text.pending} tokens left` : `writes${speed()}`);
        await frame();
        if (turn !== this.turn) return;
        since = performance.now();
      }
    } catch (error) {
      said = error.message;
    }
    this.writing = false;
    this.show(`${said}${speed()}`);
  }

  stop() {
    if (this.writing) this.show("stopped");
    this.writing = false;
    this.turn++;
    this.enable();
  }

  sampling() {
    const value = (id) => document.getElementById(id).value;
    return { temperature: Number(value("temperature")), topK: Number(value("top-k")), seed: BigInt(value("seed")) };
  }

  clear() {
    this.words.replaceChildren();
    this.spans = [];
    this.decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  }

  // Put on the page what came since it was last here.
  show(said) {
    const { text } = this;
    const hint = "Press Write, and it goes on from your beginning.";
    if (!text) this.words.replaceChildren(make("p", { class: "faint" }, hint));
    for (let i = this.spans.length; text && i < text.ids.length; i++) this.spans.push(this.piece(i));
    if (text?.start) said = `${said} · sees the last ${text.ids.length - text.start} tokens`;
    if (said) this.status.textContent = said;
    this.shade();
    this.enable();
    if (this.writing) this.follow();
  }

  piece(i) {
    const id = this.text.ids[i], thought = this.text.guesses[i];
    const ends = id === this.tokenizer.endOfText;
    const shown = ends ? "" : this.decoder.decode(this.tokenizer.piece(id), { stream: true });
    const chance = thought ? `, ${percent(thought.probability)}` : "";
    const kind = /^\n+$/.test(shown) ? " line" : shown ? "" : " part"; // part of a character, or nothing to see
    const span = make("span", { class: `piece${i < this.nGiven ? " given" : ""}${kind}`, role: "button",
      tabindex: i ? -1 : 0, "aria-label": `${visible(this.tokenizer.name(id))}${chance}` }, shown);
    span.style.setProperty("--surprise", thought ? Math.min(1, -Math.log2(thought.probability) / 8) : 0);
    this.words.append(span);
    return span;
  }

  // Shade what the model looked at when it chose the newest token, or the selected one.
  shade() {
    const { text } = this, [layer, head] = this.heads.value.split(" ").map(Number);
    for (const span of this.spans) span.style.removeProperty("--look");
    if (!text?.kept || (this.selected !== null && !text.lookBefore(this.selected))) return;
    const weights = attention(this.model, layer, head);
    // Many heads rest on the first token: the others are measured among themselves.
    const top = weights.subarray(1).reduce((most, weight) => Math.max(most, weight), 1e-9);
    weights.forEach((weight, s) => {
      this.spans[text.start + s]?.style.setProperty("--look", Math.min(1, weight / top).toFixed(3));
    });
  }

  enable() {
    const { write, another, onward, stop } = this.buttons;
    onward.disabled = another.disabled = !this.text || this.writing;
    write.disabled = this.writing;
    stop.disabled = !this.writing;
  }

  follow() { // the newest line stays in sight, where the reader has not scrolled away from it
    const below = (this.spans.at(-1)?.getBoundingClientRect().bottom ?? 0) - innerHeight;
    if (below > 0 && below < 120) scrollBy(0, below + 60);
  }

  // Show what the token at `place` might have been.
  open(place) {
    if (place < 0) return;
    this.stop();
    this.select(place);
    const { text, tokenizer } = this, thought = text.guesses[place];
    const named = (id) => make("code", {}, visible(tokenizer.name(id)) || "nothing");
    const chance = thought ? ` ${percent(thought.probability)}` : "";
    const heading = make("h2", { tabindex: -1 }, named(text.ids[place]), chance);
    const close = make("button",
      { type: "button", class: "close", "aria-label": "Close", onclick: () => this.close() }, "×");
    const options = thought ? thought.ids.map((id, i) => this.option(place, id, thought.shares[i], named)) : [];
    const hint = thought ? "What the model thought could stand here. Choose one, and it goes on from there."
      : "The first token: the model had nothing to go by.";
    this.alternatives.replaceChildren(close, heading, make("p", { class: "faint" }, hint), ...options);
    this.alternatives.hidden = false;
    this.legend.hidden = true;
    (this.alternatives.querySelector(".option") || close).focus({ preventScroll: true });
    const hidden = this.spans[place].getBoundingClientRect().bottom - this.alternatives.getBoundingClientRect().top;
    if (getComputedStyle(this.alternatives.parentNode).position === "fixed" && hidden > 0) scrollBy(0, hidden + 30);
  }

  option(place, id, share, named) {
    const here = id === this.text.ids[place];
    const bar = make("span", { class: "bar" });
    bar.style.width = `${100 * share}%`;
    const option = make("button", { type: "button", class: "option", "aria-pressed": String(here),
      onclick: () => this.swap(place, id),
      onkeydown: (event) => step(event, this.alternatives.querySelectorAll(".option"), option) },
      named(id), make("span", { class: "share" }, percent(share)), bar);
    return option;
  }

  // Go on from another token in this place.
  swap(place, id) {
    if (!this.sound()) return;
    this.stop();
    this.text.swap(place, id);
    this.nGiven = Math.min(this.nGiven, place);
    this.clear();
    this.selected = null;
    const written = this.write();
    this.buttons.stop.focus({ preventScroll: true });
    return written;
  }

  select(place) {
    if (this.selected !== null) this.spans[this.selected]?.removeAttribute("aria-current");
    this.selected = place;
    if (place !== null) {
      this.spans[place].setAttribute("aria-current", "true");
      this.focusOn(this.spans[place]);
    }
    this.shade();
  }

  close() {
    const span = this.spans[this.selected];
    this.select(null);
    this.alternatives.hidden = true;
    this.legend.hidden = false;
    if (span && this.alternatives.contains(document.activeElement)) span.focus();
  }

  // One token at a time is reached by Tab, the others from it by the arrow keys.
  focusOn(span) {
    for (const other of this.words.querySelectorAll('[tabindex="0"]')) other.setAttribute("tabindex", -1);
    span.setAttribute("tabindex", 0);
  }

  move(event) {
    const span = document.activeElement;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.open(this.spans.indexOf(span));
    } else if (step(event, this.spans, span)) {
      this.focusOn(document.activeElement);
    }
  }
}

// Arrow keys, Home and End: the focus goes from `here` to another of `elements`. Whether it did.
function step(event, elements, here) {
  const all = [...elements], at = all.indexOf(here);
  const [before, after] = [at - 1, at + 1];
  const to = { ArrowRight: after, ArrowDown: after, ArrowLeft: before, ArrowUp: before, Home: 0, End: all.length - 1 }
    [event.key];
  if (to === undefined || !all[to]) return false;
  event.preventDefault();
  all[to].focus();
  return true;
}

// 705 thousand, 5.1 million
function amount(number) {
  if (number < 1e6) return number < 1e4 ? number.toLocaleString("en") : `${Math.round(number / 1e3)} thousand`;
  return `${(number / 1e6).toPrecision(number < 1e8 ? 2 : 3)} million`;
}

function listed(names) {
  const first = names.slice(0, 3).join(", ");
  return names.length > 3 ? `${first} and ${names.length - 3} more` : first;
}

function start() {
  const main = document.getElementById("glassgpt-model");
  try {
    const data = read("model"), weights = new Weights(data, read("weights"));
    return new Page(main, data, new GPTModel(weights, inCamelCase(data.config)), new Tokenizer(read("tokenizer")));
  } catch (error) {
    document.getElementById("broken").textContent = `This file is damaged. ${error.message} Ask for it again.`;
    return null;
  }
}

const opened = start();
