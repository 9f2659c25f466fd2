/** The first visit: three steps, one at a time, until two classes are taught and the person has seen the answer. */
import { captureSeries, stopCapture } from "./capture.js";
import { button, byId, element, icon, imageInput, setText } from "./elements.js";
import { notify } from "./notices.js";
import { startCamera } from "./preview.js";
import * as remembered from "./remembered.js";
import { classOf, onChange, state, taughtClasses } from "./state.js";
import { text } from "./strings.js";
import { addClass, addPhotos, renameClass } from "./teaching.js";

const FULL = 3;  // with this many taught classes nobody needs the steps

let shownStep = null;
let shownExamples = "";

function draw() {
  if (taughtClasses().length >= FULL && !state.capture) remembered.setStepsDone(true);
  const done = remembered.stepsDone();
  byId("steps-section").hidden = done || !state.sessionId;
  byId("samples-quiet").hidden = state.classes.length > 0;
  byId("class-form").hidden = !done && taughtClasses().length < 2;
  if (done) return;
  const taught = taughtClasses().slice(0, 2);
  // A step ends when its series has ended.
  const current = state.capture ? shownStep ?? taught.length : taught.length;
  const go = byId("steps").querySelector("form .primary span");
  if (go) setText(go, state.capture ? text.captureStop : text.stepCapture);
  const examples = taught.map((entry) => `${entry.label} ${entry.examples.length}`).join();
  const moved = current !== shownStep;
  if (!moved && examples === shownExamples) return;
  shownStep = current;
  shownExamples = examples;
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
  const files = imageInput(async (chosen) => {
    const entry = form.reportValidity() && await classToTeach(name.value);
    if (entry) addPhotos(entry, chosen);
  });
  const form = element(
    "form",
    { className: "step-form" },
    element("label", { htmlFor: "step-name" }, text.stepName), name, capture,
    element("label", { className: "button link" }, element("span", {}, text.stepPhotos), files),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (state.capture) return stopCapture();
    const entry = await classToTeach(name.value);
    if (entry) captureSeries(entry);
  });
  return form;
}

/** The class without shots under this name, renamed or new, or null after saying why the name cannot be used. */
async function classToTeach(label) {
  const name = label.normalize("NFC").trim();
  const known = classOf(name);
  if (known?.examples.length) {
    notify(text.stepTaught(name));
    return null;
  }
  const waiting = known ?? state.classes.find((entry) => !entry.examples.length);
  if (!waiting) return addClass(label);
  await renameClass(waiting, label);
  return waiting.label === name ? waiting : null;
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
  onChange(["deleted"], () => { shownStep = null; });
}
