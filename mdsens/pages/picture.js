// The picture of a structure on a canvas, drawn from back to front.

const FOG = 10;
const SHADES = 48;
const SPRITE = 96;

class Picture {
  constructor(data) {
    this.scene = new Scene(data);
    this.data = data;
    this.flat = data.dimension === 2;
    this.camera = new Camera(this.flat);
    this.sprites = new Map();
  }

  // From a place in space to one on the canvas.
  projection(width, height) {
    const { camera, scene } = this;
    const [cx, cy, cz] = scene.centre;
    const legend = this.state.color === "motion" ? 70 : 0;
    const room = [width - legend - 20, height - 20];
    const eye = 2.4 * scene.size;
    const perspective = this.state.perspective && !this.flat;
    camera.extents = camera.extents || this.extents(perspective ? eye : Infinity);
    const scale = camera.zoom * Math.min(...room.map((pixels, k) => pixels / camera.extents[k]));
    const origin = [10 + room[0] / 2 + camera.pan[0], height / 2 + camera.pan[1]];
    return (x, y, z) => {
      const [a, b, c] = camera.turned(x - cx, y - cy, z - cz);
      const s = perspective ? (scale * eye) / Math.max(eye - c, 0.05 * eye) : scale;
      return { x: origin[0] + s * a, y: origin[1] - s * b, z: c, s };
    };
  }

  // How wide and how high all is in the view that the camera has.
  extents(eye) {
    const { camera, scene } = this;
    const found = [1e-9, 1e-9];
    for (let corner = 0; corner < 8; corner += 1) {
      const sides = scene.sides.map((side, k) => (((corner >> k) & 1) - 0.5) * side);
      const [a, b, c] = camera.turned(...sides);
      const near = eye === Infinity ? 1 : eye / (eye - c);
      [a, b].forEach((x, k) => { found[k] = Math.max(found[k], 2 * near * Math.abs(x)); });
    }
    return found;
  }

  // Whether an atom is drawn.
  isShown(i) {
    const { motion, least } = this.state;
    return !motion || !least || motion.lengths[i] >= least * motion.longest;
  }

  drawNow() {
    const { context, width, height } = sharpen(this.canvas);
    if (!width || !height) return;
    const begun = performance.now();
    const { scene, state } = this;
    const { motion } = state;
    const amount = motion ? state.amount * motion.range : 0;
    const at = scene.moved(motion, amount);
    const cell = scene.cellMoved(motion, amount);
    const project = this.projection(width, height);
    this.seen = Array.from({ length: scene.count }, (_, i) => {
      const seen = project(at[3 * i], at[3 * i + 1], at[3 * i + 2]);
      seen.r = this.data.radii[scene.kinds[i]] * state.size * seen.s;
      return seen;
    });
    const items = [];
    this.addAtoms(items, context, width, height);
    if (this.flat) this.addImages(items, context, cell, project);
    if (state.bonds) this.addBonds(items, context);
    if (state.box) this.addBox(items, context, cell, project);
    if (motion && state.arrows) this.addArrows(items, context, at, project);
    items.sort((a, b) => a.z - b.z);
    for (const item of items) item.draw();
    if (state.picked >= 0) this.ring(context, this.seen[state.picked]);
    if (motion && state.arrows) this.arrowKey(context, project, height);
    if (!this.flat) this.axes(context, height);
    this.legend(context, width, height);
    this.canvas.dataset.milliseconds = (performance.now() - begun).toFixed(1);
    this.canvas.dataset.drawn = scene.count;
  }

  colorOf(i) {
    const { motion, color } = this.state;
    if (color === "motion" && motion) {
      const place = motion.longest > 0 ? motion.lengths[i] / motion.longest : 0;
      return mixed(this.data.palette, Math.round(place * SHADES) / SHADES);
    }
    if (this.scene.fixed.has(i)) return this.data.fixedColor;
    return this.data.colors[this.scene.kinds[i] % this.data.colors.length];
  }

