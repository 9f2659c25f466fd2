/** Teaches CSRN Serve by the camera, and shows its answer for each frame. Plain JavaScript, no packages. */

/** The service. The camera's frames go there, so no link can change it. */
const SERVICE = "http://127.0.0.1:8000";
const key = location.hash.slice(1);
const video = document.querySelector("#camera");
const answer = document.querySelector("#answer");

/** One call of the API. Errors are problems (RFC 9457): their `detail` is a sentence for people. */
async function call(method, path, body) {
  const headers = new Headers(key ? { Authorization: `Bearer ${key}` } : {});
  if (typeof body === "string") headers.set("Content-Type", "application/json");
  const response = await fetch(`${SERVICE}/v1${path}`, { method, headers, body });
  const answered = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Error(answered.detail);
  return answered;
}

/** The frame that the camera shows now, as a JPEG. */
function takeFrame() {
  const canvas = Object.assign(document.createElement("canvas"), {
    width: video.videoWidth,
    height: video.videoHeight,
  });
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
}

/** Send a frame whenever the last one was answered, and show each answer. */
function openStream(session) {
  // Browsers cannot set headers of a WebSocket, so the key is a subprotocol, in base64url.
  const encoded = btoa(key).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const protocols = key ? ["csrn.v1", `csrn.key.${encoded}`] : ["csrn.v1"];
  const stream = new WebSocket(`${SERVICE}/v1/sessions/${session.id}/stream`.replace("http", "ws"), protocols);
  const send = async () => stream.send(await takeFrame());
  stream.onopen = send;
  stream.onmessage = (event) => {
    show(JSON.parse(event.data));
    requestAnimationFrame(send); // Does nothing while the page is hidden.
  };
  stream.onclose = (event) => {
    answer.textContent = `The stream has ended: ${event.reason || "no connection"}`;
  };
}

function show({ faces, error }) {
  const [face] = faces;
  if (!face) answer.textContent = error ? error.detail : "No face";
  else if (face.scores.length) answer.textContent = face.predicted ?? "None of the taught expressions";
  document.querySelector("#scores").replaceChildren(
    ...(face?.scores ?? []).map(({ label, score }) => {
      const row = document.createElement("li");
      // Other classes have high scores too, so the bar begins at a half.
      row.append(label, Object.assign(document.createElement("meter"), { min: 0.5, value: score }));
      return row;
    }),
  );
}

async function start() {
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 640 } });
  await video.play();
  // The session ends by itself after an hour, with all that was taught.
  const session = await call("POST", "/sessions", JSON.stringify({ name: "my page", ttl_s: 3600 }));
  openStream(session);

  const form = document.querySelector("#teach");
  form.querySelector("button").disabled = false;
  form.onsubmit = async (event) => {
    event.preventDefault();
    const images = new FormData();
    images.append("images", await takeFrame());
    const label = encodeURIComponent(form.querySelector("input").value);
    await call("POST", `/sessions/${session.id}/classes/${label}/examples`, images).catch(report);
  };
}

function report(error) {
  answer.textContent = error.message;
}

document.querySelector("#start").onclick = (event) => {
  event.target.disabled = true;
  start().catch(report);
};
