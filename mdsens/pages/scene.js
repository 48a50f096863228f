// The geometry of a structure as it is seen: rotated, projected, and moved along a parameter.

class Camera {
  constructor(flat) {
    this.flat = flat;
    this.home();
  }

  home() {
    this.zoom = 1;
    this.pan = [0, 0];
    // Seen from a little above and beside -y: x points right, y away, z up.
    if (this.flat) this.along("z");
    else {
      this.along("y");
      this.turn(0.42, 0.24);
    }
  }

  // Look along an axis: against x, along y, or against z.
  along(axis) {
    const views = {
      x: [0, 1, 0, 0, 0, 1, 1, 0, 0],
      y: [1, 0, 0, 0, 0, 1, 0, -1, 0],
      z: [1, 0, 0, 0, 1, 0, 0, 0, 1],
    };
    this.rotation = views[axis];
    this.zoom = 1;
    this.pan = [0, 0];
    // How large all is, which the next picture finds out.
    this.extents = null;
  }

  // Turn about the screen's upright axis and its horizontal one, radians.
  turn(across, up) {
    const [c, s, d, t] = [Math.cos(across), Math.sin(across), Math.cos(up), Math.sin(up)];
    const by = [c, 0, s, t * s, d, -t * c, -d * s, t, d * c];
    const r = this.rotation;
    this.rotation = by.map((_, k) => {
      const [i, j] = [3 * Math.floor(k / 3), k % 3];
      return by[i] * r[j] + by[i + 1] * r[3 + j] + by[i + 2] * r[6 + j];
    });
  }

  turned(x, y, z) {
    const r = this.rotation;
    return [
      r[0] * x + r[1] * y + r[2] * z,
      r[3] * x + r[4] * y + r[5] * z,
      r[6] * x + r[7] * y + r[8] * z,
    ];
  }
}

class Scene {
  constructor(data) {
    this.data = data;
    this.count = data.positions.length / 3;
    this.kinds = data.kinds || new Array(this.count).fill(0);
    this.fixed = new Set(data.fixed);
    this.motions = data.motions;
    for (const motion of this.motions) {
      motion.lengths = lengthsOf(motion.vectors);
      motion.longest = motion.lengths.reduce((a, b) => Math.max(a, b), 0);
      // What moves as one is seen as none: arrows leave out the strain, the slider does not.
      motion.whole = motion.whole || motion.vectors;
      const widest = lengthsOf(motion.whole).reduce((a, b) => Math.max(a, b), 0);
      const cell = motion.cell ? Math.max(...motion.cell.flat().map(Math.abs)) : 0;
      motion.range = widest || cell ? roundNumber((0.4 * data.spacing) / Math.max(widest, cell)) : 0;
    }
    this.measure();
  }

  // Where the atoms are as a parameter changes by an amount, with the cell's strain.
  moved(motion, amount) {
    const { positions, images } = this.data;
    const cell = this.cellMoved(motion, amount);
    const found = new Float64Array(positions.length);
    for (let k = 0; k < positions.length; k += 3) {
      for (let axis = 0; axis < 3; axis += 1) {
        let x = positions[k + axis];
        if (motion && amount) x += amount * motion.whole[k + axis];
        if (images) {
          x += images[k] * cell[0][axis] + images[k + 1] * cell[1][axis];
          x += images[k + 2] * cell[2][axis];
        }
        found[k + axis] = x;
      }
    }
    return found;
  }

  cellMoved(motion, amount) {
    const { cell } = this.data;
    if (!motion || !motion.cell || !amount) return cell;
    return cell.map((row, i) => row.map((x, j) => x + amount * motion.cell[i][j]));
  }

