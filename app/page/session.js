/** The session on the service: opens it, waits while the service is away, imports it and deletes it. */
import * as api from "./api.js";
import { byId, element } from "./elements.js";
import { confirmed, notify, showBanner } from "./notices.js";
import * as pictures from "./pictures.js";
import * as remembered from "./remembered.js";
import { changed, onChange, state } from "./state.js";
import { text } from "./strings.js";

const RETRY_MS = 1500;
export const COLORS = 8;  // as many as theme.css defines

/** The number of a colour that the fewest classes have. */
export function nextColor(taken = state.classes) {
  const uses = Array.from({ length: COLORS }, (_, color) => taken.filter((entry) => entry.color === color).length);
  return uses.indexOf(Math.min(...uses));
}

let keys = 0;
export const newClass = (label, color = nextColor()) =>
  ({ key: ++keys, label, color, enabled: true, examples: [], quality: null, rejections: [], changes: Promise.resolve() });

/**
 * Shows a session. layout: the classes whose order and colours stay. Those the session lacks stay as empty ones, unless
 * it had them.
 */
async function use(session, layout) {
  let thumbnails = await pictures.thumbnails(session.id);
  // The list must be newer than the pictures: another tab may have added some since.
  if (thumbnails.size) session = await api.getSession(session.id);
  const listed = await Promise.all(session.classes.map((entry) => api.getClass(session.id, entry.label)));
  const ids = listed.flatMap((entry) => entry.example_ids);
  const undoable = remembered.removals().filter((item) => item.until_ms > Date.now()).flatMap((item) => item.ids);
  await pictures.forget(session.id, [...thumbnails.keys()].filter((id) => !ids.includes(id) && !undoable.includes(id)));
  const missing = ids.filter((id) => !thumbnails.has(id));
  if (missing.length) {
    await pictures.copyTo(session.id, missing);
    thumbnails = await pictures.thumbnails(session.id);
  }
  const found = new Map(listed.map((entry) => [entry.label, entry]));
  const isKnown = remembered.sessions().includes(session.id);
  const stays = ({ label, examples, empty = !examples?.length }) => !isKnown || found.has(label) || empty;
  const labels = new Set([...layout.filter(stays).map((entry) => entry.label), ...found.keys()]);
  const shown = session.id === state.sessionId ? state.classes : [];
  const urls = new Map(shown.flatMap((entry) => entry.examples).map((example) => [example.id, example.url]));
  const classes = [];
  for (const label of labels) {
    const color = layout.find((entry) => entry.label === label)?.color ?? nextColor(classes);
    const entry = shown.find((before) => before.label === label) ?? newClass(label, color);
    entry.enabled = found.get(label)?.enabled ?? true;
    entry.examples = (found.get(label)?.example_ids ?? []).map((id) => {
      const picture = thumbnails.get(id);
      return { id, url: urls.get(id) ?? (picture && URL.createObjectURL(picture)) };
    });
    classes.push(entry);
  }
  if (session.id !== state.sessionId) state.capture = null;
  state.sessionId = session.id;
  state.classes = classes;
  remembered.addSession(session.id);
  remembered.setClasses(classes, []);
  for (const part of ["top", "main"]) byId(part).inert = false;
  for (const topic of ["classes", "support", "stage", "session"]) changed(topic);
}

let opening = null;

/** Opens the page's session, the remembered one or a new one. Calls at the same time get the same session. */
export function openSession(find = findSession) {
  const layout = state.sessionId ? state.classes : remembered.classes();
  opening ??= find().then((session) => use(session, layout)).finally(() => { opening = null; });
  return opening;
}

async function findSession() {
  const known = state.sessionId ?? remembered.currentSession();
  if (known) {
    try {
      return await api.getSession(known);
    } catch (problem) {
      if (problem.code !== "session_not_found") throw problem;
      remembered.forgetSession(known);
      notify(text.sessionReplaced);
    }
  }
  return api.createSession();
}

