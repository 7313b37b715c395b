// Sends one image to the service, once for the record and once for the picture.
"use strict";

const form = document.getElementById("try");
const statusLine = document.getElementById("status");

async function post(query, file) {
  const response = await fetch(`/try/annotate${query}`, {
    method: "POST",
    body: file,
    headers: { "Content-Type": file.type || "application/octet-stream" },
  });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Error(body.error?.message || body.error || `the service answered ${response.status}`);
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
  if (file.size > Number(form.dataset.maxBytes)) {
    statusLine.textContent = `The image is larger than ${Number(form.dataset.maxBytes) >> 20} MiB.`;
    return;
  }
  const button = form.querySelector("button");
  button.disabled = true;
  statusLine.textContent = "Annotating…";
  try {
    const [record, drawn] = await Promise.all([
      post("", file).then((response) => response.json()),
      post("?render=1", file).then((response) => response.blob()),
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
    statusLine.textContent = labels.length === 1 ? "1 region" : `${labels.length} regions`;
  } catch (error) {
    statusLine.textContent = `The image was not annotated: ${error.message}`;
  } finally {
    button.disabled = false;
  }
});
