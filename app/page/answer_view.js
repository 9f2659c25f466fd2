/** The answer in one line, the bars of the scores, and the threshold. */
import { axisStart, judge } from "./answer.js";
import { byId, element, icon, setText } from "./elements.js";
import { announce } from "./notices.js";
import { changed, classOf, onChange, state, taughtClasses } from "./state.js";
import { text } from "./strings.js";

const STABLE_MS = 1200;  // an answer is read aloud when it has not changed for this time
const IN_CARD_ORDER = 6;  // with more classes the best come first
const KIND_ICONS = { known: "check", unknown: "question", close: "question" };

let axis = null;
let sliding = false;

const threshold = () => state.threshold ?? state.shown?.unknownBelow ?? null;
const share = (score) => `${100 * Math.min(1, Math.max(0, (score - axis) / (1 - axis)))}%`;

function draw() {
  const face = state.shown?.result.faces[0];
  const judged = judgeShown();
  drawLine(judged, face?.scores[0]?.nearest_example_id);
  byId("adjust").hidden = !state.shown && !state.classes.length;
  // While no face is found the last bars stay, dimmed, so that nothing jumps.
  const stale = ["no_face", "failed"].includes(judged.kind) && rowsByLabel.size > 0;
  byId("scores").classList.toggle("stale", stale);
  byId("bars").setAttribute("aria-hidden", `${stale}`);
  if (stale) return;
  const scores = new Map((judged.kind === "off" ? [] : face?.scores ?? []).map((entry) => [entry.label, entry]));
  if (scores.size && !sliding) axis = axisStart([...scores.values()], state.shown.unknownBelow, axis);
  const order = [...scores.keys()];  // best first
  const many = order.length > IN_CARD_ORDER;
  byId("preview").classList.toggle("many", many);
  const rows = many ? order.map(classOf).filter(Boolean) : state.classes.filter((entry) => scores.has(entry.label));
  drawBars(rows, scores, order);
  drawThreshold(scores.size > 0);
  drawPartsHelp(state.showParts ? Object.keys(face?.scores[0]?.parts ?? {}) : []);
}

function judgeShown() {
  if (!state.shown) return { kind: "idle" };
  const taught = taughtClasses();
  if (taught.length && !taught.some((entry) => entry.enabled)) return { kind: "off" };
  return judge(state.shown.result, threshold());
}

function drawLine({ kind, label, other, error }, nearest) {
  const lines = {
    idle: () => [text.idle, text.idleHelp],
    untaught: () => [text.untaught, text.untaughtHelp],
    off: () => [text.allOff, text.allOffHelp],
    failed: () => [text.failed, text.reasons[error?.code] ?? error?.detail],
    no_face: () => [text.noFace, text.noFaceHelp],
    unknown: () => [text.unknown, text.unknownHelp(label)],
    close: () => [text.close(label, other), text.closeHelp],
    known: () => [text.known(label), ""],
  };
  const [line, help] = lines[kind]();
  const target = byId("answer");
  target.dataset.kind = kind;
  target.dataset.color = ["known", "close"].includes(kind) ? classOf(label)?.color ?? "" : "";
  setText(byId("predicted"), line);
  setText(byId("answer-help"), help);
  drawSign(kind, label, nearest);
  readAloud(line, kind);
}

/** The shot that the face is most like, as long as the answer stays the same, or an icon. */
function drawSign(kind, label, nearest) {
  const sign = byId("answer-icon");
  const key = `${kind} ${label}`;
  if (sign.dataset.key === key) return;
  sign.dataset.key = key;
  const shot = kind === "unknown" ? null : classOf(label)?.examples.find((example) => example.id === nearest);
  sign.replaceChildren(shot?.url ? element("img", { src: shot.url, alt: "" }) : icon(KIND_ICONS[kind] ?? "face"));
}

