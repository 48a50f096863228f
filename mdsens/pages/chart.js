// Lines and points over an axis, with the numbers under the pointer.

const MARGIN = { left: 74, right: 14, top: 26, bottom: 44 };

class Axis {
  constructor(given, from, to, values) {
    Object.assign(this, given);
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) {
      if (value === null || Number.isNaN(value) || (this.log && value <= 0)) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    if (low > high) [low, high] = this.log ? [1, 10] : [0, 1];
    if (this.log) [low, high] = [Math.log10(low), Math.log10(high)];
    // Numbers that differ by their rounding alone are the same.
    const least = this.log ? 0.5 : Math.max(Math.abs(low), Math.abs(high)) * 1e-9;
    if (high - low <= least) {
      const half = this.log ? 0.5 : 0.05 * Math.max(Math.abs(low), Math.abs(high)) || 1;
      [low, high] = [low - half, high + half];
    }
    const more = this.tight ? 0 : 0.05 * (high - low);
    Object.assign(this, { low: low - more, high: high + more, from, to });
  }

  at(value) {
    const place = this.log ? Math.log10(value) : value;
    return this.from + ((place - this.low) / (this.high - this.low)) * (this.to - this.from);
  }

  get marks() {
    if (this.names) {
      const step = Math.ceil(this.names.length / 12);
      return this.names.map((name, k) => [k, name]).filter(([k]) => k % step === 0);
    }
    if (this.places) return this.places;
    if (this.log) {
      const step = Math.max(1, Math.ceil((this.high - this.low) / 7));
      const found = [];
      for (let k = Math.ceil(this.low); k <= this.high; k += step) {
        found.push([10 ** k, plain(10 ** k, 1)]);
      }
      return found.length ? found : [[10 ** this.low, plain(10 ** this.low, 3)]];
    }
    const { step, values } = marks(this.low, this.high, 6);
    const largest = Math.max(...values.map(Math.abs), step);
    const digits = Math.min(12, Math.max(1, Math.floor(Math.log10(largest / step)) + 2));
    return values.map((value) => [value, value === 0 ? "0" : plain(value, digits)]);
  }

  get title() {
    return this.unit ? `${this.label} (${this.unit})` : this.label;
  }
}

class Chart {
  constructor(parent, given, callbacks = {}) {
    this.callbacks = callbacks;
    this.canvas = element("canvas");
    this.tip = element("div", { class: "tip", hidden: true });
    parent.append(this.canvas, this.tip);
    this.near = null;
    this.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("click", () => {
      if (this.near && callbacks.click) callbacks.click(this.near.place);
    });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.set(given);
  }

  set(given) {
    this.given = given;
    this.background = null;
    this.draw();
  }

  draw() {
    this.background = null;
    this.drawAgain();
  }

