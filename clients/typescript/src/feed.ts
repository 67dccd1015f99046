/**
 * The rules of this client for whoever hears of presence in another way than by a socket of its own: which report is
 * newer, what is stale, when to come back.
 *
 * No entry of the published package: the admin pages, which read the event stream, are built from these sources.
 */

export { type Advice, adviceFor, delayMs, STABLE_MS } from "./backoff";
export { type Book, openBook, type UserView } from "./book";
export type { Status, UserPresence } from "./wire";
