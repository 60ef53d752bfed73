// Asking for a key where the service wants one.

import { find, say } from "/pages/elements.js";
import { key } from "/pages/requests.js";

/** Shows the form with what was told, until somebody gives a key; then `given` is called. */
export function keyForm(given) {
  const panel = find("#key-panel");
  const input = find("#key");
  const forget = find("#key-forget");
  const show = () => {
    forget.hidden = !key.get();
  };
  find("#key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key.set(input.value.trim());
    input.value = "";
    panel.hidden = true;
    show();
    given();
  });
  forget.addEventListener("click", () => {
    key.forget();
    location.reload();
  });
  show();
  return {
    ask(message) {
      const again = panel.hidden;
      panel.hidden = false;
      say(find("#key-told"), key.get() ? `That key does not do: ${message}` : message);
      if (again) input.focus();
    },
    done() {
      panel.hidden = true;
      show();
    },
  };
}
