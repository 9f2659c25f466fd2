/** Adding examples to classes, and changing classes. Every change goes to the service at once. */
import * as api from "./api.js";
import { loadPicture, thumbnail } from "./camera.js";
import { announce, notify } from "./notices.js";
import * as pictures from "./pictures.js";
import { attempt, newClass } from "./session.js";
import { changed, classOf, state } from "./state.js";
import { text } from "./strings.js";

const REJECTED_PICTURES = 4;
const ASKED_ELSEWHERE = [0, 401, 404, 503];  // these errors are about the session or the service, not the image

const toBlob = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.8));

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

export async function renameClass(entry, label) {
  const name = label.normalize("NFC").trim() === entry.label ? null : checkedLabel(label);
  if (name !== null) {
    await attempt(async () => {
      if (entry.examples.length) await api.updateClass(state.sessionId, entry.label, { label: name });
      entry.label = name;
      changed("support");
    });
  }
  changed("classes");  // shows the name that the class has now
}

export async function enableClass(entry, enabled) {
  await attempt(async () => {
    await api.updateClass(state.sessionId, entry.label, { enabled });
    entry.enabled = enabled;
    changed("support");
  });
  changed("classes");
}

/**
 * Adds pictures to a class: shots are [{blob, picture}] with the file that is sent and its canvas.
 * ids: their example ids. from: the element from which the shots fly to the card.
 */
export async function teach(entry, shots, { ids = [], from = null } = {}) {
  let answer;
  try {
    answer = await api.addExamples(state.sessionId, entry.label, shots.map((shot) => shot.blob), ids);
  } catch (problem) {
    if (!(problem instanceof api.Problem) || ASKED_ELSEWHERE.includes(problem.status)) throw problem;
    const all = shots.map((_, index) => ({ index, code: problem.code, detail: problem.message }));
    answer = { added: [], rejected: problem.rejected.length ? problem.rejected : all };
  }
  for (const added of answer.added) {
    const { blob, picture } = shots[added.index];
    const small = await toBlob(thumbnail(picture, added.box));
    entry.examples.push({ id: added.example_id, url: URL.createObjectURL(small), from });
    await pictures.keep(state.sessionId, added.example_id, blob, small);
  }
  for (const { index, code, detail } of answer.rejected) {
    await reject(entry, shots[index]?.picture, text.reasons[code] ?? detail);
  }
  changed("classes");
  if (answer.added.length) {
    changed("support");
    if (!from) announce(text.added(entry.label, entry.examples.length));
  }
}

/** Shows next to the card that a picture was not added. Pictures with the same reason are shown together. */
async function reject(entry, picture, reason) {
  let group = entry.rejections.find((known) => known.reason === reason);
  if (!group) entry.rejections.push(group = { reason, count: 0, urls: [] });
  group.count += 1;
  if (picture && group.urls.length < REJECTED_PICTURES) {
    group.urls.push(URL.createObjectURL(await toBlob(thumbnail(picture))));
  }
  if (group.count === 1) announce(text.rejected(1, reason));
}

export async function addPhotos(entry, files) {
  await attempt(async () => {
    for (const file of files) {
      const picture = await loadPicture(file).catch(() => null);
      if (picture) await teach(entry, [{ blob: file, picture }]);
      else await reject(entry, null, text.reasons.image_unreadable);
      changed("classes");
    }
  });
}
