/** The server's own figures, as `/v1/stats` tells them. */

import type { Session } from "../session";

export function Figures({ session }: { session: Session }) {
  const figures = session.stats.value === null ? [] : flatten(session.stats.value);
  if (figures.length === 0) return null;
  return (
    <details class="figures">
      <summary>The server's figures</summary>
      <dl>
        {figures.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}

/** Every number and text of a nested object under its dotted path. */
function flatten(value: Record<string, unknown>, path = ""): [string, string][] {
  return Object.entries(value).flatMap(([key, item]): [string, string][] => {
    const name = path === "" ? key : `${path}.${key}`;
    if (typeof item === "number") return [[name, item.toLocaleString()]];
    if (typeof item === "string" || typeof item === "boolean") return [[name, String(item)]];
    if (typeof item !== "object" || item === null || Array.isArray(item)) return [];
    return flatten(item as Record<string, unknown>, name);
  });
}
