/** The page: keeps its state and connects the service with the view. */
import * as api from "./api.js";
import { loadPicture, startCamera, stopCamera, takeFrame, thumbnail, toJpeg } from "./camera.js";
import { Live } from "./live.js";
import { text } from "./strings.js";
import * as view from "./view.js";

const { byId } = view;
const CAPTURE_PAUSE_MS = 200;
const RETRY_MS = 1500;
const SAMPLE_SHOTS = 3;
const SAMPLE_CLASSES = 3;

const video = byId("video");
let sessionId = null;
let classes = [];  // [{label, examples: [{id, thumbnail}]}], including classes without examples
let live = null;
let cameraOn = false;
let shown = null;  // the last {result, picture, mirrored}
let thumbnails = JSON.parse(localStorage.getItem("csrn.thumbnails") ?? "{}");

function render() {
  view.showClasses(classes, cameraOn, {
    capture, addPhotos, removeClass, removeExample,
  });
  byId("session-id").textContent = sessionId ? text.sessionId(sessionId) : "";
  byId("camera").textContent = cameraOn ? text.cameraStop : text.cameraStart;
  if (shown) view.showScores(shown.result, classes.map((entry) => entry.label));
}

function keepThumbnails() {
  const known = new Set(classes.flatMap((entry) => entry.examples.map((example) => example.id)));
  thumbnails = Object.fromEntries(Object.entries(thumbnails).filter(([id]) => known.has(id)));
  try {
    localStorage.setItem("csrn.thumbnails", JSON.stringify(thumbnails));
  } catch {
    // The storage is full. Only the small pictures are lost, at the next reload.
  }
}

function show(result, picture, mirrored) {
  shown = { result, picture, mirrored };
  view.showPicture(picture, result, mirrored);
  view.showScores(result, classes.map((entry) => entry.label));
}

// --- the session ---

async function useSession(session) {
  const kept = await Promise.all(session.classes.map((entry) => api.getClass(session.id, entry.label)));
  sessionId = session.id;
  localStorage.setItem("csrn.session", sessionId);
  const empty = classes.filter((entry) => !entry.examples.length);
  classes = kept.map(({ label, example_ids }) => ({
    label,
    examples: example_ids.map((id) => ({ id, thumbnail: thumbnails[id] })),
  }));
  classes.push(...empty.filter((entry) => !entryOf(entry.label)));
  keepThumbnails();
  byId("main").inert = false;
  render();
  restartLive();
}

let opening = null;

/** Opens the stored session or a new one. Calls at the same time get the same session. */
function openSession() {
  opening ??= findSession().then(useSession).finally(() => { opening = null; });
  return opening;
}

async function findSession() {
  const known = localStorage.getItem("csrn.session");
  if (known) {
    try {
      return await api.getSession(known);
    } catch (problem) {
      if (problem.code !== "session_not_found") throw problem;
      view.say(text.expired);
    }
  }
  return api.createSession();
}

/** Runs the action of a control. Shows its error, and waits if the service does not answer. */
async function attempt(work) {
  try {
    return await work();
  } catch (problem) {
    if (!(problem instanceof api.Problem)) throw problem;
    if (problem.status === 401) askForKey();
    else if (problem.status === 0 || problem.status === 503) waitForService();
    else if (problem.code === "session_not_found") await renewSession();
    else view.say(text.reasons[problem.code] ?? problem.message);
  }
}

async function renewSession() {
  localStorage.removeItem("csrn.session");
  classes = classes.map(({ label }) => ({ label, examples: [] }));
  await attempt(openSession);
  view.say(text.expired);
}

/** Whether the service and its store answer. A service whose store is full (507) can still be used. */
async function isReady() {
  try {
    const response = await fetch("readyz");
    return response.status === 507 || (await response.json()).status === "ready";
  } catch {
    return false;
  }
}

let waiting = false;
async function waitForService() {
  if (waiting) return;
  waiting = true;
  view.showBanner(text.away);
  do {
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  } while (!(await isReady()));
  waiting = false;
  view.showBanner("");
  view.say(text.back);
  await attempt(openSession);
}

function askForKey() {
  stopLive();
  byId("main").hidden = true;
  byId("key-form").hidden = false;
  view.showBanner(sessionStorage.getItem("csrn.key") === null ? text.keyNeeded : text.keyWrong);
  byId("key").focus();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.setKey(byId("key").value);
  byId("key").value = "";
  byId("key-form").hidden = true;
  byId("main").hidden = false;
  view.showBanner("");
  attempt(openSession);
});

// --- classes and examples ---

const entryOf = (label) => classes.find((entry) => entry.label === label);

function addClass(label) {
  label = label.normalize("NFC").trim();
  if (!label) return;
  if (entryOf(label)) view.say(text.classTwice(label));
  else classes.push({ label, examples: [] });
  render();
}

/** Adds examples to one class. Says why a picture is rejected. */
async function teach(label, shots) {
  let answer;
  try {
    answer = await api.addExamples(sessionId, label, shots.map((shot) => shot.blob));
  } catch (problem) {
    if (!(problem instanceof api.Problem) || problem.status < 400 || [401, 404, 503].includes(problem.status)) throw problem;
    const reasons = problem.rejected.length ? problem.rejected : [{ code: problem.code, detail: problem.message }];
    for (const rejected of reasons) view.showRejected(label, text.reasons[rejected.code] ?? rejected.detail);
    return;
  }
  for (const added of answer.added) {
    thumbnails[added.example_id] = thumbnail(shots[added.index].picture, added.box);
    entryOf(label)?.examples.push({ id: added.example_id, thumbnail: thumbnails[added.example_id] });
  }
  for (const rejected of answer.rejected) {
    view.showRejected(label, text.reasons[rejected.code] ?? rejected.detail);
  }
  keepThumbnails();
  render();
  const entry = entryOf(label);
  if (answer.added.length && entry) view.say(text.added(label, entry.examples.length));
}

