// Which theme: the reader's choice, else the system's. Runs before anything is drawn, so that nothing flashes.
(() => {
  const NAME = "leaderboard.theme";
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => localStorage.getItem(NAME);
  const shown = () => chosen() ?? (system.matches ? "dark" : "light");

  function show() {
    root.dataset.theme = shown();
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.setAttribute("aria-pressed", String(shown() === "dark"));
    }
  }

  show();
  system.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", () => {
    show();
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.addEventListener("click", () => {
        localStorage.setItem(NAME, shown() === "dark" ? "light" : "dark");
        show();
      });
    }
  });
})();
