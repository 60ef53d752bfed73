// k6: sends the requests of a file over and over, as bench/replay.lua does with wrk. bench/traffic.py writes the file.
//
//   BASE_URL    address of the service
//   REQUESTS    the file
//   KEY_PREFIX  unless empty: each request gets an Idempotency-Key of its own
//   VUS, DURATION
import { SharedArray } from "k6/data";
import exec from "k6/execution";
import http from "k6/http";
import { Counter } from "k6/metrics";

const requests = new SharedArray("requests", () => open(__ENV.REQUESTS).trimEnd().split("\n"));
const writes = new Counter("writes");
const prefix = __ENV.KEY_PREFIX || "";

export const options = {
  vus: Number(__ENV.VUS),
  duration: __ENV.DURATION,
  discardResponseBodies: true,
  summaryTrendStats: ["p(50)", "p(90)", "p(95)", "p(99)"],
};

export default function () {
  const at = (exec.vu.iterationInScenario * options.vus + exec.vu.idInTest) % requests.length;
  const [method, path, body] = requests[at].split("\t");
  const headers = body ? { "Content-Type": "application/json" } : {};
  if (prefix) headers["Idempotency-Key"] = `${prefix}-${exec.vu.idInTest}-${exec.vu.iterationInScenario}`;
  // One name for all: a name per URL would be a time series per player.
  http.request(method, __ENV.BASE_URL + path, body || null, { headers, tags: { name: "replay" } });
  if (method !== "GET") writes.add(1);
}

export function handleSummary(data) {
  const { http_reqs, http_req_failed, http_req_duration } = data.metrics;
  const written = data.metrics.writes ? data.metrics.writes.values.count : 0;
  const { count } = http_reqs.values;
  const latency = http_req_duration.values;
  return {
    stdout: JSON.stringify({
      requests: count,
      seconds: count / http_reqs.values.rate,
      errors: http_req_failed.values.passes,
      reads: count - written,
      writes: written,
      latency_ms: { p50: latency["p(50)"], p90: latency["p(90)"], p95: latency["p(95)"], p99: latency["p(99)"] },
    }),
  };
}
