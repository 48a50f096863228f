// Tables that are sorted by the title of a column, and filtered by words and comparisons.

const LONG = 8;

// What a cell is sorted by: a number where it begins with one, else its text.
function cellValue(text) {
  const found = /^[-+−]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?/i.exec(text.trim());
  return found ? Number(found[0].replace("−", "-")) : text.trim().toLowerCase();
}

// Numbers before texts, and what is not known last.
function compared(a, b) {
  const rank = (one) => (typeof one === "number" ? 0 : one === "–" || one === "" ? 2 : 1);
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  if (typeof a === "number") return a - b;
  return a < b ? -1 : a > b ? 1 : 0;
}

// A comparison such as "distance(0,1) > 3.4": its column, operator and value; null: mere words.
function comparisonOf(part, names) {
  const known = names.map((name) => name.toLowerCase());
  let found = null;
  for (const sign of part.matchAll(/<=|>=|!=|<|>|=/g)) {
    const wanted = part.slice(0, sign.index).trim().toLowerCase();
    const value = part.slice(sign.index + sign[0].length).trim();
    if (!wanted || !value) continue;
    const exact = known.indexOf(wanted);
    // Names may hold such signs themselves.
    if (exact >= 0) return { column: exact, operator: sign[0], value };
    const column = known.findIndex((name) => name.startsWith(wanted));
    if (column >= 0 && !found) found = { column, operator: sign[0], value };
  }
  return found;
}

// Whether a row fits: every word is in it, and comparisons hold.
function filterOf(text, names) {
  const parts = text.split(/;|,\s|\sand\s/).map((part) => part.trim()).filter(Boolean);
  const tests = parts.map((part) => {
    const comparison = comparisonOf(part, names);
    if (!comparison) {
      const words = part.toLowerCase().split(/\s+/);
      return (cells) => {
        const row = cells.map(String).join(" ").toLowerCase();
        return words.every((word) => row.includes(word));
      };
    }
    const value = cellValue(comparison.value);
    const holds = {
      "<": (one) => one < value, ">": (one) => one > value, "<=": (one) => one <= value,
      ">=": (one) => one >= value, "=": (one) => one === value, "!=": (one) => one !== value,
    }[comparison.operator];
    return (cells) => {
      const one = cellValue(String(cells[comparison.column]));
      return typeof one === typeof value && holds(one);
    };
  });
  return (cells) => tests.every((test) => test(cells));
}

// Titles of columns as buttons; what is called says by which column, and in which direction.
function sortable(heads, sort) {
  heads.forEach((head, column) => {
    const button = element("button", { type: "button" }, head.textContent);
    if (!head.textContent) return;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(column, down ? -1 : 1);
    });
  });
}

function filterBox(change) {
  const input = element("input", { type: "search", placeholder: "filter: words, or column < number" });
  const count = element("span", { class: "count" });
  input.addEventListener("input", () => change(input.value));
  return { box: element("div", { class: "filter live" }, input, count), count };
}

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const texts = (row) => [...row.cells].map((cell) => cell.textContent);
  if (body.rows.length > 1) {
    sortable(heads, (column, sign) => {
      const rows = [...body.rows].map((row) => [cellValue(row.cells[column].textContent), row]);
      rows.sort((a, b) => sign * compared(a[0], b[0]));
      body.append(...rows.map(([, row]) => row));
    });
  }
  if (body.rows.length > LONG) {
    const names = heads.map((head) => head.textContent);
    const { box, count } = filterBox((text) => {
      const fits = filterOf(text, names);
      let shown = 0;
      for (const row of body.rows) {
        row.hidden = !fits(texts(row));
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = text ? `${shown} of ${body.rows.length}` : "";
    });
    table.before(box);
  }
}
