/**
 * The service's HTTP API. Every call throws Problem, with the code that the service gives.
 * All addresses are relative to the page, because a proxy may serve it below a path.
 */

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? "");
    this.status = status;
    this.code = body.code ?? "away";
    this.rejected = body.rejected ?? [];
  }
}

const SESSION_TTL_S = 90 * 86400;  // for a session that nobody uses again

let key = sessionStorage.getItem("csrn.key");

export function setKey(value) {
  key = value;
  sessionStorage.setItem("csrn.key", value);
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

export const getModel = () => json("GET", "v1/model");
export const createSession = () => json("POST", "v1/sessions", { name: "page", ttl_s: SESSION_TTL_S });
export const getSession = (id) => json("GET", session(id));
export const deleteSession = (id) => send("DELETE", session(id));
export const getClass = (id, label) => json("GET", session(id, "classes", label));
export const deleteClass = (id, label) => send("DELETE", session(id, "classes", label));
export const deleteExample = (id, label, example) =>
  send("DELETE", session(id, "classes", label, "examples", example));
export const addExamples = (id, label, blobs) =>
  json("POST", session(id, "classes", label, "examples"), images(blobs));
export const getQuality = (id) => json("GET", session(id, "quality"));
export const importSession = (file) => json("POST", "v1/sessions/import", file);
export const exportSession = async (id) => (await send("GET", session(id, "export"))).blob();
export const getSamples = () => json("GET", "samples");

export async function classify(id, blob) {
  const form = images([blob]);
  form.append("regions", "true");
  return (await json("POST", session(id, "classify"), form)).results[0];
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
