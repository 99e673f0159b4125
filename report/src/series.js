// How a candidate looks in every figure: colour, symbol and dash together, so that no figure needs
// colour vision. Colours are CSS variables and follow the theme without drawing again.
import { clean, h } from "./dom.js";
import { methodName } from "./format.js";

const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "cross", "wye", "hexagon"];
const DASHES = ["none", "6 2", "2 2", "8 3 2 3", "1 3", "10 4", "4 4", "none"];
const COLOURS = 8;

export const colourOf = (candidate) => `var(--s${candidate.index % COLOURS})`;
export const symbolOf = (candidate) =>
  SYMBOLS[(candidate.index + Math.floor(candidate.index / COLOURS)) % SYMBOLS.length];
export const dashOf = (candidate) => DASHES[candidate.index % DASHES.length];

/** The shortest name that tells candidates apart: the method, with the file's name where two agree. */
export function labelOf(candidate) {
  const method = methodName(candidate.model);
  const twins = candidate.family.candidates.filter((other) => methodName(other.model) === method);
  return clean(twins.length > 1 ? `${method} (${candidate.model.name})` : method);
}

const PATHS = {
  circle: "M6 1.5a4.5 4.5 0 1 0 .01 0z",
  square: "M2 2h8v8H2z",
  triangle: "M6 1l5 9H1z",
  diamond: "M6 .5L11 6 6 11.5 1 6z",
  star: "M6 .5l1.5 3.6 4 .3-3 2.5 1 3.9L6 8.7 2.5 10.8l1-3.9-3-2.5 4-.3z",
  cross: "M4.3 1h3.4v3.3H11v3.4H7.7V11H4.3V7.7H1V4.3h3.3z",
  wye: "M6 6l4-3 1.5 2L7.5 7.5V11.5h-3V7.5L.5 5 2 3z",
  hexagon: "M6 .5l4.8 2.75v5.5L6 11.5 1.2 8.75v-5.5z",
};
const SVG = "http://www.w3.org/2000/svg";

export function swatch(candidate) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of [
    ["viewBox", "0 0 12 12"],
    ["class", "swatch"],
    ["aria-hidden", "true"],
  ])
    svg.setAttribute(name, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[symbolOf(candidate)]);
  path.setAttribute("fill", colourOf(candidate));
  svg.append(path);
  return svg;
}

export function legend(candidates) {
  return h(
    "ul",
    { class: "legend" },
    candidates.map((c) => h("li", null, swatch(c), labelOf(c))),
  );
}
