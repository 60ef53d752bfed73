// One player: rank, score and who stands around, kept up to date while the board changes.

import { element, find, say } from "/pages/elements.js";
import { number } from "/pages/format.js";
import { Refusal, ask } from "/pages/requests.js";

const RANGE = 4;
const PAUSE_MS = 1000;

export class Player {
  /** `picked` hears whom somebody looks for, null = nobody any more. */
  constructor(picked) {
    this.form = find("#player-form");
    this.input = find("#player-id");
    this.card = find("#player-card");
    this.note = find("#player-note");
    this.body = find("#around");
    this.view = null;
    this.again = false;
    this.busy = false;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      picked(this.input.value || null);
    });
    find("#player-clear").addEventListener("click", () => {
      picked(null);
      this.input.focus();
    });
  }

  /** `view`: {seasonId, window, userId}; without userId the card goes. */
  show(view) {
    this.view = view;
    this.input.value = view.userId ?? this.input.value;
    if (!view.userId) this.input.value = "";
    this.card.hidden = true;
    say(this.note, view.userId ? "Looking…" : "");
    this.refresh();
  }

  rank({ rank, score, percentile, totalPlayers }) {
    if (rank === null) {
      this.card.hidden = true;
      say(this.note, "Not on this board.");
      return;
    }
    say(this.note, "");
    this.card.hidden = false;
    say(find("#player-name"), this.view.userId);
    say(find("#player-rank"), number(rank));
    say(find("#player-of"), `of ${number(totalPlayers)}`);
    say(find("#player-score"), number(score));
    const top = 100 - percentile + 100 / totalPlayers;
    say(find("#player-percentile"), `top ${top < 10 ? top.toFixed(1) : Math.round(top)} %`);
    if (rank <= 3) this.card.dataset.medal = rank;
    else delete this.card.dataset.medal;
  }

  /** Who stands around, asked for at most once a second. */
  async refresh() {
    const view = this.view;
    if (!view?.userId) return;
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    const query = new URLSearchParams({ userId: view.userId, range: RANGE });
    if (view.window) query.set("window", view.window);
    const board = `/v1/seasons/${encodeURIComponent(view.seasonId)}/leaderboard`;
    try {
      const around = await ask(`${board}/around?${query}`);
      query.delete("range");
      const rank = await ask(`${board}/rank?${query}`);
      if (view === this.view) {
        this.rank(rank);
        this.#around(around.items);
      }
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (view === this.view) {
        this.card.hidden = true;
        say(this.note, error.code === "not_on_board" ? "Not on this board." : error.message);
      }
    }
    setTimeout(() => {
      this.busy = false;
      if (this.again || view !== this.view) {
        this.again = false;
        this.refresh();
      }
    }, PAUSE_MS);
  }

  #around(items) {
    this.body.replaceChildren(
      ...items.map(({ rank, userId, score }) => {
        const mine = userId === this.view.userId;
        const line = element(
          "tr",
          {},
          element("td", { class: "rank" }, number(rank)),
          element("th", { class: "player", scope: "row", dir: "auto" }, userId),
          element("td", { class: "score" }, number(score)),
        );
        if (mine) line.dataset.mine = "";
        return line;
      }),
    );
  }
}
