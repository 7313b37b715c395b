// The map of the images: points on a canvas, and a lasso or rectangle that selects some of them.
"use strict";

const CELLS = 1000;
const GREY = 255;
const CORNERS = 100;
const SHOWN = 12;

const map = document.getElementById("map");
const canvas = map.querySelector("canvas");
const outline = map.querySelector("polygon");
const hover = document.getElementById("map-hover");
const count = document.getElementById("map-count");
const showButton = document.getElementById("map-show");
const clearButton = document.getElementById("map-clear");
const cards = document.getElementById("map-cards");
const query = map.dataset.query;
const ask = (path, extra) => fetch(`${path}?${[query, extra].filter(Boolean).join("&")}`);
let points = null;

function colours() {
  // Those of the classes .c0, .c1, … that tags have on all pages.
  const probe = map.appendChild(document.createElement("i"));
  const found = [];
  for (let number = 0; number < GREY; number++) {
    probe.className = `c${number}`;
    const value = getComputedStyle(probe).getPropertyValue("--tag").trim();
    if (!value) break;
    found.push([1, 3, 5].map((at) => parseInt(value.slice(at, at + 2), 16)));
  }
  probe.remove();
  return found;
}

function draw() {
  const side = Math.round(map.clientWidth * devicePixelRatio);
  if (!points || !side) return;
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(side, side);
  const palette = colours();
  const radius = Math.max(1, Math.round(side / (points.cells.length > 20000 ? 700 : points.cells.length > 2000 ? 300 : 120)));
  const clear = 255 * (points.cells.length > 20000 ? 0.6 : 0.85);
  points.cells.forEach((cell, at) => {
    const x = Math.round(((cell % CELLS) + .5) * side / CELLS), y = Math.round((Math.floor(cell / CELLS) + .5) * side / CELLS);
    const [red, green, blue] = palette[points.colours[at]] ?? [136, 136, 136];
    for (let dy = -radius; dy <= radius; dy++) {
      for (let dx = -radius; dx <= radius; dx++) {
        if (dx * dx + dy * dy > radius * radius || x + dx < 0 || x + dx >= side || y + dy < 0 || y + dy >= side) continue;
        const to = 4 * ((y + dy) * side + x + dx);
        picture.data[to] = red;
        picture.data[to + 1] = green;
        picture.data[to + 2] = blue;
        picture.data[to + 3] = clear;
      }
    }
  });
  context.putImageData(picture, 0, 0);
}

function cornersOf(lasso) {
  const corners = lasso.split("-").map((corner) => corner.split(".").map(Number));
  if (corners.length !== 2) return corners;
  const [[x0, y0], [x1, y1]] = corners;
  return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
}

let asked = 0;
async function select(lasso) {
  const number = ++asked;
  outline.setAttribute("points", lasso ? cornersOf(lasso).join(" ") : "");
  clearButton.disabled = !lasso;
  showButton.hidden = !lasso;
  const address = new URL(location.href);
  if (lasso) address.searchParams.set("lasso", lasso);
  else address.searchParams.delete("lasso");
  history.replaceState(null, "", address);
  if (!lasso) {
    cards.replaceChildren();
    count.textContent = points ? `${points.cells.length.toLocaleString("en")} images; none selected` : "";
    return;
  }
  showButton.href = `/?${[query, `lasso=${lasso}`].filter(Boolean).join("&")}`;
  const answer = await ask("/api/records", `lasso=${lasso}&limit=${SHOWN}`);
  const found = await answer.json();
  if (number !== asked) return;
  if (!answer.ok) {
    count.textContent = found.error;
    return;
  }
  count.textContent = `${found.total.toLocaleString("en")} ${found.total === 1 ? "image" : "images"} selected`;
  showButton.hidden = found.total === 0;
  cards.replaceChildren(...found.records.map((record) => {
    const item = document.createElement("li");
    const link = item.appendChild(document.createElement("a"));
    const id = encodeURIComponent(record.image_id);
    link.className = "card";
    link.href = `/image/${id}?${[query, `lasso=${lasso}`].filter(Boolean).join("&")}`;
    const thumb = link.appendChild(document.createElement("span"));
    thumb.className = "thumb";
    const image = thumb.appendChild(document.createElement("img"));
    image.src = `/thumb/${id}`;
    image.alt = record.caption ?? record.image_id;
    return item;
  }));
}

// The pointer draws: a path that is closed when it is let go, or two corners of a rectangle.
let path = null;
const cellAt = (event) => {
  const frame = map.getBoundingClientRect();
  return [event.clientX - frame.left, event.clientY - frame.top].map((value) =>
    Math.max(0, Math.min(CELLS - 1, Math.round(value * CELLS / frame.width))));
};
const shape = () => document.querySelector("input[name=shape]:checked").value;
const textOf = (corners) => corners.map((corner) => corner.join(".")).join("-");
const isDrawn = () => path.some(([x, y]) => Math.hypot(x - path[0][0], y - path[0][1]) > 6);

map.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  event.preventDefault();
  map.setPointerCapture(event.pointerId);
  path = [cellAt(event)];
  hover.hidden = true;
});
map.addEventListener("pointermove", (event) => {
  if (!path) return look(event);
  path.push(cellAt(event));
  outline.setAttribute("points", cornersOf(textOf(shape() === "rectangle" ? [path[0], path.at(-1)] : path)).join(" "));
});
map.addEventListener("pointerup", async (event) => {
  if (!path) return;
  const drawn = isDrawn(), corners = path;
  path = null;
  if (!drawn) {
    const found = await nearest(cellAt(event));
    if (found) location.href = found.href;
    else select("");
    return;
  }
  if (shape() === "rectangle") return select(textOf([corners[0], corners.at(-1)]));
  const step = Math.max(1, Math.ceil(corners.length / CORNERS));
  const kept = corners.filter((_, number) => number % step === 0);
  while (kept.length < 3) kept.push(kept.at(-1));
  select(textOf(kept));
});
map.addEventListener("pointercancel", () => { path = null; });
map.addEventListener("pointerleave", () => { hover.hidden = true; });

async function nearest([x, y]) {
  const answer = await ask("/map/nearest", `x=${x}&y=${y}`);
  return answer.ok ? answer.json() : null;
}
let waiting = null;
function look(event) {
  if (event.pointerType === "touch") return;
  clearTimeout(waiting);
  const cell = cellAt(event);
  waiting = setTimeout(async () => {
    const found = await nearest(cell);
    hover.hidden = !found || path !== null;
    if (hover.hidden) return;
    hover.querySelector("img").src = found.thumb;
    hover.querySelector("span").textContent = found.image_id;
    hover.style.left = `${cell[0] / CELLS * 100}%`;
    hover.style.top = `${cell[1] / CELLS * 100}%`;
    hover.classList.toggle("to-left", cell[0] > CELLS / 2);
    hover.classList.toggle("to-top", cell[1] > CELLS / 2);
  }, 60);
}

clearButton.addEventListener("click", () => select(""));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") select("");
});
new ResizeObserver(draw).observe(map);

(async () => {
  const answer = await ask("/map/points", "");
  const data = await answer.arrayBuffer();
  const number = data.byteLength / 5;
  points = { cells: new Uint32Array(data, 0, number), colours: new Uint8Array(data, 4 * number) };
  draw();
  select(map.dataset.lasso);
})();
