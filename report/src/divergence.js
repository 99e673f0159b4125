// How far the predictions move: the distribution of KL divergence over tokens, and where it is.
import { areaY, dot, lineY, ruleX, ruleY } from "@observablehq/plot";
import { chart, logDomain, logTicks } from "./chart.js";
import { caption, clean, h, section } from "./dom.js";
import { figure, isNumber, kindFor, methodName, standardError } from "./format.js";
import { colourOf, dashOf, labelOf, legend, swatch, symbolOf } from "./series.js";
import { sortableTable } from "./table.js";

const Z = 1.96;

export function divergenceSection({ settings, families }) {
  const blocks = settings
    .filter((s) => s.perplexity)
    .flatMap((setting) =>
      families.map((family) => familyBlock(setting, family, settings, families)),
    )
    .filter(Boolean);
  return blocks.length ? section("divergence", "Divergence from the baseline", blocks) : null;
}

function familyBlock(setting, family, settings, families) {
  const rows = setting.rows.filter((row) => row.family === family);
  const parts = [histograms(rows), percentiles(rows, setting), slices(rows)].filter(Boolean);
  if (parts.length === 0) return null;
  const many = families.length > 1 || settings.filter((s) => s.perplexity).length > 1;
  return [
    many
      ? h("h3", null, families.length > 1 ? `${family.baseline.name}: ` : "", setting.title)
      : null,
    parts,
  ];
}

// --- The histogram ---------------------------------------------------------------------------

/** Steps of density a decade, so that bins of any width compare. */
function stepsOf(histogram) {
  const { edges, counts } = histogram ?? {};
  if (
    !Array.isArray(edges) ||
    !Array.isArray(counts) ||
    edges.length !== counts.length + 1 ||
    counts.length < 2
  )
    return null;
  const total = counts.reduce((a, b) => a + b, 0);
  if (!(total > 0) || !(edges[1] > 0)) return null;
  // The first bin begins at 0, which no log axis has: it is drawn as wide as the second.
  const at = (i) => (i === 0 && !(edges[0] > 0) ? edges[1] ** 2 / edges[2] : edges[i]);
  const bins = counts.map((count, i) => ({
    from: at(i),
    to: at(i + 1),
    count,
    density: count / total / Math.log10(at(i + 1) / at(i)),
  }));
  const first = bins.findIndex((bin) => bin.count > 0);
  const last = bins.findLastIndex((bin) => bin.count > 0);
  // A candidate that equals its baseline has no distribution to show.
  if (last === 0) return null;
  return bins.slice(Math.max(0, first - 1), last + 2);
}

function histograms(rows) {
  const drawn = rows
    .map((row) => ({ row, bins: stepsOf(row.result.kl_histogram) }))
    .filter((d) => d.bins);
  if (drawn.length === 0) return null;
  const points = drawn.map(({ row, bins }) => ({
    row,
    line: [
      { x: bins[0].from, y: 0 },
      ...bins.flatMap((b) => [
        { x: b.from, y: b.density },
        { x: b.to, y: b.density },
      ]),
      { x: bins.at(-1).to, y: 0 },
    ],
  }));
  const low = Math.min(...drawn.map((d) => d.bins[0].from));
  const high = Math.max(...drawn.map((d) => d.bins.at(-1).to));
  const medians = rows.filter((row) => row.result.kl_median > 0);
  const drawing = chart(
    "Distribution of KL divergence over tokens, a line for each candidate",
    (width) => ({
      height: Math.round(Math.min(380, Math.max(260, width * 0.36))),
      marginLeft: 52,
      marginRight: 16,
      marginTop: 28,
      marginBottom: 40,
      x: {
        type: "log",
        domain: [low, high],
        label: "KL divergence of a token, nats \u2192",
        ...spaced(low, high, width),
      },
      y: {
        grid: true,
        label: "\u2191 share of tokens per decade, %",
        ticks: 5,
        transform: (d) => 100 * d,
      },
      marks: [
        ruleY([0], { stroke: "currentColor", strokeOpacity: 0.7 }),
        ...points.flatMap(({ row, line }) => [
          areaY(line, { x: "x", y1: 0, y2: "y", fill: colourOf(row.candidate), fillOpacity: 0.07 }),
          lineY(line, { x: "x", y: "y", stroke: colourOf(row.candidate), strokeWidth: 1.75 }),
        ]),
        ...medians.map((row) =>
          dot([row], {
            x: () => row.result.kl_median,
            y: 0,
            symbol: symbolOf(row.candidate),
            fill: colourOf(row.candidate),
            stroke: "var(--paper)",
            r: 5,
            clip: false,
          }),
        ),
      ],
    }),
  );
  return h(
    "figure",
    null,
    legend(rows.map((row) => row.candidate)),
    drawing.element,
    h(
      "figcaption",
      null,
      caption(
        "Figure",
        "KL divergence over tokens; the symbol on the axis is the median. The leftmost step holds all that is smaller.",
      ),
    ),
  );
}

