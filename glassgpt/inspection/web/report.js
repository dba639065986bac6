// The report of a run. Each function of `sections` fills the section of its name from the values that Python gathered,
// or says that there is nothing to show, and the section goes.
{
  const report = read("report");
  const NS = "http://www.w3.org/2000/svg";
  const ENOUGH = 400; // characters of writing, from which on it is said how much was copied
  const GAP = 0.3; // bits per byte; less of it is the difference between one part of a text and another
  const grouped = (n) => Math.round(n).toLocaleString("en-US");

  function draw(tag, attributes = {}, ...children) {
    const element = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // 812, 8,120, 812 k, 8.12 M.
  function count(n) {
    for (const [unit, size] of [["B", 1e9], ["M", 1e6], ["k", 1e3]])
      if (n >= size * (unit === "k" ? 100 : 1)) return `${Number((n / size).toPrecision(3))} ${unit}`;
    return grouped(n);
  }

  function bytes(n) {
    for (const [unit, size] of [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
      if (n >= size) return `${Number((n / size).toPrecision(3))} ${unit}`;
    return `${n} B`;
  }

  // 1 layer, 2 layers.
  const numbered = (n, what) => `${grouped(n)} ${what}${n === 1 ? "" : "s"}`;

  function duration(seconds) {
    if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
    const whole = Math.round(seconds);
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
    return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
  }

  const paragraph = (text, faint = false) => make("p", faint ? { class: "faint" } : {}, text);

  function table(heads, rows, numbers = []) {
    const kind = (at) => (numbers.includes(at) ? { class: "number" } : {});
    const row = (cells, tag) => make("tr", {}, ...cells.map((cell, at) => make(tag, kind(at), cell)));
    const body = make("tbody", {}, ...rows.map((cells) => row(cells, "td")));
    return make("div", { class: "wide" }, make("table", {}, make("thead", {}, row(heads, "th")), body));
  }

  function bar(share) {
    const element = make("span", { class: "bar" });
    element.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    return element;
  }

  function bars(rows) {
    const lines = rows.map(([name, amount, share]) =>
      make("tr", {}, make("td", {}, name), make("td", { class: "number" }, amount),
        make("td", {}, share === null ? "" : bar(share))));
    return make("table", { class: "bars" }, make("tbody", {}, ...lines));
  }

  // The head: what it is in one sentence, and six figures, of a run that came to its end.
  function head() {
    const { model, measured, text, curve } = report;
    const words = `${model.architecture === "gpt2" ? "A GPT-2" : "A GPT"} of ${numbered(model.n_layers, "layer")}, ` +
      `${model.embedding_dim} wide, with ${numbered(model.n_heads, "head")} and a context of ` +
      `${model.context_length} tokens, ` +
      `trained on ${text.sources.join(", ")} (${grouped(text.characters)} characters)` +
      (measured.seconds == null ? ". No report.json tells what was measured at its end."
        : ` for ${duration(measured.seconds)}.`);
    const times = measured.tokens / Math.max(1, text.train_tokens);
    const figures = [
      [report.plan.parameters.total, count, "parameters"],
      [measured.bits_per_byte, (n) => n.toFixed(3), "bits per byte of text it has not seen"],
      [measured.seconds, duration, measured.steps == null ? "in all" : `${grouped(measured.steps)} steps`],
      [measured.tokens, count, `tokens, ${times.toFixed(1)} times the text`],
      [measured.tokens_per_s, (n) => `${count(n)}/s`, "tokens while it trained"],
      [measured.memory_bytes, bytes, "of memory at its peak"],
    ].filter(([figure]) => figure != null).map(([figure, say, name]) => [say(figure), name]);
    const list = figures.map(([figure, name]) =>
      make("li", { class: "card" }, make("b", {}, figure), make("span", {}, name)));
    const links = [...document.querySelectorAll("main > section")].map((section) =>
      make("a", { href: `#${section.id}` }, section.querySelector("h2").textContent));
    document.getElementById("head").append(
      paragraph(words), make("ul", { class: "figures" }, ...list), make("nav", { class: "contents" }, ...links));
  }

  function measured(section) {
    const { predicted, measured } = report;
    const rows = [
      ["time", "seconds", duration], ["steps", "steps", grouped], ["tokens a second", "tokens_per_s", count],
      ["bits per byte", "bits_per_byte", (n) => n.toFixed(3)], ["memory, at its peak", "memory_bytes", bytes],
      ["checkpoint", "checkpoint_bytes", bytes], ["parameters", "parameters", grouped],
    ];
    const lines = rows.filter(([, key]) => measured[key] != null).map(([name, key, say]) => {
      if (!predicted[key]) return [name, "–", say(measured[key]), "not foreseen"];
      const off = measured[key] / predicted[key] - 1;
      const words = Math.abs(off) < 0.0005 ? "exact" : `${off > 0 ? "+" : "−"}${(100 * Math.abs(off)).toFixed(1)} %`;
      return [name, say(predicted[key]), say(measured[key]),
        make("span", { class: Math.abs(off) <= 0.15 ? "hit" : "miss" }, words)];
    });
    if (!lines.length) return false;
    section.append(
      paragraph("Before the first step the run said what it would take. This is what came of it."),
      table(["", "predicted", "measured", "off by"], lines, [1, 2, 3]));
  }

  // Round numbers that divide a range in about five.
  function marks(low, high) {
    const span = Math.max(1e-9, high - low);
    const power = 10 ** Math.floor(Math.log10(span / 5));
    const step = power * [1, 2, 5, 10].find((size) => span / (power * size) <= 5);
    const found = [];
    for (let at = Math.ceil(low / step); at * step <= high + 1e-9; at++) found.push(Number((at * step).toPrecision(6)));
    return found;
  }

  // A chart of lines [{points: [[x, y]], kind}] and levels [{y, name}], with a readout of what is under the pointer.
  function chart(lines, levels, { logarithmic = false, describe = null, label }) {
    const [width, height] = innerWidth < 640 ? [400, 260] : [760, 320]; // the same type on a phone
    const [left, right, top, bottom] = [48, 12, 12, 28];
    const scale = logarithmic ? Math.log10 : (n) => n;
    const points = lines.flatMap((line) => line.points);
    const xs = points.map(([x]) => scale(x));
    const ys = [...points.map(([, y]) => y), ...levels.map(({ y }) => y)].map(scale);
    const smallest = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
    const largest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
    const [x0, x1] = [smallest(xs), largest(xs)];
    const margin = 0.04 * (largest(ys) - smallest(ys)) || 0.1;
    const [y0, y1] = [smallest(ys) - margin, largest(ys) + margin];
    const x = (value) => left + ((width - left - right) * (scale(value) - x0)) / (x1 - x0 || 1);
    const y = (value) => top + ((height - top - bottom) * (y1 - scale(value))) / (y1 - y0);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": label });
    const back = (mark) => (logarithmic ? 10 ** mark : mark);
    const say = (mark) => (logarithmic ? count(back(mark)) : mark.toLocaleString("en-US"));
    const whole = (mark) => !logarithmic || Number.isInteger(mark);
    for (const mark of marks(y0, y1).filter(whole))
      svg.append(
        draw("line", { class: "grid", x1: left, x2: width - right, y1: y(back(mark)), y2: y(back(mark)) }),
        draw("text", { class: "tick", x: left - 6, y: y(back(mark)) + 4, "text-anchor": "end" }, say(mark)));
    for (const mark of marks(x0, x1).filter(whole))
      svg.append(draw("text", { class: "tick", x: x(back(mark)), y: height - 8, "text-anchor": "middle" }, say(mark)));
    for (const { y: at, name } of levels)
      svg.append(
        draw("line", { class: "level", x1: left, x2: width - right, y1: y(at), y2: y(at) }),
        draw("text", { class: "tick", x: width - right - 4, y: y(at) - 5, "text-anchor": "end" }, name));
    for (const { points: line, kind } of lines) {
      const places = line.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`);
      svg.append(draw("polyline", { class: kind, points: places.join(" ") }));
      if (kind === "second") for (const [a, b] of line) svg.append(draw("circle", { cx: x(a), cy: y(b), r: 3.5 }));
    }
    if (!describe) return [svg];
    const cursor = draw("line", { class: "cursor", x1: -9, x2: -9, y1: top, y2: height - bottom });
    const readout = make("div", { class: "readout faint" }, describe(null));
    svg.append(cursor);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * width;
      const nearest = lines[0].points.reduce((best, point) =>
        Math.abs(x(point[0]) - at) < Math.abs(x(best[0]) - at) ? point : best);
      cursor.setAttribute("x1", x(nearest[0]));
      cursor.setAttribute("x2", x(nearest[0]));
      readout.textContent = describe(nearest[0]);
    });
    return [svg, readout];
  }

  // Each value the mean of itself and those before it, which count less and less.
  function smoothed(points) {
    let mean = null;
    const kept = 1 - 1 / Math.max(1, points.length / 80);
    return points.map(([x, y]) => [x, (mean = mean === null ? y : kept * mean + (1 - kept) * y)]);
  }

  // A line's colour and its name, which stay together.
  const key = (kind, name) => make("span", { class: "together" }, make("span", { class: `key ${kind}` }), name);

  function learning(section) {
    const { training, validation } = report.curve;
    if (training.length < 2) return false;
    const smooth = smoothed(training);
    const nearest = (points, step) => points.reduce((best, point) =>
      Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best);
    const describe = (step) => {
      if (step === null) return "Point at the curve to read it.";
      const seen = validation.filter(([at]) => at <= step).at(-1);
      return `step ${grouped(step)}: ${nearest(smooth, step)[1].toFixed(3)} bits per byte on the training text` +
        (seen ? `, ${seen[1].toFixed(3)} on text not seen (step ${grouped(seen[0])})` : "");
    };
    const grams = Object.entries(report.measured.ngrams ?? {}).filter(([, value]) => value != null);
    const levels = grams.map(([n, value]) => ({ y: value, name: `${n}-gram model ${value.toFixed(2)}` }));
    const lines = [
      { points: smooth, kind: "first" }, { points: training, kind: "first pale" },
      { points: validation, kind: "second" },
    ];
    const score = report.measured.bits_per_byte, fitted = smooth.at(-1)[1];
    section.append(
      make("p", {}, "Bits per byte: how many bits the model needs to say a byte of text. ",
        key("first", "training text,"), " ", key("second", "text not seen"),
        ...(levels.length ? [", ", key("level", "what counting"), " n-grams of the same text reaches"] : []), "."),
      ...chart(lines, levels, { describe, label: "bits per byte over steps" }));
    if (score != null) section.append(paragraph(
      `At the end it needs ${fitted.toFixed(2)} bits for a byte of the training text, and its best checkpoint ` +
      `${score.toFixed(2)} for one of all the text that it has not seen (the dots may be of a part of it)` +
      (score - fitted > GAP ? `: ${(score - fitted).toFixed(2)} more. It knows some of its text by heart.` : "."), true));
  }

  function samples(section) {
    const list = report.samples;
    if (!list.length) return false;
    const text = make("pre", { class: "sample card" }), title = make("span", { class: "faint" });
    const show = (at) => {
      const { step, bits_per_byte: score, text: written } = list[at];
      title.textContent = `step ${grouped(step)}, ${score.toFixed(3)} bits per byte`;
      text.textContent = written;
    };
    const slider = make("input", { type: "range", min: 0, max: list.length - 1, value: list.length - 1,
      "aria-label": "evaluation", oninput: (event) => show(Number(event.target.value)) });
    show(list.length - 1);
    section.append(
      paragraph(list.length > 1 ? "A sample from each evaluation, always drawn with the same seed. Slide to see it learn."
        : "A sample from the only evaluation."),
      make("div", { class: "slide" }, ...(list.length > 1 ? [slider] : []), title), text);
  }

  function writing(section) {
    const { texts, copied, validation } = report.writing;
    if (!texts.length) return false;
    const shares = (found) => Object.fromEntries(found.shares);
    const [ours, theirs] = [shares(copied), shares(validation)];
    const part = copied.n_searched / Math.max(1, report.text.train_characters);
    const longest = copied.longest[0];
    const searched = `${grouped(copied.n_characters)} characters were written (temperature 0.8) and looked for in ` +
      `${part > 0.999 ? "all" : percent(part)} of the training text.`;
    const few = copied.n_characters < ENOUGH;
    section.append(few
      ? paragraph(`${searched} That is too little to say how much it copies.`)
      : make("p", {}, make("b", {}, `${percent(ours[50])} of what it wrote `),
        "stands word for word in its training text, in passages of 50 characters or more. Of the validation text, " +
        `which a person wrote, it is ${percent(theirs[50])}. `, longest
          ? `The longest copy has ${grouped(longest.text.length)} characters.`
          : "Nothing of 25 characters or more was copied."));
    if (!few) section.append(
      table(["passages of at least", "the model", "the validation text"], Object.keys(ours).map((least) =>
        [`${least} characters`, percent(ours[least]), percent(theirs[least])]), [1, 2]),
      paragraph(searched, true));
    const shown = make("pre", { class: "sample card" });
    const title = make("span", { class: "faint" });
    const show = (at) => {
      title.textContent = `text ${at + 1} of ${texts.length}; `;
      title.append(make("mark", {}, "25 characters"), " or ", make("mark", { class: "long" }, "50 and more"),
        " in one piece are marked");
      shown.replaceChildren(...highlighted(texts[at], copied.passages.filter(([output]) => output === at)));
    };
    const next = make("button", { onclick: () => show((at = (at + 1) % texts.length)) }, "Another text");
    let at = 0;
    show(at);
    section.append(make("div", { class: "slide" }, ...(texts.length > 1 ? [next] : []), title), shown);
    if (!copied.longest.length) return;
    const about = ({ source, text }) =>
      `characters ${grouped(source)} to ${grouped(source + text.length)} of the training text`;
    section.append(make("h3", {}, "The longest copies, where they come from"),
      make("div", { class: "copies" }, ...copied.longest.map((copy) => make("blockquote", {},
        make("div", { class: "faint" }, `${copy.text.length} characters; ${about(copy)}`),
        `…${copy.before}`, make("mark", { class: copy.text.length >= 50 ? "long" : "" }, copy.text),
        `${copy.after}…`))));
  }

  // Python counts characters, JavaScript units of 16 bits: an emoji is one there and two here.
  function highlighted(text, passages) {
    const signs = Array.from(text);
    const cut = (start, end) => signs.slice(start, end).join("");
    const parts = [];
    let at = 0;
    for (const [, start, end] of passages) {
      parts.push(cut(at, start), make("mark", { class: end - start >= 50 ? "long" : "" }, cut(start, end)));
      at = end;
    }
    return [...parts, cut(at)];
  }

  function inside(section) {
    if (!document.getElementById("xray")) return false;
    const place = make("div");
    const what = report.looked_at === "written" ? "the first text above" : "the validation text";
    section.append(paragraph(`What the model does with the beginning of ${what}.`), place);
    showXray(place, read("xray"), read("xray-attention"));
  }

  // One picture a measure: a row a block, a column an evaluation.
  function health(section) {
    const lines = report.health ?? [];
    const measures = [
      ["gradient_norm", "Norm of the gradient", "how strongly each block is told to change"],
      ["activation_norm", "Size of the activations", "of the residual stream behind each block"],
      ["update_ratio", "Update to weight",
        "what a step changes, as a share of the weights; it falls with the learning rate"],
      ["dead_units", "Dead units", "of the feed-forward, which were silent for every token"],
    ];
    const strips = measures.map(([key, name, what]) => strip(lines, key, name, what)).filter(Boolean);
    if (!strips.length) return false;
    section.append(
      paragraph("A row is a block, the first at the top; a column is an evaluation, from the first to the last. " +
        "The stronger the colour, the more."),
      make("div", { class: "strips" }, ...strips));
  }

  function strip(lines, key, name, what) {
    const rows = lines[0]?.layers?.map((_, layer) => lines.map((line) => line.layers[layer]?.[key])) ?? [];
    const values = rows.flat().filter(Number.isFinite);
    if (!values.length) return null;
    const most = values.reduce((a, b) => Math.max(a, b), 0);
    const grid = make("div", { class: "strip" });
    grid.style.gridTemplateColumns = `repeat(${lines.length}, minmax(0, 3rem))`;
    rows.forEach((row, layer) => row.forEach((value, at) => {
      const said = value == null ? "no number" : Number(value.toPrecision(3));
      const cell = make("i", { title: `block ${layer}, step ${grouped(lines[at].step)}: ${said}` });
      cell.style.opacity = 0.08 + 0.92 * (most ? (value ?? 0) / most : 0);
      grid.append(cell);
    }));
    const words = `${what}; at most ${Number(most.toPrecision(3))}`;
    return make("div", { class: "card" }, make("b", {}, name), make("div", { class: "faint" }, words), grid);
  }

  function tokens(section) {
    const { tokens: found, text } = report;
    const each = text.bytes / Math.max(1, text.train_tokens + text.val_tokens);
    const unused = found.vocab_size - found.used;
    const list = (rows) => make("ul", { class: "pieces" }, ...rows.map(([piece, times]) =>
      make("li", { title: `${grouped(times)} times` }, visible(piece),
        make("small", {}, percent(times / found.counted)))));
    const columns = [
      make("div", {}, make("h3", {}, "The most frequent"), list(found.frequent)),
      make("div", {}, make("h3", {}, "The longest"), list(found.long)),
    ];
    section.append(
      paragraph(`The tokenizer (${text.tokenizer}) knows ${grouped(found.vocab_size)} tokens; a token holds ` +
        `${each.toFixed(2)} bytes of this text on average. ` +
        (unused ? `${grouped(unused)} of them (${percent(unused / found.vocab_size)}) do not stand in the training text` +
          (text.tokenizer === "gpt2" ? "." : "; all 256 bytes are kept, so that any text can be said.")
          : "All of them stand in the training text.")),
      make("div", { class: "two" }, ...columns));
    if (found.ranks.length > 2) section.append(
      make("h3", {}, "How often, by rank"),
      paragraph("In a human language the second token is about half as frequent as the first, the third a third as " +
        "frequent: a straight line here (Zipf's law).", true),
      ...chart([{ points: found.ranks, kind: "first" }], [], { logarithmic: true, label: "frequency of the tokens by rank",
        describe: (rank) => (rank === null ? "Point at the curve to read it." :
          `rank ${grouped(rank)}: ${grouped(found.ranks.find(([at]) => at === rank)[1])} times`) }));
  }

  function sizes(section) {
    const { plan } = report;
    const total = plan.parameters.total;
    const parts = Object.entries(plan.parameters.by_component).filter(([, n]) => n);
    const stored = Object.entries(plan.bytes), memory = Object.entries(plan.training_memory_by_part);
    section.append(make("div", { class: "two" },
      make("div", {}, make("h3", {}, "Parameters"),
        bars(parts.map(([name, n]) => [name.replaceAll("_", " "), grouped(n), n / total]))),
      make("div", {}, make("h3", {}, "The weights, stored"),
        bars(stored.map(([name, n]) => [name, bytes(n), n / plan.bytes.fp32]))),
      make("div", {}, make("h3", {}, "Memory to train it"),
        bars(memory.map(([name, n]) => [name, bytes(n), n / plan.training_memory_bytes]))),
      make("div", {}, make("h3", {}, "A token costs"),
        bars([["forward", `${count(plan.flops_per_token.forward)} FLOP`, null],
          ["and backward", `${count(plan.flops_per_token.backward)} FLOP`, null],
          ["in the cache", bytes(plan.cache_bytes_per_token), null]]))));
  }

  function doctor(section) {
    const findings = report.findings;
    if (!findings) return false;
    if (!findings.length) section.append(paragraph("Nothing looks wrong."));
    for (const { what, evidence, do: advice } of findings)
      section.append(make("h3", {}, what), paragraph(evidence), paragraph(advice, true));
  }

  const sections = { measured, learning, samples, writing, inside, health, tokens, sizes, doctor };
  for (const [name, fill] of Object.entries(sections)) {
    const section = document.getElementById(name);
    if (fill(section) === false) section.remove();
  }
  head();
  document.getElementById("foot").append(paragraph(
    `GlassGPT ${report.about.version}. Everything is in this file; it asks no server for anything. It quotes the text ` +
    "that the model was trained on.", true));
}
