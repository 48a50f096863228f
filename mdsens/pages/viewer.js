// A structure that one turns, moves and picks atoms of: its controls, and what they change.

class Viewer extends Picture {
  constructor(parent, data) {
    super(data);
    this.state = {
      motion: this.firstMotion(data.parameter), amount: 0, size: this.flat ? 1 : 0.75, arrow: 1,
      color: "", arrows: true, bonds: false, box: true, perspective: !this.flat, picked: -1, least: 0,
    };
    this.state.color = (this.state.motion || {}).longest > 0 ? "motion" : "species";
    this.build(parent);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.show();
  }

  // The parameter that is asked for, or the first one that moves an atom.
  firstMotion(name) {
    const { motions } = this.scene;
    return motions.find((one) => one.name === name) || motions.find((one) => one.longest > 0)
      || motions[0] || null;
  }

  build(parent) {
    this.canvas = element("canvas", { tabIndex: 0, class: "scene" });
    this.canvas.setAttribute("aria-label", `${this.data.title}: drag to turn, scroll to zoom`);
    this.told = element("div", { class: "told" });
    this.controls = element("div", { class: "controls" });
    parent.classList.add("viewer");
    parent.replaceChildren(this.controls, this.canvas, this.told);
    const { motions } = this.scene;
    if (motions.length) {
      this.choice("sensitivity to", motions.map((one) => [one.name, one.name]),
        this.state.motion.name, (name) => {
          this.state.motion = motions.find((one) => one.name === name);
          this.state.amount = 0;
          this.slider.value = 0;
        });
      this.choice("colour", [["motion", "|dx/dθ|"], ["species", "species"]], this.state.color,
        (value) => { this.state.color = value; });
      this.slider = this.range("move along it", -1, 1, 0, (value) => {
        this.state.amount = Math.abs(value) < 0.02 ? 0 : value;
      });
      this.slider.title = "move the atoms to first order in the parameter; double click: back";
      this.slider.addEventListener("dblclick", () => {
        this.slider.value = 0;
        this.set({ amount: 0 });
      });
      this.amount = element("output", { class: "amount" });
      this.controls.append(this.amount);
      this.range("arrow length", 0.2, 3, 1, (value) => { this.state.arrow = value; });
      this.check("arrows");
      this.range("hide what moves less", 0, 1, 0, (value) => { this.state.least = value; }).title =
        "atoms that move less than this part of the most are not drawn";
    }
    if (!this.flat) this.range("atom size", 0.2, 1.6, 0.75, (value) => { this.state.size = value; });
    this.check("bonds", this.flat ? "contacts" : "bonds");
    if (this.data.pbc.some(Boolean)) this.check("box", "cell");
    if (!this.flat) {
      this.check("perspective");
      for (const axis of ["x", "y", "z"]) {
        this.button(axis, `look along ${axis}`, () => this.camera.along(axis));
      }
    }
    this.button("reset", "the first view again", () => this.camera.home());
  }

  // Look at it from where another was looked at, along the same parameter.
  takeOver({ camera, state }) {
    const { rotation, zoom, pan } = camera;
    Object.assign(this.camera, { rotation, zoom, pan });
    const name = state.motion && state.motion.name;
    const select = this.controls.querySelector("select");
    if (name && this.scene.motions.some((one) => one.name === name)) {
      select.value = name;
      select.dispatchEvent(new Event("change"));
    }
    this.show();
  }

  choice(label, options, value, change) {
    const made = element("select", {}, ...options.map(([name, text]) =>
      element("option", { value: name, textContent: text, selected: name === value })));
    made.addEventListener("change", () => { change(made.value); this.show(); });
    this.controls.append(element("label", {}, `${label} `, made));
    return made;
  }

  range(label, low, high, value, change) {
    const made = element("input", { type: "range", min: low, max: high, step: 0.01, value });
    made.addEventListener("input", () => { change(Number(made.value)); this.show(); });
    this.controls.append(element("label", {}, `${label} `, made));
    return made;
  }

  check(name, text = name) {
    const made = element("input", { type: "checkbox", checked: this.state[name] });
    made.addEventListener("change", () => this.set({ [name]: made.checked }));
    this.controls.append(element("label", {}, made, ` ${text}`));
  }

  button(text, title, act) {
    const made = element("button", { type: "button", textContent: text, title });
    made.addEventListener("click", () => { act(); this.draw(); });
    this.controls.append(made);
  }

  set(changed) {
    Object.assign(this.state, changed);
    this.show();
  }

