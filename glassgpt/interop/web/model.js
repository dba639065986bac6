// The model of glassgpt/model.py, from top to bottom, for one token of one text at a time, as the native decoder
// computes it with weights in 8 bits. The letters:
//     H heads of the queries        K heads of keys and values    D width of one head   C embedding_dim
//     F inner width                 V vocab_size                  S positions seen
// Float32Array rounds what is put into it, so sums within a line are kept in more than 32 bits, and lines pass on 32.

// A matrix (N, K) in whole numbers: w = q * scale, a scale for each group of columns. q (N, K'), scales (N, K'/group).
const { fround } = Math;

class QuantizedMatrix {
  constructor(nRows, nColumns, group, q, scales) {
    Object.assign(this, { nRows, nColumns, group, q, scales });
    this.nGroups = Math.ceil(nColumns / group);
    this.rounded = new Int8Array(this.nGroups * group);
    this.roundedScales = new Float32Array(this.nGroups);
  }

  row(number) { // (K)
    const { q, scales, group, nGroups, nColumns } = this, first = number * nGroups;
    return new Float32Array(nColumns).map((_, j) => q[first * group + j] * scales[first + Math.floor(j / group)]);
  }

  // W x, (N). x is rounded to 8 bits too, each group with a scale of its own: within a group the sum is a whole number.
  multiply(x) {
    this.round(x);
    const { nRows, nGroups, group, q, scales, rounded, roundedScales } = this;
    const y = new Float32Array(nRows);
    for (let n = 0, at = 0, scaleAt = 0; n < nRows; n++) {
      let sum = 0;
      for (let g = 0, j = 0; g < nGroups; g++, scaleAt++) {
        let whole = 0;
        for (const end = j + group; j < end; j += 8, at += 8) { // both groups there are, 32 and 64, are eights
          whole = whole + q[at] * rounded[j] + q[at + 1] * rounded[j + 1] + q[at + 2] * rounded[j + 2]
            + q[at + 3] * rounded[j + 3] + q[at + 4] * rounded[j + 4] + q[at + 5] * rounded[j + 5]
            + q[at + 6] * rounded[j + 6] + q[at + 7] * rounded[j + 7] | 0;
        }
        sum = fround(whole * fround(scales[scaleAt] * roundedScales[g]) + sum);
      }
      y[n] = sum;
    }
    return y;
  }

  // x to the nearest whole numbers from -127 to 127, halves to the even one.
  round(x) {
    const shifter = 12582912; // 1.5 * 2^23: among 32-bit floats of this size only whole ones are left
    for (let g = 0; g < this.nGroups; g++) {
      const first = g * this.group, end = Math.min(first + this.group, x.length);
      let top = 0;
      for (let j = first; j < end; j++) top = Math.max(top, Math.abs(x[j]));
      const factor = top > 1e-30 ? fround(127 / top) : 0;
      this.roundedScales[g] = top > 1e-30 ? top / 127 : 0;
      for (let j = first; j < end; j++) this.rounded[j] = fround(x[j] * factor + shifter) - shifter;
    }
  }
}

class Linear {
  constructor(weight, bias) {
    Object.assign(this, { weight, bias });
  }

  // W x + bias, (K) -> (N); or added to `onto`, before the bias, since roundings depend on the order.
  forward(x, onto) {
    const product = this.weight.multiply(x), y = onto ? add(onto, product) : product;
    return this.bias ? add(y, this.bias) : y;
  }
}

function add(x, y) {
  return x.map((value, i) => value + y[i]);
}

// y = (x - mean) / sqrt(variance + eps) * scale + shift
class LayerNorm {
  constructor(scale, shift, eps) {
    Object.assign(this, { scale, shift, eps });
  }

  forward(x) {
    const mean = fround(sum(x) / x.length);
    const centred = x.map((value) => value - mean);
    const factor = inverseRoot(centred, this.eps);
    return centred.map((value, i) => fround(value * factor) * this.scale[i] + this.shift[i]);
  }
}

