// What has to hold in a page, whatever reports it shows. Each throws at the first fault.
import assert from "node:assert/strict";

/** What the page shows of a text: marks that turn its direction are replaced. */
export const visible = (text) => text.replace(/[\u202a-\u202e]/g, "\ufffd");

let checks = 0;
/** How many have passed. */
export const passed = () => checks;
export const check = (condition, message) => {
  assert.ok(condition, message);
  ++checks;
};
export const equal = (found, expected, message) => {
  assert.deepEqual(found, expected, message);
  ++checks;
};

/** Two frames: figures draw when their size is known. */
export const settled = (page) =>
  page.evaluate(
    () =>
      new Promise((done) =>
        requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))),
      ),
  );

const at = (document, path) =>
  path
    .split("/")
    .slice(1)
    .reduce((value, key) => value[key.replaceAll("~1", "/").replaceAll("~0", "~")], document);

/** Every figure's data-value is the JSON's number to the last bit; its text is that number rounded. */
export async function checkFigures(page, document) {
  const figures = await page.$$eval("data[data-value]", (all) =>
    all.map((e) => ({ ...e.dataset, text: e.textContent })),
  );
  for (const figure of figures) {
    const value = Number(figure.value);
    if (figure.path) equal(value, at(document, figure.path), figure.path);
    if (figure.path?.endsWith("_se")) {
      const ends = at(document, figure.path.replace(/_se$/, "_ci"));
      check(ends !== null, `${figure.path} is unknown`);
    }
    if (figure.minuend)
      equal(value, at(document, figure.minuend) - at(document, figure.subtrahend), figure.minuend);
    const text = figure.text
      .replaceAll("\u2212", "-")
      .replaceAll(",", "")
      .replace(/[\u202f ]?(%|s)$/, "");
    check(/^[+-]?\d+(\.\d+)?(e-?\d+)?$/.test(text), `"${figure.text}" is a number`);
    const shown = value * Number(figure.scale);
    const [mantissa, exponent] = text.split("e");
    const unit = 10 ** (Number(exponent ?? 0) - (mantissa.split(".")[1]?.length ?? 0));
    check(
      Math.abs(Number(text) - shown) <= 0.5 * unit * (1 + 1e-6) + 1e-12 * Math.abs(shown),
      `"${figure.text}" rounds ${shown}`,
    );
  }
  return figures;
}

/** No figure of the report that belongs into a table is missing there. */
export function checkComplete(document, figures) {
  const shown = new Set(figures.map((f) => f.path));
  const keys = [
    "ppl",
    "ppl_ratio",
    "kl_mean",
    "kl_median",
    "kl_p90",
    "kl_p95",
    "kl_p99",
    "kl_p999",
    "kl_max",
    "delta_p_mean",
    "delta_p_rms",
    "top1_agreement",
    "top5_agreement",
    "accuracy",
    "relative_loss",
    "difference",
    "mcnemar_p",
  ];
  document.reports.forEach((report, r) => {
    for (const [place, model] of [
      ["baseline", report.baseline],
      ...report.candidates.map((c, i) => [`candidates/${i}`, c]),
    ]) {
      for (const [task, result] of Object.entries(model.tasks)) {
        if (report.baseline.tasks[task] === undefined) continue;
        for (const key of keys) {
          if (typeof result[key] === "number")
            check(
              shown.has(`/reports/${r}/${place}/tasks/${task}/${key}`),
              `${place} ${task} ${key} is shown`,
            );
          if (
            Array.isArray(result[`${key}_ci`]) &&
            (key === "relative_loss" || key === "ppl_ratio")
          ) {
            check(
              shown.has(`/reports/${r}/${place}/tasks/${task}/${key}_ci/1`),
              `${place} ${task} ${key}_ci is shown`,
            );
          }
        }
      }
      (model.layers ?? []).forEach((layer, i) =>
        check(
          layer.kl_mean === undefined || shown.has(`/reports/${r}/${place}/layers/${i}/kl_mean`),
          `${layer.name} is shown`,
        ),
      );
    }
  });
}