async function capture(label, held) {
  await attempt(async () => {
    do {
      const picture = takeFrame(video);
      await teach(label, [{ picture, blob: await toJpeg(picture) }]);
      await new Promise((resolve) => setTimeout(resolve, CAPTURE_PAUSE_MS));
    } while (held() && cameraOn);
  });
}

async function addPhotos(label, files) {
  await attempt(async () => {
    for (const file of files) {
      let picture;
      try {
        picture = await loadPicture(file);
      } catch {
        view.showRejected(label, text.reasons.image_unreadable);
        continue;
      }
      await teach(label, [{ picture, blob: file }]);
    }
    await askAgain();
  });
}

async function removeClass(label) {
  await attempt(async () => {
    if (entryOf(label).examples.length) await api.deleteClass(sessionId, label);
    classes = classes.filter((entry) => entry.label !== label);
    keepThumbnails();
    render();
    byId("label").focus();
    await askAgain();
  });
}

async function removeExample(label, id) {
  await attempt(async () => {
    await api.deleteExample(sessionId, label, id);
    const entry = entryOf(label);
    entry.examples = entry.examples.filter((example) => example.id !== id);
    keepThumbnails();
    render();
    await askAgain();
  });
}

byId("class-form").addEventListener("submit", (event) => {
  event.preventDefault();
  addClass(byId("label").value);
  byId("label").value = "";
});

byId("samples").addEventListener("click", () => attempt(async () => {
  const samples = (await api.getSamples()).classes.slice(0, SAMPLE_CLASSES);
  const load = async (url) => {
    const blob = await (await fetch(url)).blob();
    return { picture: await loadPicture(blob), blob };
  };
  for (const { label, urls } of samples) {
    if (!entryOf(label)) addClass(label);
    await teach(label, await Promise.all(urls.slice(0, SAMPLE_SHOTS).map(load)));
  }
  const asked = samples.map(({ label, urls }) => ({ label, url: urls[urls.length - 1] }));
  view.showSampleQueries(asked, (url) => attempt(async () => ask(await (await fetch(url)).blob())));
  view.say(text.samplesAdded);
}));

// --- photos ---

let asked = null;

async function ask(blob) {
  stopLive();
  asked = blob;
  const picture = await loadPicture(blob).catch(() => null);
  if (!picture) return view.say(text.reasons.image_unreadable);
  if (!classes.some((entry) => entry.examples.length)) {
    show({ faces: [] }, picture, false);
    byId("predicted").textContent = text.noClasses;
    return;
  }
  show(await api.classify(sessionId, blob), picture, false);
}

/** Classifies the shown photo again after a change of the examples. The camera sends new frames by itself. */
const askAgain = async () => { if (asked && !live) await ask(asked); };

byId("photo").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) attempt(() => ask(file));
});
view.droppable(byId("stage"), ([file]) => attempt(() => ask(file)));
byId("show-parts").addEventListener("change", render);

// --- the camera ---

function restartLive() {
  live?.close();
  live = null;
  if (!cameraOn) return;
  live = new Live(sessionId, video, {
    answered(result, picture) {
      show(result, picture, true);
      byId("latency").textContent = text.latency(result.latency_ms, result.dropped);
    },
    closed(reason) {
      live = null;
      if (reason === "away" || reason === "not_ready") waitForService();
      else if (reason === "session_not_found" || reason === "model_changed") renewSession();
      else if (reason === "unauthorized") askForKey();
      else if (reason === "idle") whenSeen(restartLive);
      else {
        stopLive();
        view.say(text.streamRefused[reason] ?? text.streamRefused.other);
      }
    },
  });
}

function whenSeen(work) {
  if (!document.hidden) work();
  else document.addEventListener("visibilitychange", () => whenSeen(work), { once: true });
}

function stopLive() {
  live?.close();
  live = null;
  cameraOn = false;
  stopCamera(video);
  view.clearPicture();
  render();
}

byId("camera").addEventListener("click", async () => {
  if (cameraOn) {
    shown = null;
    stopLive();
    return;
  }
  byId("camera").disabled = true;
  try {
    await startCamera(video);
  } catch (error) {
    stopCamera(video);
    if (!isSecureContext) view.say(text.cameraInsecure);
    else view.say(error.name === "NotFoundError" ? text.cameraMissing : text.cameraDenied);
    return;
  } finally {
    byId("camera").disabled = false;
  }
  cameraOn = true;
  asked = null;
  view.say("");
  render();
  restartLive();
});

// --- the session as a whole ---

byId("quality").addEventListener("click", () => attempt(async () => {
  const quality = await api.getQuality(sessionId);
  view.showVerdicts(quality);
  view.say(quality.accuracy === null ? text.qualityNone : "");
}));

byId("export").addEventListener("click", () => attempt(async () => {
  const url = URL.createObjectURL(await api.exportSession(sessionId));
  view.element("a", { href: url, download: `session-${sessionId}.safetensors` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}));

byId("import").addEventListener("change", (event) => attempt(async () => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  await useSession(await api.importSession(file));
  view.say(text.imported);
}));

byId("delete").addEventListener("click", () => {
  if (!confirm(text.deleteSure)) return;
  attempt(async () => {
    live?.close();
    live = null;
    await api.deleteSession(sessionId);
    localStorage.removeItem("csrn.session");
    classes = [];
    asked = shown = null;
    byId("verdicts").replaceChildren();
    byId("rejected").replaceChildren();
    await openSession();
    view.say(text.deleted);
  });
});

view.fillTexts();
render();
byId("main").inert = true;  // until there is a session
attempt(openSession);
