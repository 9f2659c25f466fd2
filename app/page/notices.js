/** Short messages at the lower edge, some with a button, and questions that need an answer. */
import { button, byId, element, setText } from "./elements.js";
import { text } from "./strings.js";

const SHOWN_MS = 7000;

/** Shows a message in place of the last one. */
export function notify(message) {
  for (const old of document.querySelectorAll(".notice:not(.with-action)")) old.remove();
  const item = element("div", { className: "notice" }, element("p", {}, message));
  byId("notices").append(item);
  setTimeout(() => item.remove(), SHOWN_MS);
}

const offers = new Map();  // by group

/**
 * Offers an action for some time. Offers of one group are one message, `message(count)`, with one button, which
 * runs the action of each, the newest first. action: {label, iconName, run}. missed: called if it was not run.
 */
export function offer(message, { group, shown_ms, action, missed }) {
  let shown = offers.get(group);
  if (!shown?.item.isConnected) offers.set(group, shown = newOffer(action));
  const draw = () => setText(shown.item.querySelector("p"), message(shown.waiting.length));
  const timer = setTimeout(() => {
    shown.waiting = shown.waiting.filter((other) => other.timer !== timer);
    if (shown.waiting.length) draw();
    else close(shown.item);
    missed();
  }, shown_ms);
  shown.waiting.unshift({ timer, run: action.run });
  draw();
}

function newOffer({ label, iconName }) {
  const act = button({ iconName, label, className: "quiet" });
  const shown = { waiting: [], item: element("div", { className: "notice with-action" }, element("p"), act) };
  act.addEventListener("click", async () => {
    close(shown.item);
    for (const { timer } of shown.waiting) clearTimeout(timer);
    for (const { run } of shown.waiting) await run();
  });
  byId("notices").append(shown.item);
  return shown;
}

function close(item) {
  if (item.contains(document.activeElement)) byId("preview").focus();  // the focus is never lost
  item.remove();
}

/** Says something to screen readers only. */
export function announce(message) {
  byId("announced").textContent = message;
}

export function showBanner(message) {
  byId("banner").textContent = message;
  byId("banner").hidden = !message;
}

/** Asks before something that cannot be undone. */
export function confirmed(question, action) {
  const dialog = byId("confirm");
  byId("confirm-question").textContent = question;
  byId("confirm-yes").textContent = action;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

export function prepareDialogs() {
  byId("confirm-yes").addEventListener("click", () => byId("confirm").close("yes"));
  for (const close of document.querySelectorAll("[data-close]")) {
    close.addEventListener("click", () => close.closest("dialog").close());
  }
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      const { left, right, top, bottom } = dialog.getBoundingClientRect();
      const beside = event.clientX < left || event.clientX > right || event.clientY < top || event.clientY > bottom;
      if (event.target === dialog && beside) dialog.close();
    });
  }
}
