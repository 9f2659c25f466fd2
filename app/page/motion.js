/** Motion that explains: a captured shot flies from the preview to its card. */
import { element } from "./elements.js";

const FLIGHT_MS = 480;

/** Moves a copy of an image from one element to another. People who prefer less motion see none. */
export function fly(image, from, to) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const [start, end] = [from.getBoundingClientRect(), to.getBoundingClientRect()];
  if (!end.width || !start.width) return;
  const side = Math.min(start.width, start.height) * 0.6;
  const ghost = element("img", { className: "flying", src: image, alt: "" });
  Object.assign(ghost.style, {
    width: `${side}px`,
    height: `${side}px`,
    left: `${start.left + (start.width - side) / 2}px`,
    top: `${start.top + (start.height - side) / 2}px`,
  });
  document.body.append(ghost);
  const across = end.left + end.width / 2 - (start.left + start.width / 2);
  const down = end.top + end.height / 2 - (start.top + start.height / 2);
  ghost.animate(
    [
      { transform: "none", opacity: 0.2 },
      { transform: "scale(.9)", opacity: 1, offset: 0.2 },
      { transform: `translate(${across}px, ${down}px) scale(${end.width / side})`, opacity: 0.9 },
    ],
    { duration: FLIGHT_MS, easing: "cubic-bezier(.4, 0, .2, 1)" },
  ).finished.finally(() => ghost.remove());
}