  // Draw at the next frame, once; only what is pointed at where all else is known.
  drawAgain() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.drawNow();
    });
  }

  drawNow() {
    const { given, canvas } = this;
    if (!canvas.clientWidth) return;
    const { context, width, height } = sharpen(canvas);
    if (!this.background) {
      this.layOut(context, width, height);
      this.drawAxes(context, width, height);
      context.save();
      context.beginPath();
      context.rect(MARGIN.left - 6, MARGIN.top - 6, width - MARGIN.left - MARGIN.right + 12,
        height - MARGIN.top - MARGIN.bottom + 12);
      context.clip();
      for (const series of given.series) this.drawSeries(context, series);
      for (const line of given.lines || []) this.drawLevel(context, line, width);
      context.restore();
      this.background = element("canvas", { width: canvas.width, height: canvas.height });
      this.background.getContext("2d").drawImage(canvas, 0, 0);
      canvas.dataset.drawn = given.series.reduce((sum, one) => sum + one.x.length, 0);
    } else {
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.drawImage(this.background, 0, 0);
      sharpenAgain(context);
    }
    if (this.near) {
      const { series, place } = this.near;
      this.dot(context, this.x.at(series.x[place]), this.y.at(series.y[place]), 6, "#d0206a", true);
    }
  }

  layOut(context, width, height) {
    const { given } = this;
    const all = (axis) => given.series.flatMap((one) => one[axis]);
    const levels = (given.lines || []).map((one) => one.y);
    this.x = new Axis(given.x, MARGIN.left, width - MARGIN.right, all("x"));
    this.y = new Axis(given.y, height - MARGIN.bottom, MARGIN.top, [...all("y"), ...levels]);
  }

  drawAxes(context, width, height) {
    const [bottom, left] = [height - MARGIN.bottom, MARGIN.left];
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = "#1a1a1a";
    context.lineWidth = 1;
    context.textBaseline = "top";
    context.textAlign = "center";
    let free = -Infinity;
    for (const [value, text] of this.x.marks) {
      const x = this.x.at(value);
      if (x < left - 1 || x > width - MARGIN.right + 1) continue;
      context.strokeStyle = "#ececec";
      line(context, [x, MARGIN.top, x, bottom]);
      const half = context.measureText(text).width / 2;
      if (x - half < free) continue;
      context.fillText(text, x, bottom + 6);
      free = x + half + 8;
    }
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const [value, text] of this.y.marks) {
      const y = this.y.at(value);
      if (y < MARGIN.top - 1 || y > bottom + 1) continue;
      context.strokeStyle = "#ececec";
      line(context, [left, y, width - MARGIN.right, y]);
      context.fillText(text, left - 6, y, left - 8);
    }
    context.strokeStyle = "#505050";
    line(context, [left, MARGIN.top, left, bottom, width - MARGIN.right, bottom]);
    context.textAlign = "center";
    context.fillText(this.x.title, (left + width) / 2, height - 10, width - left);
    context.textAlign = "left";
    context.fillText(this.y.title, 4, 11, width - 8);
  }

  drawSeries(context, series) {
    const colors = series.colors;
    const places = series.x.map((x, k) => [this.x.at(x), this.y.at(series.y[k])]);
    const shown = (k) => series.y[k] !== null && series.x[k] !== null
      && Number.isFinite(places[k][1]) && Number.isFinite(places[k][0]);
    if (series.line) {
      context.strokeStyle = series.color;
      context.lineWidth = series.width || 1.5;
      context.lineJoin = "round";
      context.beginPath();
      let pen = false;
      for (let k = 0; k < places.length; k += 1) {
        if (!shown(k)) pen = false;
        else if (pen) context.lineTo(...places[k]);
        else {
          context.moveTo(...places[k]);
          pen = true;
        }
      }
      context.stroke();
    }
    if (!series.points) return;
    const size = series.size || (places.length > 2000 ? 2 : 3.5);
    for (const k of series.order || places.keys()) {
      if (!shown(k)) continue;
      if (series.error) this.drawError(context, series, k, places[k][0], size, colors);
      this.dot(context, ...places[k], size, colors ? colors[k] : series.color, places.length < 2000);
    }
  }

  // From what a number may be at least to what at most, where that is seen beside its dot.
  drawError(context, series, k, x, size, colors) {
    const ends = [-1, 1].map((sign) => this.y.at(series.y[k] + sign * series.error[k]));
    if (!(Math.abs(ends[1] - ends[0]) > 2 * size) || !ends.every(Number.isFinite)) return;
    context.strokeStyle = colors ? colors[k] : series.color;
    context.lineWidth = 1.2;
    line(context, [x, ends[0], x, ends[1]]);
  }

  drawLevel(context, given, width) {
    const y = this.y.at(given.y);
    context.strokeStyle = "#707070";
    context.lineWidth = 1;
    context.setLineDash([5, 4]);
    line(context, [MARGIN.left, y, width - MARGIN.right, y]);
    context.setLineDash([]);
    context.textAlign = "left";
    context.textBaseline = "bottom";
    context.fillStyle = "#606060";
    context.fillText(given.name, MARGIN.left + 6, y - 2);
  }

  dot(context, x, y, r, color, seam) {
    context.beginPath();
    context.arc(x, y, r, 0, 2 * Math.PI);
    context.fillStyle = color;
    context.fill();
    if (!seam) return;
    context.lineWidth = 1;
    context.strokeStyle = "#fff";
    context.stroke();
  }

  // What is nearest to the pointer, within reach.
  hover(event) {
    if (!this.x) return;
    const box = this.canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let [found, best] = [null, 30];
    for (const series of this.given.series) {
      if (series.silent) continue;
      for (let place = 0; place < series.x.length; place += 1) {
        if (series.y[place] === null || series.x[place] === null) continue;
        const [dx, dy] = [this.x.at(series.x[place]) - px, this.y.at(series.y[place]) - py];
        const apart = Math.hypot(dx, dy);
        if (apart < best) [found, best] = [{ series, place }, apart];
      }
    }
    this.point(found);
    if (this.callbacks.hover) this.callbacks.hover(found ? found.place : null);
  }

  // Mark a point, as the pointer or another chart has it.
  point(found, quiet = false) {
    this.near = found;
    this.drawAgain();
    this.tip.hidden = !found || quiet;
    if (!found && !quiet && this.callbacks.hover) this.callbacks.hover(null);
    if (!found || quiet || !this.x) return;
    const { series, place } = found;
    const lines = series.tell ? series.tell(place) : [
      series.name,
      `${this.x.label}: ${told(series.x[place], null, this.x.unit)}`,
      `${this.y.label}: ${told(series.y[place], series.error ? series.error[place] : null,
        this.y.unit)}`,
    ];
    this.tip.replaceChildren(...lines.filter(Boolean).map((text) => element("div", {}, text)));
    const [x, y] = [this.x.at(series.x[place]), this.y.at(series.y[place])];
    const right = x > this.canvas.clientWidth / 2;
    this.tip.style.left = right ? "" : `${x + 12}px`;
    this.tip.style.right = right ? `${this.canvas.clientWidth - x + 12}px` : "";
    this.tip.style.top = `${this.canvas.offsetTop + Math.max(y - 12, 0)}px`;
  }
}

function sharpenAgain(context) {
  const ratio = window.devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
}

function line(context, places) {
  context.beginPath();
  for (let k = 0; k < places.length; k += 2) context.lineTo(places[k], places[k + 1]);
  context.stroke();
}

for (const place of document.querySelectorAll("[data-chart]")) {
  place.chart = new Chart(place, dataOf(place.dataset.chart));
}
