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

/** Deletes the pictures of a session except those of these examples. */
export async function keepOnly(sessionId, exampleIds) {
  const wanted = new Set(exampleIds.map((id) => keyOf(sessionId, id)));
  const keys = await use("readonly", (store) => store.getAllKeys(ofSession(sessionId))) ?? [];
  for (const key of keys) {
    if (!wanted.has(key)) await use("readwrite", (store) => store.delete(key));
  }
}

export const forgetAll = () => use("readwrite", (store) => store.clear());

const ofSession = (sessionId) => IDBKeyRange.bound(`${sessionId}/`, `${sessionId}/\uffff`);
