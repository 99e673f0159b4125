// Error by layer: a heat map for each candidate, one row a layer, one column a linear.
import { caption, h, section } from "./dom.js";
import {
  figure,
  fixed,
  interval,
  isNumber,
  KINDS,
  kindFor,
  methodName,
  NONE,
  text,
} from "./format.js";
import { labelOf, swatch } from "./series.js";
import { sortableTable } from "./table.js";

const METRICS = {
  sqnr_db: { label: "SQNR, dB", kind: KINDS.decibels, badness: (v) => -v },
  kl_mean: { label: "KL divergence", kind: null, badness: (v) => (v > 0 ? Math.log10(v) : null) },
};
const STEPS = 9;

/** "model.layers.3.mlp.experts.7.up_proj" → layer 3, column "mlp.experts.*.up_proj". */
function place(name) {
  const found = /^(.*?)(?:^|\.)(?:layers|blocks|h|block)\.(\d+)\.(.*)$/.exec(name);
  if (!found) return { row: "\u2013", order: Infinity, column: name };
  const stack = /(encoder|decoder)/.exec(found[1])?.[1];
  const column = found[3].replace(/\.\d+\./g, ".*.");
  return {
    row: stack ? `${stack} ${found[2]}` : found[2],
    order: Number(found[2]) + (stack === "decoder" ? 1e6 : 0),
    column,
  };
}

/** The grid of a model: several linears at one place (experts) show as their worst. */
function gridOf(layers, metric) {
  const rows = new Map();
  const columns = new Map();
  for (const layer of layers) {
    const { row, order, column } = place(String(layer.name));
    if (!rows.has(row)) rows.set(row, { row, order, cells: new Map() });
    columns.set(column, columns.size);
    const cell = rows.get(row).cells.get(column) ?? { layer, count: 0 };
    cell.count += 1;
    if (worse(layer, cell.layer, metric)) cell.layer = layer;
    rows.get(row).cells.set(column, cell);
  }
  return {
    rows: [...rows.values()].sort((a, b) => a.order - b.order),
    columns: [...columns.keys()],
  };
}

function worse(a, b, metric) {
  const bad = (layer) => (isNumber(layer[metric]) ? METRICS[metric].badness(layer[metric]) : null);
  return (bad(a) ?? -Infinity) > (bad(b) ?? -Infinity);
}

/** "q_proj" where that is unambiguous. */
function shortNames(columns) {
  const last = columns.map((c) => c.split(".").at(-1));
  return columns.map((c, i) => (last.filter((l) => l === last[i]).length > 1 ? c : last[i]));
}

export function layersSection({ families }) {
  const blocks = families.map((family) => block(family, families.length > 1)).filter(Boolean);
  return blocks.length ? section("layers", "Error by layer", blocks) : null;
}

function block(family, named) {
  const maps = family.candidates.flatMap((candidate) =>
    candidate.models
      .filter((model) => Array.isArray(model.layers) && model.layers.length > 0)
      .slice(0, 1)
      .map((model) => ({
        candidate,
        model,
        layers: model.layers.filter((l) => l && typeof l === "object"),
      })),
  );
  if (maps.length === 0) return null;
  const all = maps.flatMap((m) => m.layers);
  const metrics = Object.keys(METRICS).filter((key) => all.some((layer) => isNumber(layer[key])));
  if (metrics.length === 0) return null;

  const holder = h("div", { class: "maps" });
  const key = h("div", { class: "key" });
  const shown = h("span");
  const show = (metric) => {
    const ramp = rampOf(all, metric);
    shown.textContent =
      metric === "sqnr_db"
        ? "signal-to-quantization-noise ratio of each linear\u2019s output in dB, more is better; = stands for an output that is exactly equal"
        : `KL divergence of the model with that linear alone compressed, in ${ramp.unit}, less is better`;
    key.replaceChildren(...keyOf(ramp));
    holder.replaceChildren(...maps.map((map) => heatMap(map, metric, ramp)));
  };
  const group = `metric-${family.baseline.sha256 ?? family.baseline.name}`;
  const radios = metrics.map((metric, i) =>
    h(
      "label",
      null,
      h("input", {
        type: "radio",
        name: group,
        value: metric,
        checked: i === 0,
        change: () => show(metric),
      }),
      ` ${METRICS[metric].label}`,
    ),
  );
  show(metrics[0]);
  return [
    named ? h("h3", null, String(family.baseline.name)) : null,
    metrics.length > 1
      ? h("fieldset", { class: "controls" }, h("legend", null, "Colour and numbers show"), radios)
      : null,
    key,
    h(
      "figure",
      null,
      holder,
      h(
        "figcaption",
        null,
        caption(
          "Figure",
          "Error by layer (rows) and linear (columns): ",
          shown,
          ". Equal colours are equal values in all maps. Point at a cell, or move with the arrow keys, for its details.",
        ),
      ),
    ),
    h("details", null, h("summary", null, "All numbers by layer"), maps.map(table)),
  ];
}

