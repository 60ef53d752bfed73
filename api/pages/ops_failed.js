// Events that failed: looked at, sent back, given up.

import { confirmed } from "/pages/confirm.js";
import { element, find, say } from "/pages/elements.js";
import { clock, number, plural } from "/pages/format.js";
import { ask } from "/pages/requests.js";

const PAGE = 50;

export class FailedEvents {
  /** `trouble` hears of what the service refused. */
  constructor(trouble) {
    this.trouble = trouble;
    this.events = new Map();
    this.selected = new Set();
    this.cursor = null;
    this.season = "";
    this.seen = "";
    find("#failed-season").addEventListener("change", (event) => {
      this.season = event.target.value;
      this.load();
    });
    find("#failed-more").addEventListener("click", () => this.#page());
    find("#failed-all").addEventListener("change", (event) => {
      this.selected = new Set(event.target.checked ? this.events.keys() : []);
      this.#show();
    });
    find("#retry").addEventListener("click", () => this.#retry({ ids: [...this.selected] }));
    find("#discard").addEventListener("click", () => this.#discard({ ids: [...this.selected] }, this.selected.size));
    find("#retry-season").addEventListener("click", () => this.#retry({ seasonId: this.season }));
    find("#discard-season").addEventListener("click", () => this.#discard({ seasonId: this.season }));
  }

  /** What the gauge says: where it changed, the list is asked for anew. */
  heard({ failed, failedBySeason }) {
    const seen = JSON.stringify([failed, failedBySeason]);
    if (seen === this.seen) return;
    this.seen = seen;
    const chooser = find("#failed-season");
    const all = element("option", { value: "" }, "All seasons");
    const seasons = failedBySeason.map(({ seasonId, events }) =>
      element("option", { value: seasonId }, `${seasonId} (${number(events)})`),
    );
    if (this.season && !failedBySeason.some(({ seasonId }) => seasonId === this.season)) this.season = "";
    chooser.replaceChildren(all, ...seasons);
    chooser.value = this.season;
    this.load();
  }

  async load() {
    const kept = this.selected;
    this.events.clear();
    this.cursor = null;
    await this.#page();
    this.selected = new Set([...kept].filter((id) => this.events.has(id)));
    this.#show();
  }

  async #page() {
    const query = new URLSearchParams({ limit: PAGE });
    if (this.season) query.set("seasonId", this.season);
    if (this.cursor) query.set("cursor", this.cursor);
    try {
      const page = await ask(`/v1/ops/failed?${query}`);
      for (const event of page.items) this.events.set(event.id, event);
      this.cursor = page.nextCursor;
      this.#show();
    } catch (error) {
      this.trouble(error);
    }
  }

  async #retry(choice) {
    await this.#change("retry", choice, "sent back to pending");
  }

  async #discard(choice, count) {
    const what = choice.seasonId ? `all failed events of season ${choice.seasonId}` : plural(count, "event");
    const told = "They never count, and no board shows them. This can't be taken back.";
    if (await confirmed(`Give up ${what} for good?`, told, "Discard")) await this.#change("discard", choice, "discarded");
  }

  /** A season's may be more than one request has time for: it is asked again until all are done. */
  async #change(what, choice, done) {
    const told = find("#failed-told");
    let changed = 0;
    try {
      for (;;) {
        const answer = await ask(`/v1/ops/failed/${what}`, { method: "POST", body: choice });
        changed += answer.changed;
        const reasons = answer.refused.map(({ reason }) => reason);
        const left = answer.left ? [`${plural(answer.left, "event")} left: failed again, or held by somebody else`] : [];
        say(told, [`${plural(changed, "event")} ${done}`, ...reasons, ...left].join("; ") + ".");
        if (answer.complete) break;
      }
      this.selected.clear();
    } catch (error) {
      this.trouble(error);
      say(told, error.message);
    }
    this.seen = "";
    await this.load();
  }

  #show() {
    const events = [...this.events.values()];
    find("#failed-table").hidden = events.length === 0;
    find("#failed-none").hidden = events.length > 0;
    find("#failed-more").hidden = this.cursor === null;
    find("#failed-all").checked = events.length > 0 && this.selected.size === events.length;
    find("#retry").disabled = find("#discard").disabled = this.selected.size === 0;
    find("#retry-season").hidden = find("#discard-season").hidden = this.season === "";
    find("#failed-rows").replaceChildren(...events.map((event) => this.#row(event)));
  }

  #row(event) {
    const box = element("input", { type: "checkbox", checked: this.selected.has(event.id) });
    box.addEventListener("change", () => {
      if (box.checked) this.selected.add(event.id);
      else this.selected.delete(event.id);
      find("#retry").disabled = find("#discard").disabled = this.selected.size === 0;
      find("#failed-all").checked = this.selected.size === this.events.size;
    });
    const retry = element("button", { type: "button", "aria-label": `Retry event ${event.id}` }, "Retry");
    retry.addEventListener("click", () => this.#retry({ ids: [event.id] }));
    const discard = element("button", { type: "button", class: "danger", "aria-label": `Discard event ${event.id}` }, "Discard");
    discard.addEventListener("click", () => this.#discard({ ids: [event.id] }, 1));
    const cell = (text, name = "") => element("td", { class: name }, text);
    return element(
      "tr",
      {},
      element("td", {}, element("label", {}, element("span", { class: "unseen" }, `Select event ${event.id}`), box)),
      element("th", { scope: "row", class: "right number" }, String(event.id)),
      cell(event.seasonId, "tight"),
      element("td", { class: "who", dir: "auto" }, event.userId),
      cell(number(event.delta), "right number"),
      cell(number(event.attempts), "right number"),
      cell(clock(new Date(event.createdAt)), "number tight"),
      cell(event.reason, "reason"),
      element("td", { class: "do" }, retry, discard),
    );
  }
}
