// Measures everyday traffic: nine reads (top, rank or around, by turns of chance) to one score, all about a population
// that is seeded first, so that the board does not grow.
//
//   BASE_URL   address of the service          http://127.0.0.1:8080
//   SEASON_ID  season in use                   load-players
//   PLAYERS    players on the board            1000
//   VUS        virtual users                   25
//   DURATION   how long                        30s
import { ALMOST_ALL, count, FEW_FAILURES, pick, playerCount, READS_IN_TIME, Season, SEEDING, text } from "./seasons.js";
import { checkAround, checkQueued, checkRank, checkTop } from "./seasons.js";

const season = new Season(text("SEASON_ID", "load-players"));
const WRITE_SHARE = 0.1;
const RANGE = 5;
const LIMIT = 10;

const readers = [
  () => checkTop(season.top(LIMIT), season),
  (userId) => checkRank(season.rank(userId), season, userId),
  (userId) => checkAround(season.around(userId, RANGE), season, userId, RANGE),
];

export const options = {
  vus: count("VUS", 25),
  duration: text("DURATION", "30s"),
  ...SEEDING,
  // scenario:default leaves out what the seeding sends.
  thresholds: {
    checks: ALMOST_ALL,
    "http_req_failed{scenario:default}": FEW_FAILURES,
    "http_req_duration{scenario:default,name:top}": READS_IN_TIME,
    "http_req_duration{scenario:default,name:rank}": READS_IN_TIME,
    "http_req_duration{scenario:default,name:around}": READS_IN_TIME,
    "http_req_duration{scenario:default,name:scores}": ["p(95)<200"],
  },
};

export function setup() {
  return season.populate(playerCount());
}

export default function (players) {
  const userId = pick(players);
  if (Math.random() < WRITE_SHARE) {
    checkQueued(season.addScore(userId, 1 + Math.floor(Math.random() * 100)));
  } else {
    pick(readers)(userId);
  }
}
