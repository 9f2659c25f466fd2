/** The camera and the photo that is classified instead: what the preview shows, and where its answers come from. */
import * as api from "./api.js";
import * as camera from "./camera.js";
import { byId, droppable } from "./elements.js";
import { Live } from "./live.js";
import { notify } from "./notices.js";
import { askForKey, attempt, openSession, replaceSession, waitForService } from "./session.js";
import { changed, onceSettled, onChange, state, taughtClasses } from "./state.js";
import { text } from "./strings.js";

const ASK_AGAIN_MS = 250;
const UNTAUGHT = { faces: [], untaught: true };

const video = byId("video");
let live = null;

function show(result, picture, { mirrored, unknownBelow }) {
  state.shown = { result, picture, mirrored, unknownBelow };
  changed("answer");
}

/** Starts the camera. Returns whether it is on; if not, the preview says why. */
export async function startCamera() {
  if (state.camera === "on") return true;
  state.camera = "starting";
  changed("stage");
  try {
    await camera.startCamera(video);
  } catch (error) {
    camera.stopCamera(video);
    state.camera = "off";
    if (!isSecureContext) state.cameraProblem = text.cameraInsecure;
    else state.cameraProblem = error.name === "NotFoundError" ? text.cameraMissing : text.cameraDenied;
    changed("stage");
    return false;
  }
  if (state.camera !== "starting") {  // stopped before it was on
    camera.stopCamera(video);
    return false;
  }
  Object.assign(state, { camera: "on", cameraProblem: "", photo: null, shown: null });
  changed("stage");
  changed("answer");
  restartLive();
  return true;
}

export function stopCamera() {
  live?.close();
  live = null;
  camera.stopCamera(video);
  Object.assign(state, { camera: "off", shown: null });
  changed("stage");
  changed("answer");
}

function restartLive() {
  live?.close();
  live = null;
  if (state.camera !== "on") return;
  live = new Live(state.sessionId, video, {
    answered(result, picture) {
      show(result, picture, { mirrored: true, unknownBelow: result.unknown_below });
    },
    closed(reason) {
      live = null;
      if (reason === "away" || reason === "not_ready") waitForService();
      else if (reason === "session_not_found") attempt(openSession, { quiet: true });
      else if (reason === "model_changed") replaceSession();
      else if (reason === "unauthorized") askForKey();
      else if (reason === "idle") whenSeen(restartLive);
      else {
        stopCamera();
        notify(text.streamRefused[reason] ?? text.streamRefused.other);
      }
    },
  });
}

function whenSeen(work) {
  if (!document.hidden) work();
  else document.addEventListener("visibilitychange", () => whenSeen(work), { once: true });
}

/** Shows a photo instead of the camera and classifies it. */
export async function classifyPhoto(blob) {
  if (state.camera !== "off") stopCamera();
  const picture = await camera.loadPicture(blob).catch(() => null);
  if (!picture) {
    notify(text.reasons.image_unreadable);
    return;
  }
  state.photo = blob;
  state.cameraProblem = "";
  changed("stage");
  await ask(blob, picture);
}

async function ask(blob, picture) {
  let answer = { result: UNTAUGHT, unknownBelow: null };
  if (taughtClasses().some((entry) => entry.enabled)) answer = await api.classify(state.sessionId, blob);
  if (state.photo === blob) show(answer.result, picture, { mirrored: false, unknownBelow: answer.unknownBelow });
}

/** Classifies the shown photo again after a change of the examples. The camera sends new frames by itself. */
function askAgain() {
  if (state.photo && state.shown) attempt(() => ask(state.photo, state.shown.picture), { quiet: true });
}

function clear() {
  stopCamera();
  Object.assign(state, { photo: null, threshold: null });
  changed("stage");
}

export function preparePreview() {
  let session = null;
  onChange(["session"], () => {
    if (session !== state.sessionId) state.threshold = null;
    session = state.sessionId;
    restartLive();
  });
  onChange(["deleted"], clear);
  onChange(["locked"], stopCamera);
  onceSettled("support", ASK_AGAIN_MS, askAgain);
  byId("camera").addEventListener("click", () => {
    if (state.camera === "on") stopCamera();
    else startCamera();
  });
  byId("photo").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) attempt(() => classifyPhoto(file));
  });
  droppable(byId("stage"), ([file]) => attempt(() => classifyPhoto(file)));
}
