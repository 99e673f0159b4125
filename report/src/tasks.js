// The tables that everybody publishes, one a task; and the sentence that follows from each interval.
import { caption, h, section } from "./dom.js";
import { figure, interval, isNumber, kindFor, methodName, NONE } from "./format.js";
import { labelOf, swatch } from "./series.js";
import { sortableTable } from "./table.js";

/** "loss", "none", "gain", "open" where n is too small to say, or null without an interval. */
export function judgement(result) {
  if (/^undecided/.test(result.verdict ?? "")) return "open";
  const ends = result.relative_loss_ci ?? null;
  if (!Array.isArray(ends) || !ends.every(isNumber)) return null;
  if (ends[0] > 0) return "loss";
  return ends[1] < 0 ? "gain" : "none";
}

const MARKS = {
  loss: ["\u2193", "worse"],
  none: ["\u2248", "no difference detectable"],
  gain: ["\u2191", "better"],
  open: ["?", "undecided"],
};

export function mark(result) {
  const found = judgement(result);
  if (!found) return null;
  return h(
    "span",
    { class: `mark ${found}`, title: MARKS[found][1] },
    h("span", { "aria-hidden": "true" }, MARKS[found][0]),
    h("span", { class: "hidden" }, `${MARKS[found][1]}: `),
  );
}

function halfWidth(ends) {
  return Array.isArray(ends) && ends.every(isNumber) ? (ends[1] - ends[0]) / 2 : 0;
}

/** A column of figures row[of][key], with the interval below unless `bare`. */
function numbers(rows, head, title, of, key, kindName, bare = false) {
  const errors = bare ? [] : rows.map((row) => halfWidth(row[of]?.[`${key}_ci`]));
  const kind = kindFor(
    kindName,
    rows.map((row) => row[of]?.[key]),
    errors,
  );
  return {
    head,
    title,
    numeric: true,
    sort: (row) => (isNumber(row[of]?.[key]) ? row[of][key] : null),
    cell: (row) => [figure(row[of], key, kind), bare ? null : interval(row[of], `${key}_ci`, kind)],
  };
}

function loss(rows) {
  const column = numbers(
    rows,
    "Loss",
    "Loss relative to the baseline, with its interval; negative is a gain",
    "result",
    "relative_loss",
    "percent",
  );
  return { ...column, cell: (row) => [row.result && mark(row.result), column.cell(row)] };
}

function present(rows, columns) {
  return columns.filter(
    (column) => !column.numeric || rows.some((row) => column.sort(row) !== null),
  );
}

/** A setting without candidates is a table of baselines. */
function rowsOf(setting) {
  if (setting.rows.length > 0) return setting.rows;
  return setting.runs.map((run) => ({
    family: run.family,
    base: run.base,
    model: run.family.baseline,
    result: null,
    candidate: null,
  }));
}

function columnsOf(setting, rows) {
  const of = (head, title, object, key, kind, bare) =>
    numbers(rows, head, title, object, key, kind, bare);
  const flips = rows.map((row) => ({ ...row, flips: row.result?.flips }));
  const names = [
    {
      head: "Model",
      title: "The baseline",
      header: true,
      sort: (row) => String(row.family.baseline.name),
      cell: (row) => h("span", { class: "name" }, String(row.family.baseline.name)),
    },
    {
      head: "Method",
      title: "How it was compressed, and the file",
      sort: (row) => methodName(row.model),
      cell: (row) => [
        h(
          "span",
          { class: "method" },
          row.candidate ? swatch(row.candidate) : null,
          methodName(row.model),
        ),
        row.candidate ? h("span", { class: "file" }, String(row.model.name)) : null,
      ],
    },
  ];
  const size = [
    of(
      "Bits",
      "Bits per weight, over all parameters, scales included",
      "model",
      "bits_per_weight",
      "plain",
    ),
    of("Size, MB", "Bytes of the weights, in millions", "model", "bytes", "megabytes"),
  ];
  const flip = (key, head, title) => {
    const column = numbers(flips, head, title, "flips", key, "count");
    return {
      ...column,
      sort: (row) => row.result?.flips?.[key] ?? null,
      cell: (row) => figure(row.result?.flips, key, "count"),
    };
  };
  if (setting.perplexity) {
    // The intervals that decide, of loss, ratio and mean, fit; the others are under Divergence.
    const compared = setting.rows.length > 0;
    return present(rows, [
      ...names,
      of("Baseline", "Perplexity of the baseline", "base", "ppl", "plain", compared),
      of("After", "Perplexity of the compressed model", "result", "ppl", "plain", true),
      loss(rows),
      of("Ratio", "Perplexity after / before, from paired windows", "result", "ppl_ratio", "ratio"),
      of(
        "KL mean",
        "Mean Kullback\u2013Leibler divergence from the baseline, nats a token",
        "result",
        "kl_mean",
        "nats",
      ),
      of("KL median", "Half of the tokens have at most this", "result", "kl_median", "nats", true),
      of("KL 99\u202f%", "99 % of the tokens have at most this", "result", "kl_p99", "nats", true),
      of(
        "\u0394p, %",
        "Mean change of the probability of the right token, percentage points",
        "result",
        "delta_p_mean",
        "points",
        true,
      ),
      of(
        "Top-1",
        "Share of tokens with the same most likely prediction",
        "result",
        "top1_agreement",
        "percent",
        true,
      ),
      of(
        "Top-5",
        "Mean share of the baseline\u2019s five most likely tokens that stay",
        "result",
        "top5_agreement",
        "percent",
        true,
      ),
      ...size,
    ]);
  }
  return present(rows, [
    ...names,
    of("Baseline", "Accuracy of the baseline", "base", "accuracy", "percent"),
    of("After", "Accuracy of the compressed model", "result", "accuracy", "percent"),
    loss(rows),
    of(
      "Points",
      "Difference in percentage points, with its interval",
      "result",
      "difference",
      "points",
    ),
    flip("lost", `Lost`, "Questions that the baseline has right and the candidate wrong"),
    flip("gained", `Gained`, "Questions that the baseline has wrong and the candidate right"),
    of("McNemar p", "Exact two-sided test of as many lost as gained", "result", "mcnemar_p", "p"),
    of(
      "Base target ppl",
      "Perplexity of the words asked for, baseline",
      "base",
      "target_ppl",
      "plain",
    ),
    of(
      "Target ppl",
      "Perplexity of the words asked for, candidate",
      "result",
      "target_ppl",
      "plain",
    ),
    ...size,
  ]);
}

