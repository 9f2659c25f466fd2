/** Captures shots of the camera for a class: a series after a countdown, or as long as a button is held. */
import { takeFrame, toJpeg } from "./camera.js";
import { byId } from "./elements.js";
import { announce } from "./notices.js";
import { startCamera } from "./preview.js";
import * as remembered from "./remembered.js";
import { attempt } from "./session.js";
import { changed, state } from "./state.js";
import { text } from "./strings.js";
import { teach } from "./teaching.js";

/** A press longer than this captures until it ends; a shorter one starts a series. */
const HOLD_MS = 350;

const wait = (time_ms) => new Promise((resolve) => setTimeout(resolve, Math.max(0, time_ms)));

function progress(capture) {
  state.capture = capture;
  changed("stage");
}

export function stopCapture() {
  if (state.capture) progress(null);
}

/** Takes a series of shots after a countdown. Starts the camera if it is off. */
export async function captureSeries(entry) {
  const { shots, pace_ms, countdown_s } = remembered.captureSettings();
  stopCapture();
  if (!await startCamera() || !state.classes.includes(entry)) return;
  const mine = { key: entry.key, label: entry.label, left_s: countdown_s };
  if (countdown_s) announce(text.countdown(entry.label));
  for (; mine.left_s > 0; mine.left_s--) {
    progress(mine);
    await wait(1000);
    if (state.capture !== mine) return;
  }
  await shoot(entry, shots, pace_ms, () => true);
}

/** Takes shots while held() is true. */
async function captureHeld(entry, held) {
  stopCapture();
  if (state.camera !== "on") await captureSeries(entry);
  else await shoot(entry, Infinity, remembered.captureSettings().pace_ms, held);
}

async function shoot(entry, shots, pace_ms, go) {
  const mine = { key: entry.key, label: entry.label, taken: 0, shots };
  progress(mine);
  await attempt(async () => {
    while (mine.taken < shots && go() && state.capture === mine && state.camera === "on") {
      const started = performance.now();
      const picture = takeFrame(byId("video"));
      mine.taken += 1;
      progress(mine);
      await teach(entry, [{ picture, blob: await toJpeg(picture) }], { from: byId("stage") });
      if (mine.taken < shots) await wait(pace_ms - (performance.now() - started));
    }
  });
  if (state.capture === mine) progress(null);
  if (entry.examples.length) announce(text.added(entry.label, entry.examples.length));
  changed("support");
}

/** Makes a button capture for a class: a short press starts or stops a series, a long one holds. */
export function captureButton(button, entry) {
  let pressed = null;
  const press = (event) => {
    if (event.type === "keydown" && (event.repeat || ![" ", "Enter"].includes(event.key))) return;
    if (event.type === "pointerdown" && event.button !== 0) return;
    event.preventDefault();
    button.focus();
    const mine = pressed = { held: false };
    const timer = setTimeout(() => {
      mine.held = true;
      captureHeld(entry, () => pressed === mine);
    }, HOLD_MS);
    const ends = ["pointerup", "pointercancel", "keyup", "blur"];
    const release = (end) => {
      if (end.type === "keyup" && ![" ", "Enter"].includes(end.key)) return;
      if (end.type === "keyup") end.preventDefault();
      for (const type of ends) removeEventListener(type, release, true);
      clearTimeout(timer);
      if (pressed === mine) pressed = null;
      if (!mine.held && end.type !== "blur" && end.type !== "pointercancel") startOrStop();
    };
    for (const type of ends) addEventListener(type, release, true);
  };
  const startOrStop = () => {
    if (state.capture?.key === entry.key) stopCapture();
    else captureSeries(entry);
  };
  button.addEventListener("pointerdown", press);
  button.addEventListener("keydown", press);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  // Screen readers and switches click without pressing before.
  button.addEventListener("click", (event) => { if (event.detail === 0) startOrStop(); });
}
