/** What an answer of the service means for the person: the rules, without the page. */

/**
 * Two classes whose scores differ by less are called a close call. In 744 answers to real photos, in sessions
 * of three expressions with five examples each of other people, answers with a smaller margin were correct
 * 58 times in 100, those with a larger one 81 times.
 */
export const CLOSE_MARGIN = 0.03;

/** Step of the score at which the bars start, and how far below the lowest shown score they start at least. */
const AXIS_STEP = 0.05;
const AXIS_ROOM = 0.03;

/**
 * {kind, label, other} of the largest face. kind: failed (with the error), no_face, untaught, unknown (no score reaches the threshold),
 * close (two scores are nearly equal) or known.
 */
export function judge(result, threshold) {
  if (result.error) return { kind: "failed", error: result.error };
  const face = result.faces[0];
  if (!face) return { kind: result.untaught ? "untaught" : "no_face" };
  const [best, second] = face.scores;
  if (!best) return { kind: "untaught" };
  if (best.score < (threshold ?? 0)) return { kind: "unknown", label: best.label };
  const close = second && face.margin < CLOSE_MARGIN;
  return { kind: close ? "close" : "known", label: best.label, other: second?.label };
}

/**
 * The score at which the bars start. All scores of a session are close together, so bars that start at 0
 * would look equal. `before` is kept while it fits, so that the bars do not jump from frame to frame.
 */
export function axisStart(scores, threshold, before) {
  const lowest = Math.min(threshold ?? 1, ...scores.map((entry) => entry.score)) - AXIS_ROOM;
  const start = Math.max(0, Math.floor(lowest / AXIS_STEP) * AXIS_STEP);
  const fits = before !== null && before <= start && before > start - 3 * AXIS_STEP;
  return fits ? before : start;
}
