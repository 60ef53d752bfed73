// Comparing seasons and building boards anew, as the service tells of it line by line.

import { confirmed } from "/pages/confirm.js";
import { element, find, say } from "/pages/elements.js";
import { number, plural } from "/pages/format.js";
import { Refusal, ask, linesOf, send } from "/pages/requests.js";

const VERIFY = ["Season", "Ledger", "Standings", "Board", "Differences", "Repaired", "Verdict"];
const REBUILD = ["Season", "Players", "Seconds"];
const WORDS = { standing: ["ledger", "standing"], minute: ["ledger", "minute"], board: ["standing", "board"] };

export class Work {
  constructor(trouble) {
    this.trouble = trouble;
    this.chosen = new Set();
    this.known = [];
    this.stop = null;
    find("#verify").addEventListener("click", () => this.#verify());
    find("#rebuild").addEventListener("click", () => this.#rebuild());
    find("#work-stop").addEventListener("click", () => this.stop?.abort());
    find("#work-choice").addEventListener("toggle", () => this.#load());
    find("#work-search").addEventListener("input", () => this.#show());
  }

  async #load() {
    this.known = [];
    let cursor = null;
    try {
      do {
        const page = await ask(`/v1/seasons?${new URLSearchParams({ limit: 1000, ...(cursor && { cursor }) })}`);
        this.known.push(...page.items.map((season) => season.seasonId));
        cursor = page.nextCursor;
        this.#show();
      } while (cursor && find("#work-choice").open && this.known.length < 5000);
    } catch (error) {
      this.trouble(error);
    }
  }

  #show() {
    const text = find("#work-search").value.trim().toLowerCase();
    const shown = this.known.filter((id) => this.chosen.has(id) || id.toLowerCase().includes(text)).slice(0, 200);
    find("#work-seasons").replaceChildren(
      ...shown.map((id) => {
        const box = element("input", { type: "checkbox", checked: this.chosen.has(id) });
        box.addEventListener("change", () => {
          if (box.checked) this.chosen.add(id);
          else this.chosen.delete(id);
          say(find("#chosen"), this.chosen.size ? plural(this.chosen.size, "season") : "All seasons");
        });
        return element("li", {}, element("label", { class: "check" }, box, " ", id));
      }),
    );
  }

  async #verify() {
    const repair = find("#repair").checked;
    await this.#run("verify", { seasonIds: this.#ids(), repair }, VERIFY, (line) => this.#report(line));
  }

  async #rebuild() {
    const which = this.chosen.size ? plural(this.chosen.size, "board") : "all boards";
    const told = "Old boards answer until the new ones are there; new scores of a season wait meanwhile.";
    if (!(await confirmed(`Build ${which} anew?`, told, "Rebuild"))) return;
    await this.#run("rebuild", { seasonIds: this.#ids() }, REBUILD, ({ seasonId, players, seconds }) => [
      this.#row([seasonId, number(players), seconds.toFixed(2)]),
    ]);
  }

  #ids() {
    return this.chosen.size ? [...this.chosen] : null;
  }

  async #run(what, body, heads, rowsOf) {
    const progress = find("#work-progress");
    const results = find("#work-results");
    const told = find("#work-told");
    this.stop = new AbortController();
    find("#work").hidden = false;
    find("#work-head").replaceChildren(
      ...heads.map((head, n) => element("th", { scope: "col", class: n && head !== "Verdict" ? "right" : "" }, head)),
    );
    results.replaceChildren();
    progress.removeAttribute("value");
    say(told, "Started.");
    this.#busy(true);
    let ended = false;
    let seasons = 0;
    try {
      const response = await send(`/v1/ops/${what}`, { method: "POST", body, signal: this.stop.signal });
      for await (const text of linesOf(response)) {
        const line = JSON.parse(text);
        if (line.type === "season") {
          results.append(...rowsOf(line));
          seasons += 1;
          if (progress.max > 1) progress.value = seasons;
        }
        if (line.type === "progress") this.#progress(line);
        if (line.type === "failed") throw new Refusal(0, line.code, line.error);
        if (line.type === "finished") {
          ended = true;
          progress.max = progress.value = 1;
          say(told, this.#sum(line));
        }
      }
      if (!ended) throw new Refusal(0, "broken", "The connection broke; what was not finished is rolled back.");
    } catch (error) {
      progress.value = progress.value || 0;
      say(told, this.stop.signal.aborted ? "Stopped; what was not finished is rolled back." : error.message);
      if (!this.stop.signal.aborted) this.trouble(error);
    }
    this.#busy(false);
  }

  #busy(on) {
    find("#verify").disabled = find("#rebuild").disabled = on;
    find("#work-stop").hidden = !on;
  }

  #progress({ seasons, ofSeasons, players, ofPlayers, seasonId }) {
    const progress = find("#work-progress");
    progress.max = Math.max(1, ofSeasons);
    progress.value = seasons + (ofPlayers ? Math.min(1, players / ofPlayers) : 0);
    const where = seasonId ? `season ${seasonId}, ` : "";
    say(find("#work-told"), `${where}${number(seasons)} of ${plural(ofSeasons, "season")}, ${plural(players, "player")}`);
  }

  #sum({ seasons, players, differences, repaired, equal }) {
    const told = `${plural(seasons, "season")}, ${plural(players, "player")}`;
    if (equal === undefined) return `Built anew: ${told}.`;
    if (equal && !differences) return `${told}: ledger, standings and boards are equal.`;
    return `${told}: ${plural(differences, "difference")}, ${number(repaired)} repaired.`;
  }

  #report(line) {
    const count = Object.values(line.differences).reduce((sum, one) => sum + one, 0);
    const verdict = line.equal ? (line.repaired ? "repaired" : "equal") : count > line.repaired ? "differs" : "unsettled";
    const { ledger, standings, board } = line.players;
    const row = this.#row([line.seasonId, ...[ledger, standings, board, count, line.repaired].map(number)]);
    row.append(element("td", {}, element("span", { class: "verdict", "data-verdict": verdict }, verdict)));
    const details = line.first.map((difference) => this.#told(difference));
    if (line.unsettled) details.push(line.unsettled);
    if (!details.length) return [row];
    const list = element("ul", { class: "note" }, ...details.map((text) => element("li", {}, text)));
    return [row, element("tr", { class: "details" }, element("td", { colSpan: VERIFY.length }, list))];
  }

  #told({ kind, userId, window, expected, found }) {
    const [where, how] = kind.split(/(?=[A-Z])/);
    if (how === "Behind") return "The board is behind: a worker's audit repairs that within about a second; is one running?";
    const [right, wrong] = WORDS[where];
    const score = (value) => (value === null ? "nothing" : number(value));
    const within = window ? ` in the last ${window}` : "";
    return `${where} ${how.toLowerCase()}${within}: ${userId}, ${right} ${score(expected)}, ${wrong} ${score(found)}`;
  }

  #row([first, ...others]) {
    const cells = others.map((text) => element("td", { class: "right number" }, text));
    return element("tr", {}, element("th", { scope: "row" }, first), ...cells);
  }
}
