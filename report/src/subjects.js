// Where accuracy is lost: each subject's difference, as dots and as a table that is a heat map.
import { dot, ruleX } from "@observablehq/plot";
import { chart } from "./chart.js";
import { caption, clean, h, section } from "./dom.js";
import { figure, fixed, interval, isNumber, NONE } from "./format.js";
import { colourOf, labelOf, swatch, symbolOf } from "./series.js";
import { pathOf } from "./reports.js";
import { sortableTable } from "./table.js";

export const prettySubject = (name) => clean(name).replaceAll("_", " ");

export function subjectsSection({ settings, families }) {
  const blocks = settings
    .filter((s) => !s.perplexity)
    .flatMap((setting) => families.map((family) => block(setting, family, families.length > 1)))
    .filter(Boolean);
  return blocks.length ? section("subjects", "Loss by subject", blocks) : null;
}

/** Rows {name, base, results[]} of "groups" or "categories", for candidates that have any. */
function collect(rows, key) {
  const with_ = rows.filter((row) => row.result?.[key] && row.base?.[key]);
  const names = Object.keys(with_[0]?.base[key] ?? {});
  return {
    candidates: with_.map((row) => row.candidate),
    rows: names.map((name) => ({
      name,
      base: with_[0].base[key][name],
      results: with_.map((row) =>
        Object.hasOwn(row.result[key], name) ? row.result[key][name] : null,
      ),
      bases: with_.map((row) => row.base[key][name]),
    })),
  };
}

const differenceOf = (row, i) => {
  const [after, before] = [row.results[i]?.accuracy, row.bases[i]?.accuracy];
  return isNumber(after) && isNumber(before) ? after - before : null;
};

function block(setting, family, named) {
  const rows = setting.rows.filter((row) => row.family === family);
  const groups = collect(rows, "groups");
  if (groups.rows.length < 2) return null;
  const categories = collect(rows, "categories");
  return [
    h("h3", null, named ? `${family.baseline.name}: ` : "", setting.title),
    worst(groups),
    strip(groups),
    categories.rows.length > 1 ? heatTable(categories, "category", setting) : null,
    heatTable(groups, "subject", setting),
  ];
}

function worst({ candidates, rows }) {
  return h(
    "div",
    null,
    h("p", { class: "lead" }, "The three subjects that lose most:"),
    h(
      "ul",
      { class: "verdicts" },
      candidates.map((candidate, i) => {
        const known = rows
          .filter((row) => differenceOf(row, i) !== null && differenceOf(row, i) < 0)
          .toSorted((a, b) => differenceOf(a, i) - differenceOf(b, i))
          .slice(0, 3);
        return h(
          "li",
          null,
          swatch(candidate),
          h("b", null, labelOf(candidate)),
          ": ",
          known.length === 0
            ? "none loses"
            : known.map((row, k) => [
                k ? ", " : "",
                prettySubject(row.name),
                " ",
                difference(row, i),
                ` (n\u00a0=\u00a0${fixed(row.base.n, 0)})`,
              ]),
        );
      }),
    ),
    h(
      "p",
      { class: "note" },
      "Differences in percentage points. A subject has few questions: most of these differences lie within chance; the intervals of the whole task decide.",
    ),
  );
}

/** The difference after − before, computed here from two figures of the report. */
function difference(row, i) {
  const value = differenceOf(row, i);
  if (value === null) return NONE;
  return h(
    "data",
    {
      value,
      "data-value": value,
      "data-scale": 100,
      "data-minuend": `${pathOf(row.results[i])}/accuracy`,
      "data-subtrahend": `${pathOf(row.bases[i])}/accuracy`,
    },
    (value > 0 ? "+" : "") + fixed(100 * value, 1),
  );
}

