// Numbers and times as people read them.

const WHOLE = new Intl.NumberFormat("en");
const ROUGH = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const SIGNED = new Intl.NumberFormat("en", { signDisplay: "always" });

export const number = (value) => WHOLE.format(value);
export const rough = (value) => ROUGH.format(value);
export const signed = (value) => SIGNED.format(value);
export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

/** A span of time, short: 0.4 s, 12 s, 5 min, 3 h, 2 d. */
export function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function ago(milliseconds) {
  const seconds = (Date.now() - milliseconds) / 1000;
  return seconds < 2 ? "just now" : `${span(Math.floor(seconds)).replace(".0", "")} ago`;
}

export const clock = (moment) => moment.toISOString().slice(0, 19).replace("T", " ") + "Z";
