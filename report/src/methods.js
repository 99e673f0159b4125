// How every figure was computed, and what it was computed from.
import { h, section } from "./dom.js";
import { figure, isNumber, methodName } from "./format.js";

export function methodsSection(arranged) {
  return section(
    "methods",
    "How every figure was computed",
    formulas(arranged),
    inputs(arranged),
    models(arranged),
  );
}

function formulas({ settings, families }) {
  const compared = settings.some((s) => s.rows.length > 0);
  const questions = settings.some((s) => !s.perplexity);
  const perplexities = settings.some((s) => s.perplexity);
  const layers = families.some((f) =>
    f.candidates.some((c) => c.models.some((m) => m.layers?.length)),
  );
  const entries = [
    questions && [
      "Accuracy",
      "Right answers / questions, by log-likelihood. Its interval is Wilson\u2019s score interval, questions taken as independent.",
    ],
    questions &&
      compared && [
        "Difference and loss of accuracy",
        "Both models answer the same questions, and are compared question by question. Difference = after \u2212 before; loss = 1 \u2212 after / before, so a loss is positive. Intervals are Student\u2019s t between clusters (subjects, where a task has several), that of the loss by the delta method; where questions are independent, the difference has Tango\u2019s score interval.",
      ],
    questions &&
      compared && [
        "Lost, gained, McNemar p",
        "Lost: right before, wrong after; gained: the reverse. p is McNemar\u2019s exact two-sided test, 2\u202fP(Binomial(lost\u202f+\u202fgained, \u00bd) \u2264 the smaller), at most 1. It takes questions as independent.",
      ],
    questions &&
      compared && [
        "Subjects and categories",
        "Difference of the two accuracies of the subject, in percentage points; it is computed in this page from the two accuracies in the report.",
      ],
    perplexities && [
      "Perplexity",
      "exp of the mean negative log-likelihood of the scored tokens. Errors are taken between windows, for tokens that share a context are correlated; Student\u2019s t.",
    ],
    perplexities &&
      compared && [
        "Ratio of perplexities",
        "Both models read the same windows: the error of ln(after / before) uses the covariance of their windows\u2019 losses. The ratio\u2019s interval is exp of that; loss = ratio \u2212 1.",
      ],
    perplexities &&
      compared && [
        "KL divergence",
        "\u03a3 p\u202fln(p/q) over the whole vocabulary, p the baseline\u2019s and q the candidate\u2019s prediction for the same token, in nats. The mean\u2019s error is taken between windows. Intervals of quantiles are order statistics (Woodruff), for as many independent tokens as the correlation within windows leaves. A maximum grows with n and has no error.",
      ],
    perplexities &&
      compared && [
        "\u0394p, top-1, top-5",
        "\u0394p: change of the probability of the right token, after \u2212 before. Top-1: share of tokens with the same most likely prediction. Top-5: mean share of the baseline\u2019s five most likely that are among the candidate\u2019s five.",
      ],
    layers && [
      "Error by layer",
      "SQNR = 10\u202flog\u2081\u2080(\u03a3y\u00b2 / \u03a3(y\u202f\u2212\u202f\u0177)\u00b2) of a linear\u2019s output on the evaluation\u2019s tokens. KL divergence: of the whole model with that linear alone compressed.",
    ],
    compared && [
      "Bits per weight",
      "All bits that a model\u2019s weights take, scales and zero points included, over its number of parameters.",
    ],
  ].filter(Boolean);
  return h(
    "dl",
    { class: "methods" },
    entries.map(([term, words]) => h("div", null, h("dt", null, term), h("dd", null, words))),
  );
}

const code = (value) => h("code", null, String(value));

/** Pairs of what is there: [label, value or figure, …]. */
function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter((p) => p && p[1] !== null && p[1] !== undefined)
      .map(([term, ...value]) =>
        h(
          "div",
          { class: ["Convention", "Kernels"].includes(term) ? "wide" : null },
          h("dt", null, term),
          h("dd", null, value),
        ),
      ),
  );
}

const count = (object, key) => (isNumber(object?.[key]) ? figure(object, key, "count") : null);
const seconds = { scale: 1, unit: " s", decimals: 1 };

function inputs({ settings, families }) {
  return [
    h("h3", null, "Tasks"),
    settings.flatMap((setting) =>
      setting.runs.map(({ task, base, report, family }) =>
        h(
          "div",
          { class: "card" },
          h("h4", null, setting.title, families.length > 1 ? `, ${family.baseline.name}` : ""),
          facts([
            ["Convention", task.method ?? base.method],
            ["Tokens scored", count(base, "tokens")],
            ["Windows", count(base, "windows")],
            ["Tokens of the text", count(task, "text_tokens")],
            ["Window", count(task, "ctx")],
            ["Stride", count(task, "stride")],
            ["Questions", count(base, "n")],
            ["Examples (shots)", count(task, "shots")],
            ["With fewer examples", task.fewer_shots > 0 ? count(task, "fewer_shots") : null],
            ["Prompt tokens", count(task, "prompt_tokens")],
            ["Tokens run", count(task, "tokens_run")],
            ["Arithmetic", report.precision],
            ["Kernels", report.kernel],
            [
              "Confidence",
              isNumber(report.confidence)
                ? figure(report, "confidence", { scale: 100, unit: "\u202f%", decimals: 0 })
                : null,
            ],
            ["Time", isNumber(task.seconds) ? figure(task, "seconds", seconds) : null],
            ["pare", report.version],
            task.data_sha256 && ["Data, SHA-256", code(task.data_sha256)],
            task.ids_sha256 && ["Token ids, SHA-256", code(task.ids_sha256)],
          ]),
        ),
      ),
    ),
  ];
}

function models({ families }) {
  const card = (model, role) =>
    h(
      "div",
      { class: "card" },
      h("h4", null, String(model.name), h("span", { class: "role" }, ` ${role}`)),
      facts([
        ["Method", methodName(model)],
        ["Parameters", count(model, "parameters")],
        [
          "Bits per weight",
          isNumber(model.bits_per_weight) ? figure(model, "bits_per_weight", "plain") : null,
        ],
        ["Bytes", count(model, "bytes")],
        model.quantized_inputs > 0 && [
          "Inputs clamped",
          count(model, "clamped_inputs"),
          " of ",
          count(model, "quantized_inputs"),
        ],
        model.sha256 && ["SHA-256", code(model.sha256)],
      ]),
    );
  return [
    h("h3", null, "Models"),
    families.map((family) => [
      card(family.baseline, "baseline"),
      family.candidates.map((c) => card(c.model, "candidate")),
    ]),
  ];
}
