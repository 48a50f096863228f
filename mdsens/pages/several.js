// Several structures, of which one is seen at a time: a slider and buttons choose it.

class Several {
  constructor(parent, data) {
    this.data = data;
    this.place = element("div");
    const last = data.names.length - 1;
    this.slider = element("input", { type: "range", min: 0, max: last, step: 1, value: data.first });
    this.slider.setAttribute("aria-label", "structure");
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
    this.name = element("output", { class: "which" });
    const step = (text, title, by) => {
      const made = element("button", { type: "button", textContent: text, title });
      made.addEventListener("click", () => this.show(this.index + by));
      return made;
    };
    const more = data.left ? `; ${data.left} more have no room in the page` : "";
    parent.replaceChildren(
      element("div", { class: "several" }, step("‹", "the one before", -1), this.slider,
        step("›", "the next one", 1), this.name, element("span", { class: "hint" }, more)),
      this.place,
    );
    this.show(data.first);
  }

  show(index) {
    if (index < 0 || index >= this.data.scenes.length) return;
    this.index = index;
    this.slider.value = index;
    this.name.textContent = this.data.names[index];
    // The next is looked at from where this one was.
    const { viewer } = this;
    const fresh = element("div");
    this.place.replaceChildren(fresh);
    this.viewer = new Viewer(fresh, this.data.scenes[index]);
    if (viewer) this.viewer.takeOver(viewer);
  }
}

for (const place of document.querySelectorAll("[data-structures]")) {
  place.several = new Several(place, dataOf(place.dataset.structures));
}
