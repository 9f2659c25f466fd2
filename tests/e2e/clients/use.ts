// A small use of the types that openapi-typescript generates into api.d.ts. A test type-checks it.
import type { components, operations } from "./api.d.ts";

type Kinds = components["schemas"];

async function send<Answer>(method: string, url: string, body: unknown): Promise<Answer> {
  const response = await fetch(url, {
    method,
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" },
  });
  if (!response.ok) {
    const problem: Kinds["Problem"] = await response.json();
    throw new Error(`${problem.code}: ${problem.detail}`);
  }
  return response.json();
}

export async function predicted(url: string, examples: [string, string][], query: string) {
  const created: Kinds["NewSession"] = { name: "typed" };
  const { id } = await send<Kinds["Session"]>("POST", `${url}/v1/sessions`, created);
  const support: Kinds["SupportJson"] = {
    images: examples.map(([, image]) => image),
    labels: examples.map(([label]) => label),
  };
  const added = await send<Kinds["Added"]>("POST", `${url}/v1/sessions/${id}/support`, support);
  if (added.rejected.length > 0) throw new Error(added.rejected[0].detail);
  const options: operations["classify"]["parameters"]["query"] = { top_k: 1 };
  const asked: Kinds["ClassifyJson"] = { images: [query], ...options };
  const { results } = await send<Kinds["Results"]>("POST", `${url}/v1/sessions/${id}/classify`, asked);
  // @ts-expect-error: the results have no such member
  results[0].emotion;
  const best: string | null = results[0].faces[0].predicted;
  return best;
}
