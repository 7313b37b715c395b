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

  for (const shape of svg.querySelectorAll(".shape")) {
    const number = Number(shape.dataset.region);
    const box = shape.querySelector(".box");
    box.addEventListener("mouseenter", () => heat(number));
    box.addEventListener("mouseleave", () => heat(null));
    box.addEventListener("click", () => select(selected === number ? -1 : number));
  }
  rows.forEach((row, number) => {
    row.addEventListener("mouseenter", () => heat(number));
    row.addEventListener("mouseleave", () => heat(null));
    row.addEventListener("focusin", () => heat(number));
    row.addEventListener("focusout", () => heat(null));
    row.addEventListener("click", (event) => {
      if (event.target.matches("input")) return;
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
    if (step && rows.length && !(key.startsWith("arrow") && !event.target.closest("#regions"))) {
      event.preventDefault();
      const from = selected < 0 && step < 0 ? 0 : selected;
      select((from + step + rows.length) % rows.length);
    }
    if (key === "x" && selected >= 0) show(selected, !isOn(selected));
    if (key === "escape") select(-1);
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
  for (const name of Object.keys(switches)) {
    if (recalled(name) !== null) document.getElementById(name).checked = recalled(name) === "1";
    setSwitch(name);
  }
  if (selected >= 0) heat(null);
}
