/** Keeps the verdict of each class up to date: how many of its examples are classified correctly. */
import * as api from "./api.js";
import { attempt } from "./session.js";
import { changed, classOf, onceSettled, state, taughtClasses } from "./state.js";

const SETTLED_MS = 700;

async function measure() {
  const session = state.sessionId;
  const measurable = taughtClasses().filter((entry) => entry.enabled).length > 1;
  const quality = measurable ? await api.getQuality(session) : { classes: [] };
  if (session !== state.sessionId) return;
  for (const entry of state.classes) entry.quality = null;
  for (const verdict of quality.classes) {
    const entry = classOf(verdict.label);
    if (entry && verdict.verdict !== "not_measurable") entry.quality = verdict;
  }
  changed("classes");
}

export function prepareQuality() {
  onceSettled("support", SETTLED_MS, () => attempt(measure, { quiet: true }));
}
