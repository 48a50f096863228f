// What all parts of a page share: elements, numbers with the digits that their errors support.

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") made.className = value;
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// A number with the digits that its error supports, and 0 where it is not above its error.
function withDigits(value, error, most = 7) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0 || (error > 0 && Math.abs(value) <= error)) return "0";
  if (error > 0 && Number.isFinite(error)) {
    const digits = Math.floor(Math.log10(Math.abs(value))) - Math.floor(Math.log10(error)) + 1;
    most = Math.min(most, Math.max(1, digits));
  }
  return plain(value, most);
}

// So many significant digits, without zeros that say nothing.
function plain(value, digits) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e-4 && size < Math.max(10 ** digits, 1e4)) {
    return String(Number(value.toPrecision(digits)));
  }
  const [factor, power] = value.toExponential(digits - 1).split("e");
  const sign = power[0] === "-" ? "-" : "+";
  return `${Number(factor)}e${sign}${power.replace(/^[+-]/, "").padStart(2, "0")}`;
}

function errorText(error) {
  return error === null || error === undefined || Number.isNaN(error)
    ? "–"
    : error.toExponential(1).replace(/e([+-])(\d)$/, "e$10$2");
}

// A value, its error and its unit in one line.
function told(value, error, unit) {
  const known = error === null || error === undefined ? "" : ` ± ${errorText(error)}`;
  // Of a number whose error nobody has told, as many digits as one reads from a chart.
  const shown = withDigits(value, error, known ? 7 : 5);
  return `${shown}${known}${unit ? ` ${unit}` : ""}`;
}

// Numbers at which an axis has its marks.
function marks(low, high, about) {
  const raw = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((one) => one >= raw * 0.9999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) {
    found.push(k * step);
  }
  return { step, values: found };
}

// The largest of 1, 2, 5 times a power of ten that is not above a value.
function roundNumber(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [5, 2, 1].find((digit) => digit * power <= value * 1.0001) * power;
}

// A canvas as sharp as the screen, of the size of its element.
function sharpen(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

// The colour at a place between 0 and 1 of a palette of "#rrggbb".
function mixed(palette, place) {
  const at = Math.min(Math.max(place, 0), 1) * (palette.length - 1);
  const low = Math.min(Math.floor(at), palette.length - 2);
  return blended(palette[low], palette[low + 1], at - low);
}

// Colours that were mixed before: each atom asks for one in each picture.
const blends = new Map();

function blended(from, to, share) {
  const key = `${from}${to}${share}`;
  const found = blends.get(key);
  if (found) return found;
  const part = (color, k) => parseInt(color.slice(1 + 2 * k, 3 + 2 * k), 16);
  const one = (k) => Math.round(part(from, k) * (1 - share) + part(to, k) * share);
  const made = `#${[0, 1, 2].map((k) => one(k).toString(16).padStart(2, "0")).join("")}`;
  if (blends.size < 10000) blends.set(key, made);
  return made;
}

function dataOf(id) {
  return JSON.parse(document.getElementById(id).textContent);
}
