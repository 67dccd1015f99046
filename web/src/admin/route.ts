/** Where one is: in the address after `#`, so that every view can be linked to. */

export const VIEWS = ["overview", "users", "rooms", "nodes", "policy", "events", "settings"] as const;
export type View = (typeof VIEWS)[number];

export interface Route {
  view: View;
  /** The user or room, where it is about one. */
  id: string | null;
}

/** Read the part of an address after `#`; what is not understood leads to the overview. */
export function routeOf(hash: string): Route {
  const [, view, id] = hash.replace(/^#/, "").split("/");
  const known = VIEWS.find((name) => name === view) ?? "overview";
  if (id === undefined || id === "" || (known !== "users" && known !== "rooms")) return { view: known, id: null };
  try {
    return { view: known, id: decodeURIComponent(id) };
  } catch {
    return { view: known, id: null };
  }
}

/** The address of a view. */
export function hrefOf(view: View, id: string | null = null): string {
  return id === null ? `#/${view}` : `#/${view}/${encodeURIComponent(id)}`;
}

/** `/admin/users/alice` is a link, too: the same view as `/admin#/users/alice`. Null where there is nothing to turn. */
export function hashOfPath(path: string): string | null {
  const match = /^(.*?\/admin)\/(.+)$/.exec(path);
  return match === null ? null : `${match[1]}#/${match[2]}`;
}