/** Nine equal steps between the best and the worst value of all candidates. */
function rampOf(layers, metric) {
  const { badness, kind } = METRICS[metric];
  const values = layers.map((l) => l[metric]).filter(isNumber);
  const bad = values.map(badness).filter((b) => b !== null);
  const low = Math.min(...bad);
  const high = Math.max(...bad);
  const step = (value) => {
    const b = badness(value);
    if (b === null) return 0;
    return high > low ? Math.min(STEPS - 1, Math.floor((STEPS * (b - low)) / (high - low))) : 0;
  };
  // KL divergences of single layers are small: the power of ten that leaves figures of some digits.
  const power = metric === "kl_mean" && bad.length ? 3 * Math.ceil((-(low + high) / 2 - 1) / 3) : 0;
  const unit = ["nats", "10\u207b\u00b3 nats", "10\u207b\u2076 nats", "10\u207b\u2079 nats"][
    Math.max(0, Math.min(3, power / 3))
  ];
  const scale = 10 ** Math.max(0, Math.min(9, power));
  return {
    metric,
    low,
    high,
    step,
    unit,
    kind: kind ?? { scale, unit: "", decimals: 2 },
    any: bad.length > 0,
  };
}

const shortNumber = (value, kind) => {
  const shown = value * kind.scale;
  return kind === KINDS.decibels
    ? kind.decimals
    : Math.max(0, 2 - Math.max(0, Math.floor(Math.log10(Math.max(Math.abs(shown), 1e-9)))));
};

function keyOf(ramp) {
  if (!ramp.any) return [];
  const end = (bad) => (ramp.metric === "sqnr_db" ? -bad : 10 ** bad);
  const say = (value) => fixed(value * ramp.kind.scale, shortNumber(value, ramp.kind));
  return [
    h("span", null, `better: ${say(end(ramp.low))}`),
    h(
      "span",
      { class: "ramp", "aria-hidden": "true" },
      Array.from({ length: STEPS }, (_, i) => h("i", { class: `h${i}` })),
    ),
    h(
      "span",
      null,
      `worse: ${say(end(ramp.high))} ${ramp.metric === "sqnr_db" ? "dB" : ramp.unit.replace(/^10/, "\u00d7 10")}`,
    ),
  ];
}

function describe(cell) {
  const { layer, count } = cell;
  const parts = [layer.name];
  if (count > 1) parts[0] += ` (the worst of ${count})`;
  if (Array.isArray(layer.shape)) parts.push(layer.shape.join(" \u00d7 "));
  parts.push(methodName(layer));
  parts.push(
    isNumber(layer.sqnr_db)
      ? `SQNR ${text(layer.sqnr_db, { scale: 1, unit: " dB", decimals: 2 })}`
      : "output exactly equal",
  );
  if (isNumber(layer.kl_mean)) {
    const ends = layer.kl_mean_ci;
    const known = Array.isArray(ends) && ends.every(isNumber);
    parts.push(
      `KL ${layer.kl_mean.toPrecision(3)}${known ? ` [${ends.map((e) => e.toPrecision(3)).join(", ")}]` : ""} nats`,
    );
  }
  return parts.join(" \u00b7 ");
}