/** Under each head stands what it says, and a row tells of one candidate. */
export async function checkHeads(page) {
  const keys = {
    Loss: ["relative_loss"],
    Ratio: ["ppl_ratio"],
    "KL mean": ["kl_mean"],
    "KL median": ["kl_median"],
    Median: ["kl_median"],
    "KL 99\u202f%": ["kl_p99"],
    "90\u202f%": ["kl_p90"],
    "95\u202f%": ["kl_p95"],
    "99\u202f%": ["kl_p99"],
    "99.9\u202f%": ["kl_p999"],
    Maximum: ["kl_max"],
    "\u0394p, %": ["delta_p_mean"],
    "\u0394p mean, %": ["delta_p_mean"],
    "\u0394p RMS, %": ["delta_p_rms"],
    "Top-1": ["top1_agreement"],
    "Top-5": ["top5_agreement"],
    Baseline: ["ppl", "accuracy"],
    After: ["ppl", "accuracy"],
    Points: ["difference"],
    Lost: ["lost"],
    Gained: ["gained"],
    "McNemar p": ["mcnemar_p"],
    Bits: ["bits_per_weight"],
    "Size, MB": ["bytes"],
    n: ["n"],
    "SQNR, dB": ["sqnr_db"],
    "KL, nats": ["kl_mean"],
    Count: ["tokens"],
  };
  const found = await page.$$eval("table.figures", (tables) =>
    tables.flatMap((table) =>
      [...table.tBodies[0].rows].map((row) =>
        [...row.cells].map((cell, i) => ({
          head: table.tHead.rows[0].cells[i].textContent,
          heat: table.classList.contains("heat"),
          path: cell.querySelector("data[data-path]")?.dataset.path,
        })),
      ),
    ),
  );
  for (const row of found) {
    for (const { head, path, heat } of row.filter((cell) => cell.path && keys[cell.head])) {
      check(keys[head].includes(path.split("/").at(-1)), `"${head}" shows ${path}`);
      if (!heat)
        check(
          (head === "Baseline") === path.includes("/baseline/") ||
            !row.some((cell) => cell.path?.includes("/candidates/")),
          `"${head}" shows ${path}`,
        );
    }
    const models = new Set(
      row.map((cell) => /\/candidates\/\d+/.exec(cell.path ?? "")?.[0]).filter(Boolean),
    );
    check(models.size <= 1 || row.length === 0, `one row, one candidate: ${[...models]}`);
  }
}

/** In a task's table, rows of one baseline rest on the same token ids. */
export async function checkSettings(page, document) {
  const tables = await page.$$eval('table[id^="table-"]', (all) =>
    all.map((table) =>
      [...table.tBodies[0].rows].map((row) => row.querySelector("data[data-path]").dataset.path),
    ),
  );
  for (const paths of tables) {
    const ids = new Map();
    for (const path of paths) {
      const [, , r, ...rest] = path.split("/");
      const report = document.reports[r];
      const task = report.tasks.find(({ name }) => name === rest[rest.indexOf("tasks") + 1]);
      const baseline = report.baseline.name + report.baseline.sha256;
      if (ids.has(baseline)) equal(task.ids_sha256, ids.get(baseline), `${path} has other inputs`);
      ids.set(baseline, task.ids_sha256);
    }
  }
  const titles = await page.$$eval(".task h3", (all) => all.map((title) => title.textContent));
  equal(new Set(titles).size, titles.length, `titles tell apart: ${titles}`);
}

