// Measures reading a player with its neighbours, each time another player of a population that is seeded first.
//
//   BASE_URL   address of the service              http://127.0.0.1:8080
//   SEASON_ID  season that is read                 load-players
//   PLAYERS    players on the board                1000
//   RANGE      neighbours on each side, 1 to 100   5
//   VUS        virtual users                       25
//   DURATION   how long                            30s
import { ALMOST_ALL, count, FEW_FAILURES, pick, playerCount, READS_IN_TIME, Season, SEEDING, text } from "./seasons.js";
import { checkAround } from "./seasons.js";

const season = new Season(text("SEASON_ID", "load-players"));
const range = count("RANGE", 5);

export const options = {
  vus: count("VUS", 25),
  duration: text("DURATION", "30s"),
  ...SEEDING,
  // scenario:default leaves out what the seeding sends.
  thresholds: {
    checks: ALMOST_ALL,
    "http_req_failed{scenario:default}": FEW_FAILURES,
    "http_req_duration{scenario:default}": READS_IN_TIME,
  },
};

export function setup() {
  return season.populate(playerCount());
}

export default function (players) {
  const userId = pick(players);
  checkAround(season.around(userId, range), season, userId, range);
}
