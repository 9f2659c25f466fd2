/**
 * Removing shots and classes. The service deletes them at once; this browser keeps their pictures for ten
 * seconds and sends them again to undo it. What can be undone is remembered, so that a reload loses nothing.
 */
import * as api from "./api.js";
import { confirmed, notify, offer } from "./notices.js";
import * as pictures from "./pictures.js";
import * as remembered from "./remembered.js";
import { attempt, newClass } from "./session.js";
import { changed, classOf, onChange, state } from "./state.js";
import { text } from "./strings.js";

const UNDO_MS = 10_000;
const IMAGES_PER_REQUEST = 32;

export async function removeExample(entry, example) {
  await attempt(async () => {
    const kept = await pictures.find(state.sessionId, example.id);
    if (!kept && !await confirmed(text.exampleSure(entry.label), text.remove)) return;
    await api.deleteExample(state.sessionId, entry.label, example.id);
    const place = entry.examples.findIndex((other) => other.id === example.id);
    entry.examples.splice(place, 1);
    changed("classes");
    changed("support");
    if (kept) remember({ entry, whole: false, ids: [example.id], place });
  });
}

export async function removeClass(entry) {
  await attempt(async () => {
    const ids = entry.examples.map((example) => example.id);
    const kept = await Promise.all(ids.map((id) => pictures.find(state.sessionId, id)));
    const complete = kept.every(Boolean);
    if (!complete && !await confirmed(text.classSure(entry.label), text.remove)) return;
    if (ids.length) await api.deleteClass(state.sessionId, entry.label);
    const place = state.classes.indexOf(entry);
    state.classes.splice(place, 1);
    changed("classes");
    changed("support");
    if (complete) remember({ entry, whole: true, ids, place });
  });
}

/** Remembers a removal and offers to undo it. whole: whether the class itself was removed; place: where it or the shot was. */
function remember({ entry, ...rest }) {
  const { label, color, enabled } = entry;
  const item = { ...rest, label, color, enabled, session: state.sessionId, until_ms: Date.now() + UNDO_MS };
  remembered.setRemovals([...remembered.removals(), item]);
  show(item, entry);
}

/** Shows the offer. before: the class as it was, unless the page was loaded since. */
function show(item, before) {
  const said = item.whole ? text.classRemoved : text.exampleRemoved;
  offer((count) => said(item.label, count), {
    group: `${item.session} ${item.whole} ${item.label}`,
    shown_ms: item.until_ms - Date.now(),
    action: { label: text.undo, iconName: "undo", run: () => attempt(() => restore(item, before)) },
    missed: () => forget(item),
  });
}

async function restore(item, before) {
  if (item.session !== state.sessionId) return;
  let entry = state.classes.includes(before) ? before : classOf(item.label);
  if (!entry) {
    entry = newClass(item.label, item.color);
    state.classes.splice(item.whole ? item.place : state.classes.length, 0, entry);
  }
  const kept = await Promise.all(item.ids.map((id) => pictures.find(item.session, id)));
  for (let start = 0; start < item.ids.length; start += IMAGES_PER_REQUEST) {
    const end = start + IMAGES_PER_REQUEST;
    const ids = item.ids.slice(start, end);
    await api.addExamples(item.session, entry.label, kept.slice(start, end).map((picture) => picture.sent), ids);
  }
  const back = item.ids.map((id, index) => ({ id, url: URL.createObjectURL(kept[index].thumbnail) }));
  entry.examples.splice(item.whole ? 0 : item.place, 0, ...back);
  if (!item.enabled && item.ids.length) {
    await api.updateClass(item.session, entry.label, { enabled: false });
    entry.enabled = false;
  }
  await forget(item);
  notify(text.undone(entry.label));
  state.focusOn = entry.key;
  changed("classes");
  changed("support");
}

const same = (one, other) => one.until_ms === other.until_ms && one.ids[0] === other.ids[0] && one.label === other.label;

/** Ends the time to undo, and deletes the pictures that nothing needs any more. */
async function forget(item) {
  remembered.setRemovals(remembered.removals().filter((other) => !same(item, other)));
  await dropPictures();
}

async function dropPictures() {
  const waiting = remembered.removals().flatMap((item) => item.ids);
  const shown = state.classes.flatMap((entry) => entry.examples.map((example) => example.id));
  await pictures.keepOnly(state.sessionId, [...shown, ...waiting]);
}

/** After a reload: offers again what can still be undone. */
export function prepareRemovals() {
  let shownFor = null;
  onChange(["session"], () => {
    if (shownFor === state.sessionId) return;
    shownFor = state.sessionId;
    const current = remembered.removals().filter(
      (item) => item.session === state.sessionId && item.until_ms > Date.now(),
    );
    remembered.setRemovals(current);
    for (const item of current) show(item);
    dropPictures();
  });
}
