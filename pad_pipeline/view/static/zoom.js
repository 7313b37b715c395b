// Zoom and pan of a picture: the wheel, two fingers, dragging, and a few set sizes.
"use strict";

class Zoom {
  static LARGEST = 24; // times the whole picture

  // `pixels` is the image's own width; `changed` is called after every change.
  constructor(svg, pixels, changed) {
    const { width, height } = svg.viewBox.baseVal;
    Object.assign(this, { svg, pixels, changed, whole: { x: 0, y: 0, w: width, h: height } });
    this.view = { ...this.whole };
    this.pointers = new Map();
    this.dragged = false; // whether the last press moved the picture, so that it is no click
    svg.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    svg.addEventListener("pointerdown", (event) => this.#down(event));
    svg.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      svg.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    svg.addEventListener("dblclick", () => this.fit());
  }

  // How many times larger than as a whole the picture is shown.
  get factor() {
    return this.whole.w / this.view.w;
  }

  // A point of the window in units of the picture.
  point(event) {
    const place = new DOMPoint(event.clientX, event.clientY);
    return place.matrixTransform(this.svg.getScreenCTM().inverse());
  }

  fit() {
    this.#show({ ...this.whole });
  }

  // One pixel of the image on one of the page, about the middle of what is shown.
  actual() {
    const shown = this.svg.getScreenCTM().a * this.view.w; // the view's width on the page
    this.by((this.pixels / shown) / this.factor);
  }

  by(times, centre = { x: this.view.x + this.view.w / 2, y: this.view.y + this.view.h / 2 }) {
    const factor = Math.min(Math.max(this.factor * times, 1), Zoom.LARGEST);
    const w = this.whole.w / factor;
    const h = this.whole.h / factor;
    const x = centre.x - (centre.x - this.view.x) * (w / this.view.w);
    const y = centre.y - (centre.y - this.view.y) * (h / this.view.h);
    this.#show({ x, y, w, h });
  }

  #show({ x, y, w, h }) {
    x = Math.min(Math.max(x, 0), this.whole.w - w);
    y = Math.min(Math.max(y, 0), this.whole.h - h);
    this.view = { x, y, w, h };
    this.svg.setAttribute("viewBox", `${x} ${y} ${w} ${h}`);
    this.svg.classList.toggle("zoomed", this.factor > 1.001);
    this.changed(this.factor);
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    this.by(Math.exp(-event.deltaY * lines * 0.0018), this.point(event));
  }

  #down(event) {
    this.dragged = false;
    this.pointers.set(event.pointerId, { at: this.point(event), x: event.clientX, y: event.clientY });
  }

  #move(event) {
    const pressed = this.pointers.get(event.pointerId);
    if (!pressed) return;
    const far = Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) > 4;
    if (this.pointers.size === 2) {
      this.#pinch(event);
    } else if ((far || this.dragged) && this.factor > 1.001) {
      if (!this.dragged) this.svg.setPointerCapture(event.pointerId);
      this.dragged = true;
      const now = this.point(event);
      const { x, y, w, h } = this.view;
      this.#show({ x: x + pressed.at.x - now.x, y: y + pressed.at.y - now.y, w, h });
    }
  }

  #pinch(event) {
    this.dragged = true;
    const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, pointer]) => pointer);
    const moved = this.pointers.get(event.pointerId);
    const before = Math.hypot(moved.x - other.x, moved.y - other.y);
    const after = Math.hypot(event.clientX - other.x, event.clientY - other.y);
    Object.assign(moved, { x: event.clientX, y: event.clientY });
    if (before > 0) this.by(after / before, other.at);
  }
}
