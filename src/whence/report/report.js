"use strict";
// The explorer: choose a query and a method, read its hits. All text goes in through textContent.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const { methods, hits, blocks } = data;
  const state = { q: 0, m: data.headline, every: false, found: data.queries.map((_, i) => i) };

  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };
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

  // ---- one hit -----------------------------------------------------------------------------------------------
  // Colour of a rank: the nearer to the top (blue) or the bottom (orange), on a log scale, the stronger.
  const tint = (rank) => {
    const n = Math.log(Math.max(2, data.n_train));
    const top = 1 - Math.log(rank) / n;
    const bottom = 1 - Math.log(data.n_train - rank + 1) / n;
    const strength = Math.round(55 * Math.max(top, bottom) ** 1.5);
    return `color-mix(in srgb, var(${top >= bottom ? "--pos" : "--neg"}) ${strength}%, var(--sunk))`;
  };
  // The methods whose ranks stand beside the shown one's: one a family (its default damping), or every one.
  const compared = () => methods.map((_, m) => m).filter((m) => m !== state.m
    && (state.every || methods[m].default && methods[m].family !== methods[state.m].family));
  const rankStrip = (arrays, place) => {
    const strip = make("div", "strip");
    const size = arrays.rows.length;
    const said = [];
    const boxes = new Map();
    for (const m of compared()) {
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
  const percent = (share) => `${share > 0 ? "+" : share < 0 ? "−" : ""}${(Math.abs(share) / 10).toFixed(1)} %`;

  const hit = (query, slot, largest) => {
    const arrays = open(query);
    const method = methods[state.m];
    const place = arrays.lists[state.m * 2 * hits + slot];
    const score = arrays.scores[state.m * 2 * hits + slot];
    const row = arrays.rows[place];
    const example = data.train[row];
    const item = make("li", "hit");
    item.dataset.row = row;
    const head = make("div", "hit-head");
    const number = make("span", `score ${sign(score)}`, signed(score));
    number.append(make("small", "", method.unit && ` ${method.unit}`));
    head.append(make("span", "place", `${slot % hits + 1}`), number);
    if (example.group !== null) head.append(chip(example.group, example.group === query.group));
    if (example.truncated) head.append(make("span", "cut", "cut to the maximum length in training"));
    head.append(make("span", "id", example.id === String(row) ? `row ${row}` : `row ${row} · ${example.id}`));
    const meter = make("div", "meter");
    const level = make("i", sign(score));
    level.style.width = `${(100 * Math.abs(score) / largest).toFixed(1)}%`;
    meter.append(level);
    item.append(head, meter, passage(example));
    if (compared().length) item.append(rankStrip(arrays, place));
    if (arrays.shares && state.m === data.headline) item.append(blockBars(arrays, slot, method.unit));
    return item;
  };
  const foldLong = (list) => {
    for (const text of list.querySelectorAll(".text")) {
      if (text.scrollHeight <= text.clientHeight + 4) continue;
      text.classList.add("long");
      const more = make("button", "more", "Show all");
      more.type = "button";
      more.setAttribute("aria-expanded", "false");
      more.addEventListener("click", () => {
        const opened = text.classList.toggle("open");
        more.textContent = opened ? "Show less" : "Show all";
        more.setAttribute("aria-expanded", String(opened));
      });
      text.after(more);
    }
  };

  // ---- the query and its lists -------------------------------------------------------------------------------
  const NAMES = { log_prob_nats: "Log-probability of the response", greedy: "Greedy answer", greedy_matches: "Greedy answer" };
  const verdict = ([said]) => said === "yes" ? make("span", "match", "✓ equals the response")
    : make("span", "miss", "✗ differs from the response");
  const showQuery = (query) => {
    const box = $("query");
    const head = make("div", "query-head");
    head.append(make("strong", "", `Query ${query.row}`));
    if (query.group !== null) head.append(chip(query.group, true));
    if (query.truncated) head.append(make("span", "cut", "cut to the maximum length"));
    if (query.id !== String(query.row)) head.append(make("span", "id", query.id));
    const facts = make("dl");
    const matches = query.behaviour.find(([key]) => key === "greedy_matches");
    for (const [key, value] of query.behaviour) {
      if (key === "greedy_matches" && query.behaviour.some(([other]) => other === "greedy")) continue;
      const said = make("dd", "", cutText(value) + (key.endsWith("_nats") ? " nats" : ""));
      if (key === "greedy" && matches) said.append(" ", verdict(matches[1]));
      if (key === "greedy_matches") said.replaceChildren(verdict(value));
      facts.append(make("dt", "", NAMES[key] ?? key.replace(/_nats$/, "").replaceAll("_", " ")), said);
    }
    box.replaceChildren(head, passage(query), ...(query.behaviour.length ? [facts] : []));
  };
  const showHits = (query) => {
    const arrays = open(query);
    const scores = arrays.scores.subarray(state.m * 2 * hits, (state.m + 1) * 2 * hits);
    const largest = Math.max(...scores.map(Math.abs)) || 1;
    for (const [id, from, right] of [["pro", 0, 1], ["con", hits, -1]]) {
      const slots = Array.from({ length: hits }, (_, i) => from + i);
      $(id).replaceChildren(...slots.map((slot) => hit(query, slot, largest)));
      const wrong = slots.filter((slot) => Math.sign(scores[slot]) !== right).length;
      const words = right > 0 ? ["highest", "positive", "proponents"] : ["lowest", "negative", "opponents"];
      const also = compared().length ? `; boxes: rank of ${whole(data.n_train)} under other methods` : "";
      $(`${id}-hint`).textContent = (!wrong ? `the ${hits} ${words[0]} scores` : right < 0 && !methods[state.m].negatives
        ? `the ${hits} lowest scores; this method gives no negative score, so none is an opponent`
        : `the ${hits} ${words[0]} scores; ${wrong} not ${words[1]}, so no ${words[2]}`) + also;
      foldLong($(id));
    }
    const names = new Map();
    for (const m of compared()) names.set(methods[m].name, [...names.get(methods[m].name) ?? [], methods[m].label]);
    const several = [...names.values()].filter((labels) => labels.length > 1).map((labels) => labels.join(", "));
    $("reading").textContent = `Boxes: the row's rank under ${state.every ? "every other method" : "one method of every other family (its default damping)"}, `
      + `1 = highest of ${whole(data.n_train)}; blue near the top, orange near the bottom. `
      + (several.length ? `Boxes under one name, from left to right: ${several.join("; ")}. ` : "")
      + (arrays.shares && state.m === data.headline ? `Bars: what each ${data.by_layer ? "layer" : "block"} contributes to the score (up = positive), in percent of all absolute contributions.` : "");
    const differ = query.parts_differ && state.m === data.headline;
    $("warning").hidden = !differ;
    $("warning").textContent = "The blocks' contributions do not add up to the score (by more than 1 %): this method is not a sum over blocks.";
    $("made").querySelector("dl").replaceChildren(...methods[state.m].facts.map(([key, value]) => {
      const pair = make("div");
      pair.append(make("dt", "", key.replaceAll("_", " ")), make("dd", "", cutText(value)));
      return pair;
    }));
  };
  const show = (remember = true) => {
    const query = data.queries[state.q];
    showQuery(query);
    showHits(query);
    const at = state.found.indexOf(state.q);
    $("position").textContent = `${at < 0 ? "–" : at + 1} of ${state.found.length}`;
    $("prev").disabled = at <= 0;
    $("next").disabled = at === state.found.length - 1 || !state.found.length;
    for (const item of $("list").children) {
      const chosen = item.id === `query-${state.q}`;
      item.setAttribute("aria-selected", String(chosen));
      if (chosen) {
        $("list").setAttribute("aria-activedescendant", item.id);
        const box = $("list");
        if (item.offsetTop < box.scrollTop || item.offsetTop + item.offsetHeight > box.scrollTop + box.clientHeight)
          box.scrollTop = item.offsetTop - box.clientHeight / 2;
      }
    }
    $("method").value = String(state.m);
    if (remember) history.replaceState(null, "", `#q=${query.row}&m=${encodeURIComponent(methods[state.m].label)}`);
  };

  // ---- choosing ----------------------------------------------------------------------------------------------
  const fillList = () => {
    const items = state.found.map((q) => {
      const query = data.queries[q];
      const item = make("li");
      item.id = `query-${q}`;
      item.setAttribute("role", "option");
      item.append(make("div", "line", (query.prompt[0] || query.response[0]).trim()),
        make("div", "sub", [`query ${query.row}`, query.group].filter((part) => part !== null).join(" · ")));
      item.addEventListener("click", () => choose(q));
      return item;
    });
    if (!items.length) {
      const none = make("li", "none", "No query matches.");
      none.setAttribute("role", "presentation");
      items.push(none);
    }
    $("list").replaceChildren(...items);
  };
  const choose = (q) => { state.q = q; show(); };
  const step = (by) => {
    const at = state.found.indexOf(state.q) + by;
    if (at >= 0 && at < state.found.length) choose(state.found[at]);
  };
  $("prev").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("list").addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || !state.found.length) return;
    event.preventDefault();
    const at = state.found.indexOf(state.q) + by;
    choose(state.found[Math.min(Math.max(at, 0), state.found.length - 1)]);
  });
  $("search").addEventListener("input", () => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    state.found = data.queries.map((_, i) => i).filter((q) => {
      const query = data.queries[q];
      const text = [query.row, query.id, query.group, query.prompt[0], query.response[0]].join("\n").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    fillList();
    if (state.found.length && !state.found.includes(state.q)) state.q = state.found[0];
    show();
  });
  const families = new Map();
  methods.forEach((method, m) => {
    const option = make("option", "", method.label + (m === data.headline && methods.length > 1 ? " — shown first" : ""));
    option.value = String(m);
    if (!families.has(method.family)) families.set(method.family, []);
    families.get(method.family)[method.default ? "unshift" : "push"](option);
  });
  for (const [name, options] of families) {
    if (options.length === 1) { $("method").append(options[0]); continue; }
    const group = make("optgroup");
    group.label = name;
    group.append(...options);
    $("method").append(group);
  }
  $("every-label").hidden = families.size === methods.length;
  $("every").checked = false;
  $("every").addEventListener("change", () => { state.every = $("every").checked; showHits(data.queries[state.q]); });
  $("method").addEventListener("change", () => { state.m = Number($("method").value); show(); });

  // ---- tooltips: on hover, on tap, and with the arrow keys on a focused strip -----------------------------------
  const walkable = (box, label) => {
    box.tabIndex = 0;
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", label);
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

  // ---- the metric table: a body a family, its default damping first; folded, the other dampings are not shown ---
  const table = $("table");
  if (table) {
    const bodies = () => [...table.tBodies];
    const several = bodies().filter((body) => body.rows.length > 1);
    const all = $("unfold-all");
    const fold = (body, folded) => {
      body.classList.toggle("folded", folded);
      body.querySelector(".unfold").setAttribute("aria-expanded", String(!folded));
      const open = several.every((other) => !other.classList.contains("folded"));
      all.textContent = open ? "Fold dampings" : "Show every damping";
      all.setAttribute("aria-expanded", String(open));
    };
    for (const body of several) {
      const button = body.querySelector(".unfold");
      button.hidden = all.hidden = false;
      button.addEventListener("click", () => fold(body, !body.classList.contains("folded")));
      fold(body, true);
    }
    all?.addEventListener("click", () => {
      const open = all.getAttribute("aria-expanded") === "true";
      several.forEach((body) => fold(body, open));
    });
    table.querySelectorAll("thead th").forEach((heading, column) => heading.addEventListener("click", () => {
      const down = column ? heading.getAttribute("aria-sort") !== "descending" : heading.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (body) => body.rows[0].cells[column].dataset.value;
      const order = (a, b) => (key(a) === "") - (key(b) === "") || (down ? key(b) - key(a) : key(a) - key(b));
      table.tFoot.before(...bodies().sort(order));
    }));
  }

  // ---- start, at the query and method of the address when it names them ------------------------------------------
  const asked = new URLSearchParams(location.hash.startsWith("#q=") ? location.hash.slice(1) : "");
  state.q = Math.max(0, data.queries.findIndex((query) => String(query.row) === asked.get("q")));
  const wanted = methods.findIndex((method) => method.label === asked.get("m"));
  if (wanted >= 0) state.m = wanted;
  fillList();
  show(false);
})();
