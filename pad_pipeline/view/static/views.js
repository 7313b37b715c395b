// Saved views: filters under a name, kept with the marks.
"use strict";

const views = document.getElementById("views");

async function keep(event) {
  let by = "";
  try { by = localStorage.getItem("pad-view-by") ?? ""; } catch { /* not allowed */ }
  try {
    const response = await fetch("/api/review", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...event, by }),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    location.reload();
  } catch (error) {
    const status = document.getElementById("views-status");
    status.textContent = `Nothing was saved: ${error.message}`;
  }
}

if (views) {
  document.getElementById("save-view")?.addEventListener("submit", (event) => {
    event.preventDefault();
    keep({ kind: "view", name: event.target.elements.name.value, value: views.dataset.query });
  });
  for (const button of views.querySelectorAll("[data-remove]")) {
    button.addEventListener("click", () => keep({ kind: "view", name: button.dataset.remove, value: null }));
  }
}
for (const button of document.querySelectorAll("[data-undo]")) {
  button.addEventListener("click", () => keep({ kind: "undo", value: button.dataset.undo }));
}
