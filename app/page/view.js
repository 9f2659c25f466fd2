/** Shows the state: pictures, bars, classes, verdicts. Does not know the service. */
import { text } from "./strings.js";

export const byId = (id) => document.getElementById(id);

/** An element with properties, attributes (data-*, aria-*, role) and children. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function fillTexts() {
  for (const target of document.querySelectorAll("[data-text]")) {
    target.textContent = text[target.dataset.text];
  }
}

export function say(message) {
  byId("status").textContent = message;
}

export function showBanner(message) {
  byId("banner").textContent = message;
  byId("banner").hidden = !message;
}

/** A picture with the box, the eyes and the lips of its first face. */
export function showPicture(picture, result, mirrored) {
  const canvas = byId("picture");
  canvas.hidden = false;
  byId("stage-hint").hidden = true;
  canvas.classList.toggle("mirrored", mirrored);
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const face = result.faces[0];
  canvas.setAttribute("aria-label", text.pictureOf(face));
  if (!face) return;
  context.lineWidth = Math.max(2, picture.width / 250);
  context.strokeStyle = "#ffd23f";
  const { x_min, y_min, x_max, y_max } = face.box;
  context.strokeRect(x_min, y_min, x_max - x_min, y_max - y_min);
  context.strokeStyle = "#3fd0ff";
  for (const part of ["eyes", "lips"]) outline(context, face.regions?.[part] ?? []);
}

function outline(context, corners) {
  context.beginPath();
  for (const [x, y] of corners) context.lineTo(x, y);
  context.closePath();
  context.stroke();
}

export function clearPicture() {
  byId("picture").hidden = true;
  byId("stage-hint").hidden = false;
  byId("latency").textContent = "";
}

/** Bars with the scores of the first face. They keep the order of the classes, so that they do not jump. */
export function showScores(result, labels) {
  const face = result.faces[0];
  let said = text.noFace;
  if (face) said = face.predicted === null ? text.unknown : text.predicted(face.predicted);
  if (face && !face.scores.length) said = text.noClasses;
  if (byId("predicted").textContent !== said) byId("predicted").textContent = said;
  byId("predicted").classList.toggle("unknown", !face?.predicted);
  const scores = new Map((face?.scores ?? []).map((score) => [score.label, score]));
  showPartsHelp(byId("show-parts").checked ? face?.scores[0]?.parts : {});
  byId("bars").replaceChildren(
    ...labels.filter((label) => scores.has(label))
      .map((label) => bar(scores.get(label), label === face.predicted)),
  );
}

/** One sentence about each part of a score. */
function showPartsHelp(parts) {
  const sentences = Object.keys(parts ?? {}).filter((part) => text.partsHelp[part]);
  if (byId("parts-help").childElementCount === sentences.length) return;
  byId("parts-help").replaceChildren(...sentences.map((part) => element("li", {}, text.partsHelp[part])));
}

function bar(score, best) {
  const row = element("li", { className: best ? "best" : "" }, meter(score.label, score.score));
  if (byId("show-parts").checked) {
    row.append(element("ul", {}, ...Object.entries(score.parts).map(
      ([part, value]) => element("li", {}, meter(text.parts[part] ?? part, value)),
    )));
  }
  return row;
}

function meter(label, value) {
  const fill = element("span", { className: "fill" });
  fill.style.width = `${100 * value}%`;
  return element(
    "div",
    {
      className: "meter",
      role: "meter",
      "aria-label": label,
      "aria-valuemin": "0",
      "aria-valuemax": "1",
      "aria-valuenow": value.toFixed(2),
    },
    element("bdi", { className: "label" }, label),
    element("span", { className: "track" }, fill),
    element("span", { className: "value" }, value.toFixed(2)),
  );
}

/**
 * The classes with their small pictures and controls.
 * classes: [{label, examples: [{id, thumbnail}]}]; on: the callbacks of the controls.
 */
export function showClasses(classes, cameraOn, on) {
  const focused = document.activeElement?.dataset?.focus;
  byId("classes").replaceChildren(...classes.map((entry) => classItem(entry, cameraOn, on)));
  if (focused) {
    const same = [...document.querySelectorAll("[data-focus]")].find((item) => item.dataset.focus === focused);
    (same ?? byId("label")).focus();
  }
}

