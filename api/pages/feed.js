// A board as it changes: from the season's stream, or, where there is none or it fails, asked for every second.

import { Refusal, linesOf, send } from "/pages/requests.js";

const POLL_MS = 1000;
const POLLING_MS = 20_000; // then the stream is tried again
const SILENCE_MS = 40_000; // heartbeats come every 15 s
const LONGEST_PAUSE_MS = 10_000;
const NO_STREAM = new Set([404, 405, 501]);
const FINAL = new Set([400, 409]);

const wait = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

/** Turns the lines of an event stream into events: {event, data, id}. */
export async function* eventsOf(lines) {
  let found = { event: "message", data: [], id: undefined };
  for await (const raw of lines) {
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    if (line === "") {
      if (found.data.length) yield { ...found, data: found.data.join("\n") };
      found = { event: "message", data: [], id: found.id };
      continue;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") found.event = value;
    if (name === "data") found.data.push(value);
    if (name === "id") found.id = value;
  }
}

/** `view`: {seasonId, limit, window, userId}; `told`: {top(body), rank(body), state(word, message)}. */
export class Feed {
  constructor(view, told) {
    this.view = view;
    this.told = told;
    this.streamed = true;
    this.lastId = undefined;
    this.ending = new AbortController();
  }

  stop() {
    this.ending.abort();
  }

  async run() {
    const { signal } = this.ending;
    let failures = 0;
    let pollUntil = 0;
    while (!signal.aborted) {
      try {
        if (this.streamed && performance.now() >= pollUntil) {
          await this.#stream(() => (failures = 0));
        } else {
          await this.#poll(this.streamed ? pollUntil : Infinity, () => (failures = 0));
        }
        continue;
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof Refusal)) throw error;
        if (error.wantsKey) return this.told.state("key", error.message);
        if (FINAL.has(error.status)) return this.told.state("refused", error.message);
        if (NO_STREAM.has(error.status)) this.streamed = false;
        failures += 1;
        pollUntil = performance.now() + POLLING_MS;
        if (failures > 1) this.told.state("waiting", error.message);
      }
      const pause = failures > 1 ? Math.min(LONGEST_PAUSE_MS, 250 * 2 ** failures) : 0;
      await wait(pause * (0.5 + Math.random() / 2), signal);
    }
  }

  #path(last) {
    const { seasonId, limit, window, userId } = this.view;
    const query = new URLSearchParams();
    if (last !== "rank") query.set("limit", limit);
    if (window) query.set("window", window);
    if (userId && last !== "top") query.set("userId", userId);
    return `/v1/seasons/${encodeURIComponent(seasonId)}/leaderboard/${last}?${query}`;
  }

  async #stream(works) {
    const attempt = new AbortController();
    const abort = () => attempt.abort();
    this.ending.signal.addEventListener("abort", abort, { once: true });
    let silence;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(abort, SILENCE_MS);
    };
    try {
      heard();
      const headers = { Accept: "text/event-stream", ...(this.lastId && { "Last-Event-ID": this.lastId }) };
      const response = await send(this.#path("stream"), { headers, signal: attempt.signal });
      this.told.state("live");
      works();
      for await (const { event, data, id } of eventsOf(linesOf(response, heard))) {
        if (this.ending.signal.aborted) return;
        if (event === "top") this.told.top(JSON.parse(data));
        if (event === "rank") this.told.rank(JSON.parse(data));
        this.lastId = id ?? this.lastId;
      }
    } catch (error) {
      if (attempt.signal.aborted && !this.ending.signal.aborted) throw new Refusal(0, "silent", "The stream fell silent.");
      throw error;
    } finally {
      clearTimeout(silence);
    }
    if (!this.ending.signal.aborted) throw new Refusal(0, "ended", "The stream ended.");
  }

  async #poll(until, works) {
    const { signal } = this.ending;
    let tag;
    while (!signal.aborted && performance.now() < until) {
      const response = await send(this.#path("top"), { headers: tag ? { "If-None-Match": tag } : {}, signal });
      if (response.status !== 304) {
        tag = response.headers.get("etag") ?? undefined;
        this.told.top(await response.json());
      }
      this.told.state("polling");
      works();
      if (this.view.userId) this.told.rank(await this.#rank(signal));
      await wait(POLL_MS, signal);
    }
  }

  async #rank(signal) {
    try {
      return await (await send(this.#path("rank"), { signal })).json();
    } catch (error) {
      if (error instanceof Refusal && error.status === 404) {
        return { seasonId: this.view.seasonId, userId: this.view.userId, rank: null };
      }
      throw error;
    }
  }
}
