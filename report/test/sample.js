// Reports as accuracy-eval writes them (schema pare.eval/1), with made-up but plausible numbers:
// what the browser test feeds to the page. The same seed gives the same reports.
import { createHash } from "node:crypto";

const SUBJECTS = {
  STEM: "abstract_algebra astronomy college_biology college_chemistry college_computer_science college_mathematics college_physics computer_security conceptual_physics electrical_engineering elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science high_school_mathematics high_school_physics high_school_statistics machine_learning",
  humanities:
    "formal_logic high_school_european_history high_school_us_history high_school_world_history international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory professional_law world_religions",
  "social sciences":
    "econometrics high_school_geography high_school_government_and_politics high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality professional_psychology public_relations security_studies sociology us_foreign_policy",
  other:
    "anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology",
};
const LINEARS = [
  "self_attn.q_proj",
  "self_attn.k_proj",
  "self_attn.v_proj",
  "self_attn.o_proj",
  "mlp.gate_proj",
  "mlp.up_proj",
  "mlp.down_proj",
];
const LAYERS = 10;
const Z = 1.959964;

// Name, format, sparsity, bits, typical KL divergence, share of questions that flip.
const CANDIDATES = [
  ["fp8", "fp8", "none", 9.47, 0.0066, 0.006],
  ["int8-sq", "int8_sq", "none", 9.5, 0.0105, 0.008],
  ["int4-awq", "int4_awq", "none", 5.62, 0.041, 0.022],
  ["24-sparsegpt", "full_prec", "sparsegpt", 11.29, 0.21, 0.062],
  ["24-sparsegpt-int4-awq", "int4_awq", "sparsegpt", 5.11, 0.26, 0.075],
];

// Mulberry32: small, and the same everywhere.
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const around = (value, se) => ({ se, ci: [value - Z * se, value + Z * se] });

function measured(target, key, value, se) {
  target[key] = value;
  target[`${key}_se`] = se;
  target[`${key}_ci`] = [value - Z * se, value + Z * se];
}

function wilson(right, n) {
  const p = right / n;
  const centre = (p + (Z * Z) / (2 * n)) / (1 + (Z * Z) / n);
  const half = (Z * Math.sqrt((p * (1 - p)) / n + (Z * Z) / (4 * n * n))) / (1 + (Z * Z) / n);
  return { accuracy: p, accuracy_ci: [Math.max(0, centre - half), centre + half], n, right };
}

function histogram(kl, tokens) {
  const edges = [0];
  for (let i = 0; i <= 32; ++i) edges.push(10 ** (-6 + i * 0.25));
  const weights = edges.slice(1).map((edge, i) => {
    const middle = Math.log10((Math.max(edges[i], edge / 1.8) + edge) / 2);
    return Math.exp(-0.5 * ((middle - Math.log10(kl * 0.6)) / 0.62) ** 2);
  });
  const total = weights.reduce((a, b) => a + b);
  const counts = weights.map((w) => Math.floor((tokens * w) / total));
  counts[counts.indexOf(Math.max(...counts))] += tokens - counts.reduce((a, b) => a + b);
  return { edges, counts };
}

function slices(names, kl, tokens, random, shape) {
  return names.map((name, i) => {
    const mean = kl * shape(i) * (0.95 + 0.1 * random());
    const slice = {
      name,
      tokens: Math.floor(tokens / names.length),
      base_ppl: 60 * (1.4 - 0.06 * i),
      top1_agreement: 1 - Math.sqrt(mean) * 0.6,
    };
    slice.kl_mean = mean;
    slice.kl_mean_se = mean * 0.03;
    slice.ppl_ratio = 1 + mean * 0.9;
    slice.ppl_ratio_se = mean * 0.05;
    slice.top1_agreement_se = 0.001;
    return slice;
  });
}

