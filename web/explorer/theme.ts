// Light or dark: as the system has it, unless the user chose.
import { button } from "./dom.ts";

const KEY = "foldatlas-theme";
const THEMES = ["auto", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];
const LABELS: Record<Theme, string> = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };

/** Sent to the document when colours have changed, so that canvases draw themselves again. */
export const THEME_CHANGED = "themechange";

function chosen(): Theme {
  const stored = localStorage.getItem(KEY);
  return THEMES.find((theme) => theme === stored) ?? "auto";
}

function apply(theme: Theme): void {
  if (theme === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
  document.dispatchEvent(new Event(THEME_CHANGED));
}

/** Return the button that changes the theme. */
export function themeButton(): HTMLButtonElement {
  apply(chosen());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(chosen()));
  const made = button(
    LABELS[chosen()],
    () => {
      const next = THEMES[(THEMES.indexOf(chosen()) + 1) % THEMES.length]!;
      localStorage.setItem(KEY, next);
      apply(next);
      made.textContent = LABELS[next];
    },
    { class: "plain" },
  );
  return made;
}
