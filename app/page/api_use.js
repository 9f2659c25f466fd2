/** "Use it by API": programs that classify a photo with this session, to copy. */
import * as api from "./api.js";
import { button, byId, element } from "./elements.js";
import { notify } from "./notices.js";
import { state } from "./state.js";
import { text } from "./strings.js";

const KEY = "YOUR_KEY";

/** {language: program} for a session of the service at this address. */
function programs(service, session, needsKey) {
  const url = `${service}v1/sessions/${session}/classify`;
  const curlKey = needsKey ? `-H "Authorization: Bearer ${KEY}" ` : "";
  const pythonKey = needsKey ? `, api_key="${KEY}"` : "";
  const fetchKey = needsKey ? `\n  headers: { Authorization: "Bearer ${KEY}" },` : "";
  return {
    curl: `curl ${curlKey}-F images=@face.jpg \\\n  ${url}`,
    Python: `from csrn_client import Client

with Client("${service.replace(/\/$/, "")}"${pythonKey}) as client:
    answer = client.classify("${session}", "face.jpg")
for face in answer.results[0].faces:
    print(face.predicted)
    for entry in face.scores:
        print(entry.label, entry.score)`,
    JavaScript: `const form = new FormData();
form.append("images", document.querySelector("input[type=file]").files[0]);
const response = await fetch("${url}", {
  method: "POST",${fetchKey}
  body: form,
});
const { results } = await response.json();
for (const face of results[0].faces) console.log(face.predicted);`,
  };
}

function program(language, source) {
  const code = element("pre", { tabIndex: 0, "aria-label": language }, element("code", {}, source));
  const copy = button({ iconName: "copy", label: text.copy, className: "quiet" });
  copy.setAttribute("aria-label", text.apiCopy(language));
  copy.addEventListener("click", async () => {
    await copyText(source, code);
    copy.querySelector("span").textContent = text.copied;
    setTimeout(() => { copy.querySelector("span").textContent = text.copy; }, 2000);
  });
  return element("section", {}, element("div", { className: "program-head" }, element("h3", {}, language), copy), code);
}

async function copyText(source, code) {
  try {
    await navigator.clipboard.writeText(source);
  } catch {
    // Over http from another computer there is no clipboard API: the selected text is copied instead.
    getSelection().selectAllChildren(code);
    document.execCommand("copy");
  }
}

export function prepareApiUse() {
  for (const opener of document.querySelectorAll("[data-opens=api]")) {
    opener.addEventListener("click", () => {
      if (!state.sessionId) return notify(text.away);
      const service = new URL(".", location.href).href;
      const sources = programs(service, state.sessionId, api.hasKey());
      byId("programs").replaceChildren(...Object.entries(sources).map(([language, source]) => program(language, source)));
      byId("api-key-help").hidden = !api.hasKey();
      byId("api").showModal();
    });
  }
}
