// Byte-level BPE with GPT-2's splitting pattern, as glassgpt/text/tokenizer.py has it. Bytes are kept in strings, the
// byte n as the character n: JavaScript finds those in a Map.

// \p{White_Space} and not \s, which here counts U+FEFF as white space and not U+0085.
const SPLIT = new RegExp([
  /'(?:[sdmt]|ll|ve|re)/u, / ?\p{L}+/u, / ?\p{N}+/u, / ?[^\p{White_Space}\p{L}\p{N}]+/u,
  /\p{White_Space}+$/u, /\p{White_Space}+(?!\P{White_Space})/u, /\p{White_Space}/u,
].map((part) => part.source).join("|"), "gu");

class Tokenizer {
  constructor({ pieces, merged, special, end_of_text }) {
    const byteOf = byteAlphabet();
    this.pieces = pieces.split(" ").map((letters) => letters.replace(/./gsu, (letter) => byteOf.get(letter)));
    this.rank = new Map(); // of the pieces that merges make: the lowest is merged first
    this.idOf = new Map();
    this.special = new Set(Object.values(special));
    this.pieces.forEach((piece, id) => { if (piece.length === 1) this.idOf.set(piece, id); });
    merged.forEach((id, rank) => {
      this.rank.set(this.pieces[id], rank);
      this.idOf.set(this.pieces[id], id);
    });
    for (const [name, id] of Object.entries(special)) this.pieces[id] = toBytes(name);
    this.endOfText = end_of_text;
    this.vocabSize = this.pieces.length;
  }

  // The ids of a text. A lone surrogate is read as U+FFFD.
  encode(text) {
    return (text.match(SPLIT) || []).flatMap((word) => this.merge(toBytes(word)));
  }

  // The ids of one word: its bytes, neighbours merged, the most important merge first, until none applies.
  merge(word) {
    if (this.idOf.has(word)) return [this.idOf.get(word)];
    const parts = [...word];
    while (parts.length > 1) {
      let best = Infinity, place = 0;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.rank.get(parts[i] + parts[i + 1]) ?? Infinity;
        if (rank < best) best = rank, place = i;
      }
      if (best === Infinity) break;
      parts.splice(place, 2, parts[place] + parts[place + 1]);
    }
    return parts.map((part) => this.idOf.get(part));
  }

  // The bytes of one token; of a special token, its name; none of an id that only fills up the model's vocabulary.
  piece(id) {
    return Uint8Array.from(this.pieces[id] ?? "", (byte) => byte.charCodeAt(0));
  }

  // The text of each id. A token that ends inside a character gives "", the one that completes it gives all of it.
  texts(ids) {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return ids.map((id) => decoder.decode(this.piece(id), { stream: true }));
  }

  decode(ids) {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return ids.map((id) => decoder.decode(this.piece(id), { stream: true })).join("") + decoder.decode();
  }

  // The text of one token alone; bytes that are only a part of a character as \xe2.
  name(id) {
    const bytes = this.piece(id);
    try {
      return new TextDecoder("utf-8", { ignoreBOM: true, fatal: true }).decode(bytes);
    } catch {
      return Array.from(bytes, (byte) => (byte < 128 ? String.fromCharCode(byte) : `\\x${byte.toString(16)}`)).join("");
    }
  }
}

function toBytes(text) {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
}

// GPT-2's alphabet of glassgpt/text/alphabet.py: what Latin-1 prints stands for itself, the others from U+0100 on.
function byteAlphabet() {
  const letters = new Map();
  for (let byte = 0, others = 0; byte < 256; byte++) {
    const printed = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    letters.set(String.fromCharCode(printed ? byte : 0x100 + others++), String.fromCharCode(byte));
  }
  return letters;
}
