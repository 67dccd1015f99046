/** When a token ends. */

/**
 * The `exp` of a JWT.
 *
 * @returns ms since the Unix epoch, by the server's clock; undefined if it cannot be read
 */
export function expiryOf(token: string): number | undefined {
  try {
    const payload = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const { exp } = JSON.parse(atob(payload)) as { exp?: unknown };
    return typeof exp === "number" ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The address of the socket, made absolute, with `ws:` or `wss:`; undefined if it is none.
 *
 * @param base what relative ones start from; where pages are rendered on a server, nobody connects, and any will do
 */
export function socketUrl(text: string, base = "http://localhost"): string | undefined {
  try {
    const { href } = new URL(text, base);
    return /^(ws|http)s?:/.test(href) ? href.replace(/^http/, "ws") : undefined;
  } catch {
    return undefined;
  }
}
