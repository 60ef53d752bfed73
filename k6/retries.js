// Measures what impatient clients do to writing: each score has an Idempotency-Key and is sent again at once, with a
// probability of a half, then a quarter, and so on. In the end every player's score must be its number of keys.
// The rate in the table of k6/run is that of keys; on average two requests are sent for each.
//
//   BASE_URL   address of the service          http://127.0.0.1:8080
//   SEASON_ID  season that takes the scores    load-retries, emptied first
//   VUS        virtual users, each a player    50
//   KEYS       keys that each user uses        300
import exec from "k6/execution";
import { checkCounted, checkQueued, checkReplayed, count, FEW_FAILURES, Season, text } from "./seasons.js";

const season = new Season(text("SEASON_ID", "load-retries"));
const KEYS = count("KEYS", 300);

export const options = {
  scenarios: {
    default: { executor: "per-vu-iterations", vus: count("VUS", 50), iterations: KEYS, maxDuration: "10m" },
  },
  thresholds: { checks: ["rate==1"], http_req_failed: FEW_FAILURES, "http_req_duration{name:scores}": ["p(95)<200"] },
};

// The time makes the keys those of this run: the service still knows yesterday's.
export function setup() {
  season.empty();
  return Date.now().toString(36);
}

export default function (run) {
  const userId = `r${exec.vu.idInTest}`;
  const used = exec.vu.iterationInScenario + 1;
  const key = `${run}-${userId}-${used}`;
  checkQueued(season.addScore(userId, 1, key));
  if (used < KEYS) {
    while (Math.random() < 0.5) checkReplayed(season.addScore(userId, 1, key));
  } else {
    checkCounted(season.awaitScore(userId, used), used);
  }
}
