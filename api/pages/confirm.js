// Asking before what can't be taken back.

import { find, say } from "/pages/elements.js";

/** Whether somebody says yes to the question. */
export function confirmed(question, told, yes) {
  const dialog = find("#confirm");
  say(find("#confirm-heading"), question);
  say(find("#confirm-told"), told);
  say(find("#confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