/** Ends what runs for the session and shows nothing of it any more, until another one takes its place. */
function leaveSession() {
  changed("deleted");
  byId("notices").replaceChildren();
  for (const part of ["top", "main"]) byId(part).inert = true;
  Object.assign(state, { sessionId: null, classes: [], capture: null });
  changed("classes");
  changed("stage");
}

/**
 * Runs the action of a control. Shows its error, and waits if the service does not answer.
 * quiet: nobody asked for it, so nobody misses it if the service does not answer.
 */
export async function attempt(work, { quiet = false } = {}) {
  try {
    return await work();
  } catch (problem) {
    if (!(problem instanceof api.Problem)) throw problem;
    if (problem.status === 401) askForKey();
    else if (problem.status === 0 || problem.status === 503) {
      if (!quiet) notify(text.notDone);
      missed ||= !quiet;
      waitForService();
    } else if (problem.code === "session_not_found") await attempt(openSession, { quiet: true });
    else if (problem.code === "model_changed") await replaceSession();
    else notify(text.reasons[problem.code] ?? problem.message);
  }
}

/** Makes a new session in place of one that cannot be used any more. The classes stay, without examples. */
export async function replaceSession() {
  await attempt(() => openSession(api.createSession), { quiet: true });
  notify(text.sessionReplaced);
}

let waiting = false;
let missed = false;  // whether an action failed because the service did not answer
export async function waitForService() {
  if (waiting) return;
  waiting = true;
  showBanner(text.away);
  do {
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  } while (!(await api.isReady()));
  waiting = false;
  showBanner("");
  notify(missed ? text.backNotDone : text.back);
  missed = false;
  await attempt(openSession, { quiet: true });
}

export function askForKey() {
  changed("locked");
  byId("main").hidden = true;
  byId("key-form").hidden = false;
  showBanner(api.hasKey() ? text.keyWrong : text.keyNeeded);
  byId("key").focus();
}

async function exportFile() {
  const url = URL.createObjectURL(await api.exportSession(state.sessionId));
  element("a", { href: url, download: `session-${state.sessionId}.safetensors` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

async function importFile(file) {
  const session = await api.importSession(file);
  await use(session, state.classes.filter((entry) => !entry.examples.length));
  remembered.setStepsDone(true);
  notify(text.imported);
}

async function deleteEverything() {
  if (!await confirmed(text.deleteSure, text.deleteAll)) return;
  leaveSession();
  const session = await attempt(deleteSessions);
  await openSession(session && (async () => session));
  if (session) notify(text.deleted);
}

/** Deletes all sessions and their pictures. Returns the new session in their place. */
async function deleteSessions() {
  const gone = remembered.sessions();
  for (const id of gone) {
    await api.deleteSession(id).catch((problem) => {
      if (problem.code !== "session_not_found") throw problem;
    });
  }
  const session = await api.createSession();
  remembered.forgetAll();
  remembered.replaceSessions(gone, session.id);  // in one step, so that other tabs find the new one
  await pictures.keepSessions(remembered.sessionsOfAllKeys());
  return session;
}

/** When another tab has deleted everything, this one must not go on to show it. */
function followOtherTabs() {
  if (!state.sessionId || remembered.sessions().includes(state.sessionId)) return;
  leaveSession();
  attempt(openSession, { quiet: true });
}

export function prepareSession() {
  onChange(["classes"], () => { if (state.sessionId) remembered.setClasses(state.classes); });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    api.setKey(byId("key").value);
    byId("key").value = "";
    byId("key-form").hidden = true;
    byId("main").hidden = false;
    showBanner("");
    leaveSession();  // it may be the session of another key
    attempt(openSession, { quiet: true });
  });
  addEventListener("storage", followOtherTabs);
  byId("export").addEventListener("click", () => attempt(exportFile));
  byId("import").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) attempt(() => importFile(file));
  });
  byId("delete").addEventListener("click", () => attempt(deleteEverything));
}
