"use strict";
// The page's data, unpacked, and how its numbers and texts are shown. The first of the scripts in page.py: they are
// one <script> and see each other's names; each uses those before it. All text goes in through textContent.
const data = JSON.parse(document.getElementById("data").textContent);
const { methods, hits, blocks } = data;

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const unpack = (text, Type) => new Type(bytes(text).buffer);
const unpackBits = (text, largest, count) => {
  const from = bytes(text);
  const width = 32 - Math.clz32(largest);
  return Uint32Array.from({ length: count }, (_, i) => {
    let value = 0;
    for (let bit = i * width; bit < (i + 1) * width; bit++) value = 2 * value + (from[bit >> 3] >> (7 - bit % 8) & 1);
    return value;
  });
};
const open = (query) => {
  query.arrays ??= {
    rows: unpackBits(query.rows, data.n_train, query.size),
    ranks: unpackBits(query.ranks, data.n_train, methods.length * query.size),
    lists: unpackBits(query.lists, query.size, methods.length * 2 * hits),
    scores: unpack(query.scores, Float32Array),
    shares: query.shares === undefined ? null : unpack(query.shares, Int16Array),
    whole: query.whole === undefined ? null : unpack(query.whole, Float32Array),
  };
  return query.arrays;
};

const $ = (id) => document.getElementById(id);
const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
};

// Numbers: sign always, four significant digits, a real minus sign.
const signed = (x) => {
  const size = Math.abs(x);
  const digits = size === 0 ? "0" : size >= 1e-4 && size < 1e6
    ? size.toLocaleString("en", { minimumSignificantDigits: 4, maximumSignificantDigits: 4, useGrouping: false })
    : size.toExponential(3).replace("-", "−").replace("+", "");
  return (x > 0 ? "+" : x < 0 ? "−" : "") + digits;
};
const short = (rank) => rank < 1000 ? String(rank) : rank < 10000 ? (rank / 1000).toFixed(1) + "k"
  : rank < 1e6 ? Math.round(rank / 1000) + "k" : (rank / 1e6).toFixed(1) + "M";
const whole = (n) => n.toLocaleString("en");
const sign = (x) => x > 0 ? "pos" : x < 0 ? "neg" : "";
const percent = (share) => `${share > 0 ? "+" : share < 0 ? "−" : ""}${(Math.abs(share) / 10).toFixed(1)} %`;

const passage = (example) => {
  const box = make("div", "text");
  for (const part of ["prompt", "response"]) {
    const [text, cut] = example[part];
    if (!text) continue;
    const span = make("span", part, text.trim());
    if (cut) span.append(make("span", "cut", ` … ${whole(cut)} more characters`));
    box.append(span);
  }
  return box;
};
const chip = (group, same) => {
  const node = make("span", same ? "chip same" : "chip", group);
  if (same) node.title = "the query's group";
  return node;
};
const cutText = ([text, cut]) => cut ? `${text} … ${whole(cut)} more characters` : text;
