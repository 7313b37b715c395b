// The score slider of the ground-truth pages: what goes by it is loaded while it moves.
"use strict";

for (const form of document.querySelectorAll("form.cut")) {
  const slider = form.elements.min_score;
  const output = form.querySelector("output");
  const live = [...document.querySelectorAll("[data-live]")].length > 1;

  const address = () => {
    const query = new URLSearchParams(new FormData(form));
    if (Number(slider.value) === 0) query.delete("min_score");
    return [form.getAttribute("action"), query.toString()].filter(Boolean).join("?");
  };

  let asked = 0;
  const load = async () => {
    const number = ++asked;
    const wanted = address();
    const response = await fetch(wanted).catch(() => null);
    const text = response?.ok ? await response.text() : null;
    if (number !== asked) return; // moved on
    if (text === null) return location.assign(wanted);
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      part.replaceWith(page.querySelector(`[data-live="${part.dataset.live}"]`));
    }
    history.replaceState(null, "", wanted);
  };

  let timer;
  slider.addEventListener("input", () => {
    output.textContent = Number(slider.value).toFixed(2);
    clearTimeout(timer);
    if (live) timer = setTimeout(load, 120);
  });
  slider.addEventListener("change", () => {
    if (!live) location.assign(address()); // its picture has buttons and keys of its own
  });
}
