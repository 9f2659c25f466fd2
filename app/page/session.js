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
  ({ key: ++keys, label, color, enabled: true, examples: [], quality: null, rejections: [] });

/** Shows a session. layout: the classes whose order and colours stay; those the session lacks stay as empty ones. */
async function use(session, layout) {
  const [listed, thumbnails] = await Promise.all([
    Promise.all(session.classes.map((entry) => api.getClass(session.id, entry.label))),
    pictures.thumbnails(session.id),
  ]);
  const found = new Map(listed.map((entry) => [entry.label, entry]));
  const labels = new Set([...layout.map((entry) => entry.label), ...found.keys()]);
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
  state.sessionId = session.id;
  state.classes = classes;
  remembered.addSession(session.id);
  for (const part of ["top", "main"]) byId(part).inert = false;
  changed("classes");
  changed("support");
  changed("session");
}

let opening = null;

/** Opens the remembered session or a new one. Calls at the same time get the same session. */
export function openSession() {
  const layout = state.sessionId ? state.classes : remembered.classes();
  opening ??= findSession().then((session) => use(session, layout)).finally(() => { opening = null; });
  return opening;
}

async function findSession() {
  const known = remembered.currentSession();
  if (known) {
    try {
      return await api.getSession(known);
    } catch (problem) {
      if (problem.code !== "session_not_found") throw problem;
      forget(known);
      notify(text.expired);
    }
  }
  return api.createSession();
}

/** Forgets a session that is gone, with its pictures. */
function forget(id) {
  remembered.forgetSession(id);
  pictures.keepOnly(id, []);
}

/** Runs the action of a control. Shows its error, and waits if the service does not answer. */
export async function attempt(work) {
  try {
    return await work();
  } catch (problem) {
    if (!(problem instanceof api.Problem)) throw problem;
    if (problem.status === 401) askForKey();
    else if (problem.status === 0 || problem.status === 503) waitForService();
    else if (problem.code === "session_not_found") await renewSession();
    else notify(text.reasons[problem.code] ?? problem.message);
  }
}

/** Makes a new session in place of one that is gone. The classes stay, without examples. */
export async function renewSession() {
  forget(state.sessionId);
  await attempt(openSession);
  notify(text.expired);
}

let waiting = false;
export async function waitForService() {
  if (waiting) return;
  waiting = true;
  showBanner(text.away);
  do {
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  } while (!(await api.isReady()));
  waiting = false;
  showBanner("");
  notify(text.back);
  await attempt(openSession);
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
  changed("deleted");
  byId("notices").replaceChildren();
  for (const id of remembered.sessions()) {
    await api.deleteSession(id).catch((problem) => {
      if (problem.code !== "session_not_found") throw problem;
    });
    remembered.forgetSession(id);
  }
  remembered.forgetAll();
  await pictures.forgetAll();
  state.classes = [];
  await openSession();
  notify(text.deleted);
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
    attempt(openSession);
  });
  byId("export").addEventListener("click", () => attempt(exportFile));
  byId("import").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) attempt(() => importFile(file));
  });
  byId("delete").addEventListener("click", () => attempt(deleteEverything));
}
