// Tables that sort: buttons in the column heads, aria-sort, the first order restored by the third
// click. Each table scrolls inside its own container, never the page.
import { h } from "./dom.js";

const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

/**
 * columns: [{head, title, numeric, sort(row) → number | string | null, cell(row) → Node | text,
 *            header}]; a column with `header` names its row. rows: any objects.
 */
export function sortableTable({ id, caption, columns, rows, rowClass, className = "" }) {
  const body = h("tbody");
  const heads = columns.map((column, i) =>
    h(
      "th",
      { scope: "col", class: column.numeric ? "num" : null, "aria-sort": "none" },
      h(
        "button",
        { type: "button", title: column.title, click: () => sortBy(i) },
        h("span", null, column.head),
        h("span", { class: "arrow", "aria-hidden": "true" }),
      ),
    ),
  );
  const made = rows.map((row) => ({
    element: h(
      "tr",
      { class: rowClass?.(row) },
      columns.map((column) =>
        h(
          column.header ? "th" : "td",
          {
            scope: column.header ? "row" : null,
            class:
              [column.numeric ? "num" : "", column.cellClass?.(row) ?? ""].join(" ").trim() || null,
          },
          column.cell(row),
        ),
      ),
    ),
    keys: columns.map((column) => column.sort?.(row) ?? null),
  }));

  function sortBy(index) {
    const order = NEXT[heads[index].getAttribute("aria-sort")];
    heads.forEach((head, i) => head.setAttribute("aria-sort", i === index ? order : "none"));
    const sign = order === "descending" ? -1 : 1;
    const sorted =
      order === "none"
        ? made
        : made.toSorted((a, b) => compare(a.keys[index], b.keys[index], sign));
    body.append(...sorted.map((row) => row.element));
  }

  body.append(...made.map((row) => row.element));
  const table = h(
    "table",
    { id, class: className },
    h("caption", null, caption),
    h("thead", null, h("tr", null, heads)),
    body,
  );
  return scrolled(table);
}

// Absent values stay last in both directions.
function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "string" || typeof b === "string") {
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  }
  return sign * (a - b);
}

/** A table in a container that scrolls sideways, and can be reached by keyboard to do so. */
export function scrolled(table) {
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "table" }, table);
}
