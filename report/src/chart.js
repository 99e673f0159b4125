// A figure that is drawn again when its width changes, and what all figures share.
import { plot } from "@observablehq/plot";
import { h } from "./dom.js";

const SUPERSCRIPTS = {
  "-": "\u207b",
  0: "\u2070",
  1: "\u00b9",
  2: "\u00b2",
  3: "\u00b3",
  4: "\u2074",
  5: "\u2075",
  6: "\u2076",
  7: "\u2077",
  8: "\u2078",
  9: "\u2079",
};

/** 0.001 as 10⁻³; nothing for what is no power of ten. */
export function powerOfTen(value) {
  const power = Math.round(Math.log10(value));
  if (Math.abs(value / 10 ** power - 1) > 1e-9) return "";
  return "10" + [...String(power)].map((c) => SUPERSCRIPTS[c]).join("");
}

/** Log ticks: powers of ten; where the axis holds fewer than two, 1, 2, 5 as decimals. */
export function logTicks(low, high) {
  const ticks = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); ++p)
    ticks.push(10 ** p);
  const within = ticks.filter((t) => t >= low * 0.999 && t <= high * 1.001);
  if (within.length >= 2) return { ticks: within, tickFormat: powerOfTen };
  const fine = ticks.flatMap((t) => [t, 2 * t, 5 * t]).filter((t) => t >= low && t <= high);
  return { ticks: fine, tickFormat: (t) => String(Number(t.toPrecision(2))) };
}

/** Room around [low, high] on a log scale, at least a factor of two in all. */
export function logDomain(values) {
  const positive = values.filter((v) => v > 0 && Number.isFinite(v));
  if (positive.length === 0) return null;
  const low = Math.min(...positive);
  const high = Math.max(...positive);
  const room = Math.max((high / low) ** 0.06, low === high ? 1.5 : 1.05);
  return [low / room, high * room];
}

/** spec(width) → Observable Plot's options. `label` is what a screen reader says. */
export function chart(label, spec) {
  const holder = h("div", { class: "plot" });
  let drawn = 0;
  const draw = (width) => {
    if (width < 50 || Math.abs(width - drawn) < 2) return;
    drawn = width;
    const options = spec(width);
    const svg = plot({
      ...options,
      width,
      ariaLabel: label,
      style: { fontSize: "12px", background: "transparent", overflow: "visible" },
    });
    svg.setAttribute("role", "img");
    holder.replaceChildren(svg);
  };
  new ResizeObserver((entries) => draw(Math.floor(entries[0].contentRect.width))).observe(holder);
  return {
    element: holder,
    redraw: () => {
      drawn = 0;
      draw(Math.floor(holder.clientWidth));
    },
  };
}
