// Loss against bits per weight: what a smaller model costs.
import { dot, ruleX, ruleY, text } from "@observablehq/plot";
import { chart } from "./chart.js";
import { caption, h, section } from "./dom.js";
import { isNumber } from "./format.js";
import { colourOf, labelOf, legend, symbolOf } from "./series.js";

const METRICS = [
  {
    key: "relative_loss",
    label: (s) => (s.perplexity ? "loss of perplexity" : "loss of accuracy"),
    axis: "loss, %",
    scale: 100,
    zero: true,
  },
  {
    key: "difference",
    label: () => "difference of accuracy",
    axis: "difference, percentage points",
    scale: 100,
    zero: true,
  },
  {
    key: "kl_mean",
    label: () => "mean KL divergence",
    axis: "KL divergence, nats",
    scale: 1,
    zero: true,
  },
  {
    key: "kl_p99",
    label: () => "99 % quantile of KL divergence",
    axis: "KL divergence, nats",
    scale: 1,
    zero: true,
  },
  {
    key: "top1_agreement",
    label: () => "top-1 agreement",
    axis: "agreement, %",
    scale: 100,
    zero: false,
  },
];

/** Points of one setting and metric: bits, value, interval. */
function pointsOf(setting, family, metric) {
  return setting.rows
    .filter(
      (row) =>
        row.family === family &&
        isNumber(row.result[metric.key]) &&
        isNumber(row.model.bits_per_weight),
    )
    .map((row) => {
      const ends = row.result[`${metric.key}_ci`];
      const known = Array.isArray(ends) && ends.every(isNumber);
      const value = row.result[metric.key] * metric.scale;
      return {
        candidate: row.candidate,
        bits: row.model.bits_per_weight,
        value,
        lower: known ? ends[0] * metric.scale : value,
        upper: known ? ends[1] * metric.scale : value,
      };
    });
}

export function lossSection({ families, settings }) {
  const blocks = families
    .map((family) => familyChart(family, settings, families.length > 1))
    .filter(Boolean);
  if (blocks.length === 0) return null;
  return section("loss", "Loss against size", blocks);
}

function familyChart(family, settings, named) {
  const choices = settings
    .flatMap((setting) => METRICS.map((metric) => ({ setting, metric })))
    .filter(({ setting, metric }) => pointsOf(setting, family, metric).length > 0);
  if (choices.length === 0) return null;
  const title = ({ setting, metric }) => `${setting.title}: ${metric.label(setting)}`;
  // What people publish first: the loss of accuracy, if there is one.
  let current = choices.find(({ setting }) => !setting.perplexity) ?? choices[0];

  const drawing = chart(`Loss against bits per weight of ${family.baseline.name}`, (width) =>
    specOf(pointsOf(current.setting, family, current.metric), current.metric, width),
  );
  const shown = h("span");
  const show = () => {
    shown.textContent = title(current);
    drawing.redraw();
  };
  const select = h(
    "select",
    {
      change: () => {
        current = choices[Number(select.value)];
        show();
      },
    },
    choices.map((choice, i) =>
      h("option", { value: i, selected: choice === current }, title(choice)),
    ),
  );
  shown.textContent = title(current);
  return [
    named ? h("h3", null, String(family.baseline.name)) : null,
    h("p", { class: "controls" }, h("label", null, "Show ", select)),
    h(
      "figure",
      null,
      legend(family.candidates),
      drawing.element,
      h(
        "figcaption",
        null,
        caption(
          "Figure",
          shown,
          " against bits per weight, all of a model\u2019s weights counted. Bars are 95\u202f% intervals; the baseline has none.",
        ),
      ),
    ),
  ];
}

function specOf(points, metric, width) {
  const bits = points.map((p) => p.bits);
  const values = points.flatMap((p) => [p.lower, p.upper]);
  if (metric.zero) values.push(0);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  const y = {
    domain: [low - (low < 0 || !metric.zero ? room : room / 2), high + room],
    grid: true,
    label: `\u2191 ${metric.axis}`,
    ticks: 6,
  };
  const x = {
    domain: [Math.floor(Math.min(...bits) - 0.3), Math.ceil(Math.max(...bits) + 0.3)],
    label: "bits per weight \u2192",
    ticks: width < 500 ? 5 : 9,
  };
  const height = Math.round(Math.min(400, Math.max(280, width * 0.42)));
  const frame = { marginLeft: 52, marginRight: 24, marginTop: 28, marginBottom: 40, height, x, y };
  return {
    ...frame,
    marks: [
      metric.zero ? ruleY([0], { stroke: "currentColor", strokeOpacity: 0.7 }) : null,
      ...points.flatMap((p) => [
        ruleX([p], {
          x: "bits",
          y1: "lower",
          y2: "upper",
          stroke: colourOf(p.candidate),
          strokeWidth: 2,
        }),
        dot([p], {
          x: "bits",
          y: "value",
          symbol: symbolOf(p.candidate),
          fill: colourOf(p.candidate),
          stroke: "var(--paper)",
          strokeWidth: 1,
          r: 6,
        }),
      ]),
      ...labels(points, frame, width),
      dot(points, {
        x: "bits",
        y: "value",
        r: 6,
        fill: "transparent",
        tip: { lineHeight: 1.35, format: { x: false, y: false } },
        channels: {
          Method: (p) => labelOf(p.candidate),
          Bits: (p) => p.bits.toFixed(2),
          Value: (p) =>
            `${p.value.toPrecision(4)} [${p.lower.toPrecision(4)}, ${p.upper.toPrecision(4)}]`,
        },
      }),
    ].filter(Boolean),
  };
}

// Each label goes beside its point where it covers no other point, bar or label; else the legend
// has to do.
function labels(points, frame, width) {
  const px = (v) =>
    frame.marginLeft +
    ((v - frame.x.domain[0]) / (frame.x.domain[1] - frame.x.domain[0])) *
      (width - frame.marginLeft - frame.marginRight);
  const py = (v) =>
    frame.height -
    frame.marginBottom -
    ((v - frame.y.domain[0]) / (frame.y.domain[1] - frame.y.domain[0])) *
      (frame.height - frame.marginTop - frame.marginBottom);
  const taken = points.flatMap((p) => [
    [px(p.bits) - 8, py(p.value) - 8, px(p.bits) + 8, py(p.value) + 8],
    [px(p.bits) - 2, py(p.upper), px(p.bits) + 2, py(p.lower)],
  ]);
  const free = (box) =>
    box[0] > frame.marginLeft &&
    box[2] < width - 4 &&
    box[1] > 4 &&
    box[3] < frame.height - frame.marginBottom &&
    taken.every((t) => box[2] < t[0] || box[0] > t[2] || box[3] < t[1] || box[1] > t[3]);
  const placed = [];
  for (const p of points) {
    const name = labelOf(p.candidate);
    const w = name.length * 6.6;
    for (const [anchor, dx, dy] of [
      ["start", 12, 0],
      ["end", -12, 0],
      ["start", 8, -15],
      ["end", -8, -15],
      ["start", 8, 15],
      ["end", -8, 15],
    ]) {
      const left = px(p.bits) + dx - (anchor === "end" ? w : 0);
      const box = [left, py(p.value) + dy - 8, left + w, py(p.value) + dy + 8];
      if (!free(box)) continue;
      taken.push(box);
      placed.push(
        text([p], {
          x: "bits",
          y: "value",
          text: () => name,
          textAnchor: anchor,
          dx,
          dy,
          fill: "currentColor",
          stroke: "var(--paper)",
          strokeWidth: 3,
        }),
      );
      break;
    }
  }
  return placed;
}
