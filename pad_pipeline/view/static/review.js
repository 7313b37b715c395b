// Marks on the page of one image: by keys and buttons, each kept by the server before it is shown.
"use strict";

const review = document.getElementById("review");
const SIGNS = { accepted: "✓", rejected: "✗", flagged: "⚑" };

function stored(storage, name) {
  try { return storage.getItem(`pad-view-${name}`); } catch { return null; }
}
function store(storage, name, value) {
  try { storage.setItem(`pad-view-${name}`, value); } catch { /* not allowed */ }
}

if (review?.querySelector("button")) {
  const image = review.dataset.image;
  let marks = JSON.parse(review.dataset.marks);
  const status = document.getElementById("review-status");
  const form = document.getElementById("rename-form");
  const newTag = document.getElementById("new-tag");
  const rowOf = (number) => document.querySelector(`#regions tr[data-region="${number}"]`);
  const selected = () => {
    const row = document.querySelector("#regions tr.selected");
    return row ? Number(row.dataset.region) : null;
  };

  const by = document.getElementById("by");
  by.value = stored(localStorage, "by") ?? "";
  by.addEventListener("change", () => store(localStorage, "by", by.value.trim()));

  // What this tab has done, for undo: the last one is taken back first.
  const done = JSON.parse(stored(sessionStorage, "done") ?? "[]");
  const remember = () => store(sessionStorage, "done", JSON.stringify(done.slice(-200)));

  const put = (holder, mark) => {
    let sign = holder.querySelector(".mark");
    if (!mark) return sign?.remove();
    if (!sign) {
      sign = document.createElement("span");
      holder.append(sign);
    }
    sign.className = `mark ${mark.value}`;
    sign.title = `${mark.value} by ${mark.by}`;
    sign.replaceChildren(SIGNS[mark.value]);
    const word = document.createElement("span");
    word.className = "visually-hidden";
    word.textContent = ` ${mark.value}`;
    sign.append(word);
  };

  const show = () => {
    marks.regions.forEach((region, number) => {
      for (const part of document.querySelectorAll(`[data-region="${number}"]`)) {
        part.classList.toggle("rejected", region.verdict?.value === "rejected");
      }
      const row = rowOf(number);
      if (row) put(row.querySelector(".marks"), region.verdict);
    });
    put(document.getElementById("image-mark"), marks.verdict);
    const number = selected();
    const name = number === null ? "This image" : rowOf(number).querySelector("bdi").textContent;
    document.getElementById("target").textContent = name;
    const verdict = (number === null ? marks.verdict : marks.regions[number].verdict)?.value;
    for (const button of review.querySelectorAll("[data-verdict]")) {
      button.setAttribute("aria-pressed", button.dataset.verdict === verdict);
    }
    document.getElementById("rename").disabled = number === null;
  };

  async function send(event) {
    let answer;
    try {
      const response = await fetch("/api/review", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ...event, by: by.value.trim() }),
      });
      answer = await response.json();
      if (!response.ok) throw new Error(answer.error);
    } catch (error) {
      status.textContent = `Nothing was marked: ${error.message}`;
      return null;
    }
    if (answer.image === image && answer.marks) {
      marks = answer.marks;
      show();
    }
    return answer;
  }

  // The answers of one tab come in the order of its marks.
  let last = Promise.resolve();
  const inTurn = (work) => { last = last.then(work); };

  const judge = (verdict, number) => inTurn(async () => {
    const before = (number === null ? marks.verdict : marks.regions[number].verdict)?.value;
    const target = number === null ? {} : { region: number, digest: marks.regions[number].digest };
    const value = before === verdict ? null : verdict;
    const answer = await send({ kind: "verdict", image, ...target, value });
    if (!answer) return;
    done.push(answer.id);
    remember();
    status.textContent = answer.done;
  });

  const rename = (number, value) => inTurn(async () => {
    const answer = await send({ kind: "tag", image, region: number, digest: marks.regions[number].digest, value });
    if (!answer) return;
    done.push(answer.id);
    remember();
    location.reload(); // colours and labels go by the tag
  });

  const undo = () => inTurn(async () => {
    const id = done.pop();
    if (id === undefined) {
      status.textContent = "This tab has marked nothing that could be taken back; all marks are listed under Review.";
      return;
    }
    const answer = await send({ kind: "undo", value: id });
    if (!answer) return;
    remember();
    const where = answer.image && answer.image !== image ? ` in ${answer.image}` : "";
    status.textContent = `taken back: ${answer.done}${where}`;
    if (answer.done.startsWith("renamed") || answer.done.startsWith("gave")) location.reload();
  });

  const openForm = () => {
    const number = selected();
    if (number === null) return;
    form.hidden = false;
    newTag.value = rowOf(number).querySelector("bdi").textContent;
    newTag.focus();
    newTag.select();
  };
  const closeForm = () => { form.hidden = true; };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (newTag.value.trim() && selected() !== null) rename(selected(), newTag.value.trim());
    closeForm();
  });
  document.getElementById("own-tag").addEventListener("click", () => {
    if (selected() !== null) rename(selected(), null);
    closeForm();
  });
  document.getElementById("cancel").addEventListener("click", closeForm);
  newTag.addEventListener("keydown", (event) => { if (event.key === "Escape") closeForm(); });

  for (const button of review.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () => judge(button.dataset.verdict, selected()));
  }
  document.getElementById("rename").addEventListener("click", openForm);
  document.getElementById("undo").addEventListener("click", undo);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const key = event.key.toLowerCase();
    const verdict = { a: "accepted", r: "rejected", f: "flagged" }[key];
    if (verdict) judge(verdict, event.shiftKey ? null : selected());
    if (key === "u") undo();
    if (key === "t") {
      event.preventDefault();
      openForm();
    }
  });
  document.addEventListener("regionselected", show);

  // What others have marked in the meantime.
  addEventListener("focus", () => inTurn(async () => {
    const id = ["", ".", ".."].includes(image) ? `?id=${image}` : encodeURIComponent(image);
    const response = await fetch(`/api/review/image/${id}`).catch(() => null);
    if (!response?.ok) return;
    marks = (await response.json()) ?? marks;
    show();
  }));
  show();
}
