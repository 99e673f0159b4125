// The reports in the page, sorted into what the sections show:
//
//   family    a baseline and all candidates that were compared with it, in one report or several
//   setting   a task as it was run: results of equal settings stand in one table
//
// Reports are read as they come: a key that is absent or of another type shows as nothing.

const paths = new WeakMap();

/** Where an object stands: "/reports/0/baseline/tasks/mmlu", keys escaped as in a JSON pointer. */
export const pathOf = (object) => paths.get(object);

function remember(value, path, depth) {
  if (value === null || typeof value !== "object" || depth > 12) return;
  paths.set(value, path);
  for (const key of Object.keys(value)) {
    remember(value[key], `${path}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`, depth + 1);
  }
}

const list = (value) => (Array.isArray(value) ? value : []);
export const object = (value) => (value !== null && typeof value === "object" ? value : {});

const TITLES = {
  perplexity: "Perplexity",
  perplexity_gptq: "Perplexity, GPTQ convention",
  perplexity_llama: "Perplexity, llama.cpp convention",
  perplexity_strided: "Perplexity, strided",
  mmlu: "MMLU",
  hellaswag: "HellaSwag",
  piqa: "PIQA",
  arc_easy: "ARC-Easy",
  arc_challenge: "ARC-Challenge",
  winogrande: "WinoGrande",
  boolq: "BoolQ",
  lambada: "LAMBADA",
};
export const titleOf = (task) => (Object.hasOwn(TITLES, task) ? TITLES[task] : task);

function identity(model) {
  return JSON.stringify([model.sha256 ?? null, model.name ?? null]);
}

/** {reports, families, settings, warnings} of the page's document. */
export function arrange(documentJson) {
  remember(documentJson, "", 0);
  const reports = list(documentJson.reports).map(object);
  const families = new Map();
  const settings = [];
  const warnings = [];

  for (const report of reports) {
    const baseline = object(report.baseline);
    const key = identity(baseline);
    if (!families.has(key)) families.set(key, { baseline, candidates: new Map(), reports: [] });
    const family = families.get(key);
    family.reports.push(report);
    for (const candidate of list(report.candidates).map(object)) {
      const id = identity(candidate);
      if (!family.candidates.has(id)) {
        family.candidates.set(id, {
          family,
          index: family.candidates.size,
          model: candidate,
          models: [],
        });
      }
      family.candidates.get(id).models.push(candidate);
    }
    for (const task of tasksOf(report)) addSetting(settings, family, report, task);
    for (const warning of list(report.warnings)) warnings.push({ family, text: String(warning) });
  }
  for (const family of families.values()) family.candidates = [...family.candidates.values()];
  return {
    reports,
    families: [...families.values()],
    settings: distinct(settings),
    warnings,
  };
}

/** Descriptions of a report's tasks; what has results but no description gets a bare one. */
function tasksOf(report) {
  const described = list(report.tasks)
    .map(object)
    .filter((task) => task.name !== undefined);
  const names = new Set(described.map((task) => task.name));
  const rest = Object.keys(object(report.baseline?.tasks)).filter((name) => !names.has(name));
  return [...described, ...rest.map((name) => ({ name }))];
}

/** Settings of one task get what tells them apart into their titles. */
function distinct(settings) {
  const size = ({ perplexity, runs }) =>
    perplexity ? `${runs[0].base.windows} windows` : `${runs[0].base.n} questions`;
  const suffixes = [size, ({ runs }) => String(runs[0].report.precision), null];
  for (const title of new Set(settings.map((setting) => setting.title))) {
    const twins = settings.filter((setting) => setting.title === title);
    if (twins.length === 1) continue;
    const suffix = suffixes.find((of) => !of || new Set(twins.map(of)).size === twins.length);
    twins.forEach((setting, i) => {
      setting.title = `${title} (${suffix ? suffix(setting) : i + 1})`;
    });
  }
  return settings;
}

function addSetting(settings, family, report, task) {
  const name = String(task.name);
  const result = (model) =>
    Object.hasOwn(object(model.tasks), name) ? object(model.tasks[name]) : null;
  const base = result(object(report.baseline));
  if (!base) return;
  const perplexity = task.kind === "perplexity" || "ppl" in base;
  const words = [name, task.data_sha256, task.method ?? base.method, task.shots, base.n];
  const kind = JSON.stringify([...words, report.precision]);
  // Token ids differ from one tokenizer to the next, so models with other ones share a table. One
  // model has one tokenizer: other ids are other inputs, such as fewer windows.
  const fits = (setting) =>
    setting.kind === kind &&
    setting.runs.every((run) => run.family !== family || run.task.ids_sha256 === task.ids_sha256);
  let setting = settings.find(fits);
  if (!setting) {
    setting = { kind, name, title: titleOf(name), perplexity, task, rows: [], runs: [] };
    settings.push(setting);
  }
  setting.runs.push({ family, report, task, base });
  for (const model of list(report.candidates).map(object)) {
    const found = result(model);
    if (found)
      setting.rows.push({
        family,
        report,
        model,
        base,
        result: found,
        candidate: family.candidates.get(identity(model)),
      });
  }
}
