// The strips of a hit, one cell a method or a block, and their tooltips: on hover, on tap, and with the arrow keys.
const walkable = (box, label) => {
  box.tabIndex = 0;
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", label);
};

// Colour of a rank: the nearer to the top (blue) or the bottom (orange), on a log scale, the stronger.
const tint = (rank) => {
  const n = Math.log(Math.max(2, data.n_train));
  const top = 1 - Math.log(rank) / n;
  const bottom = 1 - Math.log(data.n_train - rank + 1) / n;
  const strength = Math.round(55 * Math.max(top, bottom) ** 1.5);
  return `color-mix(in srgb, var(${top >= bottom ? "--pos" : "--neg"}) ${strength}%, var(--sunk))`;
};
const rankStrip = (arrays, place, others) => {
  const strip = make("div", "strip");
  const size = arrays.rows.length;
  const said = [];
  const boxes = new Map();
  for (const m of others) {
    const method = methods[m];
    if (!boxes.has(method.name)) {
      const fam = make("div", "fam");
      fam.append(make("b", "", method.name));
      boxes.set(method.name, fam.appendChild(make("div", "row")));
      strip.append(fam);
    }
    const rank = arrays.ranks[m * size + place];
    const cell = make("span", "", short(rank));
    cell.style.background = tint(rank);
    cell.dataset.tip = `${method.label}: rank ${whole(rank)} of ${whole(data.n_train)}`;
    said.push(`${method.label} ${rank}`);
    boxes.get(method.name).append(cell);
  }
  walkable(strip, `Rank under the other methods: ${said.join(", ")}`);
  return strip;
};
const blockBars = (arrays, slot, unit) => {
  const box = make("div", "blocks");
  const cells = make("div", "cells");
  const shares = arrays.shares.subarray(slot * blocks.length, (slot + 1) * blocks.length);
  const most = Math.max(1, ...shares.map(Math.abs));
  let first = 0;
  shares.forEach((share, b) => {
    if (Math.abs(share) > Math.abs(shares[first])) first = b;
    const cell = make("span");
    const bar = make("i", sign(share));
    bar.style.height = `${(50 * Math.abs(share) / most).toFixed(1)}%`;
    cell.append(bar);
    cell.dataset.tip = `${blocks[b]}: ${signed(share * arrays.whole[slot] / 1000)} ${unit} (${percent(share)})`;
    cells.append(cell);
  });
  const said = `By ${data.by_layer ? "layer" : "block"}; largest: ${blocks[first]} ${percent(shares[first])}`;
  walkable(cells, said);
  box.append(cells, make("span", "", said));
  return box;
};

const hideTip = () => {
  $("tip").hidden = true;
  document.querySelector(".on")?.classList.remove("on");
};
const showTip = (cell) => {
  hideTip();
  cell.classList.add("on");
  const tip = $("tip");
  tip.textContent = cell.dataset.tip;
  tip.hidden = false;
  const at = cell.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(at.left + at.width / 2 - tip.offsetWidth / 2, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${at.top > tip.offsetHeight + 8 ? at.top - tip.offsetHeight - 6 : at.bottom + 6}px`;
};
for (const kind of ["pointerover", "click"]) document.addEventListener(kind, (event) => {
  const cell = event.target.closest?.("[data-tip]");
  if (cell) showTip(cell); else hideTip();
});
document.addEventListener("focusout", hideTip);
document.addEventListener("scroll", hideTip, { passive: true });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const cells = by && event.target.getAttribute?.("role") === "img" ? [...event.target.querySelectorAll("[data-tip]")] : [];
  if (!cells.length) return;
  event.preventDefault();
  const at = cells.findIndex((cell) => cell.classList.contains("on"));
  showTip(cells[at < 0 ? 0 : (at + by + cells.length) % cells.length]);
});
