// Sends one image to the service, once for the record and once for the picture.
"use strict";

const form = document.getElementById("try");
const said = document.getElementById("said");

async function ask(query, file) {
  const answer = await fetch(`/try/annotate${query}`, {
    method: "POST",
    body: file,
    headers: { "Content-Type": file.type || "application/octet-stream" },
  });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.error || told.message || told.cause || told.detail || `the service answered ${answer.status}`);
}

function cell(kind, text, isNumber) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (isNumber) made.className = "num";
  return made;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const file = form.elements.image.files[0];
  if (file.size > Number(form.dataset.mostBytes)) {
    said.textContent = `The image is larger than ${Number(form.dataset.mostBytes) >> 20} MiB.`;
    return;
  }
  const button = form.querySelector("button");
  button.disabled = true;
  said.textContent = "Annotating…";
  try {
    const [record, drawn] = await Promise.all([
      ask("", file).then((answer) => answer.json()),
      ask("?render=1", file).then((answer) => answer.blob()),
    ]);
    const labels = Array.isArray(record.labels) ? record.labels : [];
    const image = document.getElementById("drawn");
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(drawn);
    document.getElementById("answer").textContent = JSON.stringify(record, null, 1);
    document.getElementById("rows").replaceChildren(
      ...labels.map((label) => {
        const row = document.createElement("tr");
        const score = typeof label.score === "number" ? label.score.toFixed(2) : "–";
        const box = (label.bbox || []).map((value) => Math.round(value)).join(", ");
        row.append(cell("th", label.tag), cell("td", score, true), cell("td", box));
        return row;
      }),
    );
    document.getElementById("result").hidden = false;
    said.textContent = labels.length === 1 ? "1 region" : `${labels.length} regions`;
  } catch (error) {
    said.textContent = `That did not work: ${error.message}`;
  } finally {
    button.disabled = false;
  }
});
