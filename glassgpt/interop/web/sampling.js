// From scores to a token, as glassgpt/generation/sampling.py does it: the same seed draws the same text.

// sampling: temperature (0: always the likeliest), topK (0: all), seed (BigInt). position: tokens of the text so far.
function choose(logits, { temperature, topK, seed }, position) {
  const highest = logits.reduce((top, score) => Math.max(top, score), -Infinity);
  if (!Number.isFinite(highest)) throw new Error("The model's scores are no numbers: its weights are damaged.");
  if (temperature === 0) return logits.indexOf(highest); // the lowest id, where several are equal
  const scores = Float64Array.from(logits, (score) => (score - highest) / temperature);
  const least = topK > 0 && topK < scores.length ? scores.slice().sort()[scores.length - topK] : -Infinity;
  const weights = scores.map((score) => (score >= least ? Math.exp(score) : 0));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  // Cut [0, 1) into pieces as long as the probabilities, in the order of ids, and see where the draw falls.
  const draw = uniform(seed, BigInt(position)) * total;
  let end = 0, last = 0;
  for (let id = 0; id < weights.length; id++) {
    if (weights[id] === 0) continue;
    end += weights[id];
    last = id;
    if (end > draw) break;
  }
  return last;
}

// softmax(logits), (V)
function probabilities(logits) {
  const highest = logits.reduce((top, score) => Math.max(top, score), -Infinity);
  const weights = Float64Array.from(logits, (score) => Math.exp(score - highest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

// The n likeliest of the ids, likeliest first; of equals the lower one.
function likeliest(shares, n) {
  const best = [];
  for (let id = 0; id < shares.length; id++) {
    if (best.length === n && shares[id] <= shares[best[n - 1]]) continue;
    let at = best.length;
    while (at > 0 && shares[best[at - 1]] < shares[id]) at--;
    best.splice(at, 0, id);
    best.length = Math.min(best.length, n);
  }
  return best;
}

// The draw in [0, 1) of (seed, position): the first number of Philox 4x64 with ten rounds (Salmon et al. 2011), as
// numpy counts it, for sequence number 0.
function uniform(seed, position) {
  const word = (value) => BigInt.asUintN(64, value);
  let counter = [word(position + 1n), 0n, 0n, 0n], key = [word(seed), 0n];
  for (let round = 0; round < 10; round++) {
    const a = counter[0] * 0xd2e7470ee14c6c93n, b = counter[2] * 0xca5a826395121157n;
    counter = [(b >> 64n) ^ counter[1] ^ key[0], word(b), (a >> 64n) ^ counter[3] ^ key[1], word(a)];
    key = [word(key[0] + 0x9e3779b97f4a7c15n), word(key[1] + 0xbb67ae8584caa73bn)];
  }
  return Number(counter[0] >> 11n) / 2 ** 53; // the 53 high bits
}
