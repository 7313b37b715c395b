// The page of trained runs: all variants of the projector side by side, or one at a time; one
// iteration at a time.
"use strict";

const sections = [...document.querySelectorAll(".variant")];
const slider = document.getElementById("variant");
const buttons = [...document.querySelectorAll("[data-variant]")];
let iteration = 1;

const together = document.getElementById("side-by-side");

// The variant of a number, null for all.
function showVariant(index) {
  sections.forEach((section, number) => { section.hidden = index !== null && number !== index; });
  buttons.forEach((button, number) => button.setAttribute("aria-pressed", String(number === index)));
  together.setAttribute("aria-pressed", String(index === null));
  document.querySelector(".variants").classList.toggle("all", index === null);
  if (index !== null) slider.value = index;
  const name = index === null ? "" : sections[index].dataset.name;
  const address = new URL(location.href);
  setOrDelete(address, name);
  history.replaceState(null, "", address);
  for (const link of document.querySelectorAll("[data-keeps-variant]")) {
    const target = new URL(link.href);
    setOrDelete(target, name);
    link.href = target;
  }
  showIteration();
}

function setOrDelete(address, name) {
  if (name) address.searchParams.set("variant", name);
  else address.searchParams.delete("variant");
}

// No word is wider than its patch: a little too wide, it is squeezed; far too wide, made smaller.
const ROOM = 0.94;
const NARROWEST = 0.62;
function fitWords(map) {
  if (map.dataset.fitted || !map.checkVisibility()) return;
  map.dataset.fitted = "1";
  const words = [...map.querySelectorAll(".words text")].map((word) => [word, word.getComputedTextLength()]);
  for (const [word, width] of words) {
    if (width <= ROOM) continue;
    const size = Number(word.getAttribute("font-size"));
    if (ROOM / width < NARROWEST) word.setAttribute("font-size", (size * ROOM) / width / NARROWEST);
    word.setAttribute("textLength", ROOM);
    word.setAttribute("lengthAdjust", "spacingAndGlyphs");
  }
}

function showIteration() {
  for (const section of sections) {
    const field = section.querySelector(".iteration");
    field.value = iteration;
    field.nextElementSibling.textContent = iteration;
    for (const map of section.querySelectorAll("[data-iteration]")) {
      map.hidden = Number(map.dataset.iteration) !== Number(field.value);
      fitWords(map);
    }
  }
}

if (sections.length) {
  slider.addEventListener("input", () => showVariant(Number(slider.value)));
  buttons.forEach((button, index) => button.addEventListener("click", () => showVariant(index)));
  for (const field of document.querySelectorAll(".iteration")) {
    field.addEventListener("input", () => {
      iteration = Number(field.value);
      showIteration();
    });
  }
  together.addEventListener("click", () => showVariant(null));
  const alone = buttons.findIndex((button) => button.getAttribute("aria-pressed") === "true");
  showVariant(alone < 0 ? null : alone);
}
