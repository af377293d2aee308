// The page asks `/predict` again whenever the views or the body part change, and shows the last answer.
// Names of files stay here: each view is sent as `view`.

const at = (id) => document.getElementById(id);
const number = (value) => value.toFixed(3);
const ORANGE = [230, 97, 0];
const OPAQUE = 0.75;
const LOOK = 10_000; // Between two looks at which version answers, milliseconds.

let views = []; // {file, item}: the files, in the order in which they came.
let asking = null; // Ends the request that a newer one replaces.
let about = null;

function text(tag, content, name) {
  const made = document.createElement(tag);
  made.textContent = content;
  if (name) made.className = name;
  return made;
}

function interval({ value, low, high }) {
  if (value === null) return "not defined";
  return low === null ? `${number(value)} (too few patients for an interval)` : `${number(value)} (${number(low)} to ${number(high)})`;
}

// Another version may answer at any time: the server follows an alias.
async function introduce() {
  const answer = await fetch("about");
  const found = await answer.json();
  const before = about;
  about = found;
  at("behind").hidden = found.follows?.not_taken == null && found.follows?.answered !== false;
  at("behind").textContent = at("behind").hidden ? "" : behind(found);
  if (before?.model_digest === found.model_digest && before.version === found.version) return;
  const chosen = at("part").value;
  at("part").replaceChildren(at("part").options[0]);
  at("version").tBodies[0].replaceChildren();
  for (const part of about.body_parts) {
    const option = text("option", part.replaceAll("_", " "));
    option.value = part;
    at("part").append(option);
  }
  at("part").value = about.body_parts.includes(chosen) ? chosen : "";
  const { test } = about;
  const rows = [
    ["Version", `${about.model} ${about.version}: ${about.title}`],
    ["Learned", about.body_parts.map((part) => part.replaceAll("_", " ")).join(", ")],
    ["Abnormal from", `${number(about.threshold)}, the operating point “${about.operating_point}”`],
    ["Measured on", `${test.studies.toLocaleString("en")} studies of ${test.patients.toLocaleString("en")} patients, ${test.abnormal.toLocaleString("en")} abnormal, that it did not learn from`],
    ["AUROC", interval(test.auroc)],
    ["Sensitivity", interval(test.sensitivity)],
    ["Specificity", interval(test.specificity)],
    ["Not like the training data", about.unlike_from === null ? "it cannot tell, and answers about any picture" : "it says so, and does not find all such pictures"],
    ["Digest", about.model_digest.slice(0, 12)],
  ];
  for (const [name, value] of rows) {
    const row = document.createElement("tr");
    const head = text("th", name);
    head.scope = "row";
    row.append(head, text("td", value));
    at("version").tBodies[0].append(row);
  }
}

function behind({ follows, version }) {
  const newer = follows.not_taken;
  return newer == null
    ? `The registry does not answer. Version ${version} goes on.`
    : `Version ${newer} was not taken: the log of the server says why. Version ${version} goes on.`;
}

function add(files) {
  const most = about?.limits.views ?? 32;
  for (const file of files) {
    if (views.length >= most) {
      complain(`At most ${most} views are answered at once.`);
      break;
    }
    views.push({ file, item: card(file) });
  }
  at("files").value = ""; // The same file may be chosen again after it was removed.
  ask();
}

function card(file) {
  const item = document.createElement("li");
  const film = text("div", "", "film");
  const remove = text("button", "Remove", "plain");
  remove.type = "button";
  remove.addEventListener("click", () => forget(item));
  item.append(film, text("p", "", "name"), text("p", "", "what"), remove);
  item.querySelector(".name").title = file.name;
  at("views").append(item);
  return item;
}

function forget(item) {
  const place = views.findIndex((view) => view.item === item);
  views.splice(place, 1);
  item.remove();
  // The focus goes to the next view, or to where another can be chosen.
  (views[Math.min(place, views.length - 1)]?.item.querySelector("button") ?? at("files")).focus();
  ask();
}

function clear() {
  for (const { item } of views) item.remove();
  views = [];
  at("files").focus();
  ask();
}

function complain(reason) {
  at("wrong").textContent = reason;
  at("wrong").hidden = !reason;
}

function label() {
  views.forEach(({ file, item }, place) => {
    item.querySelector(".name").textContent = `View ${place + 1}: ${file.name}`;
    item.querySelector("button").setAttribute("aria-label", `Remove view ${place + 1}`);
  });
  at("seen").hidden = at("clear").hidden = views.length === 0;
}

async function ask() {
  asking?.abort();
  complain("");
  label();
  if (views.length === 0) {
    asking = null;
    at("answer").hidden = true;
    at("said").textContent = "";
    return;
  }
  const mine = (asking = new AbortController());
  busy(true);
  at("said").textContent = views.length === 1 ? "Asking about 1 view…" : `Asking about ${views.length} views…`;
  const form = new FormData();
  for (const { file } of views) form.append("view", file, "view");
  form.append("part", at("part").value);
  form.append("partial", "true");
  form.append("pictures", "true");
  const [ok, found] = await answered(form, mine.signal);
  if (mine !== asking) return; // A newer question is on its way.
  busy(false);
  if (ok) show(found);
  else refuse(found);
}

