// The page of a server: images are dropped, sent, and shown in the order that the scorer gives them.

const $ = (id) => document.getElementById(id);
const [form, list, status, drop] = ["form", "images", "status", "drop"].map($);
let images = []; // { file, address, rank, score, probability, error }

function tell(text, bad = false) {
  status.textContent = text;
  status.className = bad ? "bad" : "";
}

function made(tag, name, text = "") {
  const found = document.createElement(tag);
  found.className = name;
  found.textContent = text;
  return found;
}

function add(files) {
  const [good, others] = [[], []];
  for (const file of files) (file.type.startsWith("image/") ? good : others).push(file);
  images = images.map(({ file, address }) => ({ file, address })); // a ranking without the new ones says nothing
  images.push(...good.map((file) => ({ file, address: URL.createObjectURL(file) })));
  tell(others.length ? `${others.length} of the files are no images.` : "", others.length > 0);
  draw();
}

function remove(image) {
  URL.revokeObjectURL(image.address);
  images = images.filter((other) => other !== image).map(({ file, address, error }) => ({ file, address, error }));
  tell("");
  draw();
}

function entry(image) {
  const item = made("li", image.rank === 1 ? "first" : "");
  const frame = made("div", "frame");
  const picture = made("img", "");
  picture.src = image.address;
  picture.alt = image.file.name;
  const button = made("button", "", "×");
  button.type = "button";
  button.setAttribute("aria-label", `Remove ${image.file.name}`);
  button.addEventListener("click", () => remove(image));
  frame.append(picture, button);
  item.append(frame);
  if (image.rank) {
    const place = made("p", "place");
    place.append(made("span", "", `${image.rank}.`), made("span", "", image.score.toFixed(2).replace("-", "−")));
    item.append(place);
    if (image.probability !== null) {
      const bar = made("div", "bar");
      const filled = made("i", "");
      filled.style.width = `${100 * image.probability}%`;
      bar.append(filled);
      item.append(bar, made("p", "name", `${(100 * image.probability).toFixed(1)} % like it best`));
    }
  }
  if (image.error) item.append(made("p", "name bad", image.error));
  item.append(made("p", "name", image.file.name));
  return item;
}

function draw() {
  list.replaceChildren(...images.map(entry));
  $("rank").disabled = $("clear").disabled = !images.length;
}

async function ask(path) {
  const body = new FormData();
  body.append("prompt", $("prompt").value);
  body.append("model", $("model").value);
  for (const { file } of images) body.append("images", file);
  const headers = $("key") ? { Authorization: `Bearer ${$("key").value}` } : {};
  const reply = await fetch(path, { method: "POST", body, headers });
  const said = await reply.json();
  if (!reply.ok) throw new Error(said.error.message);
  return said;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  tell("Scoring …");
  $("rank").disabled = true;
  const sent = images;
  try {
    const said = await ask("/v1/rank");
    images = said.ranking.map((line) => ({ ...sent[line.index], ...line, error: "" }));
    tell(images.length > 1 ? "Best first." : "");
  } catch (error) {
    const broken = /images\[(\d+)\]/.exec(error.message);
    if (broken) sent[Number(broken[1])].error = "This file cannot be used.";
    tell(error.message, true);
  }
  draw();
});

$("clear").addEventListener("click", () => {
  for (const { address } of images) URL.revokeObjectURL(address);
  images = [];
  tell("");
  draw();
});

$("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
for (const kind of ["dragenter", "dragover"]) {
  window.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
window.addEventListener("dragleave", () => drop.classList.remove("over"));
window.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  add(event.dataTransfer.files);
});
draw();
