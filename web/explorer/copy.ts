// Copying text, and saving files.
import { button, h } from "./dom.ts";

const SHOWN = 2000; // milliseconds for which a button shows that it worked

/** Return a button that copies a text. */
export function copyButton(label: string, text: () => string): HTMLButtonElement {
  const made = button(label, () => void copy(), { class: "copy", "aria-live": "polite" });
  async function copy(): Promise<void> {
    made.textContent = (await copied(text())) ? "Copied" : "Not copied: the browser forbids it";
    setTimeout(() => {
      made.textContent = label;
    }, SHOWN);
  }
  return made;
}

async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedBySelection(text); // without https the clipboard is not available
  }
}

function copiedBySelection(text: string): boolean {
  const area = h("textarea", { class: "offscreen" });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const worked = document.execCommand("copy");
  area.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return worked;
}

/** Let the browser save a file. */
export function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