function strip({ candidates, rows }) {
  const points = candidates.flatMap((candidate, i) =>
    rows
      .map((row) => ({
        candidate,
        label: labelOf(candidate),
        name: prettySubject(row.name),
        n: row.base.n,
        points: differenceOf(row, i),
      }))
      .filter((p) => p.points !== null)
      .map((p) => ({ ...p, points: 100 * p.points })),
  );
  if (points.every((p) => p.points === 0)) return null;
  const labels = candidates.map(labelOf);
  const longest = Math.max(...labels.map((l) => l.length));
  const drawing = chart(
    "Difference of accuracy in each subject, a row for each candidate",
    (width) => {
      const margin = Math.min(width * 0.36, 20 + 6.6 * longest);
      const room = Math.floor((margin - 19) / 6.6);
      return {
        height: 64 + candidates.length * 34,
        marginLeft: margin,
        marginRight: 16,
        marginTop: 12,
        marginBottom: 40,
        x: {
          label: "difference, percentage points \u2192",
          grid: true,
          ticks: width < 500 ? 5 : 10,
          nice: true,
        },
        y: {
          type: "band",
          domain: labels,
          label: null,
          tickSize: 0,
          tickFormat: (l) => (l.length > room ? `${l.slice(0, room - 1)}\u2026` : l),
        },
        r: { range: [2, 8] },
        marks: [
          ruleX([0], { stroke: "currentColor", strokeOpacity: 0.7 }),
          ...candidates.map((candidate) =>
            dot(
              points.filter((p) => p.candidate === candidate),
              {
                x: "points",
                y: "label",
                r: "n",
                symbol: symbolOf(candidate),
                fill: colourOf(candidate),
                fillOpacity: 0.35,
                stroke: colourOf(candidate),
                strokeWidth: 1,
              },
            ),
          ),
          dot(points, {
            x: "points",
            y: "label",
            r: 7,
            fill: "transparent",
            tip: { lineHeight: 1.35, format: { x: false, y: false, r: false } },
            channels: {
              Subject: "name",
              Points: (p) => fixed(p.points, 2),
              Questions: (p) => fixed(p.n, 0),
            },
          }),
        ],
      };
    },
  );
  return h(
    "figure",
    null,
    drawing.element,
    h(
      "figcaption",
      null,
      caption(
        "Figure",
        "Difference of accuracy (after \u2212 before) in each subject; areas grow with the number of questions. Point at a mark for its subject.",
      ),
    ),
  );
}

/** Nine steps from loss (−4) to gain (4); 0 has the colour of the paper. */
function step(value, extent) {
  if (value === null || extent === 0) return 0;
  return Math.max(-4, Math.min(4, Math.round((4 * value) / extent)));
}

function heatTable(found, word, setting) {
  const all = found.rows
    .flatMap((row) => found.candidates.map((_, i) => Math.abs(differenceOf(row, i) ?? 0)))
    .sort((a, b) => a - b);
  const extent = all[Math.floor(0.97 * (all.length - 1))] || all.at(-1);
  const mean = (row) =>
    found.candidates.reduce((sum, _, i) => sum + (differenceOf(row, i) ?? 0), 0);
  const rows = found.rows.toSorted((a, b) => mean(a) - mean(b));
  const shown = { scale: 100, unit: "\u202f%", decimals: 1 };
  return sortableTable({
    id: null,
    className: `figures heat ${word}`,
    rows,
    caption: caption(
      "Table",
      `Difference of accuracy in percentage points by ${word}, ${setting.title}; the largest loss of all candidates together first.`,
    ),
    columns: [
      {
        head: word[0].toUpperCase() + word.slice(1),
        header: true,
        sort: (row) => prettySubject(row.name),
        cell: (row) => prettySubject(row.name),
      },
      {
        head: "n",
        title: "Questions",
        numeric: true,
        sort: (row) => row.base.n ?? null,
        cell: (row) => figure(row.base, "n", "count"),
      },
      {
        head: "Baseline",
        title: "Accuracy of the baseline, with Wilson\u2019s interval",
        numeric: true,
        sort: (row) => row.base.accuracy ?? null,
        cell: (row) => [
          figure(row.base, "accuracy", shown),
          " ",
          interval(row.base, "accuracy_ci", shown),
        ],
      },
      ...found.candidates.map((candidate, i) => ({
        head: labelOf(candidate),
        numeric: true,
        title: `${candidate.model.name}: after \u2212 before`,
        sort: (row) => differenceOf(row, i),
        cell: (row) => difference(row, i),
        cellClass: (row) => `d${step(differenceOf(row, i), extent)}`,
      })),
    ],
  });
}