/** Every second power of ten where there is little room. */
function spaced(low, high, width) {
  const { ticks, tickFormat } = logTicks(low, high);
  const stride = Math.ceil(ticks.length / Math.max(2, width / 60));
  return { ticks: ticks.filter((_, i) => i % stride === 0), tickFormat };
}

// --- The numbers -----------------------------------------------------------------------------

const FIGURES = [
  ["kl_mean", "KL mean", "nats"],
  ["kl_median", "Median", "nats"],
  ["kl_p90", "90\u202f%", "nats"],
  ["kl_p95", "95\u202f%", "nats"],
  ["kl_p99", "99\u202f%", "nats"],
  ["kl_p999", "99.9\u202f%", "nats"],
  ["kl_max", "Maximum", "nats"],
  ["delta_p_mean", "\u0394p mean, %", "points"],
  ["delta_p_rms", "\u0394p RMS, %", "points"],
  ["top1_agreement", "Top-1", "percent"],
  ["top5_agreement", "Top-5", "percent"],
];

const method = {
  head: "Method",
  header: true,
  sort: (row) => methodName(row.model),
  cell: (row) => h("span", { class: "method" }, swatch(row.candidate), labelOf(row.candidate)),
};

function percentiles(rows, setting) {
  const known = FIGURES.filter(([key]) => rows.some((row) => isNumber(row.result[key])));
  if (known.length === 0) return null;
  return sortableTable({
    id: null,
    className: "figures",
    rows,
    caption: caption(
      "Table",
      "Quantiles of KL divergence in nats, change of the right token\u2019s probability and agreement of predictions, with standard errors: ",
      setting.title,
      ".",
    ),
    columns: [
      method,
      ...known.map(([key, head, name]) => {
        const kind = kindFor(
          name,
          rows.map((row) => row.result[key]),
          rows.map((row) => row.result[`${key}_se`]),
        );
        return {
          head,
          numeric: true,
          sort: (row) => row.result[key] ?? null,
          cell: (row) => [
            figure(row.result, key, kind),
            standardError(row.result, `${key}_se`, kind),
          ],
        };
      }),
    ],
  });
}

// --- By position, by token class -------------------------------------------------------------

const sliceList = (row, key) =>
  Array.isArray(row.result[key]) ? row.result[key].filter((s) => isNumber(s?.kl_mean)) : [];

function slices(rows) {
  const kinds = [
    ["by_position", "By position in the window", positions],
    ["by_token_class", "By token class", classes],
  ]
    .map(([key, title, draw]) => ({
      title,
      draw,
      rows: rows
        .map((row) => ({ ...row, slices: sliceList(row, key) }))
        .filter((row) => row.slices.length > 0),
    }))
    .filter((kind) => kind.rows.length > 0)
    .map((kind) => ({
      ...kind,
      any: kind.rows.some((row) => row.slices.some((slice) => slice.kl_mean > 0)),
    }));
  if (kinds.length === 0) return null;
  return [
    h(
      "div",
      { class: "pair" },
      kinds
        .filter((kind) => kind.any)
        .map((kind) =>
          h(
            "figure",
            null,
            kind.draw(kind.rows).element,
            h(
              "figcaption",
              null,
              caption(
                "Figure",
                kind.title,
                ": mean KL divergence; bars are \u00b11.96 standard errors.",
              ),
            ),
          ),
        ),
    ),
    h(
      "details",
      null,
      h("summary", null, "Numbers by position and by token class"),
      kinds.map(sliceTable),
    ),
  ];
}

