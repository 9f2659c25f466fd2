/** The card of one class. Its elements stay while the class changes, so that focus and typing are not lost. */
import { captureButton } from "./capture.js";
import { button, droppable, element, icon, imageInput, nameControl, setText } from "./elements.js";
import { ExampleGrid } from "./example_grid.js";
import { removeClass } from "./removal.js";
import { COLORS } from "./session.js";
import { changed, state } from "./state.js";
import { text } from "./strings.js";
import { addPhotos, enableClass, renameClass } from "./teaching.js";

const GOAL = { from: 5, to: 10 };
const VERDICT_ICONS = { clear: "check", mixed: "warning", confused: "warning" };

export class Card {
  constructor(entry) {
    this.entry = entry;
    this.color = button({ className: "color" });
    this.name = element("input", { className: "name", maxLength: 64, autocomplete: "off", spellcheck: false });
    this.enabled = element("input", { type: "checkbox", role: "switch", className: "switch" });
    this.remove = button({ iconName: "trash", className: "icon-button" });
    this.count = element("p", { className: "count" });
    this.progress = element("span", { className: "goal", "aria-hidden": "true" }, element("span"));
    this.verdict = element("p", { className: "verdict" });
    this.capture = button({ iconName: "camera", label: text.capture, className: "capture" });
    this.files = imageInput((files) => addPhotos(entry, files));
    const photos = element("label", { className: "button quiet" }, icon("photos"), element("span", {}, text.photosAdd), this.files);
    this.grid = new ExampleGrid(entry);
    this.rejections = element("ul", { className: "rejections" });
    this.item = element(
      "li",
      { className: "card" },
      element("div", { className: "card-head" }, this.color, this.name, this.enabled, this.remove),
      element("div", { className: "card-state" }, this.progress, this.count),
      this.verdict,
      element("div", { className: "card-actions" }, this.capture, photos),
      this.grid.list,
      this.rejections,
    );
    this.listen();
    this.update();
  }

  listen() {
    const { entry, name } = this;
    name.addEventListener("keydown", (event) => {
      if (event.key === "Enter") name.blur();
      if (event.key === "Escape") {
        name.value = entry.label;
        name.blur();
      }
    });
    name.addEventListener("change", () => renameClass(entry, name.value));
    this.color.addEventListener("click", () => {
      entry.color = (entry.color + 1) % COLORS;
      changed("classes");
      changed("stage");
    });
    this.enabled.addEventListener("change", () => enableClass(entry, this.enabled.checked));
    this.remove.addEventListener("click", () => removeClass(entry));
    captureButton(this.capture, entry);
    droppable(this.item, (files) => addPhotos(entry, files));
  }

  update() {
    const { entry, name } = this;
    const { label, examples, enabled, quality } = entry;
    if (document.activeElement !== name) name.value = label;
    this.item.dataset.color = entry.color;
    this.item.classList.toggle("off", !enabled);
    nameControl(name, text.className(label));
    nameControl(this.color, text.classColor(label));
    nameControl(this.enabled, text.classEnabled(label));
    nameControl(this.remove, text.classRemove(label));
    this.capture.setAttribute("aria-label", text.captureName(label));
    this.files.setAttribute("aria-label", text.photosAddTo(label));
    this.enabled.checked = enabled;
    this.enabled.hidden = !examples.length;
    this.progress.style.setProperty("--share", Math.min(1, examples.length / GOAL.to));
    this.progress.classList.toggle("reached", examples.length >= GOAL.from);
    setText(this.count, examples.length ? text.goal(examples.length) : text.noShots);
    this.progress.hidden = !examples.length;
    this.drawVerdict(enabled ? quality : null);
    this.drawRejections();
    this.grid.update();
    this.updateCapture();
  }

  updateCapture() {
    const mine = state.capture?.key === this.entry.key;
    if (this.capturing === mine) return;
    this.capturing = mine;
    this.capture.classList.toggle("running", mine);
    setText(this.capture.querySelector("span"), mine ? text.captureStop : text.capture);
    this.capture.querySelector("svg").replaceWith(icon(mine ? "stop" : "camera"));
  }

  drawVerdict(quality) {
    const said = quality ? quality.verdict : this.entry.enabled ? "" : "off";
    this.verdict.hidden = !said;
    this.verdict.dataset.verdict = said;
    if (!said) return;
    const parts = [text.classOff];
    if (quality) {
      const others = quality.confused_with.map((other) => other.label).join(", ");
      parts.splice(0, 1, icon(VERDICT_ICONS[said]), element("strong", {}, text.verdicts[said]), " ",
        text.verdict(quality.correct, quality.examples, others));
    }
    const key = parts.map((part) => part.textContent ?? part).join("");
    if (this.verdictShown === key) return;
    this.verdictShown = key;
    this.verdict.replaceChildren(...parts);
  }

  drawRejections() {
    const key = this.entry.rejections.map(({ reason, count }) => `${reason} ${count}`).join();
    if (this.rejectionsShown === key) return;
    this.rejectionsShown = key;
    this.rejections.replaceChildren(...this.entry.rejections.map((group) => {
      const dismiss = button({ iconName: "close", name: text.rejectedDismiss, className: "icon-button" });
      dismiss.addEventListener("click", () => {
        this.entry.rejections = this.entry.rejections.filter((other) => other !== group);
        this.capture.focus();
        changed("classes");
      });
      const pictures = group.urls.map((url) => element("img", { src: url, alt: "" }));
      const reason = element("p", {}, text.rejected(group.count, group.reason));
      return element("li", {}, element("span", { className: "pile" }, ...pictures.length ? pictures : [icon("photo")]), reason, dismiss);
    }));
  }
}
