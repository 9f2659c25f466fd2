/** The first visit: three steps, one at a time, until two classes are taught and the person has seen the answer. */
import { captureSeries, stopCapture } from "./capture.js";
import { button, byId, element, icon, setText } from "./elements.js";
import { addClass, addPhotos } from "./examples.js";
import * as remembered from "./remembered.js";
import { startCamera } from "./stage.js";
import { classOf, onChange, state, taughtClasses } from "./state.js";
import { text } from "./strings.js";

const FULL = 3;  // with this many taught classes nobody needs the steps

let shown = "";

function draw() {
  if (taughtClasses().length >= FULL && !state.capture) remembered.setStepsDone(true);
  const done = remembered.stepsDone();
  byId("steps-section").hidden = done || !state.sessionId;
  byId("samples-quiet").hidden = state.classes.length > 0;
  byId("class-form").hidden = !done && taughtClasses().length < 2;
  if (done) return;
  const taught = taughtClasses().slice(0, 2);
  // A step ends when its series has ended.
  const current = state.capture && shown ? Number(shown[0]) : taught.length;
  const go = byId("steps").querySelector("form .primary span");
  if (go) setText(go, state.capture ? text.captureStop : text.stepCapture);
  const key = `${current} ${taught.map((entry) => `${entry.label} ${entry.examples.length}`).join()}`;
  if (key === shown) return;
  const moved = shown === "" || !shown.startsWith(`${current} `);
  shown = key;
  const steps = byId("steps");
  // From the button the focus goes to the next button, so that a phone does not open its keyboard.
  const focused = steps.contains(document.activeElement) && (document.activeElement.id === "step-name" ? "#step-name" : "button");
  if (!moved) {
    taught.forEach((entry, index) => drawDone(steps.children[index], entry, index < current));
    return;
  }
  steps.replaceChildren(...text.steps.map((step, index) => item(step, index, current, taught[index])));
  if (focused) {
    const next = steps.querySelector(`.current ${focused}`) ?? steps.querySelector(".current button");
    next.focus({ preventScroll: true });
  }
}

function item({ title, help }, index, current, entry) {
  const phase = index < current ? "done" : index === current ? "current" : "later";
  const body = element("div", { className: "step-body" }, element("h3", {}, title));
  const made = element(
    "li", { className: `step ${phase}` },
    element("span", { className: "step-number", "aria-hidden": "true" }, phase === "done" ? icon("check") : `${index + 1}`),
    body,
  );
  if (phase === "current") {
    made.setAttribute("aria-current", "step");
    body.append(element("p", {}, help), index < 2 ? teachForm(index) : watchButton());
  } else {
    body.append(element("p", { className: "step-result" }));
    drawDone(made, entry, phase === "done");
  }
  return made;
}

function drawDone(made, entry, done) {
  const result = made.querySelector(".step-result");
  if (result && done && entry) result.textContent = text.stepDone(entry.label, entry.examples.length);
}

function teachForm(index) {
  const waiting = state.classes.find((entry) => !entry.examples.length);
  const name = element("input", {
    maxLength: 64, autocomplete: "off", required: true, id: "step-name",
    value: waiting?.label ?? text.stepNames.filter((label) => !classOf(label))[0] ?? "",
  });
  name.addEventListener("focus", () => name.select());
  const capture = button({ iconName: "camera", label: text.stepCapture, className: "primary" });
  capture.type = "submit";
  const files = element("input", {
    type: "file", multiple: true, accept: "image/jpeg,image/png,image/webp", className: "visually-hidden",
  });
  const target = () => classOf(name.value.normalize("NFC").trim()) ?? addClass(name.value);
  files.addEventListener("change", () => {
    const entry = target();
    if (entry) addPhotos(entry, [...files.files]);
  });
  const form = element(
    "form",
    { className: "step-form" },
    element("label", { htmlFor: "step-name" }, text.stepName), name, capture,
    element("label", { className: "button link" }, element("span", {}, text.stepPhotos), files),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (state.capture) return stopCapture();
    const entry = target();
    if (entry) captureSeries(entry);
  });
  return form;
}

function watchButton() {
  const watch = button({ iconName: "face", label: text.stepWatch, className: "primary" });
  watch.addEventListener("click", async () => {
    if (!state.photo) await startCamera();
    remembered.setStepsDone(true);
    draw();
    byId("preview").focus();
    byId("preview").scrollIntoView({ block: "nearest" });
  });
  return watch;
}

export function prepareSteps() {
  let first = true;
  onChange(["session"], () => {
    // Who comes back to two taught classes knows the steps.
    if (first && taughtClasses().length > 1) remembered.setStepsDone(true);
    first = false;
    draw();
  });
  onChange(["classes", "stage"], draw);
  onChange(["deleted"], () => { shown = ""; });
}