function sliceTable(kind) {
  const rows = kind.rows.flatMap((row) =>
    row.slices.map((slice, order) => ({ ...row, slice, order })),
  );
  const column = (key, head, name) => {
    const shown = kindFor(
      name,
      rows.map((row) => row.slice[key]),
      rows.map((row) => row.slice[`${key}_se`]),
    );
    return {
      head,
      numeric: true,
      sort: (row) => row.slice[key] ?? null,
      cell: (row) => [figure(row.slice, key, shown), standardError(row.slice, `${key}_se`, shown)],
    };
  };
  return sortableTable({
    id: null,
    className: "figures",
    rows,
    caption: caption("Table", kind.title, "; with standard errors."),
    columns: [
      method,
      { head: "Tokens of", sort: (row) => row.order, cell: (row) => String(row.slice.name) },
      column("tokens", "Count", "count"),
      column("base_ppl", "Baseline perplexity", "plain"),
      column("kl_mean", "KL mean", "nats"),
      column("ppl_ratio", "Perplexity ratio", "ratio"),
      column("top1_agreement", "Top-1", "percent"),
    ],
  });
}

const names = (rows) => [
  ...new Set(rows.flatMap((row) => row.slices.map((slice) => clean(slice.name)))),
];
const positive = (rows) =>
  rows.map((row) => ({
    row,
    points: row.slices
      .filter((s) => s.kl_mean > 0)
      .map((s) => ({
        name: clean(s.name),
        kl: s.kl_mean,
        low: Math.max(s.kl_mean - Z * (s.kl_mean_se ?? 0), s.kl_mean / 10),
        high: s.kl_mean + Z * (s.kl_mean_se ?? 0),
      })),
  }));

function positions(rows) {
  const series = positive(rows);
  const domain = logDomain(
    series.flatMap(({ points }) => points.flatMap((p) => [p.low, p.high])),
  ) ?? [1e-6, 1];
  const crowded = (width) => names(rows).length * 58 > width - 68;
  return chart("KL divergence by position in the window", (width) => ({
    height: 300,
    marginLeft: 52,
    marginRight: 16,
    marginTop: 28,
    marginBottom: crowded(width) ? 62 : 44,
    x: {
      type: "point",
      domain: names(rows),
      label: crowded(width) ? null : "position \u2192",
      padding: 0.3,
      tickRotate: crowded(width) ? -40 : 0,
    },
    y: { type: "log", domain, label: "\u2191 mean KL, nats", grid: true, ...logTicks(...domain) },
    marks: series.flatMap(({ row, points }) => [
      lineY(points, {
        x: "name",
        y: "kl",
        stroke: colourOf(row.candidate),
        strokeWidth: 1.5,
        strokeDasharray: dashOf(row.candidate),
      }),
      ruleX(points, {
        x: "name",
        y1: "low",
        y2: "high",
        stroke: colourOf(row.candidate),
        strokeWidth: 1.5,
      }),
      dot(points, {
        x: "name",
        y: "kl",
        symbol: symbolOf(row.candidate),
        fill: colourOf(row.candidate),
        stroke: "var(--paper)",
        r: 5,
      }),
    ]),
  }));
}

function classes(rows) {
  const series = positive(rows);
  const all = names(rows);
  const domain = logDomain(
    series.flatMap(({ points }) => points.flatMap((p) => [p.low, p.high])),
  ) ?? [1e-6, 1];
  return chart("KL divergence by token class", (width) => ({
    height: Math.max(300, 72 + all.length * 30),
    marginLeft: Math.min(130, 16 + 6.8 * Math.max(...all.map((n) => n.length))),
    marginRight: 16,
    marginTop: 28,
    marginBottom: 44,
    x: {
      type: "log",
      domain,
      label: "mean KL, nats \u2192",
      grid: true,
      ...spaced(...domain, width - 130),
    },
    y: {
      type: "point",
      domain: all,
      label: null,
      padding: 0.5,
      grid: true,
      tickFormat: (n) => (n.length > 18 ? `${n.slice(0, 17)}\u2026` : n),
    },
    marks: series.flatMap(({ row, points }) => [
      ruleY(points, {
        y: "name",
        x1: "low",
        x2: "high",
        stroke: colourOf(row.candidate),
        strokeWidth: 1.5,
      }),
      dot(points, {
        y: "name",
        x: "kl",
        symbol: symbolOf(row.candidate),
        fill: colourOf(row.candidate),
        stroke: "var(--paper)",
        r: 5,
      }),
    ]),
  }));
}