async function answered(form, signal) {
  try {
    const answer = await fetch("predict", { method: "POST", body: form, signal });
    return [answer.ok, await answer.json()];
  } catch {
    return [false, { error: "the server does not answer, or a file cannot be read. A folder is no view" }];
  }
}

function busy(is) {
  for (const id of ["answer", "views"]) at(id).setAttribute("aria-busy", String(is));
}

function refuse(found) {
  at("answer").hidden = true;
  at("said").textContent = "";
  mark([], found.refused ?? []);
  complain(`No answer. ${found.error.charAt(0).toUpperCase()}${found.error.slice(1)}.`);
}

function show(found) {
  const { probability, threshold, verdict } = found;
  const said = verdict === "unlike" ? "Not like the training data" : verdict.charAt(0).toUpperCase() + verdict.slice(1);
  at("answer").hidden = false;
  at("answer").dataset.verdict = verdict;
  at("verdict").textContent = said;
  at("scale").hidden = probability === null;
  at("notes").replaceChildren(...found.notes.map((note) => text("li", sentence(note))));
  if (probability === null) {
    at("words").textContent = "A view is not like those that the model learned from. So it gives no probability.";
  } else {
    const place = (value) => `${100 * value}%`;
    at("mark").style.left = place(probability);
    at("line").style.left = at("beyond").style.left = place(threshold);
    at("point").style.left = place(Math.min(0.85, Math.max(0.15, threshold)));
    at("point").textContent = `abnormal from ${number(threshold)}`;
    at("scale").setAttribute("aria-label", `Probability ${number(probability)} on a scale from 0 to 1. Abnormal from ${number(threshold)}.`);
    const side = probability >= threshold ? "at or above" : "below";
    at("words").textContent =
      `The probability that this study is abnormal is ${number(probability)}. That is ${side} ${number(threshold)}, ` +
      `the operating point “${found.operating_point}”.` +
      (found.body_part ? ` Body part: ${found.body_part.replaceAll("_", " ")}.` : "");
  }
  at("words").textContent += ` ${found.model} version ${found.version} answered.`;
  if (found.version !== about?.version) introduce().catch(() => {});
  const used = found.views.length === views.length ? "" : ` It used ${found.views.length} of ${views.length} views.`;
  at("said").textContent = `${said}${probability === null ? "" : `, probability ${number(probability)}`}.${used}`;
  mark(found.views, found.refused);
}

function sentence(note) {
  return note.charAt(0).toUpperCase() + note.slice(1) + ".";
}

function mark(used, refused) {
  const strongest = Math.max(1e-9, ...used.flatMap((view) => view.map.flat()));
  for (const { item } of views) {
    item.classList.remove("refused");
    item.querySelector(".film").hidden = false;
    item.querySelector(".film").replaceChildren();
    item.querySelector(".what").textContent = "";
  }
  for (const { view, why } of refused) {
    const { item } = views[view - 1];
    item.classList.add("refused");
    item.querySelector(".film").hidden = true;
    item.querySelector(".what").textContent = `Refused: ${why}.`;
  }
  for (const view of used) {
    const { item } = views[view.view - 1];
    const image = document.createElement("img");
    image.src = view.picture;
    image.alt = `View ${view.view} as the model got it`;
    item.querySelector(".film").append(image, drawn(view.map, strongest));
    item.querySelector(".what").textContent = `${view.kind}, ${view.width} by ${view.height} pixels`;
  }
  at("switch").hidden = used.length === 0;
  at("map-words").hidden = used.length === 0 || !at("map").checked;
}

function drawn(map, strongest) {
  // One pixel for each place of the map; the browser interpolates between them.
  const canvas = document.createElement("canvas");
  canvas.width = map[0].length;
  canvas.height = map.length;
  canvas.setAttribute("aria-hidden", "true");
  const pixels = new ImageData(canvas.width, canvas.height);
  map.flat().forEach((value, place) => {
    pixels.data.set([...ORANGE, Math.round(255 * OPAQUE * Math.max(0, value / strongest))], 4 * place);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

at("files").addEventListener("change", (event) => add(event.target.files));
// By itself, Enter would submit the form.
at("files").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  at("files").click();
});
at("part").addEventListener("change", ask);
at("clear").addEventListener("click", clear);
at("ask").addEventListener("submit", (event) => event.preventDefault());
at("map").addEventListener("change", () => {
  at("views").classList.toggle("mapped", at("map").checked);
  at("map-words").hidden = !at("map").checked;
});
// A file that misses the frame would replace the page.
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  window.addEventListener(kind, (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") add(event.dataTransfer.files);
  });
}
introduce().catch(() => complain("The server does not answer."));
setInterval(() => document.hidden || introduce().catch(() => {}), LOOK);
