// Elements made by code. Text is only ever set as text: nothing of an atlas becomes markup.

export type Child = Node | string | number | null | undefined | false;
type Listener = (event: never) => void;
export type Attributes = Record<string, string | number | boolean | null | undefined | Listener>;

const SVG = "http://www.w3.org/2000/svg";
const LINKS = new Set(["href", "src", "action", "formaction", "xlink:href"]);

/** Return a URL if a link may have it, else "#": relative, http(s), blob or an image as data. */
export function safeUrl(url: string): string {
  if (/^(https?:\/\/|blob:|data:(image\/(png|svg\+xml)|,))/i.test(url)) return url;
  const scheme = url.replaceAll(/[\s\p{Cc}]/gu, "").match(/^[^/?#]*:/);
  return scheme ? "#" : url;
}

function fill(element: Element, attributes: Attributes, children: Child[]): void {
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.append(typeof child === "number" ? String(child) : child);
  }
}

function setAttribute(element: Element, name: string, value: Attributes[string]): void {
  if (value === null || value === undefined || value === false) return;
  if (typeof value === "function") element.addEventListener(name.slice(2), value as EventListener);
  else if (/^on/i.test(name)) throw new Error(`${name} must be a function`);
  else if (value === true) element.setAttribute(name, "");
  else element.setAttribute(name, LINKS.has(name) ? safeUrl(String(value)) : String(value));
}

/** Return an HTML element. Attributes `onNAME` are listeners of events; null, undefined and false leave one out. */
export function h<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  fill(element, attributes, children);
  return element;
}

/** Return an SVG element. */
export function svg<Name extends keyof SVGElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[Name] {
  const element = document.createElementNS(SVG, name);
  fill(element, attributes, children);
  return element;
}

/** Return a button that is no submit button. */
export function button(label: Child, press: () => void, attributes: Attributes = {}): HTMLButtonElement {
  return h("button", { type: "button", onclick: press, ...attributes }, label);
}