function heatMap({ candidate, layers }, metric, ramp) {
  const grid = gridOf(layers, metric);
  const short = shortNames(grid.columns);
  const readout = h("output", { class: "readout" }, "\u00a0");
  const cells = [];
  const body = grid.rows.map((row, r) =>
    h(
      "tr",
      null,
      h("th", { scope: "row" }, row.row),
      grid.columns.map((column, c) => {
        const cell = row.cells.get(column);
        if (!cell) return h("td", { class: "empty" });
        const value = cell.layer[metric];
        const known = isNumber(value);
        const details = describe(cell);
        const say = () => {
          readout.textContent = details;
        };
        const element = h(
          "td",
          {
            class: known ? `h${ramp.step(value)}` : "h0",
            tabindex: cells.length ? -1 : 0,
            "data-row": r,
            "data-column": c,
            "aria-label": details,
            title: details,
            focus: say,
            mouseenter: say,
          },
          known
            ? figure(cell.layer, metric, { ...ramp.kind, decimals: shortNumber(value, ramp.kind) })
            : metric === "sqnr_db" && value === null
              ? "="
              : NONE,
        );
        cells.push(element);
        return element;
      }),
    ),
  );
  const table = h(
    "table",
    { class: "map", keydown: (event) => move(event, cells) },
    h("caption", null, swatch(candidate), labelOf(candidate)),
    h(
      "thead",
      null,
      h(
        "tr",
        null,
        h("th", { scope: "col" }, "layer"),
        short.map((name, i) =>
          h("th", { scope: "col", title: grid.columns[i] }, name.replace(/_proj$/, "")),
        ),
      ),
    ),
    h("tbody", null, body),
  );
  return h(
    "div",
    { class: "map-holder" },
    h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "heat map" }, table),
    readout,
  );
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** One stop of the tab key a map; arrows move between its cells. */
function move(event, cells) {
  const by = ARROWS[event.key];
  const from = event.target.closest("td[data-row]");
  if (!by || !from) return;
  const at = (cell) => [Number(cell.dataset.row), Number(cell.dataset.column)];
  const [row, column] = at(from);
  const to = cells.find((cell) => at(cell)[0] === row + by[0] && at(cell)[1] === column + by[1]);
  if (!to) return;
  event.preventDefault();
  from.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

function table({ candidate, model, layers }) {
  const kl = kindFor(
    "nats",
    layers.map((l) => l.kl_mean),
  );
  const positions = isNumber(model.layer_tokens)
    ? ["; KL over ", figure(model, "layer_tokens", "count"), " positions"]
    : [];
  return sortableTable({
    id: null,
    className: "figures",
    rows: layers.map((layer, order) => ({ layer, order })),
    caption: caption("Table", labelOf(candidate), ...positions, "."),
    columns: [
      {
        head: "Linear",
        header: true,
        sort: (row) => row.order,
        cell: (row) => String(row.layer.name),
      },
      {
        head: "Shape",
        sort: (row) => (row.layer.shape ?? []).reduce((a, b) => a * b, 1),
        cell: (row) => (row.layer.shape ?? []).join(" \u00d7 "),
      },
      {
        head: "Format",
        sort: (row) => methodName(row.layer),
        cell: (row) => methodName(row.layer),
      },
      {
        head: "SQNR, dB",
        numeric: true,
        sort: (row) => row.layer.sqnr_db ?? Infinity,
        cell: (row) =>
          row.layer.sqnr_db === null ? "exact" : figure(row.layer, "sqnr_db", "decibels"),
      },
      {
        head: "KL, nats",
        numeric: true,
        sort: (row) => row.layer.kl_mean ?? null,
        cell: (row) => [
          figure(row.layer, "kl_mean", kl),
          " ",
          interval(row.layer, "kl_mean_ci", kl),
        ],
      },
    ],
  });
}
