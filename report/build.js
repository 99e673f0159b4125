// Builds page.html from src/: one file, the same bytes from the same sources.
//
//   node build.js [OUT.html]
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
/** What the program replaces by the reports; eval/report_html.cpp has the same words. */
const REPORTS = `{"schema":"pare.compare/1","reports":[]}`;
const LIMIT = 400_000;

const options = {
  bundle: true,
  minify: true,
  write: false,
  charset: "ascii",
  legalComments: "none",
  target: "es2022",
  logLevel: "warning",
  absWorkingDir: here,
};
const script = await build({
  ...options,
  entryPoints: ["src/main.js"],
  format: "iife",
  metafile: true,
});
const style = await build({ ...options, entryPoints: ["src/style.css"] });

/** Name, version and licence text of every package in the bundle; equal texts once. */
function licences(inputs) {
  const packages = [
    ...new Set(
      Object.keys(inputs)
        .map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1])
        .filter(Boolean),
    ),
  ].sort();
  const texts = new Map();
  for (const name of packages) {
    const folder = join(here, "node_modules", name);
    const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    if (!file) throw new Error(`${name}: no licence file`);
    const text = readFileSync(join(folder, file), "utf8").trim();
    texts.set(text, [...(texts.get(text) ?? []), `${name} ${version} (${license})`]);
  }
  return [...texts].map(([text, names]) => `${names.join(", ")}\n\n${text}`).join("\n\n----\n\n");
}

const ascii = (text) => text.replace(/[^\x00-\x7f]/g, (c) => `&#${c.codePointAt(0)};`);
// esbuild leaves regular expressions as they are; \u means the same in them.
const code = script.outputFiles[0].text
  .trim()
  .replace(/[^\x00-\x7f]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
const css = style.outputFiles[0].text.trim();
const parts = {
  "@SCRIPT_HASH@": createHash("sha256").update(code).digest("base64"),
  "@LICENCES@": `This page holds these libraries:\n\n${ascii(licences(script.metafile.inputs)).replaceAll("-->", "-- >")}`,
  "@STYLE@": css,
  "@REPORTS@": REPORTS,
  "@SCRIPT@": code,
};
const page = readFileSync(join(here, "src/page.html"), "utf8").replace(
  /@[A-Z_]+@/g,
  (key) => parts[key],
);

function demand(condition, message) {
  if (!condition) throw new Error(`build.js: ${message}`);
}
demand(!/<\/script|<!--/i.test(code), "the script would end its own element");
demand(!/<\/style/i.test(css), "the style would end its own element");
demand(/^[\x00-\x7f]*$/.test(page), "the page is not ASCII");
demand(page.split(REPORTS).length === 2, "the place for the reports is not unique");
demand(!/@import|url\(\s*["']?(https?:)?\/\//i.test(css), "the style loads something");
demand(page.length < LIMIT, `${page.length} bytes are more than ${LIMIT}`);

const out = process.argv[2] ?? join(here, "page.html");
writeFileSync(out, page);
console.log(`${out}: ${page.length} bytes`);
