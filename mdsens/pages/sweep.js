// The runs of a sweep: charts of any column over any other, linked with each other and with a table.

const ROWS = 100;
const DIM = "#e4e4e4";

class Sweep {
  constructor(parent, data) {
    this.data = data;
    this.columns = data.columns;
    this.count = this.columns[0].values.length;
    this.fits = new Array(this.count).fill(true);
    this.order = [...Array(this.count).keys()];
    this.shown = ROWS;
    this.charts = [];
    parent.classList.add("sweep");
    this.color = this.choice("colour by", data.color, () => this.drawCharts(), true);
    this.scale = element("span", { class: "hint" });
    const more = element("button", { type: "button", textContent: "another chart" });
    more.addEventListener("click", () => this.addChart(data.x[0], data.y[0]));
    const tools = element("div", { class: "choices" }, this.color.label, " ", this.scale, " ", more);
    this.place = element("div", { class: "charts" });
    this.table = element("div");
    parent.append(tools, this.place, this.table);
    this.buildTable();
    data.y.forEach((y, k) => this.addChart(data.x[k] ?? data.x[0], y));
  }

  titled(k) {
    const { name, unit } = this.columns[k];
    return unit ? `${name} (${unit})` : name;
  }

  choice(text, value, change, none = false) {
    const options = this.columns.map((_, k) => [k, this.titled(k)]);
    if (none) options.unshift([-1, "nothing"]);
    const made = element("select", {}, ...options.map(([k, name]) =>
      element("option", { value: k, textContent: name, selected: k === value })));
    made.addEventListener("change", change);
    return { label: element("label", {}, `${text} `, made), get value() { return Number(made.value); } };
  }

  addChart(x, y) {
    const across = this.choice("x", x, () => this.drawCharts());
    const up = this.choice("y", y, () => this.drawCharts());
    const parent = element("div", { class: "chart" },
      element("div", { class: "choices" }, up.label, across.label));
    if (this.data.links.some(Boolean)) parent.classList.add("clickable");
    this.place.append(parent);
    const chart = new Chart(parent, this.given(across.value, up.value), {
      hover: (run) => this.point(run, chart),
      click: (run) => this.open(run),
    });
    this.charts.push({ chart, across, up });
  }

  drawCharts() {
    for (const { chart, across, up } of this.charts) {
      chart.set(this.given(across.value, up.value));
    }
  }

  axis(k) {
    const column = this.columns[k];
    const names = column.kind === "text" ? [...new Set(column.values)] : null;
    return { label: column.name, unit: column.unit, names, log: this.isSpread(k) };
  }

  // Whether a column is read by its powers of ten: positive, over at least two of them.
  isSpread(k) {
    const { kind, values, name } = this.columns[k];
    if (kind === "text" || name === "run" || name.endsWith("seed")) return false;
    const known = values.filter((value) => value !== null);
    const [low, high] = known.reduce(([a, b], one) => [Math.min(a, one), Math.max(b, one)],
      [Infinity, -Infinity]);
    return low > 0 && high >= 99 * low;
  }

  placed(k) {
    const { kind, values } = this.columns[k];
    if (kind !== "text") return values;
    const known = new Map([...new Set(values)].map((name, place) => [name, place]));
    return values.map((name) => known.get(name));
  }

  given(x, y) {
    const by = this.color.value;
    const colors = this.colors(by);
    const dimmed = (k) => (this.fits[k] ? 1 : 0);
    const series = {
      name: "", x: this.placed(x), y: this.placed(y), points: true, color: "#0072b2", colors,
      error: this.columns[y].errors,
      order: [...Array(this.count).keys()].sort((a, b) => dimmed(a) - dimmed(b)),
      tell: (run) => this.toldOf(run, [x, y, by]),
    };
    return { x: this.axis(x), y: this.axis(y), series: [series] };
  }

  colors(by) {
    const column = this.columns[by];
    if (!column) {
      this.scale.textContent = "";
      return this.fits.map((fits) => (fits ? "#0072b2" : DIM));
    }
    const values = this.placed(by);
    const known = values.filter((value) => value !== null);
    const [low, high] = known.reduce(([a, b], one) => [Math.min(a, one), Math.max(b, one)],
      [Infinity, -Infinity]);
    const tell = (value) => (column.kind === "text" ? column.values[values.indexOf(value)]
      : plain(value, 4));
    this.scale.textContent = known.length ? `dark: ${tell(low)}, bright: ${tell(high)}` : "";
    const along = this.isSpread(by) ? Math.log10 : (value) => value;
    const [from, span] = [along(low), along(high) - along(low)];
    return values.map((value, run) => {
      if (!this.fits[run]) return DIM;
      if (value === null) return "#808080";
      return mixed(this.data.palette, 0.92 * (span > 0 ? (along(value) - from) / span : 0));
    });
  }

