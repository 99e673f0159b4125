// Numbers as text. A figure's element keeps the full number (data-value) and where it stands in the
// report (data-path), so that what is shown can be checked against the JSON and copied exactly.
import { h } from "./dom.js";
import { pathOf } from "./reports.js";

const MINUS = "\u2212";
export const NONE = "\u2013";

/** Fixed decimals, thousands grouped, a true minus sign, no minus before a zero. */
export function fixed(value, decimals) {
  const [whole, fraction] = Math.abs(value).toFixed(decimals).split(".");
  const digits = whole.replace(/\B(?=(\d{3})+$)/g, ",") + (fraction ? `.${fraction}` : "");
  return value < 0 && /[1-9]/.test(digits) ? MINUS + digits : digits;
}

function scientific(value, decimals) {
  return value.toExponential(decimals).replace(/-/g, MINUS).replace("e+", "e");
}

/** Kinds of figures: the factor to the unit shown, the unit, decimals. */
export const KINDS = {
  percent: { scale: 100, unit: "\u202f%", decimals: 2 },
  points: { scale: 100, unit: "", decimals: 2 },
  plain: { scale: 1, unit: "", decimals: 2 },
  ratio: { scale: 1, unit: "", decimals: 4 },
  nats: { scale: 1, unit: "", decimals: 4 },
  decibels: { scale: 1, unit: "", decimals: 1 },
  count: { scale: 1, unit: "", decimals: 0 },
  megabytes: { scale: 1e-6, unit: "", decimals: 1 },
  p: { scale: 1, unit: "", decimals: 3, tiny: 0.001 },
};

/** Position of the leading digit of the smallest of some sizes; nothing to show gives 0. */
function leadingDigit(values, scale) {
  const sizes = values.filter((v) => Number.isFinite(v) && v !== 0).map((v) => Math.abs(v) * scale);
  return sizes.length > 0 ? Math.floor(Math.log10(Math.min(...sizes))) : 0;
}

/**
 * The kind with as many decimals as show one digit of the smallest error, or, of figures without
 * errors, two digits of the smallest; six at most.
 */
export function kindFor(name, values, errors = []) {
  const kind = KINDS[name];
  if (kind.tiny || kind.decimals === 0) return kind;
  const known = errors.some((error) => error > 0);
  const needed = known ? -leadingDigit(errors, kind.scale) : 1 - leadingDigit(values, kind.scale);
  return { ...kind, decimals: Math.min(6, Math.max(kind.decimals, needed)) };
}

export function text(value, kind) {
  const shown = value * kind.scale;
  if (value !== 0 && kind.tiny && Math.abs(value) < kind.tiny) return scientific(shown, 1);
  return fixed(shown, kind.decimals) + kind.unit;
}

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export function asKind(kind) {
  return typeof kind === "string" ? KINDS[kind] : kind;
}

/** The figure object[key] as an element; a dash where the report has no number. */
export function figure(object, key, kind) {
  const value = object?.[key];
  if (!isNumber(value)) return h("span", { class: "none" }, NONE);
  const known = asKind(kind);
  return h(
    "data",
    {
      value,
      "data-value": value,
      "data-path": `${pathOf(object)}/${key}`,
      "data-scale": known.scale,
    },
    text(value, known),
  );
}

/** [lower, upper] of object[key], or nothing where there is none. */
export function interval(object, key, kind) {
  const ends = object?.[key];
  if (!Array.isArray(ends) || !ends.every(isNumber) || ends.length !== 2) return null;
  const bare = { ...asKind(kind), unit: "" };
  return h("span", { class: "ci" }, "[", figure(ends, 0, bare), ", ", figure(ends, 1, bare), "]");
}

/** ± of a standard error. Where the data give no interval, an error of 0 stands for an unknown one. */
export function standardError(object, key, kind) {
  if (!isNumber(object?.[key]) || object[key.replace(/_se$/, "_ci")] === null) return null;
  return h("span", { class: "ci" }, "\u00b1", figure(object, key, { ...asKind(kind), unit: "" }));
}

const FORMATS = {
  bf16: "BF16",
  fp8: "FP8",
  fp8_pc_pt: "FP8 per channel and token",
  fp8_block: "FP8 blocks",
  int8_sq: "INT8-SQ",
  int8_wo: "INT8 weights",
  int4_awq: "INT4-AWQ",
  int4_gptq: "INT4-GPTQ",
  int4_wo: "INT4 weights",
  w4a8_awq: "W4A8-AWQ",
  nvfp4: "NVFP4",
  mxfp4: "MXFP4",
  full_prec: "full precision",
};
const SPARSITIES = {
  magnitude: "2:4 magnitude",
  wanda: "2:4 Wanda",
  ria: "2:4 RIA",
  sparsegpt: "2:4 SparseGPT",
};

/** "INT4-AWQ + 2:4 SparseGPT" */
export function methodName(model) {
  const known = (table, name) => (Object.hasOwn(table, name) ? table[name] : String(name));
  const parts = [];
  const sparse = model.sparsity && model.sparsity !== "none";
  if (model.qformat && !(sparse && model.qformat === "full_prec"))
    parts.push(known(FORMATS, model.qformat));
  if (sparse) parts.push(known(SPARSITIES, model.sparsity));
  if (model.kv_cache && model.kv_cache !== "none")
    parts.push(`${known(FORMATS, model.kv_cache).toUpperCase()} cache`);
  return parts.join(" + ") || NONE;
}
