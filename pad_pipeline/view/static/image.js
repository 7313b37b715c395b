// The page of one image: switches, opacity, and a region and its row lit up together.
"use strict";

const picture = document.getElementById("picture");
const table = document.getElementById("regions");

if (picture) {
  const svg = picture.querySelector("svg");
  const rows = table ? [...table.tBodies[0].rows] : [];
  const parts = (number) => [
    ...svg.querySelectorAll(`[data-region="${number}"]`),
    ...rows.filter((row) => row.dataset.region === String(number)),
  ];
  let selected = Number(picture.dataset.selected);

  const heat = (number) => {
    for (const lit of document.querySelectorAll(".hot")) lit.classList.remove("hot");
    if (number !== null) for (const part of parts(number)) part.classList.add("hot");
    picture.classList.toggle("has-hot", number !== null || selected >= 0);
  };

  const select = (number) => {
    for (const old of document.querySelectorAll("[data-region].selected")) old.classList.remove("selected");
    selected = number;
    for (const part of parts(number)) part.classList.add("selected");
    const address = new URL(location.href);
    if (number >= 0) address.searchParams.set("region", number);
    else address.searchParams.delete("region");
    history.replaceState(null, "", address);
    heat(null);
    document.dispatchEvent(new CustomEvent("regionselected", { detail: number }));
    if (number >= 0) rows[number]?.scrollIntoView({ block: "nearest" });
  };

  const show = (number, on) => {
    for (const part of parts(number)) part.classList.toggle("off", !on);
    const box = rows[number]?.querySelector("input");
    if (box) box.checked = on;
    updateLegend();
  };
  const isOn = (number) => !rows[number].classList.contains("off");

  const legend = [...document.querySelectorAll(".legend button")];
  const numbersOf = (button) => button.dataset.regions.split(" ").map(Number);
  const updateLegend = () => {
    for (const button of legend) button.setAttribute("aria-pressed", numbersOf(button).some(isOn));
  };
  for (const button of legend) {
    button.addEventListener("click", () => {
      const on = !numbersOf(button).some(isOn);
      for (const number of numbersOf(button)) show(number, on);
    });
    button.addEventListener("mouseenter", () => {
      heat(null);
      for (const number of numbersOf(button)) for (const part of parts(number)) part.classList.add("hot");
      picture.classList.add("has-hot");
    });
    button.addEventListener("mouseleave", () => heat(null));
  }

  const hits = new RegionHits(svg);
  const isShown = (number) => parts(number).every((part) => !part.matches(".off, .below"));
  const under = (event) => {
    const { x, y } = zoom.point(event);
    return hits.at(x, y).filter(isShown);
  };
  const zoomed = document.getElementById("zoomed");
  const zoom = new Zoom(svg, Number(picture.dataset.pixels), (factor) => {
    zoomed.textContent = factor > 1.001 ? `${factor.toFixed(1)} ×` : "";
    sizeLabels();
  });
  // Labels are as large on the page at every zoom, and never too small to read; each is held at
  // its lower left corner, as far as that keeps it inside the picture.
  const LEAST_LETTERS = 10.5;
  const sizeLabels = () => {
    const unit = svg.getScreenCTM().a;
    for (const label of svg.querySelectorAll(".shape-label")) {
      const rect = label.querySelector("rect");
      const [x, y, width, height] = ["x", "y", "width", "height"].map((name) => Number(rect.getAttribute(name)));
      const letters = Number(label.querySelector("text").getAttribute("font-size")) * unit;
      const scale = Math.max(1 / zoom.factor, LEAST_LETTERS / letters);
      const left = Math.max(0, Math.min(x, zoom.whole.w - width * scale));
      const top = Math.max(0, y + height - height * scale);
      label.setAttribute("transform", `translate(${left} ${top}) scale(${scale}) translate(${-x} ${-y})`);
    }
  };
  new ResizeObserver(sizeLabels).observe(svg);
  svg.addEventListener("pointerenter", () => hits.load());
  svg.addEventListener("pointermove", (event) => {
    if (zoom.dragged) return;
    const [first] = under(event);
    svg.classList.toggle("at-region", first !== undefined);
    heat(first ?? null);
  });
  svg.addEventListener("pointerleave", () => heat(null));
  svg.addEventListener("click", async (event) => {
    if (zoom.dragged) return;
    await hits.load();
    // The smallest region at this place; clicked again, the next larger one, in the end none.
    const numbers = under(event);
    select(numbers[numbers.indexOf(selected) + 1] ?? -1);
  });
  document.getElementById("fit").addEventListener("click", () => zoom.fit());
  document.getElementById("actual").addEventListener("click", () => zoom.actual());

  const from = document.getElementById("from-score");
  const setFrom = () => {
    const least = Number(from.value) / 100;
    let count = 0;
    rows.forEach((row, number) => {
      const below = Number(row.dataset.score) < least;
      for (const part of parts(number)) part.classList.toggle("below", below);
      count += below ? 0 : 1;
    });
    from.nextElementSibling.textContent = `${least.toFixed(2)}: ${count} of ${rows.length}`;
  };
  from?.addEventListener("input", () => {
    setFrom();
    remember("from-score", from.value);
  });
  rows.forEach((row, number) => {
    row.addEventListener("mouseenter", () => heat(number));
    row.addEventListener("mouseleave", () => heat(null));
    row.addEventListener("focusin", () => heat(number));
    row.addEventListener("focusout", () => heat(null));
    row.addEventListener("click", (event) => {
      if (event.target.matches("input, .like")) return;
      event.preventDefault();
      select(selected === number ? -1 : number);
    });
    row.querySelector("input").addEventListener("change", (event) => show(number, event.target.checked));
  });

  const opacity = document.getElementById("opacity");
  const setOpacity = () => {
    picture.style.setProperty("--fill", opacity.value / 100);
    opacity.nextElementSibling.textContent = `${opacity.value} %`;
  };
  opacity.addEventListener("input", () => {
    setOpacity();
    remember("opacity", opacity.value);
  });
  const switches = { masks: "M", boxes: "B", labels: "L" };
  const setSwitch = (name) => {
    picture.classList.toggle(`no-${name}`, !document.getElementById(name).checked);
  };
  for (const name of Object.keys(switches)) {
    document.getElementById(name).addEventListener("change", (event) => {
      setSwitch(name);
      remember(name, event.target.checked ? "1" : "0");
    });
  }
  document.getElementById("all").addEventListener("click", () => rows.forEach((_, number) => show(number, true)));
  document.getElementById("none").addEventListener("click", () => rows.forEach((_, number) => show(number, false)));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    const key = event.key.toLowerCase();
    const step = { j: 1, k: -1, arrowdown: 1, arrowup: -1 }[key];
    const shown = rows.map((_, number) => number).filter((number) => !rows[number].matches(".below"));
    if (step && shown.length && !(key.startsWith("arrow") && !event.target.closest("#regions"))) {
      event.preventDefault();
      const before = shown.indexOf(selected) < 0 && step < 0 ? 0 : shown.indexOf(selected);
      select(shown[(before + step + shown.length) % shown.length]);
    }
    if (key === "x" && selected >= 0) show(selected, !isOn(selected));
    if (key === "escape") select(-1);
    if (key === "0") zoom.fit();
    if (key === "1") zoom.actual();
    if (key === "+" || key === "=") zoom.by(1.5);
    if (key === "-") zoom.by(1 / 1.5);
    for (const [name, letter] of Object.entries(switches)) {
      if (key === letter.toLowerCase()) document.getElementById(name).click();
    }
  });

  // What is drawn stays as it was set from image to image.
  function remember(name, value) {
    try { sessionStorage.setItem(`pad-view-${name}`, value); } catch { /* not allowed */ }
  }
  const recalled = (name) => {
    try { return sessionStorage.getItem(`pad-view-${name}`); } catch { return null; }
  };
  if (recalled("opacity") !== null) opacity.value = recalled("opacity");
  setOpacity();
  if (from && recalled("from-score") !== null) from.value = recalled("from-score");
  if (from) setFrom();
  for (const name of Object.keys(switches)) {
    if (recalled(name) !== null) document.getElementById(name).checked = recalled(name) === "1";
    setSwitch(name);
  }
  if (selected >= 0) heat(null);
}
