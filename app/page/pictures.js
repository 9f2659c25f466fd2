/**
 * The pictures that this browser sent as examples, in IndexedDB: for the thumbnails, and to undo a removal.
 * The service keeps no pictures. Without IndexedDB (some private windows) the page works without them.
 */

const STORE = "pictures";  // {key: "session/example", sent: Blob, thumbnail: Blob}

let opening = null;

function open() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("csrn", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "key" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opening;
}

/** The result of one request to the store, or undefined where the browser refuses storage. */
async function use(mode, ask) {
  try {
    const store = (await open()).transaction(STORE, mode).objectStore(STORE);
    return await new Promise((resolve, reject) => {
      const request = ask(store);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  } catch {
    return undefined;
  }
}

const keyOf = (sessionId, exampleId) => `${sessionId}/${exampleId}`;

export const keep = (sessionId, exampleId, sent, thumbnail) =>
  use("readwrite", (store) => store.put({ key: keyOf(sessionId, exampleId), sent, thumbnail }));

/** {sent, thumbnail} of an example, or undefined. */
export const find = (sessionId, exampleId) => use("readonly", (store) => store.get(keyOf(sessionId, exampleId)));

/** The thumbnails of a session by the id of the example. */
export async function thumbnails(sessionId) {
  const all = await use("readonly", (store) => store.getAll(ofSession(sessionId))) ?? [];
  return new Map(all.map(({ key, thumbnail }) => [key.slice(sessionId.length + 1), thumbnail]));
}

export async function forget(sessionId, exampleIds) {
  for (const id of exampleIds) await use("readwrite", (store) => store.delete(keyOf(sessionId, id)));
}

const allKeys = async () => await use("readonly", (store) => store.getAllKeys()) ?? [];

/** Copies the pictures that other sessions have of these examples, because an imported session keeps their ids. */
export async function copyTo(sessionId, exampleIds) {
  for (const key of await allKeys()) {
    const id = key.slice(key.indexOf("/") + 1);
    if (!exampleIds.includes(id)) continue;
    const { sent, thumbnail } = await use("readonly", (store) => store.get(key));
    await keep(sessionId, id, sent, thumbnail);
  }
}

/** Deletes all pictures except those of these sessions. */
export async function keepSessions(sessionIds) {
  for (const key of await allKeys()) {
    if (!sessionIds.includes(key.split("/")[0])) await use("readwrite", (store) => store.delete(key));
  }
}

const ofSession = (sessionId) => IDBKeyRange.bound(`${sessionId}/`, `${sessionId}/\uffff`);
