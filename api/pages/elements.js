// Making elements. Text is only ever set as text: ids and reasons come from strangers.

/** An element with classes, properties and attributes (those with a dash), and children: nodes or text. */
export function element(name, { class: classes, ...given } = {}, ...children) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  for (const [key, value] of Object.entries(given)) {
    if (key.includes("-") || !(key in made)) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

export const find = (selector) => document.querySelector(selector);

/** Sets text only where it changes: readers of a screen are told of every change. */
export function say(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

export const still = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;
