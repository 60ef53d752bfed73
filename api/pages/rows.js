// The rows of a board: kept by player, so that they can be seen to move.

import { element, say, still } from "/pages/elements.js";
import { number, plural, signed } from "/pages/format.js";

const MOVE = { duration: 700, easing: "cubic-bezier(0.2, 0.8, 0.2, 1)" };

export class Rows {
  /** `pick` hears which player somebody chose. */
  constructor(body, pick) {
    this.body = body;
    this.pick = pick;
    this.rows = new Map();
  }

  clear() {
    this.rows.clear();
    this.body.replaceChildren();
  }

  /** Shows `items` with `moves` (movement.js); `bars`: how much of the leader's score each has, drawn behind it. */
  show(items, moves, { bars, mine }) {
    const animated = !still() && this.rows.size > 0 && !document.hidden;
    const tops = animated ? new Map([...this.rows].map(([id, row]) => [id, row.line.offsetTop])) : new Map();
    const kept = new Map();
    const best = items[0]?.score;
    items.forEach((item, place) => {
      const row = this.rows.get(item.userId) ?? this.#made(item.userId);
      kept.set(item.userId, row);
      this.#fill(row, item, moves.get(item.userId), item.userId === mine);
      row.line.style.setProperty("--share", bars && best > 0 ? String(item.score / best) : "0");
      const there = this.body.children[place];
      if (there !== row.line) this.body.insertBefore(row.line, there ?? null);
    });
    for (const [id, row] of this.rows) if (!kept.has(id)) row.line.remove();
    this.rows = kept;
    if (animated) this.#move(items, tops, moves);
  }

  #made(userId) {
    const place = element("span", { class: "place" });
    const move = element("span", { class: "move" });
    const name = element("button", { class: "name", type: "button", dir: "auto" }, userId);
    name.addEventListener("click", () => this.pick(userId));
    const gain = element("span", { class: "gain", "aria-hidden": "true" });
    const score = element("span", { class: "points" });
    const line = element(
      "tr",
      {},
      element("td", { class: "rank" }, place),
      element("td", { class: "moved" }, move),
      element("th", { class: "player", scope: "row" }, name),
      element("td", { class: "score" }, gain, score),
    );
    return { line, place, move, gain, score };
  }

  #fill({ line, place, move, gain, score }, item, moved, mine) {
    say(place, number(item.rank));
    say(score, number(item.score));
    if (item.rank <= 3) line.dataset.medal = item.rank;
    else delete line.dataset.medal;
    if (mine) line.dataset.mine = "";
    else delete line.dataset.mine;
    const { up = 0, entered = false, gain: points = 0 } = moved ?? {};
    const way = entered ? "new" : up > 0 ? "up" : up < 0 ? "down" : "same";
    const key = `${way} ${up}`;
    if (move.dataset.key !== key) {
      move.dataset.key = key;
      move.dataset.way = way;
      const told = { new: "new on this board", up: `up ${plural(up, "place")}`, down: `down ${plural(-up, "place")}` };
      const sign = { new: "NEW", up: `▲${up}`, down: `▼${-up}` };
      move.replaceChildren(
        ...(way === "same"
          ? []
          : [
              element("span", { "aria-hidden": "true" }, sign[way]),
              element("span", { class: "unseen" }, told[way]),
            ]),
      );
    }
    if (points) {
      gain.textContent = signed(points);
      if (still()) gain.textContent = "";
      else gain.animate({ opacity: [0, 1, 1, 0] }, { duration: 2400, easing: "ease-out" });
    }
  }

  #move(items, tops, moves) {
    for (const { userId } of items) {
      const { line } = this.rows.get(userId);
      const was = tops.get(userId);
      if (was === undefined) {
        line.animate({ opacity: [0, 1], transform: ["translateX(-12px)", "none"] }, MOVE);
        continue;
      }
      const way = was - line.offsetTop;
      if (way) {
        line.animate({ transform: [`translateY(${way}px)`, "none"] }, MOVE);
        line.dataset.raised = way > 0 ? "up" : "down";
      }
      const gained = moves.get(userId)?.gain;
      if (gained) line.animate({ backgroundColor: ["var(--flash)", "transparent"] }, { duration: 1600 });
    }
  }
}