function perplexity(base, kl, random) {
  const tokens = 331639;
  const result = {
    tokens,
    windows: 649,
    method: "windows of 512 tokens side by side, tail dropped, BOS once, positions 1…511 scored",
  };
  if (kl === null) {
    measured(result, "ppl", base, base * 0.0134);
    return result;
  }
  const ratio = 1 + kl * 0.32 * (0.9 + 0.2 * random());
  measured(result, "ppl", base * ratio, base * ratio * 0.0134);
  measured(result, "ppl_ratio", ratio, kl * 0.018 + 0.0002);
  measured(result, "ppl_difference", base * (ratio - 1), base * kl * 0.02);
  measured(result, "log_ratio", Math.log(ratio), kl * 0.018);
  result.log_ppl_correlation = 1 - kl * 0.02;
  result.relative_loss = ratio - 1;
  result.relative_loss_ci = result.ppl_ratio_ci.map((end) => end - 1);
  measured(result, "kl_mean", kl, kl * 0.008);
  for (const [name, factor] of [
    ["kl_median", 0.6],
    ["kl_p90", 2.2],
    ["kl_p95", 3.1],
    ["kl_p99", 6.2],
    ["kl_p999", 14],
  ]) {
    measured(result, name, kl * factor, kl * factor * 0.012);
  }
  result.kl_max = kl * 60;
  measured(result, "delta_p_mean", -kl * 0.04, kl * 0.003);
  measured(result, "delta_p_rms", Math.sqrt(kl) * 0.14, kl * 0.004);
  measured(result, "top1_agreement", 1 - Math.sqrt(kl) * 0.62, 0.0004);
  measured(result, "top5_agreement", 1 - Math.sqrt(kl) * 0.5, 0.0003);
  result.kl_histogram = histogram(kl, tokens);
  result.by_position = slices(
    ["1–15", "16–31", "32–63", "64–127", "128–255", "256–511"],
    kl,
    tokens,
    random,
    (i) => 1.5 - 0.12 * i,
  );
  result.by_token_class = slices(
    ["word start", "word continuation", "number", "punctuation", "newline", "other"],
    kl,
    tokens,
    random,
    (i) => [1, 0.8, 1.7, 0.45, 0.2, 1.2][i],
  );
  result.verdict = `a loss of ${(100 * result.relative_loss).toFixed(2)} % of the baseline's perplexity at 95 % (n = 331,639 tokens in 649 windows)`;
  return result;
}

// Groups of 100 to 600 questions; what a candidate loses and gains is spread over them.
function questions(groups, baseAccuracy, flips, random, base) {
  const result = { groups: {}, categories: {} };
  const sizes = generator(57); // of the subjects: those of the data, whatever the model
  const totals = { n: 0, right: 0, lost: 0, gained: 0 };
  for (const [category, names] of Object.entries(groups)) {
    const sum = { n: 0, right: 0 };
    for (const name of names) {
      const before = base && (base.groups?.[name] ?? base);
      const n = before ? before.n : groups.all ? 3270 : 100 + Math.floor(500 * sizes() ** 3);
      let right;
      if (before) {
        let lost = 0;
        let gained = 0;
        for (let i = 0; i < n; ++i) {
          const was = i < before.right;
          if (random() >= flips * (was ? 1 : groups.all ? 0.9 : 1.6)) continue;
          if (was) ++lost;
          else ++gained;
        }
        right = before.right - lost + gained;
        totals.lost += lost;
        totals.gained += gained;
      } else {
        right = Math.round(
          n * Math.min(0.97, Math.max(0.3, baseAccuracy + 0.34 * (random() - 0.5))),
        );
      }
      result.groups[name] = wilson(right, n);
      sum.n += n;
      sum.right += right;
    }
    result.categories[category] = wilson(sum.right, sum.n);
    totals.n += sum.n;
    totals.right += sum.right;
  }
  Object.assign(result, wilson(totals.right, totals.n));
  if (Object.keys(result.categories).length < 2) delete result.categories;
  if (Object.keys(result.groups).length < 2) delete result.groups;
  if (!base) return result;
  const discordant = totals.lost + totals.gained;
  const se = Math.sqrt(Math.max(discordant, 1)) / totals.n;
  result.difference = (totals.gained - totals.lost) / totals.n;
  result.difference_ci = around(result.difference, se).ci;
  result.relative_loss = 0 - result.difference / base.accuracy;
  result.relative_loss_ci = around(result.relative_loss, se / base.accuracy).ci;
  result.flips = { lost: totals.lost, gained: totals.gained };
  const z = Math.abs(totals.gained - totals.lost) / Math.sqrt(Math.max(discordant, 1));
  result.mcnemar_p = Math.min(1, 2 * Math.exp(-0.717 * z - 0.416 * z * z) * 0.5);
  const count = totals.n.toLocaleString("en");
  result.verdict =
    result.difference_ci[0] > 0
      ? `a gain of ${(100 * result.difference).toFixed(2)} percentage points of accuracy at 95 % (n = ${count} questions)`
      : result.difference_ci[1] < 0
        ? `a loss of ${(-100 * result.difference).toFixed(2)} percentage points of accuracy at 95 % (n = ${count} questions)`
        : `no loss detectable at n = ${count} questions; a loss above ${(-100 * result.difference_ci[0]).toFixed(2)} percentage points of accuracy is excluded at 95 %`;
  return result;
}