// y = x / sqrt(mean(x^2) + eps) * scale
class RMSNorm {
  constructor(scale, eps) {
    Object.assign(this, { scale, eps });
  }

  forward(x) {
    const factor = inverseRoot(x, this.eps);
    return x.map((value, i) => fround(value * factor) * this.scale[i]);
  }
}

// 1 / sqrt(mean(x^2) + eps)
function inverseRoot(x, eps) {
  const squares = sum(x, x);
  return fround(1 / fround(Math.sqrt(fround(fround(squares / x.length) + fround(eps)))));
}

// The sum of x, or of x y, in the order of a processor with vectors of 16: a lane for every 16th, what is left over to
// the first.
function sum(x, y) {
  const lanes = new Float32Array(16), whole = x.length - x.length % 16;
  for (let i = 0; i < x.length; i++) lanes[i < whole ? i % 16 : 0] += y ? x[i] * y[i] : x[i];
  let total = 0;
  for (let i = 0; i < 16; i++) total = fround(total + lanes[i]);
  return total;
}

// e^x as native/numbers.h computes it: x = n ln 2 + r, a polynomial in r, and n put into the exponent.
function exponential(x) {
  x = Math.min(Math.max(x, -87), 88);
  const n = fround(x * fround(1.44269504) + 12582912) - 12582912;
  const r = fround(n * fround(2.12194440e-4) + fround(x - n * 0.693359375));
  let p = COEFFICIENTS[0];
  for (let i = 1; i < COEFFICIENTS.length; i++) p = fround(p * r + COEFFICIENTS[i]);
  return fround(fround(fround(fround(p * r) * r + r) + 1) * 2 ** n);
}
const COEFFICIENTS = Float32Array.of(
  1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1);

function sigmoid(x) {
  return fround(1 / fround(1 + exponential(-x)));
}

// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
function gelu(x) {
  const cubed = fround(fround(fround(fround(0.044715) * x) * x) * x + x);
  const tanh = fround(1 - fround(2 / fround(exponential(2 * fround(fround(0.7978845608) * cubed)) + 1)));
  return fround(0.5 * x) * fround(1 + tanh);
}

class FeedForward {
  constructor(weights, place) {
    this.up = weights.linear(`${place}.up`);
    this.down = weights.linear(`${place}.down`);
  }

  forward(x, onto) {
    const inner = this.up.forward(x).map(gelu); // (F)
    return this.down.forward(inner, onto); // (C)
  }
}

class SwiGLU {
  constructor(weights, place) {
    this.gate = weights.linear(`${place}.gate`);
    this.up = weights.linear(`${place}.up`);
    this.down = weights.linear(`${place}.down`);
  }

  forward(x, onto) {
    const up = this.up.forward(x); // (F)
    const inner = this.gate.forward(x).map((gate, i) => fround(gate * sigmoid(gate)) * up[i]); // (F)
    return this.down.forward(inner, onto); // (C)
  }
}

class LearnedPositions {
  constructor(weight) {
    this.weight = weight;
  }

  forward(x, start) {
    return add(x, this.weight.subarray(start * x.length, (start + 1) * x.length)); // (C)
  }
}

// Turns feature i of a head, paired with i + D/2, by position * theta^(-2i / D). The cosines and sines (T, D / 2) lie
// in the file: not every browser computes them to the last bit alike.
class RotaryPositions {
  constructor(weights, config) {
    this.cos = weights.vector("rotary.cos");
    this.sin = weights.vector("rotary.sin");
    this.half = config.headDim / 2;
  }

  forward(x, start) {
    const y = new Float32Array(x.length), { half, cos, sin } = this;
    for (let i = 0, at = start * half; i < half; i++, at++) {
      y[i] = x[i] * cos[at] - fround(x[i + half] * sin[at]);
      y[i + half] = x[i + half] * cos[at] + fround(x[i] * sin[at]);
    }
    return y; // (D)
  }
}

