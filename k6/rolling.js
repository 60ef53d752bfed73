// Shows that restarts one after the other lose nothing: sends scores, each with an Idempotency-Key of its own, and reads
// to one of several API processes, and whatever that one does not answer to the next, as a gateway does. Goes on until
// player `stop` is on the board, so that whoever restarts the processes says when it is over:
//   curl -d '{"userId":"stop","delta":1}' -H 'content-type: application/json' $BASE_URL/v1/seasons/load-rolling/scores
//
//   BASE_URLS  addresses, with commas between  http://127.0.0.1:8080
//   SEASON_ID  season that takes the scores    load-rolling, emptied first
//   VUS        virtual users                   50
//   PAUSE_MS   between requests, on average    50
//   RETRIES    as a gateway sends again        3, or none
//   KEYS       whether scores have them        yes, or no
import http from "k6/http";
import exec from "k6/execution";
import { check, sleep } from "k6";
import { Counter, Rate } from "k6/metrics";
import { count, Season, text } from "./seasons.js";

const seasonId = text("SEASON_ID", "load-rolling");
const seasons = text("BASE_URLS", "http://127.0.0.1:8080")
  .split(",")
  .map((url) => new Season(seasonId, url));
const PAUSE_SECONDS = count("PAUSE_MS", 100) / 1000;
const RETRIES = text("RETRIES", "3") === "none" ? 0 : count("RETRIES", 3);
const KEYED = text("KEYS", "yes") === "yes";
const PLAYERS = 1000;
const UNANSWERED = [0, 502, 503, 504];

const lost = new Rate("requests_lost");
const accepted = new Counter("scores_accepted");
const sentAgain = new Counter("requests_sent_again");

export const options = {
  scenarios: { default: { executor: "per-vu-iterations", vus: count("VUS", 50), iterations: 1, maxDuration: "1h" } },
  // Not http_req_failed: what another process answered instead is no failure.
  thresholds: { requests_lost: ["rate==0"], checks: ["rate==1"] },
};

// The time makes the keys those of this run: the service still knows yesterday's.
export function setup() {
  seasons[0].empty();
  return Date.now().toString(36);
}

const expects404 = { responseCallback: http.expectedStatuses(200, 404) };

// What this user does by turns: [the request to a season at one of its addresses, the statuses that answer it].
const turns = [
  (key) => {
    const userId = `p${1 + Math.floor(Math.random() * PLAYERS)}`;
    const delta = 1 + Math.floor(Math.random() * 100);
    return [(season) => season.addScore(userId, delta, KEYED ? key : undefined), [202]];
  },
  () => [(season) => season.top(10), [200]],
  () => [(season) => season.rank("stop", expects404), [200, 404]],
];

export default function (run) {
  let stopped = false;
  for (let number = exec.vu.idInTest; !stopped; number += 1) {
    const turn = number % turns.length;
    const [send, expected] = turns[turn](`${run}-${exec.vu.idInTest}-${number}`);
    const answer = answerOf(send, number);
    const answered = expected.includes(answer.status);
    lost.add(!answered);
    if (!answered) console.warn(`${answer.request.method} ${answer.url}: ${answer.status} ${answer.error || answer.body}`);
    if (turn === 0 && answered) accepted.add(1);
    stopped = turn === 2 && answer.status === 200;
    sleep(2 * Math.random() * PAUSE_SECONDS);
  }
  check(stopped, { "went on until it was stopped": (stopped) => stopped });
}

function answerOf(send, number) {
  const first = Math.floor(number / turns.length); // every address gets all kinds
  let answer;
  for (let tries = 0; tries <= RETRIES; tries += 1) {
    if (tries > 0) sentAgain.add(1);
    answer = send(seasons[(first + tries) % seasons.length]);
    if (!UNANSWERED.includes(answer.status)) break;
  }
  return answer;
}
