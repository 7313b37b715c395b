// What every page has: keys for next and previous, the search field, and copy buttons; filters that
// fold on a phone.
"use strict";

function isTyping(target) {
  return target.closest("input:not([type=checkbox], [type=range]), select, textarea") !== null;
}

// The keys of this page alone: of what is not on it, there are none.
function showKeys() {
  const dialog = document.getElementById("keys");
  for (const row of dialog.querySelectorAll("[data-needs]")) {
    row.hidden = document.querySelector(row.dataset.needs) === null;
  }
  if (!dialog.open) dialog.showModal();
}
document.getElementById("show-keys").addEventListener("click", showKeys);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && isTyping(event.target)) event.target.blur();
  if (isTyping(event.target)) return;
  if (event.key === "/") {
    const field = document.querySelector("[data-focus-key='/']");
    if (field) {
      event.preventDefault();
      field.closest("details")?.setAttribute("open", "");
      field.focus();
      field.select();
    }
  }
  if (event.key === "?") showKeys();
  if (event.target.matches("input[type=range]") || document.querySelector("dialog[open]")) return;
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = rel && document.querySelector(`a[rel=${rel}]`);
  if (link) {
    event.preventDefault();
    link.click();
  }
});

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    let message = "copied";
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      // Not a secure context, or not allowed: select the text, so that the keyboard can copy it.
      getSelection().selectAllChildren(source);
      message = "selected: copy it with the keyboard";
    }
    const status = document.getElementById("copied");
    if (status) status.textContent = message;
  });
}

for (const form of document.querySelectorAll("form.filters[method=get]")) {
  // Addresses to share hold only what is set.
  form.addEventListener("submit", () => {
    for (const field of form.elements) {
      const isDefault = field.name === "sort" && field.value === "order";
      if (field.name && (field.value === "" || isDefault)) field.disabled = true;
    }
  });
}
addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("form.filters [disabled]")) field.disabled = false;
});

const phone = matchMedia("(max-width: 640px)");
const fold = () => {
  for (const details of document.querySelectorAll("details.fold")) details.open = !phone.matches;
};
phone.addEventListener("change", fold);
fold();
document.querySelector(".top nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
