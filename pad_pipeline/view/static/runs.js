// The page of trained runs: one variant of the projector and one iteration at a time.
"use strict";

const sections = [...document.querySelectorAll(".variant")];
const slider = document.getElementById("variant");
const buttons = [...document.querySelectorAll("[data-variant]")];
let iteration = 1;

function showVariant(index) {
  sections.forEach((section, number) => { section.hidden = number !== index; });
  buttons.forEach((button, number) => button.setAttribute("aria-pressed", String(number === index)));
  slider.value = index;
  const name = sections[index].dataset.name;
  const address = new URL(location.href);
  address.searchParams.set("variant", name);
  history.replaceState(null, "", address);
  for (const link of document.querySelectorAll("[data-keeps-variant]")) {
    const target = new URL(link.href);
    target.searchParams.set("variant", name);
    link.href = target;
  }
  showIteration();
}

function showIteration() {
  for (const section of sections) {
    const field = section.querySelector(".iteration");
    field.value = iteration;
    field.nextElementSibling.textContent = iteration;
    for (const map of section.querySelectorAll("[data-iteration]")) {
      map.hidden = Number(map.dataset.iteration) !== Number(field.value);
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
  showVariant(Number(slider.value));
}