function classItem({ label, examples }, cameraOn, on) {
  const hold = element("button", {
    type: "button",
    className: "hold",
    textContent: text.hold,
    disabled: !cameraOn,
    "aria-label": text.holdHelp(label),
    "data-focus": `hold ${label}`,
  });
  holdable(hold, (held) => on.capture(label, held));
  const photos = element("input", {
    type: "file", multiple: true, accept: "image/jpeg,image/png,image/webp", className: "visually-hidden",
    "aria-label": `${text.addPhotos}: ${label}`,
  });
  photos.addEventListener("change", () => on.addPhotos(label, [...photos.files]));
  const remove = element("button", {
    type: "button", className: "danger", textContent: text.classRemove, "aria-label": text.classRemoveHelp(label),
  });
  remove.addEventListener("click", () => on.removeClass(label));
  const item = element(
    "li",
    { className: "class" },
    element("h3", {}, element("bdi", {}, label)),
    element("p", { className: "count" }, examples.length ? text.examples(examples.length) : text.notSent),
    element("div", { className: "actions" }, hold, element("label", { className: "button" }, text.addPhotos, photos), remove),
    element("ul", { className: "thumbnails" }, ...examples.map(
      (example, index) => thumbnailItem(label, example, index + 1, on),
    )),
  );
  droppable(item, (files) => on.addPhotos(label, files));
  return item;
}

function thumbnailItem(label, example, number, on) {
  const remove = element("button", {
    type: "button", className: "thumbnail", "aria-label": text.exampleRemove(label, number),
    title: text.exampleRemove(label, number), "data-focus": `example ${label} ${number}`,
  });
  remove.append(example.thumbnail ? element("img", { src: example.thumbnail, alt: "" }) : `${number}`);
  remove.addEventListener("click", () => on.removeExample(label, example.id));
  return element("li", {}, remove);
}

/** Calls `start(held)` when the button is pressed by pointer or key. held() says whether it is still pressed. */
function holdable(button, start) {
  let holding = 0;
  let pressed = false;
  const press = (event) => {
    if (button.disabled) return;  // disabled buttons get pointer events
    if (event.type === "keydown" && (event.repeat || ![" ", "Enter"].includes(event.key))) return;
    event.preventDefault();
    pressed = true;
    button.focus();
    const mine = ++holding;
    const release = () => { if (holding === mine) holding = 0; };
    for (const end of ["pointerup", "pointercancel", "keyup", "blur"]) {
      addEventListener(end, release, { once: true });
    }
    start(() => holding === mine);
  };
  button.addEventListener("pointerdown", press);
  button.addEventListener("keydown", press);
  // Screen readers and switches click without pressing. A click captures one picture.
  button.addEventListener("click", () => {
    if (!pressed) start(() => false);
    pressed = false;
  });
}

/** Lets files be dropped on an element. */
export function droppable(target, take) {
  target.addEventListener("dragover", (event) => event.preventDefault());
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
  });
}

export function showRejected(label, reason, picture) {
  const said = element("p", {}, text.rejected(label, reason));
  if (picture) said.prepend(element("img", { src: picture, alt: "", className: "small" }));
  byId("rejected").prepend(said);
  while (byId("rejected").children.length > 5) byId("rejected").lastChild.remove();
}

export function showVerdicts(quality) {
  byId("verdicts").replaceChildren(...quality.classes.map((entry) => element(
    "li",
    { className: `verdict ${entry.verdict}` },
    element("bdi", { className: "label" }, entry.label),
    ` ${entry.detail}`,
  )));
}

export function showSampleQueries(samples, ask) {
  const buttons = samples.map(({ label, url }) => {
    const button = element(
      "button",
      { type: "button", className: "sample", "aria-label": text.sampleAsk(label) },
      element("img", { src: url, alt: "" }),
    );
    button.addEventListener("click", () => ask(url));
    return element("li", {}, button);
  });
  byId("sample-queries")?.remove();
  byId("samples").after(element("ul", { id: "sample-queries", className: "thumbnails" }, ...buttons));
}
