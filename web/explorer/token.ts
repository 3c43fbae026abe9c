// The question for a token, where the server needs one. It is kept until the tab is closed (api.ts).
import { h } from "./dom.ts";

/** Ask for a token. Return null if the user has none. */
export function askToken(reason: string): Promise<string | null> {
  return new Promise((done) => {
    const input = h("input", {
      type: "password",
      autocomplete: "off",
      required: true,
      "aria-label": "Token",
      minlength: 20,
    });
    const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: "token-title" }, "This atlas needs a token"),
      h("p", { class: "quiet" }, reason),
      h("p", {}, "The operator of the server gives tokens. Yours is kept until you close this tab."),
      input,
      h("div", { class: "row" }, h("button", { type: "submit", class: "primary", value: "token" }, "Continue"), cancel),
    );
    const dialog = h("dialog", { "aria-labelledby": "token-title" }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(dialog.returnValue === "token" && input.value.trim() ? input.value.trim() : null);
    });
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
}
