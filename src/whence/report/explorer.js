// The explorer: choose a query and a method, read its hits.
const state = { q: 0, m: data.headline, every: false, found: data.queries.map((_, i) => i) };

// ---- one hit -------------------------------------------------------------------------------------------------
// The methods whose ranks stand beside the shown one's: one a family (its default damping), or every one.
const compared = () => methods.map((_, m) => m).filter((m) => m !== state.m
  && (state.every || methods[m].default && methods[m].family !== methods[state.m].family));
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
  const others = compared();
  if (others.length) item.append(rankStrip(arrays, place, others));
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

// ---- start, at the query and method of the address when it names them ------------------------------------------
const asked = new URLSearchParams(location.hash.startsWith("#q=") ? location.hash.slice(1) : "");
state.q = Math.max(0, data.queries.findIndex((query) => String(query.row) === asked.get("q")));
const wanted = methods.findIndex((method) => method.label === asked.get("m"));
if (wanted >= 0) state.m = wanted;
fillList();
show(false);
