// Asking the service. The key, where one is needed, lives in sessionStorage: it ends with the tab.

const NAME = "leaderboard.key";

export const key = {
  get: () => sessionStorage.getItem(NAME) ?? "",
  set: (text) => sessionStorage.setItem(NAME, text),
  forget: () => sessionStorage.removeItem(NAME),
};

/** What the service answered instead of what was asked for; status 0: it did not answer. */
export class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }

  get wantsKey() {
    return this.status === 401 || this.status === 403;
  }
}

/** The response, with a status of success or 304. Throws Refusal. */
export async function send(path, { method = "GET", body, headers = {}, signal } = {}) {
  const own = { ...headers };
  if (key.get()) own.Authorization = `Bearer ${key.get()}`;
  if (body !== undefined) own["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: own,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0, "unreachable", "The service does not answer.");
  }
  if (response.ok || response.status === 304) return response;
  const told = await response.json().catch(() => ({}));
  throw new Refusal(response.status, told.code ?? "unknown", told.error ?? `The service answered ${response.status}.`);
}

/** The answer's JSON. Throws Refusal. */
export async function ask(path, options) {
  return (await send(path, options)).json();
}

/** Each text line of a response as it comes; throws Refusal where the connection breaks. */
export async function* linesOf(response, heard = () => {}) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      yield* lines;
    }
  } catch {
    throw new Refusal(0, "broken", "The connection broke.");
  } finally {
    reader.cancel().catch(() => {});
  }
}
