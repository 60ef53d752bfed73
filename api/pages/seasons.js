// The list of seasons: a page at a time, searched in what is there and, by how ids begin, in what is not.

import { element, say } from "/pages/elements.js";
import { ago, plural } from "/pages/format.js";
import { Refusal, ask } from "/pages/requests.js";

const PAGE = 200;

export class Seasons {
  constructor({ list, search, more, note }, { picked, refused }) {
    Object.assign(this, { list, search, more, note, picked, refused });
    this.found = new Map();
    this.cursor = null;
    this.current = null;
    this.asked = 0;
    search.addEventListener("input", () => this.#search());
    search.form?.addEventListener("submit", (event) => {
      event.preventDefault();
      this.list.querySelector("button")?.click();
    });
    more.addEventListener("click", () => this.load());
  }

  /** The next page. */
  async load() {
    const query = new URLSearchParams({ limit: PAGE, ...(this.cursor && { cursor: this.cursor }) });
    const page = await this.#asked(`/v1/seasons?${query}`);
    if (!page) return;
    for (const season of page.items) this.found.set(season.seasonId, season);
    this.cursor = page.nextCursor;
    this.#show();
  }

  /** Those that are there, the one that changed last first. */
  latest() {
    const moment = (season) => (season.changedAt ? Date.parse(season.changedAt) : 0);
    return [...this.found.values()].sort((one, other) => moment(other) - moment(one));
  }

  /** One season, asked for anew; null where there is none of that id. */
  async one(seasonId) {
    const season = await this.#asked(`/v1/seasons/${encodeURIComponent(seasonId)}`);
    if (season) this.found.set(seasonId, season);
    return season;
  }

  choose(seasonId) {
    this.current = seasonId;
    this.#show();
  }

  async #asked(path) {
    try {
      return await ask(path);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (error.status !== 404 && error.status !== 400) this.refused(error);
      return null;
    }
  }

  async #search() {
    this.#show();
    const text = this.search.value.trim();
    if (!text || !this.cursor || !/^[\w.:-]{1,64}$/.test(text)) return;
    // Ids behind the text in their order: those that begin with it come first.
    this.asked += 1;
    const mine = this.asked;
    const [exact, behind] = await Promise.all([
      this.#asked(`/v1/seasons/${encodeURIComponent(text)}`),
      this.#asked(`/v1/seasons?${new URLSearchParams({ limit: 50, cursor: text })}`),
    ]);
    if (mine !== this.asked) return;
    const begins = (behind?.items ?? []).filter((season) => season.seasonId.startsWith(text));
    for (const season of [...(exact ? [exact] : []), ...begins]) this.found.set(season.seasonId, season);
    this.#show();
  }

  #show() {
    const text = this.search.value.trim().toLowerCase();
    const shown = this.latest().filter((season) => season.seasonId.toLowerCase().includes(text));
    const focused = document.activeElement?.dataset.season;
    this.list.replaceChildren(...shown.map((season) => this.#entry(season)));
    if (focused) this.list.querySelector(`[data-season="${CSS.escape(focused)}"]`)?.focus();
    this.more.hidden = this.cursor === null || text !== "";
    const none = this.found.size ? "No season matches." : "No season yet: the first score makes one.";
    say(this.note, shown.length ? "" : none);
  }

  #entry(season) {
    const changed = season.changedAt ? ago(Date.parse(season.changedAt)) : "no score yet";
    const button = element(
      "button",
      { type: "button", class: "season" },
      element("span", { class: "season-name" }, season.seasonId),
      element("span", { class: "season-told" }, `${plural(season.players, "player")} · ${changed}`),
    );
    button.dataset.season = season.seasonId;
    button.dataset.state = season.state;
    if (season.seasonId === this.current) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => this.picked(season.seasonId));
    return element("li", {}, button);
  }
}