  listen() {
    const { canvas, camera } = this;
    const held = new Map();
    let moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      held.set(event.pointerId, event);
      moved = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const last = held.get(event.pointerId);
      if (!last) return;
      const [dx, dy] = [event.clientX - last.clientX, event.clientY - last.clientY];
      moved += Math.abs(dx) + Math.abs(dy);
      if (held.size === 2) {
        const [a, b] = [...held.values()];
        const before = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        held.set(event.pointerId, event);
        const [c, d] = [...held.values()];
        this.zoomBy(Math.hypot(c.clientX - d.clientX, c.clientY - d.clientY) / before);
        return;
      }
      held.set(event.pointerId, event);
      if (this.flat || event.shiftKey || event.buttons === 2 || event.buttons === 4) {
        camera.pan[0] += dx;
        camera.pan[1] += dy;
      } else {
        camera.turn(dx * 0.008, dy * 0.008);
      }
      this.draw();
    });
    const release = (event) => {
      const was = held.delete(event.pointerId);
      if (was && event.type === "pointerup" && moved < 5) this.pick(event);
    };
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      // Whoever scrolls past shall not be caught.
      if (document.activeElement !== canvas && !event.ctrlKey) return;
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      const at = [event.clientX - box.left - canvas.clientWidth / 2,
        event.clientY - box.top - canvas.clientHeight / 2];
      this.zoomBy(Math.exp(-event.deltaY * 0.0015), at);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (event.key in turns && this.flat) {
        camera.pan = camera.pan.map((x, k) => x + 20 * turns[event.key][k]);
      } else if (event.key in turns) camera.turn(...turns[event.key].map((one) => one * 0.1));
      else if ("+=".includes(event.key)) this.zoomBy(1.1);
      else if (event.key === "-") this.zoomBy(1 / 1.1);
      else if (event.key === "Escape") this.set({ picked: -1 });
      else return;
      event.preventDefault();
      this.draw();
    });
  }

  zoomBy(factor, at = [0, 0]) {
    const { camera } = this;
    const zoom = Math.min(Math.max(camera.zoom * factor, 0.2), 60);
    // What is under the pointer stays there.
    camera.pan = camera.pan.map((x, k) => at[k] - (at[k] - x) * (zoom / camera.zoom));
    camera.zoom = zoom;
    this.draw();
  }

  // Draw at the next frame, once.
  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.drawNow();
    });
  }

  // The same, with what is said beside the picture.
  show() {
    const { motion, amount, picked } = this.state;
    if (motion) {
      const change = amount * motion.range;
      const unit = motion.parameterUnit ? ` ${motion.parameterUnit}` : "";
      const share = motion.value ? (100 * change) / motion.value : 0;
      const far = Math.abs(share) > 10 ? ", exaggerated" : "";
      const percent = share ? ` (${share > 0 ? "+" : "−"}${plain(Math.abs(share), 2)} %${far})` : "";
      this.amount.textContent = change
        ? `${motion.name} = ${plain(motion.value, 5)} ${change > 0 ? "+" : "−"} `
          + `${plain(Math.abs(change), 2)}${unit}${percent}`
        : `${motion.name} = ${plain(motion.value, 7)}${unit}`;
      this.slider.disabled = !motion.range;
    }
    this.told.replaceChildren(...(picked < 0 ? [this.hint()] : this.toldOf(picked)));
    this.draw();
  }

  hint() {
    const move = this.flat ? "Drag to move" : "Drag to turn, with shift to move";
    const { motion } = this.state;
    const still = motion && !(motion.longest > 0) ? ` No atom moves with ${motion.name}` +
      `${motion.cell ? ", but for the strain of the cell" : ""}.` : "";
    const strain = motion && motion.cell && motion.longest > 0
      ? " Arrows and colours leave out the strain of the cell; the slider has it." : "";
    const { left } = this.data;
    const more = left ? ` ${left} more parameters, which move atoms less, are in files alone.` : "";
    return element("span", { class: "hint" },
      `${move}; click, and scroll to zoom; click an atom to pick it.${still}${strain}${more}`);
  }

  // What is known of an atom.
  toldOf(i) {
    const { data, scene } = this;
    const { motion } = this.state;
    const place = [0, 1, 2].slice(0, data.dimension);
    const list = (of, error) => place.map((k) => withDigits(of[3 * i + k], error)).join(", ");
    const unit = data.lengthUnit ? ` ${data.lengthUnit}` : "";
    const parts = [
      element("strong", {}, `atom ${i}`),
      ` ${data.species[scene.kinds[i]]}${scene.fixed.has(i) ? ", held fixed" : ""}; position (`,
      list(data.positions, data.positionError), `)${unit} ± ${errorText(data.positionError)}`,
    ];
    if (motion) {
      parts.push(`; dx/d ${motion.name} = (`, list(motion.vectors, motion.error),
        `)${motion.unit ? ` ${motion.unit}` : ""} ± ${errorText(motion.error)}, of length `,
        withDigits(motion.lengths[i], motion.error));
    }
    return parts;
  }

  pick(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let found = -1;
    for (const [i, at] of this.seen.entries()) {
      if (Math.hypot(at.x - x, at.y - y) > Math.max(at.r, 4) || !this.isShown(i)) continue;
      if (found < 0 || at.z > this.seen[found].z) found = i;
    }
    this.set({ picked: found });
  }
}

for (const place of document.querySelectorAll("[data-structure]")) {
  place.viewer = new Viewer(place, dataOf(place.dataset.structure));
}
