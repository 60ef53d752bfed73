// Measures writing: every virtual user posts one score after the other, each for a player never seen before.
//
//   BASE_URL   address of the service          http://127.0.0.1:8080
//   SEASON_ID  season that takes the scores    load
//   VUS        virtual users                   100
//   DURATION   how long                        30s
import { checkQueued, count, FEW_FAILURES, Season, text } from "./seasons.js";

const season = new Season(text("SEASON_ID", "load"));

export const options = {
  vus: count("VUS", 100),
  duration: text("DURATION", "30s"),
  thresholds: { http_req_failed: FEW_FAILURES, http_req_duration: ["p(95)<200"] },
};

export default function () {
  checkQueued(season.addScore(`u${__VU}-${__ITER}`, 1));
}
