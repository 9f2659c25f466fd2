/** Elements of the page: finding them, making them, and filling in their texts and icons. */
import { icons } from "./icons.js";
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

/** A line drawing that screen readers skip. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" })) {
    svg.setAttribute(key, value);
  }
  for (const line of icons[name]) {
    const path = document.createElementNS(svg.namespaceURI, "path");
    path.setAttribute("d", line);
    svg.append(path);
  }
  return svg;
}

/** A button with an icon, a text or both. Without a text it needs a name, which is also its tooltip. */
export function button({ iconName, label, name, ...properties }) {
  const made = element("button", { type: "button", ...properties });
  if (name) nameControl(made, name);
  if (iconName) made.append(icon(iconName));
  if (label) made.append(element("span", {}, label));
  return made;
}

/** Names a control for screen readers and in its tooltip. */
export function nameControl(control, name) {
  if (control.getAttribute("aria-label") === name) return;
  control.setAttribute("aria-label", name);
  control.title = name;
}

/** A field for image files whose label is drawn instead of it. take: gets the files that were chosen. */
export function imageInput(take) {
  const input = element("input", {
    type: "file", multiple: true, accept: "image/jpeg,image/png,image/webp", className: "visually-hidden",
  });
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";  // so that the same file can be chosen again
  });
  return input;
}

export function fillTexts() {
  for (const target of document.querySelectorAll("[data-text]")) target.append(text[target.dataset.text]);
  for (const target of document.querySelectorAll("[data-region]")) target.append(text.regions[target.dataset.region]);
  for (const target of document.querySelectorAll("[data-icon]")) target.prepend(icon(target.dataset.icon));
  for (const target of document.querySelectorAll("[data-name]")) {
    target.setAttribute("aria-label", text[target.dataset.name]);
    if (target.matches("button")) target.title = text[target.dataset.name];
  }
}

/** Changes a text only if it differs, so that screen readers and selections are not disturbed. */
export function setText(target, value) {
  if (target.textContent !== value) target.textContent = value;
}

/** Lets files be dropped on an element. */
export function droppable(target, take) {
  let inside = 0;
  const mark = (change) => {
    inside = change ? Math.max(0, inside + change) : 0;
    target.classList.toggle("drop-target", inside > 0);
  };
  target.addEventListener("dragenter", () => mark(1));
  target.addEventListener("dragleave", () => mark(-1));
  target.addEventListener("dragover", (event) => event.preventDefault());
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    mark(0);
    if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
  });
}
