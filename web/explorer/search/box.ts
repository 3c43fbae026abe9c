// The search box: an id opens its protein; a sequence is searched for, an identical one is found at once.
import { ApiError } from "../api.ts";
import type { Context } from "../context.ts";
import { button, h } from "../dom.ts";
import { printable } from "../format.ts";
import type { Job } from "./model.ts";
import { isSequence, sequenceOf } from "./query.ts";

interface Found {
  readonly items: readonly { readonly id: string; readonly source: string; readonly structure_id: string }[];
}

export function searchBox(context: Context): HTMLElement {
  const { api, store } = context;
  const input = h("input", {
    type: "search",
    name: "search",
    placeholder: "Id, MGYP accession or sequence",
    "aria-label": "Search by id or sequence",
    autocomplete: "off",
    spellcheck: "false",
    enterkeyhint: "search",
  });
  const answer = h("div", { class: "search-answer", role: "status", hidden: true });
  const form = h("form", { role: "search", class: "search" }, input, h("button", { type: "submit" }, "Search"), answer);

  const tell = (...children: (Node | string)[]) => {
    answer.replaceChildren(...children);
    answer.hidden = children.length === 0;
  };
  const open = (name: string) => {
    tell();
    input.value = "";
    store.change({ protein: name, view: { search: null } });
  };

  async function byName(name: string): Promise<void> {
    const { items } = await api.json<Found>(`v1/proteins/${encodeURIComponent(name)}`);
    const first = items[0];
    if (!first) return tell("No protein has this name.");
    if (items.length === 1) return open(first.id);
    const links = items.slice(0, 20).map((one) => {
      const unique = `${one.source}:${one.id}`;
      return h(
        "li",
        {},
        button(h("bdi", {}, printable(unique)), () => open(unique), { class: "plain" }),
      );
    });
    tell(`${items.length} records have this name:`, h("ul", {}, ...links));
  }

  async function bySequence(sequence: string): Promise<void> {
    try {
      const job = await api.json<Job>("v1/searches", { body: { kind: "sequence", sequence } });
      tell();
      store.change({ protein: null, view: { search: job.id } });
    } catch (error) {
      // Where searches are off, an identical sequence can still be found.
      if (!(error instanceof ApiError) || ![401, 403, 404, 405, 503].includes(error.status)) throw error;
      await exactly(sequence, error.message);
    }
  }

  async function exactly(sequence: string, reason: string): Promise<void> {
    try {
      const found = await api.json<{ entry: { checksum: string } }>("api/sequence/summary", {
        query: { id: sequence },
      });
      open(found.entry.checksum);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      tell(`No structure has exactly this sequence, and similar ones cannot be searched for: ${reason}`);
    }
  }

  input.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text") ?? "";
    if (!text.trim().startsWith(">") || !isSequence(text)) return;
    event.preventDefault(); // an input would join the header and the sequence
    input.value = sequenceOf(text);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text) return;
    tell("Searching…");
    const work = isSequence(text) ? bySequence(sequenceOf(text)) : byName(text);
    work.catch((error: unknown) => {
      const missing = error instanceof ApiError && error.status === 404;
      tell(missing ? `Not found: ${error.message}` : error instanceof Error ? error.message : String(error));
    });
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") tell();
  });
  return form;
}
