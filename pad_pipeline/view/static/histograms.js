// Histograms of the filters: loaded when they are opened; a bar, or a range of bars, is a filter.
"use strict";

for (const details of document.querySelectorAll("details[data-load]")) {
  const load = async () => {
    if (!details.open || details.dataset.loaded) return;
    details.dataset.loaded = "1";
    const answer = await fetch(details.dataset.load);
    const place = document.createElement("div");
    place.innerHTML = answer.ok ? await answer.text() : "<p>The histograms cannot be shown.</p>";
    details.querySelector("p")?.remove();
    details.append(place);
    place.querySelectorAll(".histogram[data-low]").forEach(selectRanges);
  };
  details.addEventListener("toggle", () => {
    try { sessionStorage.setItem("pad-view-histograms", details.open ? "1" : "0"); } catch { /* not allowed */ }
    load();
  });
  try {
    if (sessionStorage.getItem("pad-view-histograms") === "1") details.open = true;
  } catch { /* not allowed */ }
}

// From the bar where the pointer goes down to the one where it comes up.
function selectRanges(figure) {
  const bars = [...figure.querySelectorAll(".column")];
  let first = null;
  const range = (last) => [Math.min(first, last), Math.max(first, last)];
  const barAt = (event) => bars.indexOf(document.elementFromPoint(event.clientX, event.clientY)?.closest(".column"));
  figure.addEventListener("pointerdown", (event) => {
    const place = bars.indexOf(event.target.closest(".column"));
    first = event.button === 0 && place >= 0 ? place : null;
  });
  figure.addEventListener("pointermove", (event) => {
    const last = first === null ? -1 : barAt(event);
    if (last < 0) return;
    const [low, high] = range(last);
    bars.forEach((bar, number) => bar.classList.toggle("in-range", number >= low && number <= high));
  });
  addEventListener("pointerup", (event) => {
    const last = first === null ? -1 : barAt(event);
    if (last >= 0 && last !== first) {
      const [low, high] = range(last);
      const address = new URL(bars[low].href);
      for (const [name, value] of [[figure.dataset.low, bars[low].dataset.low], [figure.dataset.high, bars[high].dataset.high]]) {
        if (value === "") address.searchParams.delete(name);
        else address.searchParams.set(name, value);
      }
      location.assign(address);
    }
    first = null;
    for (const bar of bars) bar.classList.remove("in-range");
  });
}
