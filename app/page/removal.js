/**
 * Removing shots and classes. The service deletes them at once; this browser keeps their pictures for ten
 * seconds and sends them again to undo it. What can be undone is remembered, so that a reload loses nothing.
 */
import * as api from "./api.js";
import { stopCapture } from "./capture.js";
import { confirmed, notify, offer } from "./notices.js";
import * as pictures from "./pictures.js";
import * as remembered from "./remembered.js";
import { attempt, newClass } from "./session.js";
import { changed, classOf, onChange, state } from "./state.js";
import { text } from "./strings.js";
import { change, reject, send } from "./teaching.js";

const UNDO_MS = 10_000;
const IMAGES_PER_REQUEST = 32;

export async function removeExample(entry, example) {
  await attempt(async () => {
    const kept = await pictures.find(state.sessionId, example.id);
    if (!kept && !await confirmed(text.exampleSure(entry.label), text.remove)) return;
    await change(entry, async (session) => {
      const place = entry.examples.findIndex((other) => other.id === example.id);
      if (place < 0) return;  // the cross was pressed twice
      await api.deleteExample(session, entry.label, example.id);
      if (kept) remember(session, { entry, whole: false, ids: [example.id], place });
      entry.examples = entry.examples.filter((other) => other.id !== example.id);
      if (!entry.examples.length) entry.enabled = true;  // the service forgets a class without examples
      changed("classes");
      changed("support");
    });
  });
}

export async function removeClass(entry) {
  await attempt(async () => {
    if (state.capture?.key === entry.key) stopCapture();
    const isComplete = async () => {
      const kept = await Promise.all(entry.examples.map(({ id }) => pictures.find(state.sessionId, id)));
      return kept.every(Boolean);
    };
    if (!await isComplete() && !await confirmed(text.classSure(entry.label), text.remove)) return;
    await change(entry, async (session) => {
      const complete = await isComplete();
      const ids = entry.examples.map((example) => example.id);
      if (ids.length) await api.deleteClass(session, entry.label);
      const place = state.classes.indexOf(entry);
      if (complete) remember(session, { entry, whole: true, ids, place });
      state.classes.splice(place, 1);
      changed("classes");
      changed("support");
    });
  });
}

/** Remembers a removal and offers to undo it. whole: whether the class itself was removed; place: where it or the shot was. */
function remember(session, { entry, ...rest }) {
  const { label, color, enabled } = entry;
  const item = { ...rest, label, color, enabled, session, until_ms: Date.now() + UNDO_MS };
  remembered.setRemovals([...remembered.removals(), item]);
  show(item, entry);
}

/** Shows the offer. before: the class as it was, unless the page was loaded since. */
function show(item, before) {
  const said = item.whole ? text.classRemoved : text.exampleRemoved;
  offer((count) => said(item.label, count), {
    group: `${item.session} ${item.whole} ${item.label}`,
    shown_ms: item.until_ms - Date.now(),
    action: {
      label: text.undo,
      iconName: "undo",
      async run() {
        await attempt(() => restore(item, before));
        if (isWaiting(item)) show(item, before);  // it failed
      },
    },
    missed: () => { if (forget(item)) pictures.forget(item.session, item.ids); },
  });
}

async function restore(item, before) {
  const waiting = remembered.removals().find((other) => same(item, other));
  if (item.session !== state.sessionId || !waiting) return;
  let entry = state.classes.includes(before) ? before : classOf(waiting.label);
  if (!entry) {
    entry = newClass(waiting.label, item.color);
    state.classes.splice(item.whole ? item.place : state.classes.length, 0, entry);
  }
  await change(entry, async (session) => {
    const wasEmpty = !entry.examples.length;
    const missing = item.ids.filter((id) => !entry.examples.some((example) => example.id === id));  // not in a second try
    const found = await Promise.all(missing.map(async (id) => ({ id, ...await pictures.find(session, id) })));
    const kept = found.filter((picture) => picture.sent);
    let place = item.whole ? 0 : item.place;
    for (let start = 0; start < kept.length; start += IMAGES_PER_REQUEST) {
      const part = kept.slice(start, start + IMAGES_PER_REQUEST);
      const { added, rejected } = await send(session, entry, part.map(({ sent }) => sent), part.map(({ id }) => id));
      for (const { index, example_id } of added) {
        entry.examples.splice(place++, 0, { id: example_id, url: URL.createObjectURL(part[index].thumbnail) });
      }
      for (const { index, code, detail } of rejected) {
        reject(entry, part[index]?.thumbnail, text.reasons[code] ?? detail);
      }
    }
    if (!item.enabled && wasEmpty && entry.examples.length) {
      await api.updateClass(session, entry.label, { enabled: false });
      entry.enabled = false;
    }
    forget(item);
    const back = entry.examples.map((example) => example.id);
    await pictures.forget(session, item.ids.filter((id) => !back.includes(id)));
    if (!item.ids.length || item.ids.some((id) => back.includes(id))) notify(text.undone(entry.label));
    state.focusOn = entry.key;
    changed("classes");
    changed("support");
  });
}

const same = (one, other) => one.until_ms === other.until_ms && one.ids[0] === other.ids[0];
const isWaiting = (item) => remembered.removals().some((other) => same(item, other));

/** Ends the time to undo. Returns whether it had not ended: another tab may have undone the removal. */
function forget(item) {
  const waited = isWaiting(item);
  remembered.setRemovals(remembered.removals().filter((other) => !same(item, other)));
  return waited;
}

/** After a reload: offers again what can still be undone. */
export function prepareRemovals() {
  let shownFor = null;
  onChange(["session"], () => {
    if (shownFor === state.sessionId) return;
    shownFor = state.sessionId;
    const current = remembered.removals().filter((item) => item.until_ms > Date.now());
    remembered.setRemovals(current);
    for (const item of current) {
      if (item.session === shownFor) show(item);
    }
  });
  onChange(["deleted"], () => { shownFor = null; });
}
