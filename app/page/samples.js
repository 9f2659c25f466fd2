/** "Try the samples": teaches three sample expressions once, and lets any sample be classified, also an untaught one. */
import * as api from "./api.js";
import { loadPicture } from "./camera.js";
import { byId, element } from "./elements.js";
import { classifyPhoto } from "./preview.js";
import * as remembered from "./remembered.js";
import { attempt } from "./session.js";
import { changed, classOf, onChange, state } from "./state.js";
import { text } from "./strings.js";
import { addClass, teach } from "./teaching.js";

const TAUGHT = 3;  // classes that are taught; the others show what is unknown
const SHOTS = 5;

let queries = [];  // [{label, url}], images that are never taught
let chosen = null;
let chosenPhoto = null;  // the file of the chosen sample

async function load(url) {
  const blob = await (await fetch(url)).blob();
  return { blob, picture: await loadPicture(blob) };
}

async function tryThem() {
  const session = state.sessionId;
  const samples = (await api.getSamples()).classes;
  if (session !== state.sessionId) return;
  remembered.setStepsDone(true);
  state.threshold = null;  // with another threshold the samples can be unknown
  queries = samples.map(({ label, urls }) => ({ label, url: urls.at(-1) }));
  draw();
  for (const { label, urls } of samples.slice(0, TAUGHT)) {
    await teachOnce(label, urls.slice(0, SHOTS));
    if (session !== state.sessionId) return;
  }
  await choose(queries[1]);
}

/** Adds the samples that are not in the session yet: their example ids say which are, whatever their class is called now. */
async function teachOnce(label, urls) {
  const known = new Set(state.classes.flatMap((entry) => entry.examples.map((example) => example.id)));
  const missing = urls.map((url, index) => ({ url, id: `sample-${label}-${index}` })).filter(({ id }) => !known.has(id));
  if (!missing.length) return;
  const entry = classOf(label) ?? addClass(label);
  await teach(entry, await Promise.all(missing.map(({ url }) => load(url))), { ids: missing.map(({ id }) => id) });
}

async function choose(query) {
  const photo = await (await fetch(query.url)).blob();
  if (!queries.includes(query)) return;  // everything was deleted meanwhile
  await classifyPhoto(photo);
  if (state.photo !== photo) return;  // another one was chosen meanwhile
  [chosen, chosenPhoto] = [query, photo];
  draw();
}

function draw() {
  byId("samples-tray").hidden = !queries.length || state.camera !== "off";
  const taught = (label) => Boolean(classOf(label)?.examples.length);
  const key = queries.map(({ label }) => `${label} ${taught(label)}`).join() + queries.indexOf(chosen);
  const list = byId("sample-queries");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  const focused = [...list.children].findIndex((item) => item.contains(document.activeElement));
  list.replaceChildren(...queries.map((query) => item(query, taught(query.label))));
  list.children[focused]?.querySelector("button").focus();
}

function item(query, taught) {
  const choice = element(
    "button",
    { type: "button", className: "sample", "aria-label": text.sampleAsk(query.label, taught), "aria-pressed": `${query === chosen}` },
    element("img", { src: query.url, alt: "" }),
    element("span", {}, query.label),
    element("span", { className: "sample-note" }, taught ? "" : text.sampleNotTaught),
  );
  choice.addEventListener("click", () => attempt(() => choose(query)));
  return element("li", {}, choice);
}

export function prepareSamples() {
  let running = false;
  const start = () => attempt(async () => {
    if (running) return;
    running = true;
    try {
      await tryThem();
    } finally {
      running = false;
      changed("classes");
    }
  });
  for (const id of ["samples", "samples-quiet"]) byId(id).addEventListener("click", start);
  onChange(["classes", "stage"], () => {
    if (state.photo !== chosenPhoto) chosen = null;
    draw();
  });
  onChange(["deleted"], () => {
    queries = [];
    chosen = null;
  });
}