  addAtoms(items, context, width, height) {
    let [near, far] = [-Infinity, Infinity];
    for (const { z } of this.seen) [near, far] = [Math.max(near, z), Math.min(far, z)];
    const depth = Math.max(near - far, 1e-9);
    this.seen.forEach((at, i) => {
      if (!this.isShown(i)) return;
      if (at.x + at.r < 0 || at.y + at.r < 0 || at.x - at.r > width || at.y - at.r > height) return;
      const fog = this.flat ? 0 : Math.round((FOG * (near - at.z)) / depth) / FOG;
      const color = this.colorOf(i);
      items.push({
        z: at.z,
        draw: () => (this.flat ? paintDisc(context, at, color, 0)
          : this.sphere(context, at, blended(color, "#ffffff", 0.5 * fog))),
      });
    });
  }

  // A shaded sphere; small ones are copied from one that is drawn once.
  sphere(context, at, color) {
    if (at.r > SPRITE / 3) {
      paintSphere(context, at.x, at.y, at.r, color);
      return;
    }
    let sprite = this.sprites.get(color);
    if (!sprite) {
      sprite = element("canvas", { width: SPRITE, height: SPRITE });
      const half = SPRITE / 2;
      paintSphere(sprite.getContext("2d"), half, half, half - 1, color);
      this.sprites.set(color, sprite);
    }
    const r = (at.r * SPRITE) / (SPRITE - 2);
    context.drawImage(sprite, at.x - r, at.y - r, 2 * r, 2 * r);
  }

  // Discs that leave a periodic cell and come in at its other side, paler.
  addImages(items, context, cell, project) {
    const corners = this.scene.box(cell).flat().map((point) => project(...point));
    if (!corners.length) return;
    const edges = ["x", "y"].map((k) => corners.map((one) => one[k]));
    const [left, top] = edges.map((of) => Math.min(...of));
    const [right, bottom] = edges.map((of) => Math.max(...of));
    const scale = this.seen[0].s;
    for (const [dx, dy] of this.scene.shifts(cell)) {
      this.seen.forEach((home, i) => {
        if (!this.isShown(i)) return;
        const at = { x: home.x + scale * dx, y: home.y - scale * dy, r: home.r };
        const margin = 0.3 * at.r;
        if (at.x < left - margin || at.x > right + margin) return;
        if (at.y < top - margin || at.y > bottom + margin) return;
        items.push({ z: -1, draw: () => paintDisc(context, at, this.colorOf(i), 0.65) });
      });
    }
  }

  addBonds(items, context) {
    for (const [i, j] of this.scene.bonds()) {
      if (!this.isShown(i) || !this.isShown(j)) continue;
      const [a, b] = [this.seen[i], this.seen[j]];
      const halfway = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
      const wide = this.flat ? 2 : Math.max(0.3 * Math.min(a.r, b.r), 1);
      const line = (from, to, color) => {
        context.strokeStyle = color;
        context.lineWidth = wide;
        context.beginPath();
        context.moveTo(from.x, from.y);
        context.lineTo(to.x, to.y);
        context.stroke();
      };
      const dark = (k) => blended(this.flat ? "#c03020" : this.colorOf(k), "#000000", 0.25);
      items.push({
        z: this.flat ? 1 : (a.z + b.z) / 2,
        draw: () => { line(a, halfway, dark(i)); line(halfway, b, dark(j)); },
      });
    }
  }

  // The cell in pieces, each behind or before the atoms near it.
  addBox(items, context, cell, project) {
    const pieces = this.flat ? 1 : 16;
    for (const [from, to] of this.scene.box(cell)) {
      const at = (k) => project(...from.map((x, axis) => x + (to[axis] - x) * (k / pieces)));
      for (let k = 0; k < pieces; k += 1) {
        const [a, b] = [at(k), at(k + 1)];
        items.push({
          z: this.flat ? 2 : (a.z + b.z) / 2,
          draw: () => {
            context.strokeStyle = "#404040";
            context.lineWidth = 1;
            if (this.flat) context.setLineDash([5, 4]);
            context.beginPath();
            context.moveTo(a.x, a.y);
            context.lineTo(b.x, b.y);
            context.stroke();
            context.setLineDash([]);
          },
        });
      }
    }
  }

  // How long an arrow is for a derivative of one: the longest is as long as atoms are apart, or
  // a part of all that is seen.
  get arrowScale() {
    const { motion, arrow } = this.state;
    const length = Math.min(1.2 * this.data.spacing, 0.25 * this.scene.size);
    return motion.longest > 0 ? (arrow * length) / motion.longest : 0;
  }

