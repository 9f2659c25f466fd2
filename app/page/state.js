/** What the page shows now. Code that changes it calls changed(topic); the views of that topic then redraw once. */

export const state = {
  sessionId: null,
  /**
   * {key, label, color, enabled, examples: [{id, url}], quality, rejections: [{reason, count, urls}], changes}
   * changes: a promise that ends with the last change that the service was asked for
   */
  classes: [],
  camera: "off",       // off, starting or on
  cameraProblem: "",
  photo: null,         // the image file that is classified while the camera is off
  shown: null,         // the last answer: {result, picture, mirrored, unknownBelow}
  threshold: null,     // chosen on the slider; null means the session's own
  capture: null,       // {key, label, left_s} in the countdown, {key, label, taken, shots} while capturing
  focusOn: null,       // the key of the class whose card gets the focus when it is drawn
  showRegions: true,
  showParts: false,
};

const bus = new EventTarget();
const pending = new Set();

/**
 * Topics: classes (the cards), stage (camera, photo and capturing), answer (the last result),
 * support (the service's examples changed, so answers and verdicts can change), session (another session, or
 * the same one after an interruption), deleted (everything was), locked (a key is needed).
 */
export function changed(topic) {
  if (pending.has(topic)) return;
  pending.add(topic);
  queueMicrotask(() => {
    pending.delete(topic);
    bus.dispatchEvent(new Event(topic));
  });
}

export function onChange(topics, draw) {
  for (const topic of topics) bus.addEventListener(topic, draw);
}

/** Calls `work` once, when the topic has not changed for this time. */
export function onceSettled(topic, delay_ms, work) {
  let timer;
  bus.addEventListener(topic, () => {
    clearTimeout(timer);
    timer = setTimeout(work, delay_ms);
  });
}

export const classOf = (label) => state.classes.find((entry) => entry.label === label);
export const taughtClasses = () => state.classes.filter((entry) => entry.examples.length);
