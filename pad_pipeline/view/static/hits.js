// Which regions lie under a point of a picture: by the pixels of their masks, the smallest first.
"use strict";

class RegionHits {
  // A mask's pixels are kept at most this many wide or high: enough to point at.
  static SIDE = 700;

  constructor(svg) {
    const { width, height } = svg.viewBox.baseVal;
    this.size = { width, height };
    this.shapes = [...svg.querySelectorAll(".shape")].map((shape) => {
      const box = shape.querySelector(".box");
      const [x, y, w, h] = ["x", "y", "width", "height"].map((name) => Number(box.getAttribute(name)));
      return {
        number: Number(shape.dataset.region),
        address: shape.querySelector(".fill")?.getAttribute("href"), // none where only boxes are known
        box: { x, y, w, h },
        covered: null, // one byte a pixel, once it is loaded
        area: Infinity,
      };
    });
    this.loading = null;
  }

  // The masks' pixels; the layers are on the page already, so this costs no request.
  load() {
    this.loading ??= Promise.all(this.shapes.map((shape) => this.#read(shape)));
    return this.loading;
  }

  async #read(shape) {
    if (!shape.address) return;
    const image = new Image();
    image.src = shape.address;
    try {
      await image.decode();
    } catch {
      return; // a damaged mask: its box is what can be pointed at
    }
    const scale = Math.min(1, RegionHits.SIDE / Math.max(image.width, image.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(image.width * scale));
    canvas.height = Math.max(1, Math.round(image.height * scale));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const covered = new Uint8Array(canvas.width * canvas.height);
    let count = 0;
    for (let at = 0; at < covered.length; at++) {
      covered[at] = data[4 * at + 3] > 127 ? 1 : 0;
      count += covered[at];
    }
    Object.assign(shape, { covered, width: canvas.width, height: canvas.height });
    shape.area = count ? count / covered.length : Infinity;
  }

  // The numbers of the regions at (x, y), in units of the picture: those whose mask is there, the
  // smallest first, then those of which only the box is.
  at(x, y) {
    const inside = ({ box }) => x >= box.x && x <= box.x + box.w && y >= box.y && y <= box.y + box.h;
    const onMask = this.shapes.filter((shape) => this.#covers(shape, x, y)).sort((a, b) => a.area - b.area);
    const inBox = this.shapes
      .filter((shape) => !onMask.includes(shape) && inside(shape))
      .sort((a, b) => a.box.w * a.box.h - b.box.w * b.box.h);
    return [...onMask, ...inBox].map((shape) => shape.number);
  }

  #covers(shape, x, y) {
    if (shape.covered === null) return false;
    const column = Math.floor((x / this.size.width) * shape.width);
    const row = Math.floor((y / this.size.height) * shape.height);
    if (column < 0 || row < 0 || column >= shape.width || row >= shape.height) return false;
    return shape.covered[row * shape.width + column] === 1;
  }
}
