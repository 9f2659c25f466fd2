/** Draws the preview: the camera or the photo, the outlines of the regions, and the countdown. */
import { byId, setText } from "./elements.js";
import { onChange, state } from "./state.js";
import { text } from "./strings.js";

const LINES = { face: "#ffd84d", eyes: "#4fd8ff", lips: "#ff8ad1" };  // as in the legend of preview.css

function drawStage() {
  const on = state.camera === "on";
  byId("stage").dataset.showing = on ? "camera" : state.photo ? "photo" : "nothing";
  byId("video").hidden = !on;
  byId("stage-empty").hidden = on || Boolean(state.photo);
  setText(byId("stage-hint"), state.cameraProblem || text.stageEmpty);
  byId("stage-empty").classList.toggle("problem", Boolean(state.cameraProblem));
  byId("camera").dataset.on = on;
  byId("camera").disabled = state.camera === "starting";
  setText(byId("camera").querySelector("span"), on ? text.cameraStop : text.cameraStart);
  drawCapture(state.capture);
}

function drawCapture(capture) {
  byId("stage").classList.toggle("capturing", Boolean(capture));
  byId("capture-sign").hidden = !capture;
  byId("countdown").hidden = !capture?.left_s;
  if (!capture) return;
  setText(byId("countdown"), `${capture.left_s ?? ""}`);
  const sign = capture.left_s
    ? text.countdown(capture.label) : text.shooting(capture.label, capture.taken, capture.shots);
  setText(byId("capture-sign"), sign);
  byId("capture-sign").dataset.color = state.classes.find((entry) => entry.key === capture.key)?.color ?? "";
}

function drawPicture() {
  const { shown } = state;
  const picture = byId("picture");
  picture.hidden = !shown;
  byId("stage").classList.toggle("mirrored", shown ? shown.mirrored : state.camera === "on");
  byId("latency").hidden = !shown?.result.latency_ms;
  if (!shown) return;
  setText(byId("latency"), text.latency(shown.result.latency_ms ?? 0));
  byId("latency").title = text.latencyHelp(shown.result.dropped);
  const face = shown.result.faces[0];
  const size = [shown.picture.width, shown.picture.height];
  if (picture.width !== size[0]) picture.width = size[0];
  if (picture.height !== size[1]) picture.height = size[1];
  const name = text.pictureOf(face, state.showRegions);
  if (picture.getAttribute("aria-label") !== name) picture.setAttribute("aria-label", name);
  const context = picture.getContext("2d");
  // The camera moves on below the outlines; a photo is drawn with them.
  context.clearRect(0, 0, ...size);
  if (!shown.mirrored) context.drawImage(shown.picture, 0, 0);
  if (face && state.showRegions) drawRegions(context, face, Math.max(...size));
}

function drawRegions(context, face, side) {
  const { x_min, y_min, x_max, y_max } = face.box;
  const box = [[x_min, y_min], [x_max, y_min], [x_max, y_max], [x_min, y_max]];
  const regions = { face: box, eyes: face.regions?.eyes ?? [], lips: face.regions?.lips ?? [] };
  context.lineJoin = "round";
  for (const [region, corners] of Object.entries(regions)) {
    context.beginPath();
    for (const [x, y] of corners) context.lineTo(x, y);
    context.closePath();
    // A dark line below the bright one keeps it visible on any picture.
    for (const [color, width] of [["#0008", side / 90], [LINES[region], side / 200]]) {
      context.strokeStyle = color;
      context.lineWidth = Math.max(2, width);
      context.stroke();
    }
  }
}

export function preparePreviewView() {
  onChange(["stage"], drawStage);
  onChange(["answer", "stage"], drawPicture);
  byId("show-regions").addEventListener("change", (event) => {
    state.showRegions = event.target.checked;
    byId("legend").classList.toggle("off", !state.showRegions);
    drawPicture();
  });
  // On a phone the details are closed, so that the cards come first.
  const wide = matchMedia("(min-width: 48rem)");
  const adjust = () => { byId("adjust").open = wide.matches; };
  wide.addEventListener("change", adjust);
  adjust();
  drawStage();
}
