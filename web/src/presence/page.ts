/** The page's life, told to the client: hidden, back, woken. */

import type { PresenceClient } from "./client";

type Told = Pick<PresenceClient, "hide" | "show" | "verify" | "doubt">;

/**
 * Follow a page's events.
 *
 * `pagehide` and `pageshow` come in pairs around the back/forward cache, where Chromium would keep the socket open and
 * the user online for as long as it likes. Whatever may have cut the network unnoticed leads to a check of the path.
 *
 * @param page the window; its document tells of visibility and, in Chromium, of `resume`
 * @returns a function that stops following
 */
export function followPage(client: Told, page: Window = window): () => void {
  const hide = (): void => client.hide();
  const show = (): void => client.show();
  const online = (): void => client.verify();
  const offline = (): void => client.doubt();
  const wake = (): void => {
    if (page.document.visibilityState === "visible") client.verify();
  };
  const followed: [EventTarget, string, () => void][] = [
    [page, "pagehide", hide],
    [page, "pageshow", show],
    [page, "online", online],
    [page, "offline", offline],
    [page.document, "visibilitychange", wake],
    [page.document, "resume", wake],
  ];
  for (const [target, type, listener] of followed) target.addEventListener(type, listener);
  return () => {
    for (const [target, type, listener] of followed) target.removeEventListener(type, listener);
  };
}
