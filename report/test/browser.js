// Opens the page in a headless Chromium, from disk and without a network, and checks it.
//
//   node test/browser.js              every sample of sample.js
//   node test/browser.js FILE.html …  pages that accuracy-eval --report wrote
//
// Screenshots of the first go to test/out.
import assert from "node:assert/strict";
import { accessSync, constants, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";
import {
  check,
  checkComplete,
  checkContrast,
  checkFigures,
  checkHeads,
  checkMaps,
  checkSettings,
  checkSorting,
  checkWidth,
  equal,
  passed,
  settled,
  visible,
} from "./checks.js";
import { SAMPLES } from "./sample.js";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "out");
const PLACE = `{"schema":"pare.compare/1","reports":[]}`;
const LAPTOP = { width: 1366, height: 768 };
const PHONE = { width: 390, height: 844, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };

function findBrowser() {
  const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
  for (const name of names) {
    for (const folder of process.env.PATH.split(delimiter)) {
      try {
        accessSync(join(folder, name), constants.X_OK);
        return join(folder, name);
      } catch {
        // Not here.
      }
    }
  }
  throw new Error(
    `no browser: none of ${names.join(", ")} is on the PATH; install Debian's chromium`,
  );
}

/** As report_page() does. */
function pageOf(reports) {
  const json = JSON.stringify({ schema: "pare.compare/1", reports }).replace(
    /[<>&\u2028\u2029]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  const page = readFileSync(join(here, "../page.html"), "utf8");
  assert.equal(page.split(PLACE).length, 2);
  return page.replace(PLACE, () => json);
}

async function open(browser, path, viewport, faults) {
  const page = await browser.newPage();
  await page.setViewport(viewport);
  await page.setOfflineMode(true);
  page.on("console", (message) => faults.push(`console ${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => faults.push(`page error: ${error.message}`));
  page.on("dialog", (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => {
    if (request.url() !== pathToFileURL(path).href) faults.push(`request: ${request.url()}`);
  });
  await page.goto(pathToFileURL(path).href, { waitUntil: "load" });
  await settled(page);
  return page;
}

async function checkSample(browser, name, path, screenshots) {
  const faults = [];
  const page = await open(browser, path, LAPTOP, faults);
  const document = JSON.parse(await page.$eval("#pare-reports", (e) => e.textContent));
  equal(document.schema, "pare.compare/1");
  check(document.reports.length > 0, "reports");
  check(
    await page.evaluate(() => "ready" in window.document.documentElement.dataset),
    `${name}: ${faults.join("; ")}`,
  );

  await page.$$eval("details", (all) => all.forEach((e) => (e.open = true)));
  await settled(page);
  const figures = await checkFigures(page, document);
  checkComplete(document, figures);
  await checkHeads(page);
  const tables = await checkSorting(page);
  await checkWidth(page, name);

  // What is there shows; what is not leaves nothing behind.
  const compared = document.reports.flatMap((r) => r.candidates);
  const sections = await page.$$eval("section", (all) => all.map((s) => s.id));
  equal(sections.includes("loss"), compared.length > 0);
  equal(
    sections.includes("divergence"),
    compared.some((c) => Object.values(c.tasks).some((t) => t.kl_mean !== undefined)),
  );
  equal(
    sections.includes("subjects"),
    compared.some((c) =>
      Object.values(c.tasks).some((t) => Object.keys(t.groups ?? {}).length > 1),
    ),
  );
  equal(
    sections.includes("layers"),
    compared.some((c) => c.layers?.length > 0),
  );
  const warnings = document.reports.flatMap((r) => r.warnings ?? []);
  equal(await page.$$eval(".warnings li", (all) => all.length), warnings.length);
  const shown = await page.evaluate(() => window.document.querySelector("main").textContent);
  for (const warning of warnings) check(shown.includes(visible(warning)), warning);
  for (const verdict of compared
    .flatMap((c) => Object.values(c.tasks))
    .map((t) => t.verdict)
    .filter(Boolean))
    check(shown.includes(visible(verdict)), verdict);
  check(
    !/\b(NaN|undefined|null|Infinity|\[object)/.test(shown),
    `${name}: ${/.{40}\b(NaN|undefined|null|Infinity|\[object).{20}/s.exec(shown)?.[0]}`,
  );

  await checkSettings(page, document);
  await checkMaps(page, compared);
  equal(
    await page.$$eval(".plot", (all) => all.filter((p) => !p.querySelector("svg")).length),
    0,
    "every figure is drawn",
  );
  equal(
    await page.$$eval(
      ".plot svg path, .plot svg line",
      (all) => all.filter((p) => /NaN|undefined/.test(p.outerHTML)).length,
    ),
    0,
    "no broken path",
  );
  equal(
    await page.$$eval(
      "[onclick],[onerror],[onload],img,iframe,object,embed,link,script[src]",
      (all) => all.length,
    ),
    0,
    "nothing foreign",
  );
  equal(
    await page.evaluate(() => {
      const ids = [...window.document.querySelectorAll("[id]")].map((e) => e.id);
      return ids.length - new Set(ids).size;
    }),
    0,
    "ids are unique",
  );

  // Every choice of the selects draws.
  for (const values of await page.$$eval("select", (all) =>
    all.map((s) => [...s.options].map((o) => o.value)),
  )) {
    for (const value of values)
      await page.$eval(
        "select",
        (s, v) => {
          s.value = v;
          s.dispatchEvent(new Event("change"));
        },
        value,
      );
    await page.$eval("select", (s) => {
      s.selectedIndex = [...s.options].findIndex((o) => o.defaultSelected);
      s.dispatchEvent(new Event("change"));
    });
  }

  await checkContrast(page, "light");
  await page.$$eval("details", (all) => all.forEach((e) => (e.open = false)));
  if (screenshots)
    await page.screenshot({ path: join(out, `${screenshots}-laptop-light.png`), fullPage: true });
  const paper = () =>
    page.evaluate(() => getComputedStyle(window.document.documentElement).backgroundColor);
  const light = await paper();
  await page.click("#theme");
  check((await paper()) !== light, "the button changes the theme");
  await checkContrast(page, "dark");
  if (screenshots)
    await page.screenshot({ path: join(out, `${screenshots}-laptop-dark.png`), fullPage: true });
  await page.click("#theme");
  equal(await paper(), light, "and back");
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  check(
    (await page.evaluate(() => {
      delete window.document.documentElement.dataset.theme;
      return getComputedStyle(window.document.documentElement).backgroundColor;
    })) !== light,
    "dark by preference",
  );
  const pdf = await page.pdf({ format: "A4", printBackground: false });
  if (screenshots) writeFileSync(join(out, `${screenshots}.pdf`), pdf);
  await page.close();

  const phone = await open(browser, path, PHONE, faults);
  await checkWidth(phone, `${name} on a phone`);
  if (screenshots)
    await phone.screenshot({ path: join(out, `${screenshots}-phone.png`), fullPage: true });
  await phone.close();
  equal(faults, [], `${name}: silence`);
  return { name, tables, figures: figures.length };
}

const browser = await puppeteer.launch({
  executablePath: findBrowser(),
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--font-render-hinting=none"],
});
try {
  mkdirSync(out, { recursive: true });
  const given = process.argv.slice(2).map((path) => [path, resolve(path)]);
  const samples =
    given.length > 0
      ? given
      : Object.entries(SAMPLES).map(([name, make]) => {
          const path = join(out, `${name}.html`);
          writeFileSync(path, pageOf(make()));
          return [name, path];
        });
  for (const [i, [name, path]] of samples.entries()) {
    const found = await checkSample(
      browser,
      name,
      path,
      i === 0 || name === "two-baselines" ? (given.length ? "given" : name) : null,
    );
    console.log(`${found.name}: ${found.tables} tables, ${found.figures} figures`);
  }
  console.log(`${passed()} checks passed`);
} finally {
  await browser.close();
}
