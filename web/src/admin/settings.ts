/** The settings of a node, as the page shows them: found, grouped and copied. Secrets never come here. */

export interface Setting {
  key: string;
  variable: string;
  value: unknown;
  default: unknown;
  changed: boolean;
  source: string | null;
  secret: boolean;
}

export interface Settings {
  node: string;
  settings: Setting[];
}

export interface Section {
  name: string;
  rows: Setting[];
}

const sectionOf = (key: string): string => key.split(".", 1)[0] ?? key;

/** A value as text; whatever it looks like, it is shown as that. */
export function valueText(value: unknown): string {
  if (value === null || value === undefined) return "unset";
  return typeof value === "string" && value !== "" ? value : JSON.stringify(value);
}

/**
 * By section, in the order of the answer.
 *
 * @param text every word must be in the key, the variable, the value or the source, whatever the case
 */
export function sectionsOf(settings: readonly Setting[], text: string, changedOnly: boolean): Section[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = new Map<string, Setting[]>();
  for (const setting of settings) {
    if (changedOnly && !setting.changed) continue;
    const all = [setting.key, setting.variable, valueText(setting.value), setting.source ?? ""].join("\n").toLowerCase();
    if (!words.every((word) => all.includes(word))) continue;
    const name = sectionOf(setting.key);
    const rows = found.get(name);
    if (rows === undefined) found.set(name, [setting]);
    else rows.push(setting);
  }
  return [...found].map(([name, rows]) => ({ name, rows }));
}

/** All values as JSON, by section as in the TOML file. */
export function asJson(settings: readonly Setting[]): string {
  const whole: Record<string, unknown> = {};
  for (const { key, value } of settings) {
    const name = sectionOf(key);
    if (name === key) whole[key] = value;
    else whole[name] = { ...(whole[name] as object | undefined), [key.slice(name.length + 1)]: value };
  }
  return JSON.stringify(whole, null, 2);
}
