/** The frame of the admin pages: logging in, the bar, and the view that the address asks for. */

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Mark } from "../demo/parts/marks";
import { Events } from "./parts/events";
import { LogIn } from "./parts/log-in";
import { Nodes } from "./parts/nodes";
import { Overview } from "./parts/overview";
import { PolicyView } from "./parts/policy";
import { Rooms } from "./parts/rooms";
import { SettingsView } from "./parts/settings";
import { UserView } from "./parts/user";
import { Users } from "./parts/users";
import { VIEWS, hashOfPath, hrefOf, routeOf, type View } from "./route";
import type { Session } from "./session";

const session = signal<Session | null>(null);
const ended = signal<string | null>(null);
const turned = hashOfPath(window.location.pathname);
if (turned !== null && window.location.hash === "") window.history.replaceState(null, "", turned);
const route = signal(routeOf(window.location.hash));
window.addEventListener("hashchange", () => (route.value = routeOf(window.location.hash)));

function logOut(why: string | null = null): void {
  session.value?.close();
  session.value = null;
  ended.value = why;
}

const NAMES: Record<View, string> = {
  overview: "Overview",
  users: "Users",
  rooms: "Rooms",
  nodes: "Nodes",
  policy: "Policy",
  events: "Events",
  settings: "Settings",
};

export function App() {
  const open = session.value;
  if (open === null) {
    return (
      <LogIn
        notice={ended.value}
        onRefused={() => logOut("Your credentials are no longer accepted. Log in again.")}
        onOpen={(opened) => {
          ended.value = null;
          session.value = opened;
        }}
      />
    );
  }
  return (
    <>
      <a class="skip" href="#content" onClick={skip}>
        Skip to the content
      </a>
      <Bar session={open} />
      <Content session={open} />
    </>
  );
}

/** The address after `#` says where one is, so the link to the content must not change it. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

function Bar({ session }: { session: Session }) {
  const { credential } = session.api;
  return (
    <header class="admin-bar">
      <a class="brand" href={hrefOf("overview")}>
        <Mark />
        <span>Stillhere</span>
      </a>
      <nav aria-label="Views">
        {VIEWS.map((view) => (
          <a key={view} href={hrefOf(view)} aria-current={route.value.view === view ? "page" : undefined}>
            {NAMES[view]}
          </a>
        ))}
      </nav>
      <div class="bar-end">
        <span class={`live is-${session.feed.state.value}`} data-testid="feed" data-state={session.feed.state.value}>
          <span class="live-dot" aria-hidden="true" />
          <span role="status">{FEED[session.feed.state.value]}</span>
        </span>
        <span class="chip" data-testid="role" title={`Logged in with ${credential.kind}`}>
          {credential.kind === "a token" && <bdi>{credential.name} · </bdi>}
          {credential.mayChange ? "admin" : "read-only"}
        </span>
        <button type="button" class="quiet" data-testid="log-out" onClick={() => logOut()}>
          Log out
        </button>
      </div>
    </header>
  );
}

const FEED = { connecting: "connecting", live: "live", lost: "reconnecting" };

function Content({ session }: { session: Session }) {
  const { view, id } = route.value;
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    document.title = `${id ?? NAMES[view]} – Stillhere admin`;
    // a new view is a new page to whoever hears it
    if (!first.current) main.current?.focus({ preventScroll: true });
    first.current = false;
    window.scrollTo(0, 0);
  }, [view, id]);
  return (
    <main id="content" ref={main} tabIndex={-1}>
      {session.problem.value !== null && (
        <p class="problem notice" role="alert">
          {session.problem.value} The figures are those of the last answer.
        </p>
      )}
      {view === "overview" && <Overview session={session} />}
      {view === "users" && id === null && <Users session={session} />}
      {view === "users" && id !== null && <UserView key={id} session={session} user={id} />}
      {view === "rooms" && <Rooms session={session} room={id} />}
      {view === "nodes" && <Nodes session={session} />}
      {view === "policy" && <PolicyView session={session} />}
      {view === "events" && <Events session={session} />}
      {view === "settings" && <SettingsView session={session} />}
    </main>
  );
}