const same = { forward: (x) => x }; // stands where the other architecture has its positions, or a norm

// Keys and values of one layer: those of position s begin at s * width. The caller keeps one for each layer.
class LayerCache {
  constructor(contextLength, width) {
    this.keys = new Float32Array(contextLength * width);
    this.values = new Float32Array(contextLength * width);
    this.width = width; // K D
    this.length = 0;
  }

  append(keys, values) {
    keys.forEach((key, head) => this.keys.set(key, this.length * this.width + head * key.length));
    this.values.set(values, this.length * this.width);
    this.length++;
  }
}

class MultiHeadAttention {
  constructor(weights, place, config) {
    this.query = weights.linear(`${place}.query`);
    this.key = weights.linear(`${place}.key`);
    this.value = weights.linear(`${place}.value`);
    this.outputProjection = weights.linear(`${place}.output_projection`);
    const norm = (name) =>
      (config.qkNorm ? new RMSNorm(weights.vector(`${place}.${name}.scale`), config.normEps) : same);
    this.queryNorm = norm("query_norm");
    this.keyNorm = norm("key_norm");
    this.rotary = config.architecture === "modern" ? new RotaryPositions(weights, config) : same;
    this.headDim = config.headDim;
    this.group = config.nHeads / config.nKvHeads; // query heads that share a head of keys and values
    this.weights = []; // of the last token: for each head, how much it looked at each position, (S)
  }

  forward(x, cache, onto) {
    const start = cache.length;
    const turned = (heads, norm) =>
      this.splitHeads(heads).map((head) => this.rotary.forward(norm.forward(head), start));
    const queries = turned(this.query.forward(x), this.queryNorm); // H of (D)
    const keys = turned(this.key.forward(x), this.keyNorm); // K of (D)
    cache.append(keys, this.value.forward(x)); // S positions, (K D) each

    const context = new Float32Array(queries.length * this.headDim); // (H D)
    this.weights = queries.map((query, h) => this.attend(query, cache, Math.floor(h / this.group) * this.headDim,
      context.subarray(h * this.headDim, (h + 1) * this.headDim)));
    return this.outputProjection.forward(context, onto); // (C)
  }

  splitHeads(x) {
    const { headDim } = this;
    return Array.from({ length: x.length / headDim }, (_, h) => x.subarray(h * headDim, (h + 1) * headDim));
  }

  // softmax(query keys / sqrt(D)) values, of the head that begins at `offset` of each position, into `context`.
  attend(query, cache, offset, context) {
    const { keys, values, width, length } = cache, d = this.headDim;
    const weights = new Float32Array(length); // (S)
    let top = -Infinity;
    for (let s = 0; s < length; s++) {
      let score = 0;
      for (let j = 0, at = s * width + offset; j < d; j++, at++) score = fround(query[j] * keys[at] + score);
      weights[s] = score;
      top = Math.max(top, weights[s]);
    }
    const scale = fround(1 / Math.sqrt(d));
    for (let s = 0; s < length; s++) weights[s] = exponential(fround(fround(weights[s] - top) * scale));
    const factor = fround(1 / sum(weights));
    for (let s = 0; s < length; s++) {
      for (let j = 0, at = s * width + offset; j < d; j++, at++) context[j] += weights[s] * values[at];
    }
    for (let j = 0; j < d; j++) context[j] *= factor;
    return weights.map((weight) => weight * factor);
  }
}

class TransformerBlock {
  constructor(weights, place, config) {
    this.attention = new MultiHeadAttention(weights, `${place}.attention`, config);
    this.feedForward = new (config.architecture === "modern" ? SwiGLU : FeedForward)(weights, `${place}.feed_forward`);
    this.attentionNorm = normLayer(weights, `${place}.attention_norm`, config);
    this.feedForwardNorm = normLayer(weights, `${place}.feed_forward_norm`, config);
  }

