// Light or dark: as the system has it, unless the user chose.
import { button } from "./dom.ts";

const DARK = matchMedia("(prefers-color-scheme: dark)");
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
  const isDark = theme === "dark" || (theme === "auto" && DARK.matches);
  document.documentElement.dataset["theme"] = isDark ? "dark" : "light";
  document.dispatchEvent(new Event(THEME_CHANGED));
}

/** Return the button that changes the theme. */
export function themeButton(): HTMLButtonElement {
  apply(chosen());
  DARK.addEventListener("change", () => apply(chosen()));
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
