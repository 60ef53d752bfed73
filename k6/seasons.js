// The seasons API as the load scripts see it: the service's address, the paths, what an answer must hold, and a
// population of players to read about. Nothing here decides how much load there is.
import http from "k6/http";
import { check, fail, sleep } from "k6";

const BASE_URL = __ENV.BASE_URL || "http://127.0.0.1:8080";
const VISIBLE_WITHIN_SECONDS = 60;
const SEEDING_BATCH = 200;

// What a rate of failed requests or of passed checks is held to.
export const FEW_FAILURES = ["rate<0.01"];
export const ALMOST_ALL = ["rate>0.99"];

// Of reads, in milliseconds. p(99) because virtual users wait for an answer before they ask again: while the service
// hangs they ask little, and hiccups too short for p(95) to see would pass.
export const READS_IN_TIME = ["p(95)<100", "p(99)<200"];

export function count(name, fallback, highest = Infinity) {
  const given = __ENV[name] || String(fallback);
  if (!/^[1-9][0-9]*$/.test(given)) throw new Error(`${name}=${given}: a whole number above 0 is needed`);
  if (Number(given) > highest) throw new Error(`${name}=${given}: at most ${highest}`);
  return Number(given);
}

// Options of a script whose setup() seeds: left to itself k6 sends six requests at a time to one host.
export const SEEDING = { setupTimeout: "3m", batch: 100, batchPerHost: 100 };

// How many players a script reads about; each virtual user holds the list of them.
export function playerCount() {
  return count("PLAYERS", 1000, 100000);
}

export function text(name, fallback) {
  return __ENV[name] || fallback;
}

// One name per kind of request: a name per URL would be a time series per player.
function named(name, params = {}) {
  return { ...params, tags: { name } };
}

export class Season {
  constructor(seasonId, baseUrl = BASE_URL) {
    this.id = seasonId;
    this.url = `${baseUrl.replace(/\/+$/, "")}/v1/seasons/${seasonId}`;
  }

  addScore(userId, delta, key) {
    return http.post(...this.scoreRequest(userId, delta, key));
  }

  scoreRequest(userId, delta, key) {
    const headers = { "Content-Type": "application/json" };
    if (key) headers["Idempotency-Key"] = key;
    const params = named("scores", { headers });
    return [`${this.url}/scores`, JSON.stringify({ userId, delta }), params];
  }

  top(limit) {
    return http.get(`${this.url}/leaderboard/top?limit=${limit}`, named("top"));
  }

  rank(userId, params) {
    return http.get(...this.rankRequest(userId, params));
  }

  rankRequest(userId, params) {
    return [`${this.url}/leaderboard/rank?userId=${userId}`, named("rank", params)];
  }

  around(userId, range) {
    return http.get(`${this.url}/leaderboard/around?userId=${userId}&range=${range}`, named("around"));
  }

  empty() {
    const answer = http.del(this.url, null, named("reset"));
    if (answer.status !== 200) fail(`DELETE ${this.url} answered ${answer.status} ${answer.error || answer.body}`);
  }

  // The player's score, as soon as it is `least` or more.
  awaitScore(userId, least) {
    const params = { responseCallback: http.expectedStatuses(200, 404) };
    const deadline = Date.now() + VISIBLE_WITHIN_SECONDS * 1000;
    for (;;) {
      const { score = 0 } = parsed(this.rank(userId, params).body);
      if (score >= least || Date.now() > deadline) return score;
      sleep(0.2);
    }
  }

  // The first `size` players, p1 to p<size>, each with a score of its own. Those already on the board stay as they
  // are, so that a season can be measured again and again. Returns once all can be seen.
  populate(size) {
    const players = Array.from({ length: size }, (_, index) => ({ userId: `p${index + 1}`, score: index + 1 }));
    let missing = this.missing(players);
    inBatches(missing, ({ userId, score }) => ["POST", ...this.scoreRequest(userId, score)], [202]);
    const deadline = Date.now() + VISIBLE_WITHIN_SECONDS * 1000;
    while (missing.length > 0) {
      if (Date.now() > deadline) {
        fail(`${missing.length} of ${size} players are not on the board after ${VISIBLE_WITHIN_SECONDS} s`);
      }
      sleep(0.2);
      missing = this.missing(missing);
    }
    return players.map(({ userId }) => userId);
  }

  missing(players) {
    const params = { responseCallback: http.expectedStatuses(200, 404) };
    const request = ({ userId }) => {
      const [url, rankParams] = this.rankRequest(userId, params);
      return ["GET", url, null, rankParams];
    };
    const answers = inBatches(players, request, [200, 404]);
    return players.filter((_, index) => answers[index].status === 404);
  }
}

function inBatches(players, request, statuses) {
  const answers = [];
  for (let from = 0; from < players.length; from += SEEDING_BATCH) {
    answers.push(...http.batch(players.slice(from, from + SEEDING_BATCH).map(request)));
  }
  const odd = answers.find(({ status }) => !statuses.includes(status));
  if (odd) fail(`seeding: ${odd.request.method} ${odd.url} answered ${odd.status} ${odd.error || odd.body}`);
  return answers;
}

export function pick(list) {
  return list[Math.floor(Math.random() * list.length)];
}

export function checkQueued(answer) {
  check(answer, { "status is 202": ({ status }) => status === 202 });
}

export function checkReplayed(answer) {
  check(answer, {
    "status is 202": ({ status }) => status === 202,
    "it says that it was sent before": ({ headers }) => headers["Idempotent-Replayed"] === "true",
  });
}

export function checkCounted(score, keys) {
  check(score, { "every key counted once": (score) => score === keys });
}

export function checkTop(answer, season) {
  check(answer, {
    "status is 200": ({ status }) => status === 200,
    "content type is JSON": ({ headers }) => (headers["Content-Type"] || "").startsWith("application/json"),
    // A selector, not the whole body: parsing a hundred players would cost k6 more than the request itself.
    "season is the one asked for": (answer) => answer.status === 200 && answer.json("seasonId") === season.id,
  });
}

export function checkRank(answer, season, userId) {
  const { seasonId, userId: answeredId, rank, score } = parsed(answer.body);
  check(answer, {
    "status is 200": ({ status }) => status === 200,
    "season and player are those asked for": () => seasonId === season.id && answeredId === userId,
    "rank and score are whole numbers": () => Number.isInteger(rank) && rank >= 1 && Number.isInteger(score),
  });
}

export function checkAround(answer, season, userId, range) {
  const { seasonId, items = [] } = parsed(answer.body);
  check(answer, {
    "status is 200": ({ status }) => status === 200,
    "season is the one asked for": () => seasonId === season.id,
    "as many neighbours as asked for, at most": () => items.length <= 2 * range + 1,
    "player is among them": () => items.some((item) => item.userId === userId),
    "ranks rise by one, scores never rise": () =>
      items.every((item, index) => {
        const before = items[index - 1];
        return index === 0 || (item.rank === before.rank + 1 && item.score <= before.score);
      }),
  });
}

function parsed(body) {
  try {
    return JSON.parse(body) || {};
  } catch {
    return {};
  }
}