function layers(qformat, kl, random) {
  const found = [];
  for (let layer = 0; layer < LAYERS; ++layer) {
    LINEARS.forEach((linear, i) => {
      const edge = layer === 0 || layer === LAYERS - 1 ? 1.8 : 1;
      const mean = (kl / 70) * edge * [1, 0.5, 1.4, 1.2, 0.9, 0.8, 1.9][i] * (0.6 + 0.8 * random());
      const entry = {
        name: `model.layers.${layer}.${linear}`,
        shape: i < 4 ? [640, 640] : i < 6 ? [1792, 640] : [640, 1792],
        qformat,
        sqnr_db: 34 - 10 * Math.log10(kl / 0.0066) - 3 * edge + 6 * random() - (i === 6 ? 4 : 0),
      };
      measured(entry, "kl_mean", mean, mean * 0.04);
      found.push(entry);
    });
  }
  return found;
}

const GROUPS = Object.fromEntries(
  Object.entries(SUBJECTS).map(([category, names]) => [category, names.split(" ")]),
);
const TASKS = {
  mmlu: [GROUPS, 0.79],
  hellaswag: [{ all: ["hellaswag"] }, 0.41],
  boolq: [{ all: ["boolq"] }, 0.66],
};

function model(name, qformat, sparsity, bits) {
  const parameters = 57193600;
  return {
    name,
    qformat,
    kv_cache: "none",
    sparsity,
    parameters,
    bits_per_weight: bits,
    bytes: Math.round((parameters * bits) / 8),
    sha256: sha256(name + qformat),
    clamped_inputs: qformat === "int8_sq" ? 1834 : 0,
    quantized_inputs: qformat === "int8_sq" ? 92342272 : 0,
    tasks: {},
  };
}

/** One report. `tasks`: of perplexity, perplexity_llama, mmlu, hellaswag, boolq. */
export function report({
  seed = 1,
  baseline = "base",
  tasks = ["perplexity", "mmlu", "hellaswag", "boolq"],
  candidates = CANDIDATES,
  byLayer = true,
  warnings = true,
} = {}) {
  const random = generator(seed);
  const base = model(baseline, "bf16", "none", 16);
  const models = candidates.map(([name, qformat, sparsity, bits]) =>
    model(name, qformat, sparsity, bits + (seed - 1) * 0.1),
  );
  const described = [];
  for (const task of tasks) {
    const info = {
      name: task,
      data_sha256: sha256(`${task} data`),
      ids_sha256: sha256(`${task} ids`),
      seconds: 12.5,
    };
    if (task.startsWith("perplexity")) {
      base.tasks[task] = perplexity(65.0974 + seed, null, random);
      models.forEach(
        (m, i) => (m.tasks[task] = perplexity(65.0974 + seed, candidates[i][4], random)),
      );
      Object.assign(info, {
        kind: "perplexity",
        method: base.tasks[task].method,
        text_tokens: 332288,
        ctx: 512,
        stride: 512,
        windows: 649,
        tokens: 331639,
      });
    } else {
      const [groups, accuracy] = TASKS[task];
      base.tasks[task] = questions(groups, accuracy, 0, random, null);
      models.forEach(
        (m, i) =>
          (m.tasks[task] = questions(groups, accuracy, candidates[i][5], random, base.tasks[task])),
      );
      Object.assign(info, {
        kind: "questions",
        method:
          task === "mmlu"
            ? "log-likelihood of ' A' … ' D' after 5 examples of the subject"
            : "sum of the choice's log-probabilities, by length",
        shots: task === "mmlu" ? 5 : 0,
        fewer_shots: task === "mmlu" ? 23 : 0,
        prompt_tokens: 9123456,
        tokens_run: 1203944,
      });
    }
    described.push(info);
  }
  if (byLayer) {
    models.forEach((m, i) => {
      m.layers = layers(m.qformat, candidates[i][4], random);
      m.layer_tokens = 8176;
    });
    if (models.length) models[0].layers[5].sqnr_db = null;
  }
  return {
    schema: "pare.eval/1",
    version: "0.1.0",
    baseline: base,
    candidates: models,
    tasks: described,
    kernel: "avx512_core_amx",
    precision: "bf16",
    confidence: 0.95,
    warnings: warnings
      ? [
          "int8-sq: 1834 of 92342272 inputs (0.002 %) were outside the range of their static scale and were clamped",
          "W-LEAK: the calibration text of int4-awq and the evaluation text share 3 of 649 windows",
        ]
      : [],
    timings: { seconds: 812.2, peak_rss_bytes: 1932735283 },
    text_tokens: 332288,
    text_sha256: sha256("text"),
    ids_sha256: sha256("ids"),
  };
}