export async function checkSorting(page) {
  const tables = await page.$$eval("table.figures", (all) => all.length);
  const found = await page.evaluate(() => {
    const faults = [];
    for (const table of document.querySelectorAll("table.figures")) {
      const rows = () => [...table.tBodies[0].rows];
      const before = rows();
      [...table.tHead.rows[0].cells].forEach((head, column) => {
        const keys = () =>
          rows()
            .map((row) => {
              const figure = row.cells[column].querySelector("data[data-value]");
              return figure ? Number(figure.dataset.value) : null;
            })
            .filter((key) => key !== null);
        const button = head.querySelector("button");
        for (const [order, sign] of [
          ["ascending", 1],
          ["descending", -1],
        ]) {
          button.click();
          if (head.getAttribute("aria-sort") !== order)
            faults.push(`${table.id} ${column}: aria-sort`);
          if (
            [...table.querySelectorAll("th[aria-sort]")].filter(
              (th) => th.getAttribute("aria-sort") !== "none",
            ).length !== 1
          )
            faults.push("two columns sorted");
          if (!head.classList.contains("num")) continue;
          const found = keys();
          if (found.some((key, i) => i > 0 && sign * (found[i - 1] - key) > 0))
            faults.push(`${table.id} ${column} ${order}: ${found}`);
        }
        button.click();
        if (rows().some((row, i) => row !== before[i]))
          faults.push(`${table.id} ${column}: order not restored`);
      });
    }
    return faults;
  });
  equal(found, [], "sorting");
  return tables;
}

/** WCAG AA of all visible text against the nearest background: 4.5 to 1, large text 3 to 1. */
export async function checkContrast(page, theme) {
  const poor = await page.evaluate(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = ([r, g, b]) =>
      [r, g, b]
        .map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const known = new Map();
    const of = (colour) => known.get(colour) ?? known.set(colour, rgba(colour)).get(colour);
    const poor = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (
        !walker.currentNode.data.trim() ||
        ["SCRIPT", "STYLE", "NOSCRIPT"].includes(element.tagName) ||
        !element.checkVisibility()
      )
        continue;
      let behind = element;
      while (behind && of(getComputedStyle(behind).backgroundColor)[3] < 255)
        behind = behind.parentElement;
      const style = getComputedStyle(element);
      const svg = element.ownerSVGElement;
      const [a, b] = [
        luminance(of(svg ? style.fill.replace("currentcolor", style.color) : style.color)),
        luminance(of(behind ? getComputedStyle(behind).backgroundColor : "white")),
      ];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const large =
        parseFloat(style.fontSize) >= 24 ||
        (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (large ? 3 : 4.5))
        poor.add(
          `${ratio.toFixed(2)} ${element.tagName}.${element.className?.baseVal ?? element.className}`,
        );
    }
    return [...poor];
  });
  equal(poor, [], `${theme}: contrast`);
}

export async function checkWidth(page, name) {
  const { wide, client } = await page.evaluate(() => ({
    wide: document.documentElement.scrollWidth,
    client: document.documentElement.clientWidth,
  }));
  check(wide <= client, `${name}: the page is ${wide} wide in a window of ${client}`);
}

export async function checkMaps(page, candidates) {
  const withLayers = candidates.filter((c) => c.layers?.length > 0);
  // One cell for each linear; experts of a layer share one.
  const expected = withLayers.map(
    (c) => new Set(c.layers.map((l) => l.name.replace(/(layers\.\d+\..*?)\.\d+\./, "$1.*."))).size,
  );
  const cells = () =>
    page.$$eval(".map", (maps) => maps.map((m) => m.querySelectorAll("td[data-row]").length));
  equal(await cells(), expected, "a cell for each linear");
  if (withLayers.length === 0) return;
  const texts = () =>
    page.$$eval(".map td[data-row]", (all) => all.map((td) => td.textContent).join(" "));
  const before = await texts();
  const radios = await page.$$('input[type="radio"]');
  if (radios.length > 1) {
    await radios[1].click();
    check((await texts()) !== before, "the switch changes the numbers");
    await radios[0].click();
    equal(await texts(), before);
  }
  await page.focus('.map td[tabindex="0"]');
  const readout = () => page.$eval(".map-holder .readout", (e) => e.textContent);
  const first = await readout();
  await page.keyboard.press("ArrowDown");
  check(
    (await readout()) !== first && (await readout()).length > 10,
    "arrow keys move through the map",
  );
}
