/** The menu and the capture settings, which open beside their buttons. */
import { byId, setText } from "./elements.js";
import * as remembered from "./remembered.js";
import { text } from "./strings.js";

const GAP_PX = 6;

/** Places an opened popover below its button, inside the window. */
function place(popover, opener) {
  const around = opener.getBoundingClientRect();
  const { width, height } = popover.getBoundingClientRect();
  const left = Math.min(Math.max(GAP_PX, around.right - width), innerWidth - width - GAP_PX);
  const below = around.bottom + GAP_PX;
  const top = below + height < innerHeight ? below : Math.max(GAP_PX, around.top - GAP_PX - height);
  Object.assign(popover.style, { left: `${left}px`, top: `${top}px` });
}

export function preparePopovers() {
  for (const opener of document.querySelectorAll("[popovertarget]")) {
    const popover = byId(opener.getAttribute("popovertarget"));
    popover.addEventListener("toggle", (event) => {
      opener.setAttribute("aria-expanded", `${event.newState === "open"}`);
      if (event.newState === "open") place(popover, opener);
    });
  }
  for (const action of byId("menu").querySelectorAll("button, label")) {
    action.addEventListener("click", () => byId("menu").hidePopover());
  }
  prepareSettings();
}

function prepareSettings() {
  const units = { shots: String, pace_ms: (value) => text.seconds(value / 1000), countdown_s: text.seconds };
  const settings = remembered.captureSettings();
  for (const [name, shown] of Object.entries(units)) {
    const slider = byId(`capture-${name}`);
    slider.value = settings[name];
    const draw = () => {
      setText(byId(`capture-${name}-value`), shown(Number(slider.value)));
      slider.setAttribute("aria-valuetext", shown(Number(slider.value)));
    };
    slider.addEventListener("input", () => {
      settings[name] = Number(slider.value);
      remembered.setCaptureSettings(settings);
      draw();
    });
    draw();
  }
}