  // Lines of the cell in its periodic directions: pairs of points.
  box(cell) {
    const { pbc, offsets } = this.data;
    const periodic = [0, 1, 2].filter((axis) => pbc[axis]);
    const lines = [];
    for (const offset of periodic.length ? offsets : []) {
      for (let corner = 0; corner < 2 ** periodic.length; corner += 1) {
        const from = periodic.map((_, bit) => (corner >> bit) & 1);
        periodic.forEach((axis, bit) => {
          if (from[bit]) return;
          const start = [0, 1, 2].map((k) =>
            periodic.reduce((sum, one, at) => sum + from[at] * cell[one][k], offset[k])
          );
          lines.push([start, start.map((x, k) => x + cell[axis][k])]);
        });
      }
    }
    return lines;
  }

  // Centre and size of all that is shown.
  measure() {
    const at = this.moved(null, 0);
    const low = [Infinity, Infinity, Infinity];
    const high = [-Infinity, -Infinity, -Infinity];
    const widen = (point, by) =>
      point.forEach((x, k) => {
        low[k] = Math.min(low[k], x - by);
        high[k] = Math.max(high[k], x + by);
      });
    for (let i = 0; i < this.count; i += 1) {
      widen([...at.subarray(3 * i, 3 * i + 3)], this.data.radii[this.kinds[i]]);
    }
    if (this.data.dimension === 2 && this.data.pbc.some(Boolean)) {
      // Discs that leave the cell come in again at the other side.
      low.fill(Infinity);
      high.fill(-Infinity);
    }
    const margin = this.data.dimension === 2 ? 0.35 * Math.max(...this.data.radii) : 0;
    this.box(this.data.cell).forEach((line) => line.forEach((point) => widen(point, margin)));
    this.low = low;
    this.high = high;
    this.centre = low.map((x, k) => (x + high[k]) / 2);
    const sides = low.map((x, k) => high[k] - x);
    this.size = Math.hypot(...(this.data.dimension === 2 ? sides.slice(0, 2) : sides));
    this.sides = sides;
  }

  // Shifts of a flat periodic cell to images that reach into its picture.
  shifts(cell) {
    const { pbc } = this.data;
    const found = [];
    for (const i of pbc[0] ? [-1, 0, 1] : [0]) {
      for (const j of pbc[1] ? [-1, 0, 1] : [0]) {
        if (i || j) found.push([0, 1].map((k) => i * cell[0][k] + j * cell[1][k]));
      }
    }
    return found;
  }

  // Pairs of atoms whose spheres touch, or nearly so.
  bonds() {
    if (this.knownBonds) return this.knownBonds;
    const at = this.moved(null, 0);
    const { radii, reach } = this.data;
    const widest = 2 * reach * Math.max(...radii);
    const cells = new Map();
    const key = (x, y, z) => `${x},${y},${z}`;
    const place = (i) => [0, 1, 2].map((k) => Math.floor(at[3 * i + k] / widest));
    for (let i = 0; i < this.count; i += 1) {
      const name = key(...place(i));
      if (!cells.has(name)) cells.set(name, []);
      cells.get(name).push(i);
    }
    const pairs = [];
    for (let i = 0; i < this.count; i += 1) {
      const [x, y, z] = place(i);
      for (let n = 0; n < 27; n += 1) {
        const near = cells.get(key(x + (n % 3) - 1, y + (Math.floor(n / 3) % 3) - 1,
          z + Math.floor(n / 9) - 1)) || [];
        for (const j of near) {
          if (j <= i) continue;
          const apart = Math.hypot(...[0, 1, 2].map((k) => at[3 * i + k] - at[3 * j + k]));
          if (apart < reach * (radii[this.kinds[i]] + radii[this.kinds[j]])) pairs.push([i, j]);
        }
      }
    }
    this.knownBonds = pairs;
    return pairs;
  }
}

function lengthsOf(vectors) {
  const found = new Float64Array(vectors.length / 3);
  for (let i = 0; i < found.length; i += 1) {
    found[i] = Math.hypot(vectors[3 * i], vectors[3 * i + 1], vectors[3 * i + 2]);
  }
  return found;
}
