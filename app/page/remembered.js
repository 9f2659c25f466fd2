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

let key = storedKey();

function storedKey() {
  try {
    return sessionStorage.getItem(`${PREFIX}key`);
  } catch {
    return null;
  }
}

/** The API key, until the tab is closed. */
export const apiKey = () => key;

export function setApiKey(value) {
  key = value;
  try {
    sessionStorage.setItem(`${PREFIX}key`, key);
  } catch {
    // The page keeps it until the next reload.
  }
}

/**
 * The name in localStorage for the data of this API key. The name contains a hash of the key (FNV-1a, 32 bits), which
 * is too short to find a key of ordinary length. Over plain http browsers offer no hash of their own.
 */
function ofKey(name) {
  if (!key) return name;
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(key)) hash = Math.imul(hash ^ byte, 0x01000193);
  return `${(hash >>> 0).toString(16)}.${name}`;
}

/** All sessions that this browser made or imported with this key and has not deleted; the last one is in use. */
export const sessions = () => read(ofKey("sessions"), []);
export const currentSession = () => sessions().at(-1);
export const addSession = (id) => replaceSessions([id], id);
export const forgetSession = (id) => replaceSessions([id]);
export function replaceSessions(gone, ...next) {
  write(ofKey("sessions"), [...sessions().filter((known) => !gone.includes(known)), ...next]);
}

/** The sessions of all keys. */
export function sessionsOfAllKeys() {
  try {
    const names = Object.keys(localStorage).map((name) => name.slice(PREFIX.length));
    return names.filter((name) => /^(\w+\.)?sessions$/.test(name)).flatMap((name) => read(name, []));
  } catch {
    return sessions();
  }
}

/** The order and colours of the classes: {label, color, empty}. The service does not know those without examples. */
export const classes = () => read(ofKey("classes"), []);
/** others: what another tab may have written. Its classes keep their colours if the service has them. */
export function setClasses(entries, others = classes()) {
  const mine = entries.map(({ label, color, examples }) => ({ label, color, empty: !examples.length }));
  const labels = entries.map(({ label }) => label);
  const kept = others.filter(({ label }) => !labels.includes(label)).map((entry) => ({ ...entry, empty: false }));
  write(ofKey("classes"), [...mine, ...kept]);
}

export const captureSettings = () => ({ ...CAPTURE, ...read("capture", {}) });
export const setCaptureSettings = (settings) => write("capture", settings);

export const stepsDone = () => read(ofKey("steps_done"), false);
export const setStepsDone = (done) => write(ofKey("steps_done"), done);

/** Removals that can be undone until their time ends. */
export const removals = () => read(ofKey("removals"), []);
export const setRemovals = (items) => write(ofKey("removals"), items);
export function renameInRemovals(session, label, name) {
  const isOfClass = (item) => item.session === session && item.label === label && !item.whole;
  setRemovals(removals().map((item) => isOfClass(item) ? { ...item, label: name } : item));
}

/** Forgets everything of this key except its sessions. */
export function forgetAll() {
  for (const name of ["classes", "steps_done", "removals"]) write(ofKey(name), null);
}
