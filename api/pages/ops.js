// The page on /ops: figures every two seconds, and what an operator does about them.

import { element, find, say } from "/pages/elements.js";
import { number, rough, span } from "/pages/format.js";
import { keyForm } from "/pages/key_form.js";
import { FailedEvents } from "/pages/ops_failed.js";
import { Work } from "/pages/ops_work.js";
import { Refusal, ask } from "/pages/requests.js";
import { Spark } from "/pages/spark.js";

const POLL_MS = 2000;
const KEPT = 150; // five minutes

const keys = keyForm(() => turn());
const failed = new FailedEvents(trouble);
new Work(trouble);
const pendingLine = new Spark(find("#pending-line"), KEPT);
const rateLine = new Spark(find("#rate-line"), KEPT);
let timer;

function trouble(error) {
  if (!(error instanceof Refusal)) throw error;
  if (error.wantsKey) {
    find("#figures").hidden = true;
    keys.ask(error.message);
    return;
  }
  if (error.status === 0 || error.status === 503) state("waiting", "No answer");
}

function state(word, text) {
  find("#state").dataset.state = word;
  say(find("#state"), text);
}

function showGauge(gauge) {
  const { pending, pendingExact, oldestPendingSeconds: oldest, acceptedPerSecond, donePerSecond } = gauge;
  say(find("#pending"), `${pendingExact ? "" : "≤ "}${number(pending)}`);
  say(find("#oldest"), oldest === null ? "Boards show every score" : `The oldest for ${span(oldest)}`);
  say(find("#done-rate"), rough(donePerSecond));
  say(find("#accepted-rate"), `${rough(acceptedPerSecond)} accepted per second`);
  say(find("#failed-count"), number(gauge.failed));
  find("#failed-count").dataset.some = gauge.failed > 0;
  const reasons = gauge.failedByReason.slice(0, 2);
  find("#reasons").replaceChildren(
    ...(reasons.length ? reasons.map((one) => element("li", {}, `${number(one.events)} × ${one.reason}`)) : [element("li", {}, "Nothing to do")]),
  );
  pendingLine.add(pending);
  rateLine.add(donePerSecond);
  failed.heard(gauge);
}

function showActivity({ sessions, lastBatchSeconds }) {
  say(find("#last-batch"), lastBatchSeconds === null ? "No season ever changed" : `A season changed ${span(lastBatchSeconds)} ago`);
  const seconds = (value) => (value === null ? "–" : span(value));
  find("#sessions").replaceChildren(
    ...sessions.map((one) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, one.process),
        element("td", {}, one.address),
        ...[number(one.connections), number(one.busy), number(one.blocked), seconds(one.transactionSeconds), seconds(one.quietSeconds)].map(
          (text) => element("td", { class: "right number" }, text),
        ),
      ),
    ),
  );
}

async function showReadiness() {
  const response = await fetch("/readyz", { cache: "no-store", credentials: "omit" }).catch(() => null);
  const found = response ? await response.json().catch(() => ({})) : {};
  const ready = response?.status === 200;
  say(find("#ready"), ready ? "Yes" : "No");
  find("#ready").dataset.ready = ready;
  const parts = ["postgres", "redis", "schema"].map((part) => [part, found[part] ?? "unknown"]);
  const workers = find("#sessions").querySelectorAll("tr").length ? workersSeen() : null;
  if (workers !== null) parts.push(["worker", workers ? "ok" : "down"]);
  find("#ready-parts").replaceChildren(
    ...parts.map(([part, how]) =>
      element("li", {}, element("span", { class: "pill", "data-state": how === "ok" ? "ok" : "down" }, how === "ok" ? part : `${part}: ${how}`)),
    ),
  );
}

function workersSeen() {
  return [...find("#sessions").querySelectorAll("th")].some((cell) => cell.textContent === "worker");
}

async function turn() {
  clearTimeout(timer);
  try {
    if (!document.hidden || pendingLine.values.length === 0) {
      const gauge = await ask("/v1/ops/outbox");
      find("#figures").hidden = false;
      keys.done();
      showGauge(gauge);
      showActivity(await ask("/v1/ops/activity"));
      await showReadiness();
      state("live", "Live");
    }
  } catch (error) {
    trouble(error);
    if (error.wantsKey) return;
    await showReadiness();
  }
  timer = setTimeout(turn, POLL_MS);
}

turn();
