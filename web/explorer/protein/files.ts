// Files that a page gives: fetched with the token where one is needed, or made here from what is shown.
import type { Api } from "../api.ts";
import { save } from "../copy.ts";
import { h } from "../dom.ts";

const STYLED = [
  "fill",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-linecap",
  "stroke-linejoin",
  "fill-opacity",
  "opacity",
  "font-size",
  "font-family",
  "image-rendering",
] as const; // prettier-ignore
const SVG_TYPE = "image/svg+xml";

export function saveText(text: string, name: string, type = "text/plain"): void {
  save(new Blob([text], { type: `${type};charset=utf-8` }), name);
}

/** Save a data URL, as of an image. */
export function saveData(url: string, name: string): void {
  const bytes = Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), (character) => character.charCodeAt(0));
  save(new Blob([bytes], { type: url.slice(5, url.indexOf(";")) }), name);
}

/** Return a link to a file of the server, which is fetched by `api` if it needs a token. */
export function fileLink(
  api: Api,
  label: string,
  path: string,
  name: string,
  report: (problem: string) => void,
): HTMLAnchorElement {
  return h(
    "a",
    {
      href: api.url(path),
      download: name,
      onclick: (event: MouseEvent) => {
        if (!api.needsToken) return;
        event.preventDefault();
        api
          .fetch(path)
          .then(async (response) => save(await response.blob(), name))
          .catch((error: Error) => report(error.message));
      },
    },
    label,
  );
}

/** Return a drawing as a file of its own: what the style sheet says of each element is written into the element. */
export function svgText(drawing: SVGSVGElement): string {
  const copy = drawing.cloneNode(true) as SVGSVGElement;
  const [own, copies] = [drawing, copy].map((one) => [one, ...one.querySelectorAll("*")] as Element[]) as [
    Element[],
    Element[],
  ];
  own.forEach((element, number) => {
    const style = getComputedStyle(element);
    for (const name of STYLED) copies[number]!.setAttribute(name, style.getPropertyValue(name));
    for (const name of ["class", "tabindex", "role", "aria-live"]) copies[number]!.removeAttribute(name);
  });
  const { width, height } = drawing.viewBox.baseVal;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", String(width));
  copy.setAttribute("height", String(height));
  return new XMLSerializer().serializeToString(copy);
}

export function saveSvg(drawing: SVGSVGElement, name: string): void {
  saveText(svgText(drawing), name, SVG_TYPE);
}
