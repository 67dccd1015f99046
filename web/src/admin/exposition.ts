/** Prometheus' text format, as far as it is needed: https://prometheus.io/docs/instrumenting/exposition_formats/ */

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPED: Record<string, string> = { "\\n": "\n", '\\"': '"', "\\\\": "\\" };

/** The samples of a scrape; comments and what does not parse are left out. */
export function samplesOf(text: string): Sample[] {
  const found: Sample[] = [];
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (match === null) continue;
    const labels: Record<string, string> = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(LABEL)) {
      labels[name as string] = (value as string).replace(/\\[n"\\]/g, (pair) => ESCAPED[pair] as string);
    }
    const value = match[3] === "+Inf" ? Infinity : Number(match[3]);
    if (!Number.isNaN(value)) found.push({ name: match[1] as string, labels, value });
  }
  return found;
}

/** The buckets of a histogram by a label, each with how many were not above its bound (cumulative, as scraped). */
export function histograms(
  samples: Sample[],
  name: string,
  label: string,
): Record<string, { le: number; count: number }[]> {
  const found: Record<string, { le: number; count: number }[]> = {};
  for (const sample of samples) {
    const bound = sample.labels["le"];
    if (sample.name !== `${name}_bucket` || bound === undefined) continue;
    const le = bound === "+Inf" ? Infinity : Number(bound);
    (found[sample.labels[label] ?? ""] ??= []).push({ le, count: sample.value });
  }
  for (const buckets of Object.values(found)) buckets.sort((a, b) => a.le - b.le);
  return found;
}
