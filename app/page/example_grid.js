/** The grid of a class's examples, each with a cross that removes it. Confusing ones are marked. */
import { button, element, icon } from "./elements.js";
import { fly } from "./motion.js";
import { removeExample } from "./removal.js";
import { text } from "./strings.js";

export class ExampleGrid {
  constructor(entry) {
    this.entry = entry;
    this.list = element("ul", { className: "shots" });
    this.items = new Map();  // the elements of each example, by its id
  }

  update() {
    const { examples, label, quality } = this.entry;
    const confusing = new Map((quality?.confusing_examples ?? []).map(({ example_id, predicted }) => [example_id, predicted]));
    const ids = new Set(examples.map((example) => example.id));
    for (const [id, item] of this.items) {
      if (ids.has(id)) continue;
      if (item.contains(document.activeElement)) this.focusBeside(item);
      item.remove();
      this.items.delete(id);
    }
    examples.forEach((example, index) => {
      let item = this.items.get(example.id);
      if (!item) {
        this.items.set(example.id, item = this.newItem(example));
        this.list.insertBefore(item, this.list.children[index] ?? null);
        if (example.from && example.url) fly(example.url, example.from, item);
        example.from = null;
      } else if (this.list.children[index] !== item) {
        this.list.insertBefore(item, this.list.children[index] ?? null);
      }
      const other = confusing.get(example.id);
      item.classList.toggle("confusing", Boolean(other));
      item.title = other ? text.exampleConfusing(other) : "";
      const name = text.exampleRemove(label, index + 1, other);
      const cross = item.querySelector("button");
      if (cross.getAttribute("aria-label") !== name) cross.setAttribute("aria-label", name);
    });
    this.list.hidden = !examples.length;
  }

  newItem(example) {
    const cross = button({ iconName: "close", className: "cross" });
    cross.addEventListener("click", () => removeExample(this.entry, example));
    const picture = example.url
      ? element("img", { src: example.url, alt: "", draggable: false }) : element("span", { className: "no-picture" }, icon("face"));
    return element("li", { className: "shot" }, picture, cross, element("span", { className: "mark" }, icon("warning")));
  }

  /** Moves the focus to the neighbour of an example that goes away, or to the card. */
  focusBeside(item) {
    const neighbour = item.nextElementSibling ?? item.previousElementSibling;
    (neighbour?.querySelector("button") ?? this.list.closest(".card").querySelector(".capture")).focus();
  }
}