const HOSTILE = `</script><img src=x onerror="alert(1)"><b>&amp;\u2028\u202e"'`;

/** Name → list of reports: everything that the page has to cope with. */
export const SAMPLES = {
  full: () => [report()],
  "baseline-only": () => [report({ candidates: [], byLayer: false, warnings: false })],
  "perplexity-only": () => [report({ tasks: ["perplexity"], byLayer: false })],
  "two-baselines": () => [
    report(),
    report({ seed: 2, baseline: "instruct-3b", candidates: CANDIDATES.slice(0, 3) }),
  ],
  "split-runs": () => [
    report({ tasks: ["perplexity", "perplexity_llama"] }),
    report({ tasks: ["mmlu"], byLayer: false, warnings: false }),
  ],
  // The same model and text, other windows: no row may stand beside one of the other.
  "two-sizes": () => {
    const part = report({ tasks: ["perplexity"], byLayer: false, warnings: false });
    for (const model of [part.baseline, ...part.candidates]) {
      model.tasks.perplexity.windows = 8;
      model.tasks.perplexity.tokens = 4088;
    }
    part.candidates[0].tasks.perplexity.verdict = "undecided: n = 8 windows is too small";
    part.tasks[0].ids_sha256 = sha256("fewer ids");
    return [report({ tasks: ["perplexity"], byLayer: false }), part];
  },
  "as-good": () => {
    // A candidate that equals its baseline: zeros, empty intervals, no histogram to speak of.
    const one = report({ candidates: [["full", "full_prec", "none", 16, 0, 0]], warnings: false });
    for (const layer of one.candidates[0].layers) layer.sqnr_db = null;
    const result = one.candidates[0].tasks.perplexity;
    result.kl_histogram.counts = result.kl_histogram.counts.map((_, i) =>
      i === 0 ? result.tokens : 0,
    );
    result.kl_p999_ci = null;
    result.kl_p999_se = 0;
    return [one];
  },
  hostile: () => {
    const one = report({
      baseline: HOSTILE,
      candidates: CANDIDATES.slice(0, 2).map((c) => [
        HOSTILE + c[0],
        HOSTILE,
        c[2],
        c[3],
        c[4],
        c[5],
      ]),
    });
    one.warnings = [HOSTILE];
    one.tasks[1].method = HOSTILE;
    one.candidates[0].tasks.mmlu.verdict = HOSTILE;
    one.candidates[0].layers[3].name = HOSTILE;
    const groups = (m) => (m.tasks.mmlu.groups[HOSTILE] = m.tasks.mmlu.groups.anatomy);
    [one.baseline, ...one.candidates].forEach(groups);
    one.candidates[0].tasks["unheard_of"] = { accuracy: "no number" };
    return [one];
  },
  mixture: () => {
    // Experts: one column holds the worst of each layer.
    const one = report({ candidates: CANDIDATES.slice(2, 3), tasks: ["perplexity"] });
    const model = one.candidates[0];
    model.layers = model.layers.flatMap((layer) => {
      if (!layer.name.includes(".mlp.")) return [layer];
      return Array.from({ length: 8 }, (_, e) => ({
        ...layer,
        name: layer.name.replace(".mlp.", `.mlp.experts.${e}.`),
        sqnr_db: layer.sqnr_db + e / 4,
      }));
    });
    model.layers.push({ ...model.layers[0], name: "lm_head" });
    return [one];
  },
};