  addArrows(items, context, at, project) {
    const { motion } = this.state;
    const scale = this.arrowScale;
    if (!scale) return;
    for (let i = 0; i < this.scene.count; i += 1) {
      if (motion.lengths[i] < 0.02 * motion.longest || motion.lengths[i] <= motion.error) continue;
      if (!this.isShown(i)) continue;
      const [x, y, z] = [0, 1, 2].map((k) => at[3 * i + k] + scale * motion.vectors[3 * i + k]);
      const [from, to] = [this.seen[i], project(x, y, z)];
      // Towards the eye it leaves its atom at the front, away from it at the back.
      const radius = this.data.radii[this.scene.kinds[i]] * this.state.size;
      const before = to.z > from.z - 1e-9 ? radius : -1e-6;
      items.push({ z: this.flat ? 3 : from.z + before, draw: () => paintArrow(context, from, to) });
    }
  }

  arrowKey(context, project, height) {
    const { motion } = this.state;
    const scale = this.arrowScale;
    if (!scale) return;
    const key = roundNumber(motion.longest);
    const pixels = key * scale * project(...this.scene.centre).s;
    const left = this.flat ? 14 : 84;
    const y = height - 16;
    const text = `dx/d ${motion.name} of ${plain(key, 2)} ${motion.unit}`.trim();
    context.font = "13px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillStyle = "rgba(255,255,255,0.85)";
    context.fillRect(left - 6, y - 11, pixels + 20 + context.measureText(text).width, 22);
    paintArrow(context, { x: left, y }, { x: left + pixels, y });
    context.fillStyle = "#1a1a1a";
    context.fillText(text, left + pixels + 8, y);
  }

  axes(context, height) {
    const [x, y] = [38, height - 40];
    const ends = [[1, 0, 0], [0, 1, 0], [0, 0, 1]].map((axis, k) =>
      [this.camera.turned(...axis), "xyz"[k]]);
    ends.sort((a, b) => a[0][2] - b[0][2]);
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const [[dx, dy], name] of ends) {
      paintArrow(context, { x, y }, { x: x + 22 * dx, y: y - 22 * dy });
      context.fillStyle = "#1a1a1a";
      context.fillText(name, x + 30 * dx, y - 30 * dy);
    }
  }

  ring(context, at) {
    context.lineWidth = 2.5;
    for (const [color, more] of [["#ffffff", 3.5], ["#d0206a", 1.5]]) {
      context.strokeStyle = color;
      context.beginPath();
      context.arc(at.x, at.y, at.r + more, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  // A bar of colours with its numbers, or the colours of the species.
  legend(context, width, height) {
    const { motion, color } = this.state;
    context.font = "13px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillStyle = "#1a1a1a";
    if (color === "motion" && motion) {
      const [x, top, tall] = [width - 64, 44, Math.min(height - 90, 260)];
      const shade = context.createLinearGradient(0, top + tall, 0, top);
      const { palette } = this.data;
      palette.forEach((one, k) => shade.addColorStop(k / (palette.length - 1), one));
      context.fillStyle = shade;
      context.fillRect(x, top, 14, tall);
      context.strokeStyle = "#606060";
      context.lineWidth = 0.8;
      context.strokeRect(x, top, 14, tall);
      context.fillStyle = "#1a1a1a";
      context.textAlign = "right";
      const unit = motion.unit ? ` (${motion.unit})` : "";
      context.fillText(`|dx/d ${motion.name}|${unit}`, width - 8, 20);
      context.textAlign = "left";
      for (const value of motion.longest > 0 ? marks(0, motion.longest, 4).values : [0]) {
        const y = top + tall * (1 - (motion.longest > 0 ? value / motion.longest : 0));
        context.fillText(plain(value, 3), x + 19, y);
        context.fillRect(x + 11, y - 0.5, 5, 1);
      }
      return;
    }
    const entries = this.data.species.map((name, k) =>
      [name, this.data.colors[k % this.data.colors.length]]);
    if (this.scene.fixed.size) entries.push(["held fixed", this.data.fixedColor]);
    context.textAlign = "left";
    entries.forEach(([name, fill], k) => {
      const at = { x: width - 90, y: 20 + 20 * k, r: 7 };
      if (this.flat) paintDisc(context, at, fill, 0);
      else this.sphere(context, at, fill);
      context.fillStyle = "#1a1a1a";
      context.fillText(name, at.x + 13, at.y);
    });
  }
}
