// The metric table: a body a family, its default damping first; folded, the other dampings are not shown.
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
