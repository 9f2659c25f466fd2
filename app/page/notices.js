/** Short messages at the lower edge, some with a button, and questions that need an answer. */
import { button, byId, element } from "./elements.js";
import { text } from "./strings.js";

const SHOWN_MS = 7000;

/** Shows a message. action: {label, iconName, run}, a button that closes the message. Returns how to close it. */
export function notify(message, { action, shown_ms = SHOWN_MS } = {}) {
  if (!action) for (const old of document.querySelectorAll(".notice:not(.with-action)")) old.remove();
  const item = element("div", { className: action ? "notice with-action" : "notice" }, element("p", {}, message));
  const close = () => {
    clearTimeout(timer);
    if (item.contains(document.activeElement)) byId("preview").focus();  // the focus is never lost
    item.remove();
  };
  if (action) {
    const act = button({ iconName: action.iconName, label: action.label, className: "quiet" });
    act.addEventListener("click", () => {
      close();
      action.run();
    });
    item.append(act);
  }
  byId("notices").append(item);
  const timer = setTimeout(close, shown_ms);
  return close;
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
