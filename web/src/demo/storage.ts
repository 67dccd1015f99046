/**
 * What this page remembers of its tab across reloads, beside what the client keeps. Where storage is blocked, it
 * remembers until then.
 */

type TabStorage = Pick<Storage, "getItem" | "setItem" | "removeItem">;

function usable(): TabStorage {
  try {
    const storage = window.sessionStorage;
    storage.setItem("stillhere.check", "1");
    storage.removeItem("stillhere.check");
    return storage;
  } catch {
    const kept = new Map<string, string>();
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => void kept.set(key, value),
      removeItem: (key) => void kept.delete(key),
    };
  }
}

export const storage = usable();

export const KEYS = {
  user: "stillhere.user",
  token: "stillhere.token",
  watch: "stillhere.watch",
  rooms: "stillhere.rooms",
} as const;

/** Read a JSON value that `fits`; anything else, however it got there, counts as absent. */
export function recall<T>(key: string, fits: (value: unknown) => value is T): T | null {
  try {
    const value: unknown = JSON.parse(storage.getItem(key) ?? "null");
    return fits(value) ? value : null;
  } catch {
    return null;
  }
}

export function remember(key: string, value: unknown): void {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch {
    // A full storage costs the memory across the next reload, nothing else.
  }
}

export function forget(...keys: string[]): void {
  for (const key of keys) storage.removeItem(key);
}

export const isStrings = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === "string");
