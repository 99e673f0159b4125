// Reads the reports that the program has put into the page, and shows them.
import { clean, h } from "./dom.js";
import { divergenceSection } from "./divergence.js";
import { methodName } from "./format.js";
import { layersSection } from "./layers.js";
import { lossSection } from "./loss.js";
import { methodsSection } from "./methods.js";
import { arrange } from "./reports.js";
import { labelOf, swatch } from "./series.js";
import { subjectsSection } from "./subjects.js";
import { overview, taskSections } from "./tasks.js";

function countOf(n, word) {
  return `${n} ${word}${n === 1 ? "" : "s"}`;
}

function subtitle({ families }) {
  return families.map((family) => {
    const name = h("b", null, String(family.baseline.name));
    const format = ` (${methodName(family.baseline)})`;
    if (family.candidates.length === 0)
      return h("p", null, "Measured: ", name, format, ", a baseline without candidates.");
    return h(
      "p",
      null,
      `${countOf(family.candidates.length, "compressed model")} compared with `,
      name,
      format,
      " on the same inputs.",
    );
  });
}

/** Of each family the sentence of the task that counts most: questions first, MMLU before others. */
function headline({ settings, families }) {
  return families.map((family) => {
    const of = settings.filter((s) =>
      s.rows.some((row) => row.family === family && typeof row.result.verdict === "string"),
    );
    const setting = of.find((s) => s.name === "mmlu") ?? of.find((s) => !s.perplexity) ?? of[0];
    if (!setting) return null;
    return h(
      "div",
      { class: "headline" },
      h("h2", null, families.length > 1 ? `${family.baseline.name}, ` : "", setting.title),
      h(
        "ul",
        null,
        setting.rows
          .filter((row) => row.family === family)
          .map((row) =>
            h(
              "li",
              null,
              swatch(row.candidate),
              h("div", null, h("b", null, labelOf(row.candidate)), ": ", row.result.verdict ?? ""),
            ),
          ),
      ),
    );
  });
}

function warningsBox({ warnings, families }) {
  if (warnings.length === 0) return null;
  return h(
    "aside",
    { class: "warnings", "aria-label": "Warnings" },
    h("h2", null, countOf(warnings.length, "warning")),
    h(
      "ul",
      null,
      warnings.map((w) =>
        h("li", null, families.length > 1 ? `${w.family.baseline.name}: ` : "", w.text),
      ),
    ),
  );
}

function themeButton() {
  const root = document.documentElement;
  const dark = () =>
    root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
  const button = h("button", {
    type: "button",
    id: "theme",
    click: () => {
      root.dataset.theme = dark() ? "light" : "dark";
      name();
    },
  });
  const name = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `${button.textContent} theme`);
  };
  name();
  return button;
}

function show() {
  const main = document.querySelector("main");
  const text = document.getElementById("pare-reports").textContent;
  const arranged = arrange(JSON.parse(text));
  if (arranged.reports.length === 0) {
    main.append(
      h(
        "p",
        null,
        "This page holds no report: accuracy-eval --report FILE.html writes one that does.",
      ),
    );
    return;
  }
  // In the order of reading: tables and figures are numbered as they are made.
  const summary = [
    subtitle(arranged),
    warningsBox(arranged),
    headline(arranged),
    overview(arranged),
  ];
  const sections = [
    taskSections,
    lossSection,
    divergenceSection,
    subjectsSection,
    layersSection,
    methodsSection,
  ]
    .map((make) => make(arranged))
    .filter(Boolean);
  const links = sections.map((s) =>
    h("li", null, h("a", { href: `#${s.id}` }, s.querySelector("h2").textContent)),
  );
  document.title = clean(
    `What compression cost: ${arranged.families.map((f) => f.baseline.name).join(", ")}`,
  );
  document
    .querySelector("header")
    .append(h("nav", { "aria-label": "Sections" }, h("ul", null, links)), themeButton());
  main.append(
    h("h1", null, "What compression cost"),
    ...summary.flat(Infinity).filter(Boolean),
    ...sections,
  );
  document.documentElement.dataset.ready = "";
}

show();
