"use client";
/**
 * React hooks over a presence client.
 *
 * Every hook reads through `useSyncExternalStore`, so a render never sees half of a change; on a server everybody is
 * `unknown`. Mounting twice, as StrictMode does, sends nothing twice: the client sends what is wanted at the end of the
 * task.
 */

import {
  createContext,
  createElement,
  type ReactNode,
  useContext,
  useEffect,
  useMemo,
  useSyncExternalStore,
} from "react";
import type { ConnectionView, Meta, Presence, RoomView, SelfView, UserView } from "./index";

const Context = createContext<Presence | null>(null);

/** What {@link PresenceProvider} takes. */
export interface PresenceProviderProps {
  /** Made once, outside of components, with `createPresence`. */
  client: Presence;
  /** Whether to connect when mounted; true unless told. */
  connect?: boolean;
  children?: ReactNode;
}

/**
 * Gives a client to the hooks below it, and connects it.
 *
 * Unmounting does not disconnect: that would be a log-out, which others see at once. Call `client.disconnect()` when the
 * user logs out.
 */
export function PresenceProvider({ client, connect = true, children }: PresenceProviderProps): ReactNode {
  useEffect(() => {
    if (connect) client.connect();
  }, [client, connect]);
  return createElement(Context.Provider, { value: client }, children);
}

/** The client itself. */
export function usePresenceClient(): Presence {
  const client = useContext(Context);
  if (!client) throw new Error("There is no <PresenceProvider> above this component.");
  return client;
}

const nobody = (user: string): UserView => ({ user, status: "unknown", stale: true });

/** Two views that look the same; of a user who is not watched yet, each reading makes a new one. */
function same(one: UserView | undefined, other: UserView): boolean {
  if (one === other) return true;
  return one?.user === other.user && one.stale === other.stale && !one.changedAt && !other.changedAt;
}

/**
 * Follow users while the component is mounted.
 *
 * @param users an id, or several; a new array with the same ids is no change
 * @returns the view of the one, or the views in the order of the ids
 */
export function usePresence(users: string): UserView;
export function usePresence(users: readonly string[]): readonly UserView[];
export function usePresence(users: string | readonly string[]): UserView | readonly UserView[] {
  const client = usePresenceClient();
  const key = JSON.stringify(typeof users === "string" ? [users] : users);
  const store = useMemo(() => {
    const ids = JSON.parse(key) as string[];
    const first = ids.map(nobody);
    let last: readonly UserView[] = first;
    return {
      ids,
      server: () => first,
      read: () => {
        const next = ids.map((user) => client.get(user));
        if (!next.every((view, i) => same(last[i], view))) last = next;
        return last;
      },
    };
  }, [client, key]);
  useEffect(() => client.watch(store.ids), [client, store]);
  const views = useSyncExternalStore(client.subscribe, store.read, store.server);
  return typeof users === "string" ? (views[0] as UserView) : views;
}

/**
 * Be in a room, and follow who is there, while the component is mounted.
 *
 * @param meta what this connection says of itself there; a new object with the same content is no change
 */
export function useRoom(room: string, meta?: Meta): RoomView {
  const client = usePresenceClient();
  const key = JSON.stringify(meta);
  useEffect(() => client.join(room, key === undefined ? undefined : (JSON.parse(key) as Meta)), [client, room, key]);
  const server = useMemo(() => {
    const empty: RoomView = { room, members: [], count: 0, stale: true };
    return () => empty;
  }, [room]);
  return useSyncExternalStore(client.subscribe, () => client.room(room), server);
}

/** How the connection stands. */
export function useConnection(): ConnectionView {
  const client = usePresenceClient();
  return useSyncExternalStore(
    client.subscribe,
    () => client.connection,
    () => OFFLINE,
  );
}

/** This tab and its user. */
export function useSelf(): SelfView {
  const client = usePresenceClient();
  return useSyncExternalStore(
    client.subscribe,
    () => client.self,
    () => SELF,
  );
}

const OFFLINE: ConnectionView = { status: "offline" };
const SELF: SelfView = { availability: "active", idle: false, meta: {} };
