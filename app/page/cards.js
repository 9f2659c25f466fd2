/** The list of class cards, and the form that adds one. */
import { Card } from "./card.js";
import { byId } from "./elements.js";
import * as remembered from "./remembered.js";
import { onChange, state } from "./state.js";
import { addClass } from "./teaching.js";

const cards = new Map();  // by the key of the class

function draw() {
  const list = byId("classes");
  const keys = new Set(state.classes.map((entry) => entry.key));
  for (const [key, card] of cards) {
    if (keys.has(key)) continue;
    if (card.item.contains(document.activeElement)) focusBeside(card.item);
    card.item.remove();
    cards.delete(key);
  }
  state.classes.forEach((entry, index) => {
    let card = cards.get(entry.key);
    if (card) card.update();
    else cards.set(entry.key, card = new Card(entry));
    if (list.children[index] !== card.item) list.insertBefore(card.item, list.children[index] ?? null);
  });
  cards.get(state.focusOn)?.capture.focus();
  state.focusOn = null;
  byId("classes-section").hidden = !state.classes.length && !remembered.stepsDone();
  byId("classes-empty").hidden = state.classes.length > 0;
}

/** Moves the focus from a card that goes away to another one, or to where classes are added. */
function focusBeside(item) {
  const neighbour = item.nextElementSibling ?? item.previousElementSibling;
  const places = [neighbour?.querySelector(".name"), byId("step-name"), byId("label"), byId("preview")];
  places.find((place) => place?.checkVisibility()).focus();
}

export function prepareCards() {
  onChange(["classes"], draw);
  onChange(["stage"], () => { for (const card of cards.values()) card.updateCapture(); });
  byId("class-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = byId("label");
    if (addClass(field.value)) {
      field.value = "";
      queueMicrotask(() => byId("classes").lastElementChild.scrollIntoView({ block: "nearest", behavior: "smooth" }));
    }
  });
  draw();
}
