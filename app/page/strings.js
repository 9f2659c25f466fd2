/** All texts of the page. */

const shots = (count) => count === 1 ? "1 shot" : `${count} shots`;

/** A name that leaves room for another one in a line. */
const short = (label) => label.length > 22 ? `${label.slice(0, 20)}…` : label;

export const text = {
  title: "CSRN Serve",
  intro: "Teach it your own expressions",
  menu: "Menu",
  keyLabel: "API key",
  keyUse: "Use this key",
  keyWrong: "This key is not accepted.",
  keyNeeded: "This service needs an API key.",
  away: "The service does not answer. Trying again …",
  back: "The service is back.",

  // the first visit
  stepsTitle: "Teach it in a minute",
  stepsIntro: "A few pictures of each expression are enough.",
  steps: [
    { title: "Show an expression", help: "Name it, press the button, and make the face until the pictures are taken." },
    { title: "Show another one", help: "Any face that differs, such as your resting face." },
    { title: "Watch it recognise you", help: "Make the faces in turn and follow the answer. Add more expressions whenever you like." },
  ],
  stepNames: ["smile", "neutral"],
  stepName: "Name",
  stepCapture: "Capture it",
  stepTaught: (label) => `${label} is taught already. Name another expression.`,
  stepWatch: "Watch it recognise me",
  stepPhotos: "Use photos instead",
  stepDone: (label, count) => `${label}: ${shots(count)}`,
  samplesQuiet: "No camera at hand? Try the samples",

  // the classes
  classesTitle: "Expressions",
  classesEmpty: "No expressions yet. Name the first one below.",
  classNew: "New expression",
  classAdd: "Add",
  classTwice: (label) => `There is already an expression ${label}.`,
  labelInvalid: "A name cannot contain a slash, or be one or two dots.",
  className: (label) => `Name of ${label}`,
  classColor: (label) => `Change the colour of ${label}`,
  classEnabled: (label) => `Recognise ${label}`,
  classOff: "Off: it is not recognised.",
  classRemove: (label) => `Remove ${label}`,
  capture: "Capture",
  captureStop: "Stop",
  captureName: (label) => `Capture ${label}`,
  captureHelp: "Press Capture for a series of shots, or hold it for as many as you like.",
  photosAdd: "Add photos",
  photosAddTo: (label) => `Add photos to ${label}`,
  noShots: "No shots yet. Press Capture and make the face, or drop photos here.",
  goal: (count) => {
    if (count < 5) return `${shots(count)}. Take 5 to 10, varied`;
    if (count < 10) return `${shots(count)}. Vary light and pose`;
    return `${shots(count)}. That is plenty`;
  },
  verdicts: { clear: "Clear", mixed: "Mixed", confused: "Confused" },
  verdict: (correct, count, others) => {
    if (correct === count) return `All ${count} shots are recognised.`;
    return `${correct} of ${count} shots are recognised. The marked ones look more like ${others}.`;
  },
  exampleRemove: (label, number, confusedWith) =>
    `Remove shot ${number} of ${label}${confusedWith ? `, which looks more like ${confusedWith}` : ""}`,
  exampleConfusing: (other) => `Looks more like ${other}`,
  rejected: (count, reason) => `Not added${count > 1 ? ` (${count})` : ""}: ${reason}.`,
  rejectedDismiss: "Dismiss",
  reasons: {
    no_face: "no face found",
    several_faces: "more than one face",
    duplicate_image: "this picture is already here",
    image_unreadable: "not a readable image",
    body_too_large: "the file is too large",
    example_limit: "the session is full",
    class_limit: "the session has the maximum number of expressions",
    invalid_label: "the name is not allowed",
    overloaded: "the service is busy",
    rate_limited: "too many pictures in a short time",
    storage_full: "the service has no space left",
    away: "the service does not answer",
    not_ready: "the service does not answer",
  },
  added: (label, count) => `${label}: ${shots(count)}`,

  // capture settings
  settings: "Capture settings",
  settingsShots: "Shots in a series",
  settingsPace: "Time between shots",
  settingsCountdown: "Countdown",
  seconds: (value) => value === 0 ? "none" : `${value} s`,

  // the preview
  previewTitle: "Preview",
  cameraStart: "Start camera",
  cameraStop: "Stop camera",
  photoAsk: "Classify photo",
  stageEmpty: "Start the camera, or drop a photo here.",
  cameraDenied: "The browser does not allow the camera. Allow it in the address bar, or use photos.",
  cameraMissing: "No camera was found. You can use photos instead.",
  cameraInsecure: "Browsers allow the camera only over https or from the same computer. Use photos instead.",
  streamRefused: {
    overloaded: "Too many people use the camera now. Try again later, or use photos.",
    forbidden_origin: "The service does not know the address of this page, so it refuses the camera's stream.",
    other: "The service ended the stream. Start the camera again.",
  },
  countdown: (label) => `Get ready: ${label}`,
  shooting: (label, taken, count) => Number.isFinite(count) ? `${label} ${taken} of ${count}` : `${label}: ${taken}`,
  latency: (ms) => `${Math.round(ms)} ms`,
  latencyHelp: (dropped) => `Time per frame${dropped ? `, ${dropped} skipped` : ""}`,
  pictureOf: (face, regions) => {
    if (!face) return "Your picture. No face found";
    return regions ? "Your picture, with face, eyes and lips marked" : "Your picture";
  },

  // the answer
  idle: "No answer yet",
  idleHelp: "Start the camera or choose a photo.",
  untaught: "Nothing to compare with yet",
  untaughtHelp: "Show it an expression first.",
  allOff: "All expressions are switched off",
  allOffHelp: "Switch on at least one.",
  failed: "This picture got no answer",
  noFace: "No face found",
  noFaceHelp: "Look into the camera, with the whole face in the picture.",
  known: (label) => `Looks like ${short(label)}`,
  close: (label, other) => `${short(label)}, or maybe ${short(other)}`,
  closeHelp: "A close call: both are almost equally similar.",
  unknown: "Unknown",
  unknownHelp: (label) => `Not similar enough. Nearest: ${short(label)}.`,
  scoresTitle: "Scores",
  adjust: "Threshold and details",
  threshold: "Unknown below",
  thresholdReset: "Reset",
  thresholdOwn: (value) => `The session's own is ${value}.`,
  scoresNote: (start) => `The bars start at ${start}. Scores are not probabilities.`,
  regionsShow: "Outline",
  regions: { face: "Face", eyes: "Eyes", lips: "Lips" },
  partsShow: "Parts of each score",
  parts: {
    face: "face", eyes: "eyes", lips: "lips", prototype: "prototype", cosine: "average",
    votes: "named expression", geometry: "movements",
  },
  partsHelp: {
    face: "Face: how similar the whole faces look.",
    eyes: "Eyes: how similar the eyes look.",
    lips: "Lips: how similar the mouths look.",
    prototype: "Prototype: how similar the face is to one face combined from all shots.",
    cosine: "Average: how similar face, eyes and lips are to the average of all shots.",
    votes: "Named expression: whether people would give both faces the same name, such as happy, sad or surprised.",
    geometry: "Movements: how similar the movements of the faces are, such as a closed eye or an open mouth.",
  },

  // samples
  samplesTry: "Try the samples",
  samplesTitle: "Choose a face to classify",
  sampleAsk: (label, taught) => `Classify a sample of ${label}${taught ? "" : ", which was not taught"}`,
  sampleNotTaught: "not taught",

  // removing and undoing
  undo: "Undo",
  undone: (label) => `${label} is back.`,
  exampleRemoved: (label, count) => count === 1 ? `A shot of ${label} was removed.` : `${count} shots of ${label} were removed.`,
  classRemoved: (label) => `${label} was removed.`,
  exampleSure: (label) => `This shot of ${label} has no picture in this browser, so removing it cannot be undone.`,
  classSure: (label) => `Not all shots of ${label} have a picture in this browser, so removing it cannot be undone.`,
  remove: "Remove",
  cancel: "Cancel",
  closeDialog: "Close",

  // the session as a whole
  exportFile: "Export the session",
  importFile: "Import a session",
  imported: "The session was imported.",
  deleteAll: "Delete everything",
  deleteSure: "This deletes every session that this browser made, with all expressions, shots and pictures.",
  deleted: "Everything was deleted.",

  // use it by API
  apiUse: "Use it by API",
  apiHelp: "Classify a photo face.jpg with the expressions that you taught here.",
  apiKeyHelp: "Put your API key in place of YOUR_KEY.",
  apiOrigin: "A page of another origin also needs CSRN_ALLOWED_ORIGINS.",
  apiDocs: "API documentation",
  apiCopy: (language) => `Copy ${language}`,
  copy: "Copy",
  copied: "Copied",

  privacy: "The service stores numbers computed from your pictures, and a hash of each file, never the pictures. "
    + "Only this browser keeps those, until you delete them.",
  responsible: "The service sees expressions, not feelings. Do not use it to judge people. "
    + "Features of faces can be biometric data, so ask people first.",

  // what was not done
  sessionReplaced: "The session can no longer be used: it was deleted, has expired, or was taught with other weights. "
    + "This is a new one.",
  notDone: "Not done: the service does not answer.",
  backNotDone: "The service is back. What you did meanwhile was not done.",
};
