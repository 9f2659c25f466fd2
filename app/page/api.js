/**
 * The service's HTTP API. Every call throws Problem, with the code that the service gives.
 * All addresses are relative to the page, because a proxy may serve it below a path.
 */

import { apiKey, setApiKey } from "./remembered.js";

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? "");
    this.status = status;
    this.code = body.code ?? "away";
    this.rejected = body.rejected ?? [];
  }
}

const SESSION_TTL_S = 90 * 86400;  // for a session that nobody uses again

let key = apiKey();

export const hasKey = () => Boolean(key);

export function setKey(value) {
  key = value;
  setApiKey(value);
}

async function send(method, path, body) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (body && !(body instanceof FormData) && !(body instanceof Blob)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, { method, headers, body });
  } catch (error) {
    // fetch throws if a header cannot contain the key: then the key is wrong.
    throw new Problem(error instanceof TypeError && key && /[^\x20-\x7e]/.test(key) ? 401 : 0, {});
  }
  if (!response.ok) {
    throw new Problem(response.status, await response.json().catch(() => ({})));
  }
  return response;
}

const json = async (method, path, body) => (await send(method, path, body)).json();
const session = (id, ...rest) => ["v1/sessions", ...[id, ...rest].map(encodeURIComponent)].join("/");

function images(blobs) {
  const form = new FormData();
  for (const blob of blobs) form.append("images", blob, blob.name ?? "frame.jpg");
  return form;
}

export const createSession = () => json("POST", "v1/sessions", { name: "page", ttl_s: SESSION_TTL_S });
export const getSession = (id) => json("GET", session(id));
export const deleteSession = (id) => send("DELETE", session(id));
export const getClass = (id, label) => json("GET", session(id, "classes", label));
/** change: {label} renames the class, {enabled} includes it in answers or leaves it out. */
export const updateClass = (id, label, change) => json("PATCH", session(id, "classes", label), change);
export const deleteClass = (id, label) => send("DELETE", session(id, "classes", label));
export const deleteExample = (id, label, example) =>
  send("DELETE", session(id, "classes", label, "examples", example));
/** Adds images to a class. ids: their example ids, or nothing to let the service choose them. */
export function addExamples(id, label, blobs, ids = []) {
  const form = images(blobs);
  for (const example of ids) form.append("example_ids", example);
  return json("POST", session(id, "classes", label, "examples"), form);
}
export const getQuality = (id) => json("GET", session(id, "quality"));
export const importSession = (file) => json("POST", "v1/sessions/import", file);
export const exportSession = async (id) => (await send("GET", session(id, "export"))).blob();
export const getSamples = () => json("GET", "samples");

/** {result, unknownBelow} of one image. */
export async function classify(id, blob) {
  const form = images([blob]);
  form.append("regions", "true");
  const answer = await json("POST", session(id, "classify"), form);
  return { result: answer.results[0], unknownBelow: answer.unknown_below };
}

/** Whether the service and its store answer. A service whose store is full (507) can still be used. */
export async function isReady() {
  try {
    const response = await fetch("readyz");
    return response.status === 507 || (await response.json()).status === "ready";
  } catch {
    return false;
  }
}

export function openStream(id) {
  const url = new URL(`${session(id, "stream")}?regions=true`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const protocols = ["csrn.v1"];
  if (key) {
    const bytes = String.fromCharCode(...new TextEncoder().encode(key));
    protocols.push(`csrn.key.${btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`);
  }
  return new WebSocket(url, protocols);
}