  cell(k, run) {
    const { kind, values, errors, exact } = this.columns[k];
    const value = values[run];
    if (kind === "text") return value;
    if (value === null) return "–";
    if (exact) return plain(value, 10);
    const error = errors ? errors[run] : null;
    return `${withDigits(value, error)} ± ${errorText(error)}`;
  }

  toldOf(run, columns) {
    const settings = this.columns.map((_, k) => k).filter((k) => this.columns[k].setting);
    const wanted = [...new Set([0, ...settings, ...columns])].filter((k) => k >= 0);
    return wanted.map((k) => {
      const { name, unit, kind } = this.columns[k];
      return `${name}: ${this.cell(k, run)}${unit && kind !== "text" ? ` ${unit}` : ""}`;
    });
  }

  // Mark a run in all charts and in the table.
  point(run, from = null) {
    for (const { chart } of this.charts) {
      if (chart === from) continue;
      const [series] = chart.given.series;
      const known = run !== null && series.x[run] !== null && series.y[run] !== null;
      chart.point(known ? { series, place: run } : null, true);
    }
    const was = this.body.querySelector(".near");
    if (was) was.classList.remove("near");
    const row = run === null ? null : this.body.querySelector(`[data-run="${run}"]`);
    if (row) row.classList.add("near");
  }

  open(run) {
    const link = this.data.links[run];
    if (link) window.open(link, "_blank");
  }

  buildTable() {
    const heads = this.columns.map((_, k) => element("th", {}, this.titled(k)));
    this.body = element("tbody");
    const names = this.columns.map((column) => column.name);
    const { box, count } = filterBox((text) => {
      const fits = filterOf(text, names);
      this.fits = this.order.length ? Array.from({ length: this.count }, (_, run) =>
        fits(this.columns.map((column, k) =>
          (column.kind === "text" ? column.values[run] : column.values[run] ?? "–")))) : [];
      const many = this.fits.reduce((sum, one) => sum + one, 0);
      count.textContent = text ? `${many} of ${this.count} runs` : "";
      this.shown = ROWS;
      this.drawRows();
      this.drawCharts();
    });
    this.more = element("button", { type: "button" });
    this.more.addEventListener("click", () => {
      this.shown *= 4;
      this.drawRows();
    });
    sortable(heads, (column, sign) => {
      const { kind, values } = this.columns[column];
      const of = (run) => (kind === "text" ? values[run] : values[run] ?? "–");
      this.order.sort((a, b) => sign * compared(of(a), of(b)) || a - b);
      this.drawRows();
    });
    this.body.addEventListener("pointerover", (event) => {
      const row = event.target.closest("tr");
      this.point(row ? Number(row.dataset.run) : null);
    });
    this.body.addEventListener("pointerleave", () => this.point(null));
    const head = element("thead", {}, element("tr", {}, ...heads));
    const table = element("table", { class: "runs" }, head, this.body);
    this.table.append(box, element("div", { class: "scroll" }, table), this.more);
    this.drawRows();
  }

  drawRows() {
    const fitting = this.order.filter((run) => this.fits[run]);
    const rows = fitting.slice(0, this.shown).map((run) => {
      const cells = this.columns.map((column, k) => element("td", {
        class: column.kind === "text" ? "" : "number",
      }, k === 0 && this.data.links[run]
        ? element("a", { href: this.data.links[run], textContent: this.cell(k, run) })
        : this.cell(k, run)));
      const row = element("tr", {}, ...cells);
      row.dataset.run = run;
      return row;
    });
    this.body.replaceChildren(...rows);
    this.more.hidden = fitting.length <= this.shown;
    this.more.textContent = `${fitting.length - this.shown} more rows`;
  }
}

for (const place of document.querySelectorAll("[data-sweep]")) {
  place.sweep = new Sweep(place, dataOf(place.dataset.sweep));
}