let stable;
let candidate = "";
function readAloud(line, kind) {
  if (line === candidate) return;
  candidate = line;
  clearTimeout(stable);
  if (kind !== "idle") stable = setTimeout(() => announce(line), STABLE_MS);
}

// The elements of the bars, by label. They stay, so that their lengths can move.
const rowsByLabel = new Map();

function drawBars(entries, scores, order) {
  const list = byId("bars");
  for (const [label, row] of rowsByLabel) {
    if (!scores.has(label) || !classOf(label)) {
      row.item.remove();
      rowsByLabel.delete(label);
    }
  }
  entries.forEach((entry, place) => {
    let row = rowsByLabel.get(entry.label);
    if (!row) rowsByLabel.set(entry.label, row = newBar(entry.label));
    if (list.children[place] !== row.item) list.insertBefore(row.item, list.children[place] ?? null);
    const { score, parts } = scores.get(entry.label);
    row.item.dataset.color = entry.color;
    row.item.dataset.rank = order.indexOf(entry.label);
    row.item.classList.toggle("below", score < (threshold() ?? 0));
    setMeter(row, score, share(score));
    drawParts(row, state.showParts ? parts : {});
  });
}

function newBar(label, start = "") {
  const fill = element("span", { className: "fill" });
  const value = element("span", { className: "value", "aria-hidden": "true" });
  const meter = element(
    "div",
    { className: "meter", role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "1" },
    element("bdi", { className: "label", title: label }, label),
    element("span", { className: `track ${start}` }, fill),
    value,
  );
  const parts = element("ul", { className: "parts" });
  return { item: element("li", {}, meter, parts), meter, fill, value, parts, rows: new Map() };
}

function setMeter({ meter, fill, value }, score, width) {
  fill.style.width = width;
  meter.setAttribute("aria-valuenow", score.toFixed(2));
  setText(value, score.toFixed(2));
}

function drawParts(row, parts) {
  if (!Object.keys(parts).length && row.rows.size) {
    row.parts.replaceChildren();
    row.rows.clear();
  }
  for (const [part, value] of Object.entries(parts)) {
    let bar = row.rows.get(part);
    if (!bar) {
      bar = newBar(text.parts[part] ?? part, "whole");
      row.rows.set(part, bar);
      row.parts.append(bar.item);
    }
    setMeter(bar, value, `${100 * value}%`);
  }
}

function drawThreshold(scored) {
  byId("threshold-row").hidden = !scored;
  byId("scores-note").hidden = !scored;
  if (!scored) return;
  const value = threshold();
  const slider = byId("threshold");
  slider.min = axis.toFixed(2);
  if (!sliding) slider.value = value;
  byId("scores").style.setProperty("--threshold", share(value));
  setText(byId("threshold-value"), value.toFixed(2));
  byId("threshold-own").hidden = state.threshold === null;
  if (state.shown.unknownBelow !== null) {
    setText(byId("threshold-session"), text.thresholdOwn(state.shown.unknownBelow.toFixed(2)));
  }
  setText(byId("scores-note"), text.scoresNote(axis.toFixed(2)));
}

function drawPartsHelp(parts) {
  const sentences = parts.map((part) => text.partsHelp[part]).filter(Boolean);
  if (byId("parts-help").childElementCount === sentences.length) return;
  byId("parts-help").replaceChildren(...sentences.map((sentence) => element("li", {}, sentence)));
}

export function prepareAnswer() {
  onChange(["answer", "classes"], draw);
  const slider = byId("threshold");
  slider.addEventListener("input", () => {
    sliding = true;
    state.threshold = Number(slider.value);
    changed("answer");
  });
  slider.addEventListener("change", () => { sliding = false; });
  byId("threshold-reset").addEventListener("click", () => {
    state.threshold = null;
    changed("answer");
    slider.focus();
  });
  byId("show-parts").addEventListener("change", (event) => {
    state.showParts = event.target.checked;
    changed("answer");
  });
  onChange(["deleted"], () => { axis = null; });
  draw();
}
