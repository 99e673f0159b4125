// Elements without innerHTML: every text, and the names in a report are anybody's text, becomes a
// text node.

/**
 * Without the characters that turn the direction of the text around them: a file's name must not be
 * able to rearrange what stands beside it.
 */
export const clean = (text) =>
  String(text).replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");

/** h("td", {class: "num", "aria-sort": "none"}, "text", element, null …); functions are listeners. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else
      element.setAttribute(
        name,
        value === true ? "" : name === "title" ? clean(value) : String(value),
      );
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : clean(child));
  }
}

let captions = { Table: 0, Figure: 0 };

/** "Table 3." and so on, counted over the whole page; and the id by which it can be linked. */
export function caption(kind, ...text) {
  return [h("b", null, `${kind} ${++captions[kind]}. `), ...text];
}

/** Children under a heading that a screen reader can list. */
export function section(id, title, ...children) {
  return h(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    h("h2", { id: `${id}-title` }, title),
    children,
  );
}