function note(setting) {
  const size = ({ base }) =>
    setting.perplexity
      ? [
          figure(base, "tokens", "count"),
          " tokens in ",
          figure(base, "windows", "count"),
          " windows",
        ]
      : [figure(base, "n", "count"), " questions"];
  // Other tokenizers make other numbers of tokens of the same text.
  const sizes = setting.runs.map((run) => JSON.stringify([run.base.tokens, run.base.n]));
  const n =
    new Set(sizes).size === 1
      ? size(setting.runs[0])
      : setting.runs.map((run, i) => [i ? ", " : "", run.family.baseline.name, ": ", size(run)]);
  // Most conventions say it themselves.
  const said = /-shot/.test(setting.task.method ?? "");
  const shots = setting.task.shots > 0 && !said ? [`, ${setting.task.shots}-shot`] : [];
  return [...n, ...shots];
}

export function taskSections({ settings, families }) {
  const made = settings.map((setting, i) => {
    const rows = rowsOf(setting);
    const method = setting.task.method ?? setting.runs[0].base.method;
    return h(
      "div",
      { class: "task" },
      h("h3", { id: `task-${i}` }, setting.title),
      sortableTable({
        id: `table-${i}`,
        className: "figures",
        rows,
        columns: columnsOf(setting, rows),
        caption: caption(
          "Table",
          setting.title,
          ": ",
          note(setting),
          method ? `; ${method}.` : ".",
        ),
      }),
      verdicts(setting, families.length > 1),
    );
  });
  if (made.length === 0) return null;
  const legend = settings.some((s) => s.rows.length > 0)
    ? h(
        "p",
        { class: "note" },
        "Figures in brackets are 95\u202f% intervals. ",
        Object.entries(MARKS).map(([kind, [symbol, words]]) => [
          h("span", { class: `mark ${kind}` }, symbol),
          ` ${words}\u2003`,
        ]),
        "Click a column\u2019s head to sort.",
      )
    : null;
  return section("tables", "Results", legend, made);
}

function verdicts(setting, named) {
  const said = setting.rows.filter((row) => typeof row.result.verdict === "string");
  if (said.length === 0) return null;
  return h(
    "ul",
    { class: "verdicts" },
    said.map((row) =>
      h(
        "li",
        null,
        swatch(row.candidate),
        h("b", null, named ? `${row.family.baseline.name}, ` : "", labelOf(row.candidate)),
        ": ",
        row.result.verdict,
      ),
    ),
  );
}

/** All tasks side by side: the loss of each candidate on each. */
export function overview({ settings, families }) {
  const compared = settings.filter((s) => s.rows.length > 0);
  if (compared.length < 2) return null;
  const rows = families.flatMap((family) =>
    family.candidates.map((candidate) => ({ family, candidate, model: candidate.model })),
  );
  const columns = [
    {
      head: "Model",
      header: true,
      sort: (row) => `${row.family.baseline.name} ${labelOf(row.candidate)}`,
      cell: (row) =>
        h(
          "span",
          { class: "method" },
          swatch(row.candidate),
          families.length > 1 ? `${row.family.baseline.name}, ` : "",
          labelOf(row.candidate),
        ),
    },
    numbers(rows, "Bits", "Bits per weight", "model", "bits_per_weight", "plain"),
    ...compared.map((setting) => {
      const found = (row) => setting.rows.find((r) => r.candidate === row.candidate)?.result;
      const kind = kindFor(
        "percent",
        setting.rows.map((r) => r.result.relative_loss),
        setting.rows.map((r) => halfWidth(r.result.relative_loss_ci)),
      );
      return {
        head: setting.title,
        numeric: true,
        title: "Loss relative to the baseline",
        sort: (row) => found(row)?.relative_loss ?? null,
        cell: (row) =>
          found(row)
            ? [
                mark(found(row)),
                figure(found(row), "relative_loss", kind),
                interval(found(row), "relative_loss_ci", kind),
              ]
            : NONE,
      };
    }),
  ];
  return sortableTable({
    id: "overview",
    className: "figures",
    columns,
    rows,
    caption: caption(
      "Table",
      "Loss relative to the baseline, all tasks; 95\u202f% intervals in brackets. \u2193 worse, \u2248 no difference detectable, \u2191 better, ? undecided.",
    ),
  });
}
