/** The page: puts its parts together and opens the session. */
import { prepareAnswer } from "./answer_view.js";
import { prepareApiUse } from "./api_use.js";
import { prepareCards } from "./cards.js";
import { byId, fillTexts } from "./elements.js";
import { prepareDialogs } from "./notices.js";
import { preparePopovers } from "./popovers.js";
import { preparePreview } from "./preview.js";
import { preparePreviewView } from "./preview_view.js";
import { prepareQuality } from "./quality.js";
import { prepareRemovals } from "./removal.js";
import { prepareSamples } from "./samples.js";
import { attempt, openSession, prepareSession } from "./session.js";
import { prepareSteps } from "./steps.js";

fillTexts();
prepareDialogs();
preparePopovers();
prepareSession();
preparePreview();
preparePreviewView();
prepareAnswer();
prepareApiUse();
prepareCards();
prepareSteps();
prepareSamples();
prepareRemovals();
prepareQuality();
for (const part of ["top", "main"]) byId(part).inert = true;  // until there is a session
attempt(openSession, { quiet: true });