  forward(x, cache) {
    x = this.attention.forward(this.attentionNorm.forward(x), cache, x); // (C), x itself added: the shortcut
    return this.feedForward.forward(this.feedForwardNorm.forward(x), x); // (C)
  }
}

class GPTModel {
  constructor(weights, config) {
    this.config = config;
    const modern = config.architecture === "modern";
    this.tokenEmbedding = weights.matrix("token_embedding.weight");
    this.positionEmbedding = modern ? same : new LearnedPositions(weights.vector("position_embedding.weight"));
    const block = (_, layer) => new TransformerBlock(weights, `blocks.${layer}`, config);
    this.blocks = Array.from({ length: config.nLayers }, block);
    this.finalNorm = normLayer(weights, "final_norm", config);
    this.outputHead = config.tieEmbeddings ? new Linear(this.tokenEmbedding) : weights.linear("output_head");
  }

  // The next token of the text whose tokens so far `cache` holds -> a score for each token to come after it, (V).
  forward(id, cache) {
    return this.outputHead.forward(this.hidden(id, cache)); // (V)
  }

  hidden(id, cache) {
    let x = this.tokenEmbedding.row(id); // (C)
    x = this.positionEmbedding.forward(x, cache[0].length); // (C)
    this.blocks.forEach((block, layer) => { x = block.forward(x, cache[layer]); }); // (C)
    return this.finalNorm.forward(x); // (C)
  }

  makeCache() {
    const { nLayers, contextLength, nKvHeads, headDim } = this.config;
    return Array.from({ length: nLayers }, () => new LayerCache(contextLength, nKvHeads * headDim));
  }
}

function normLayer(weights, place, config) {
  const scale = weights.vector(`${place}.scale`);
  if (config.architecture === "modern") return new RMSNorm(scale, config.normEps);
  return new LayerNorm(scale, weights.vector(`${place}.shift`), config.normEps);
}

// The tensors in the bytes of the file by the names of the parameters in model.py. Throws where they are not as they
// were written.
class Weights {
  constructor(model, buffer) {
    let at = 0;
    const take = (Kind, length) => {
      if (at + length * Kind.BYTES_PER_ELEMENT > buffer.byteLength) throw new Error("The weights were cut short.");
      const taken = new Kind(buffer, at, length);
      at += taken.byteLength;
      return taken;
    };
    const { vectors, matrices, group } = model, nGroups = (columns) => Math.ceil(columns / group);
    const entries = Object.entries(matrices);
    this.vectors = new Map(Object.entries(vectors).map(([name, size]) => [name, take(Float32Array, size)]));
    const scales = entries.map(([, [rows, columns]]) => toFloats(take(Uint16Array, rows * nGroups(columns))));
    this.matrices = new Map(entries.map(([name, [rows, columns]], i) => [name,
      new QuantizedMatrix(rows, columns, group, take(Int8Array, rows * nGroups(columns) * group), scales[i])]));
    if (adler32(new Uint8Array(buffer)) !== model.adler32) throw new Error("The weights were altered on the way.");
  }

  matrix(name) {
    return this.matrices.get(name);
  }

  vector(name) {
    return this.vectors.get(name);
  }

  linear(place) {
    return new Linear(this.matrix(`${place}.weight`), this.vector(`${place}.bias`));
  }
}

// bfloat16 is the upper half of a float.
function toFloats(halves) {
  return new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
}

function adler32(bytes) {
  let a = 1, b = 0;
  for (let at = 0; at < bytes.length;) {
    for (const end = Math.min(at + 5552, bytes.length); at < end; at++) b += a += bytes[at]; // below 2^53 by far
    a %= 65521, b %= 65521;
  }
  return b * 65536 + a;
}

// embedding_dim -> embeddingDim
function inCamelCase(config) {
  return Object.fromEntries(Object.entries(config).map(([name, value]) =>
    [name.replace(/_(.)/g, (_, letter) => letter.toUpperCase()), value]));
}
