/**
 * The id of this tab: the same across its reloads, another in every other tab.
 *
 * `sessionStorage` survives a reload, but browsers also copy it into a duplicated tab, where the same id would make the
 * server close the first tab as superseded. So a mark says that a living page uses the id: `pagehide` takes it away and
 * the reloaded page finds it gone, while the copy in a duplicate still bears it, and the duplicate takes a new id. (A
 * page that crashed leaves its mark too and gets a new id; its old connection has ended with it.)
 */

const ID = "stillhere.tab";
const LIVE = "stillhere.tab.live";

/** The part of `Storage` that is used; tests and pages without storage bring their own. */
export type TabStorage = Pick<Storage, "getItem" | "setItem" | "removeItem">;

/**
 * Take the tab's id, or make one, and mark it as in use.
 *
 * @param makeId gives a new, unguessable id
 */
export function claimTab(storage: TabStorage, makeId: () => string = newTabId): string {
  const kept = storage.getItem(ID);
  const id = kept !== null && kept !== "" && storage.getItem(LIVE) === null ? kept : makeId();
  storage.setItem(ID, id);
  storage.setItem(LIVE, "1");
  return id;
}

/**
 * Leave the id to the successor when the page goes away, and take it back when it returns from the back/forward cache.
 *
 * @returns a function that stops following the page
 */
export function followTab(storage: TabStorage, id: string, page: Window = window): () => void {
  const hide = (): void => storage.removeItem(LIVE);
  const show = (event: PageTransitionEvent): void => {
    if (!event.persisted) return;
    storage.setItem(ID, id);
    storage.setItem(LIVE, "1");
  };
  page.addEventListener("pagehide", hide);
  page.addEventListener("pageshow", show);
  return () => {
    page.removeEventListener("pagehide", hide);
    page.removeEventListener("pageshow", show);
  };
}

/** 128 random bits. `crypto.randomUUID` would need a secure context, which a demo on a LAN address is not. */
export function newTabId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `t_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
