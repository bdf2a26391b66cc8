"use strict";
const tip = document.getElementById("tip");

// Near the pointer or the focused element, and always inside the window.
function show(x, y, fill) {
  tip.replaceChildren();
  fill(tip);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const right = x + 14 + width > innerWidth ? x - 14 - width : x + 14;
  const left = Math.min(Math.max(4, right), innerWidth - width - 4);
  const top = y + 14 + height > innerHeight ? y - 14 - height : y + 14;
  tip.style.transform = `translate(${left}px, ${Math.max(4, top)}px)`;
}

function hide() {
  tip.hidden = true;
}

for (const element of document.querySelectorAll("[data-tip]")) {
  const say = (x, y) => show(x, y, (box) => box.append(element.dataset.tip));
  element.addEventListener("pointermove", (event) => say(event.clientX, event.clientY));
  element.addEventListener("pointerleave", hide);
  element.addEventListener("focus", () => {
    const box = element.getBoundingClientRect();
    say(box.right, box.top);
  });
  element.addEventListener("blur", hide);
}

// Curves: the values of all rows at the epoch that is nearest to the pointer.
for (const svg of document.querySelectorAll("svg.lines")) {
  const chart = JSON.parse(svg.dataset.chart);
  const cursor = svg.querySelector(".cursor");
  const first = chart.x[0];
  const last = chart.x[chart.x.length - 1];
  const place = (x) => chart.left + ((x - first) / (last - first || 1)) * (chart.right - chart.left);
  let at = chart.x.length - 1;
  const say = (x, y) => {
    const epoch = chart.x[at];
    cursor.setAttribute("transform", `translate(${place(epoch)} 0)`);
    cursor.removeAttribute("hidden");
    show(x, y, (box) => {
      box.append(`epoch ${epoch}`);
      const here = chart.series
        .map((series) => ({ series, i: (series.x || chart.x).indexOf(epoch) }))
        .filter(({ series, i }) => i >= 0 && !hidden.has(series.label))
        .sort((a, b) => b.series.y[b.i] - a.series.y[a.i]);
      for (const { series, i } of here) {
        const key = document.createElement("i");
        key.className = `s${series.slot % 8}`;
        const spread = series.s.length ? ` \u00b1 ${series.s[i]}` : "";
        box.append("\n", key, `${series.label}  ${series.y[i]}${spread}`);
      }
    });
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const distance = (i) => Math.abs(place(chart.x[i]) - x);
    at = chart.x.reduce((best, _, i) => (distance(i) < distance(best) ? i : best), 0);
    say(event.clientX, event.clientY);
  });
  const leave = () => {
    hide();
    cursor.setAttribute("hidden", "");
  };
  const bySelf = () => {
    const box = svg.getBoundingClientRect();
    say(box.left + (place(chart.x[at]) / svg.viewBox.baseVal.width) * box.width, box.top + 20);
  };
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("focus", bySelf);
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -chart.x.length, End: chart.x.length }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    at = Math.min(Math.max(at + move, 0), chart.x.length - 1);
    bySelf();
  });
}

// Maps: the classes of a cell and its value, kept as signed bytes.
for (const image of document.querySelectorAll("[data-map]")) {
  const bytes = atob(image.dataset.map);
  const side = Number(image.dataset.side);
  const names = JSON.parse(document.getElementById(image.dataset.classes).textContent);
  image.addEventListener("pointermove", (event) => {
    const box = image.getBoundingClientRect();
    const cell = (at, start, size) => Math.min(Math.max(Math.floor(((at - start) / size) * side), 0), side - 1);
    const row = cell(event.clientY, box.top, box.height);
    const column = cell(event.clientX, box.left, box.width);
    const byte = bytes.charCodeAt(row * side + column);
    const value = ((byte > 127 ? byte - 256 : byte) / 127) * Number(image.dataset.limit);
    const sign = value < 0 ? "\u2212" : "+";
    show(event.clientX, event.clientY, (tip) => {
      tip.append(`${names[row]} with ${names[column]}\n${sign}${Math.abs(value).toFixed(2)}`);
    });
  });
  image.addEventListener("pointerleave", hide);
}

// Tables: a head sorts its column, again turns it; an empty cell stays at the end.
for (const head of document.querySelectorAll("thead th")) {
  head.setAttribute("aria-sort", "none");
  head.querySelector("button").addEventListener("click", () => {
    const table = head.closest("table");
    const body = table.tBodies[0];
    const numeric = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const down = before === "none" ? numeric : before === "ascending";
    for (const other of table.querySelectorAll("thead th")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => {
      const cell = row.cells[head.cellIndex];
      if (!numeric) return cell.textContent.trim();
      return cell.dataset.sort === undefined ? null : Number(cell.dataset.sort);
    };
    const empty = (v) => v === null || v === "";
    const order = (a, b) => (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (empty(x) || empty(y)) return empty(x) - empty(y);
      return down ? order(y, x) : order(x, y);
    });
    body.append(...rows);
  });
}

// A name in the legend hides its row in all charts.
const hidden = new Set();
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const label = button.dataset.series;
    const off = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!off));
    if (off) hidden.add(label);
    else hidden.delete(label);
    for (const drawn of document.querySelectorAll("#curves svg [data-series], #costs svg [data-series]"))
      if (drawn.dataset.series === label) drawn.classList.toggle("off", off);
  });
}

// On paper nothing opens by a click.
addEventListener("beforeprint", () => {
  for (const box of document.querySelectorAll("details:not([open])")) {
    box.open = true;
    box.dataset.closed = "";
  }
});
addEventListener("afterprint", () => {
  for (const box of document.querySelectorAll("[data-closed]")) {
    box.open = false;
    delete box.dataset.closed;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hide();
});
