/** What this browser remembers between visits, in localStorage. Pictures are in pictures.js. */

const PREFIX = "csrn.";
const CAPTURE = { shots: 6, pace_ms: 250, countdown_s: 2 };

const unstored = {};  // what the browser refuses to store: it is forgotten with the next reload

function read(name, fallback) {
  if (name in unstored) return unstored[name] ?? fallback;
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name)) ?? fallback;
  } catch {
    return fallback;
  }
}

function write(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    unstored[name] = value;
  }
}

/** The API key, until the tab is closed. */
export function apiKey() {
  try {
    return sessionStorage.getItem(`${PREFIX}key`);
  } catch {
    return null;
  }
}

export function setApiKey(key) {
  try {
    sessionStorage.setItem(`${PREFIX}key`, key);
  } catch {
    // The page keeps it until the next reload.
  }
}

/** All sessions that this browser made or imported and has not deleted; the last one is in use. */
export const sessions = () => read("sessions", []);
export const currentSession = () => sessions().at(-1);
export function addSession(id) {
  write("sessions", [...sessions().filter((known) => known !== id), id]);
}
export function forgetSession(id) {
  write("sessions", sessions().filter((known) => known !== id));
}

/** The order and colours of the classes, also of those without examples, which the service does not know. */
export const classes = () => read("classes", []);
export const setClasses = (entries) => write("classes", entries.map(({ label, color }) => ({ label, color })));

export const captureSettings = () => ({ ...CAPTURE, ...read("capture", {}) });
export const setCaptureSettings = (settings) => write("capture", settings);

export const stepsDone = () => read("steps_done", false);
export const setStepsDone = (done) => write("steps_done", done);

/** Removals that can still be undone. */
export const removals = () => read("removals", []);
export const setRemovals = (items) => write("removals", items);

/** Forgets everything except how to capture. */
export function forgetAll() {
  for (const name of ["sessions", "classes", "steps_done", "removals"]) write(name, null);
}
