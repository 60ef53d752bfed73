// The page on /: which board is shown, and everything on it that follows from that.

import { element, find, say } from "/pages/elements.js";
import { Feed } from "/pages/feed.js";
import { ago, number, plural } from "/pages/format.js";
import { keyForm } from "/pages/key_form.js";
import { Movements } from "/pages/movement.js";
import { Player } from "/pages/player.js";
import { Rows } from "/pages/rows.js";
import { Seasons } from "/pages/seasons.js";

const MARKS_MS = 45_000;
const ANNOUNCE_MS = 8000;
const STATES = {
  starting: "Connecting",
  live: "Live",
  polling: "Live, once a second",
  waiting: "Reconnecting",
  key: "Key needed",
  refused: "Not available",
};

const asked = new URLSearchParams(location.search);
const view = {
  seasonId: asked.get("season"),
  window: asked.get("window") ?? "",
  limit: ["10", "25", "50", "100"].includes(asked.get("limit")) ? asked.get("limit") : "10",
  userId: asked.get("user"),
};
const root = document.documentElement;
const shown = { feed: null, movements: null, season: null, top: null, changedAt: null, announced: -Infinity, pending: null };

const rows = new Rows(find("#rows"), (userId) => pickPlayer(userId));
const player = new Player(pickPlayer);
const keys = keyForm(() => begin());
const seasons = new Seasons(
  { list: find("#seasons"), search: find("#season-search"), more: find("#seasons-more"), note: find("#seasons-note") },
  { picked: pickSeason, refused: (error) => (error.wantsKey ? keys.ask(error.message) : say(find("#told"), error.message)) },
);

function remember() {
  const query = new URLSearchParams();
  const said = { season: view.seasonId, window: view.window, limit: view.limit === "10" ? "" : view.limit, user: view.userId };
  for (const [name, value] of Object.entries(said)) if (value) query.set(name, value);
  if (root.hasAttribute("data-wall")) query.set("wall", "1");
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}

function pickPlayer(userId) {
  view.userId = userId;
  follow();
}

async function pickSeason(seasonId) {
  view.seasonId = seasonId;
  if (!wide.matches) find("#seasons-panel").open = false;
  await showSeason();
}

async function showSeason() {
  const season = await seasons.one(view.seasonId);
  seasons.choose(view.seasonId);
  shown.season = season;
  shown.changedAt = season?.changedAt ? Date.parse(season.changedAt) : null;
  say(find("#season-name"), view.seasonId);
  document.title = `${view.seasonId} · Season leaderboard`;
  const state = find("#season-state");
  say(state, season?.state ?? "");
  state.dataset.state = season?.state ?? "";
  say(find("#season-rules"), season ? rulesOf(season) : "");
  const windows = season?.windows ?? false;
  find("#windows").hidden = !windows;
  if (!windows) view.window = "";
  find(`#windows input[value="${CSS.escape(view.window)}"]`)?.click();
  follow();
}

function rulesOf({ aggregation, order, endsAt }) {
  const how = { sum: "points add up", best: "best score counts", latest: "latest score counts" }[aggregation];
  const parts = [how, ...(order === "asc" ? ["lowest first"] : [])];
  if (endsAt) parts.push(`until ${new Date(endsAt).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })}`);
  return parts.join(" · ");
}

/** Follows the board that `view` says, from its beginning. */
function follow() {
  remember();
  shown.feed?.stop();
  if (!view.seasonId) return;
  shown.movements = new Movements(MARKS_MS);
  shown.top = null;
  rows.clear();
  find("#told").textContent = "";
  player.show({ ...view });
  state("starting");
  const limit = root.hasAttribute("data-wall") ? 10 : view.limit;
  const feed = new Feed({ ...view, limit }, { top: showTop, rank: (rank) => player.rank(rank), state });
  shown.feed = feed;
  feed.run();
}

function showTop(top) {
  const { items, totalPlayers } = top;
  const changed = shown.top !== null && JSON.stringify(shown.top) !== JSON.stringify(top);
  shown.top = top;
  if (changed) {
    shown.changedAt = Date.now();
    player.refresh();
  }
  show(changed);
  say(find("#total"), number(totalPlayers));
  say(find("#told"), items.length ? "" : "Nobody is on this board yet.");
  find("#board").hidden = items.length === 0;
}

/** Draws the last board; also without a change, so that marks of movement go as they age. */
function show(changed) {
  if (!shown.top) return;
  const { items } = shown.top;
  const moves = shown.movements.update(items, performance.now());
  const bars = shown.season?.order !== "asc" && items.every(({ score }) => score >= 0);
  rows.show(items, moves, { bars, mine: view.userId });
  if (changed) announce(items, moves);
}

/** For readers of a screen: what changed, in few words and not too often. */
function announce(items, moves) {
  const risen = items.filter(({ userId }) => moves.get(userId).gain || moves.get(userId).entered);
  if (!risen.length) return;
  const tell = () => {
    shown.pending = null;
    shown.announced = performance.now();
    const [first] = shown.top.items;
    if (!first) return;
    const others = risen.slice(0, 2).map(({ userId }) => {
      const now = shown.top.items.find((item) => item.userId === userId);
      return now ? `${userId} is ${number(now.rank)} with ${number(now.score)}` : "";
    });
    say(find("#announcement"), `${others.filter(Boolean).join(", ")}. First: ${first.userId}, ${number(first.score)}.`);
  };
  if (shown.pending) return;
  const left = shown.announced + ANNOUNCE_MS - performance.now();
  shown.pending = setTimeout(tell, Math.max(0, left));
}

function state(word, message = "") {
  const pill = find("#state");
  pill.dataset.state = word;
  say(pill, STATES[word]);
  if (word === "key") keys.ask(message);
  if (word === "live" || word === "polling") keys.done();
  if (word === "refused") {
    say(find("#told"), message);
    find("#board").hidden = true;
  }
}

function wall(on) {
  root.toggleAttribute("data-wall", on);
  find("#wall").setAttribute("aria-pressed", String(on));
  if (on) root.requestFullscreen?.().catch(() => {});
  else if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
  follow();
}

function tick() {
  const last = shown.changedAt;
  say(find("#changed"), last === null ? "never" : ago(last));
  show(false);
}

const wide = window.matchMedia("(min-width: 1100px)");
const openSeasons = () => (find("#seasons-panel").open = wide.matches);

async function begin() {
  await seasons.load();
  view.seasonId ??= seasons.latest()[0]?.seasonId ?? null;
  if (view.seasonId) await showSeason();
  else if (find("#key-panel").hidden) say(find("#told"), "No season yet: the first score makes one.");
}

openSeasons();
wide.addEventListener("change", openSeasons);
find("#limit").value = view.limit;
find("#limit").addEventListener("change", (event) => {
  view.limit = event.target.value;
  follow();
});
find("#windows").addEventListener("change", (event) => {
  view.window = event.target.value;
  follow();
});
find("#wall").addEventListener("click", () => wall(!root.hasAttribute("data-wall")));
find("#wall-leave").addEventListener("click", () => wall(false));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "w") wall(!root.hasAttribute("data-wall"));
  if (event.key === "Escape" && root.hasAttribute("data-wall")) wall(false);
  if (event.key === "/") {
    event.preventDefault();
    find("#player-id").focus();
  }
});
document.addEventListener("fullscreenchange", () => {
  if (!document.fullscreenElement && root.hasAttribute("data-wall")) wall(false);
});
if (asked.has("wall")) root.setAttribute("data-wall", "");
find("#wall").setAttribute("aria-pressed", String(asked.has("wall")));
setInterval(tick, 1000);
begin();
