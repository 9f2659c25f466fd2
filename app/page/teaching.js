/** Adding examples to classes, and changing classes. Every change goes to the service at once. */
import * as api from "./api.js";
import { loadPicture, thumbnail, toJpeg } from "./camera.js";
import { announce, notify } from "./notices.js";
import * as pictures from "./pictures.js";
import * as remembered from "./remembered.js";
import { attempt, newClass } from "./session.js";
import { changed, classOf, state } from "./state.js";
import { text } from "./strings.js";

const REJECTED_PICTURES = 4;
const THUMBNAIL_QUALITY = 0.8;
// These errors are about the session or the service, not the images.
const OTHER_STATUSES = [0, 401, 404, 503];
const OTHER_CODES = ["model_changed"];

/** The file of a small picture of a shot, around the face if its box is given. */
const thumbnailFile = ({ picture }, box) => toJpeg(thumbnail(picture, box), THUMBNAIL_QUALITY);

/** The name as the service keeps it, or null after saying why it cannot be one. */
function checkedLabel(label) {
  const name = label.normalize("NFC").trim();
  if (!name) return null;
  if (/[/\p{Cc}]/u.test(name) || [".", ".."].includes(name)) notify(text.labelInvalid);
  else if (classOf(name)) notify(text.classTwice(name));
  else return name;
  return null;
}

/** A new class without examples, or null if the name cannot be one. The service learns of it with its first example. */
export function addClass(label) {
  const name = checkedLabel(label);
  if (name === null) return null;
  const entry = newClass(name);
  state.classes.push(entry);
  changed("classes");
  return entry;
}

/**
 * Makes a change of a class after the changes before it, because the service knows a class only by its label.
 * Nothing happens once the class or its session has gone. work(session, gone): gone() says whether it has gone since.
 */
export function change(entry, work) {
  const session = state.sessionId;
  const gone = () => session !== state.sessionId || !state.classes.includes(entry);
  const done = entry.changes.then(() => gone() ? undefined : work(session, gone));
  entry.changes = done.catch(() => {});
  return done;
}

export async function renameClass(entry, label) {
  await attempt(() => change(entry, async (session) => {
    const before = entry.label;
    const name = label.normalize("NFC").trim() === before ? null : checkedLabel(label);
    if (name === null) return;
    if (entry.examples.length) await api.updateClass(session, before, { label: name });
    entry.label = name;
    remembered.renameInRemovals(session, before, name);
    changed("support");
  }));
  changed("classes");  // shows the name that the class has now
}

export async function enableClass(entry, enabled) {
  await attempt(() => change(entry, async (session) => {
    await api.updateClass(session, entry.label, { enabled });
    entry.enabled = enabled;
    changed("support");
  }));
  changed("classes");
}

/** Sends images to a class. Returns what the service added and rejected, also if it rejected all. */
export async function send(session, entry, blobs, ids) {
  try {
    return await api.addExamples(session, entry.label, blobs, ids);
  } catch (problem) {
    if (!(problem instanceof api.Problem)) throw problem;
    if (OTHER_STATUSES.includes(problem.status) || OTHER_CODES.includes(problem.code)) throw problem;
    const all = blobs.map((_, index) => ({ index, code: problem.code, detail: problem.message }));
    return { added: [], rejected: problem.rejected.length ? problem.rejected : all };
  }
}

/**
 * Adds pictures to a class: shots are [{blob, picture}] with the file that is sent and its canvas.
 * ids: their example ids. from: the element from which the shots fly to the card.
 */
export const teach = (entry, shots, { ids = [], from = null } = {}) => change(entry, async (session, gone) => {
  let answer = { added: [], rejected: [] };
  try {
    answer = await send(session, entry, shots.map((shot) => shot.blob), ids);
  } catch (problem) {
    if (!gone()) throw problem;
  }
  const thumbnails = await Promise.all(answer.added.map(({ index, box }) => thumbnailFile(shots[index], box)));
  if (gone()) {
    const added = answer.added.map(({ label, example_id }) => api.deleteExample(session, label, example_id));
    await Promise.allSettled(added);  // the session may be deleted already
    return;
  }
  await Promise.all(answer.added.map(({ index, example_id }, place) => {
    entry.examples.push({ id: example_id, url: URL.createObjectURL(thumbnails[place]), from });
    return pictures.keep(session, example_id, shots[index].blob, thumbnails[place]);
  }));
  for (const { index, code, detail } of answer.rejected) {
    const picture = shots[index] && await thumbnailFile(shots[index]);
    reject(entry, picture, text.reasons[code] ?? detail);
  }
  changed("classes");
  if (answer.added.length) {
    changed("support");
    if (!from) announce(text.added(entry.label, entry.examples.length));
  }
});

/** Shows next to the card that a picture (a small one) was not added. Those with the same reason are shown together. */
export function reject(entry, picture, reason) {
  let group = entry.rejections.find((known) => known.reason === reason);
  if (!group) entry.rejections.push(group = { reason, count: 0, urls: [] });
  group.count += 1;
  if (picture && group.urls.length < REJECTED_PICTURES) group.urls.push(URL.createObjectURL(picture));
  if (group.count === 1) announce(text.rejected(1, reason));
  changed("classes");
}

export async function addPhotos(entry, files) {
  const left = [...files];
  await attempt(async () => {
    try {
      for (; left.length && state.classes.includes(entry); left.shift()) {
        const picture = await loadPicture(left[0]).catch(() => null);
        if (picture) await teach(entry, [{ blob: left[0], picture }]);
        else reject(entry, null, text.reasons.image_unreadable);
      }
    } catch (problem) {
      for (const _ of left) reject(entry, null, text.reasons[problem.code] ?? problem.message);
      throw problem;
    }
  });
}
