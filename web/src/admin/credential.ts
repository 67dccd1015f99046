/** What somebody logs in with: an API key or a token. It stays in memory, and nowhere else. */

export interface Credential {
  headers: Record<string, string>;
  /** False for a token whose scope does not allow to change anything. The server decides; this is for the buttons. */
  mayChange: boolean;
  /** Whose it is, for the corner of the page. */
  name: string;
  kind: "an API key" | "a token";
}

/** Tell a token from an API key: a token has a header of JSON that names its algorithm. */
export function credentialOf(text: string): Credential {
  const secret = text.trim();
  const [header, claims, signature, more] = secret.split(".");
  const head = signature === undefined || more !== undefined ? null : decoded(header);
  if (head === null || !("alg" in head)) {
    return { headers: { "X-API-Key": secret }, mayChange: true, name: "API key", kind: "an API key" };
  }
  const claim = decoded(claims) ?? {};
  const name = typeof claim["sub"] === "string" ? claim["sub"] : "token";
  return {
    headers: { Authorization: `Bearer ${secret}` },
    mayChange: scopesOf(claim["scope"]).includes("admin"),
    name,
    kind: "a token",
  };
}

/** Whether a header can carry it; other characters would make `fetch` throw. */
export function isSendable(text: string): boolean {
  return /^[\x21-\x7e]+$/.test(text.trim());
}

function scopesOf(scope: unknown): string[] {
  if (typeof scope === "string") return scope.split(/\s+/);
  return Array.isArray(scope) ? scope.filter((word) => typeof word === "string") : [];
}

function decoded(part: string | undefined): Record<string, unknown> | null {
  if (part === undefined) return null;
  try {
    const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}
