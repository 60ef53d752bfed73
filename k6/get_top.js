// Measures reading the top of one board, as a page that everybody looks at does. post_scores.js fills that board.
//
//   BASE_URL   address of the service          http://127.0.0.1:8080
//   SEASON_ID  season that is read             load
//   LIMIT      players asked for, 1 to 1000    100
//   VUS        virtual users                   300
//   DURATION   how long                        60s
import { checkTop, count, FEW_FAILURES, Season, text } from "./seasons.js";

const season = new Season(text("SEASON_ID", "load"));
const limit = count("LIMIT", 100);

export const options = {
  vus: count("VUS", 300),
  duration: text("DURATION", "60s"),
  thresholds: { http_req_failed: FEW_FAILURES, http_req_duration: ["p(95)<80"] },
};

export default function () {
  checkTop(season.top(limit), season);
}
