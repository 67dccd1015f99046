/** The page: signed out, or in as somebody. */

import { effect, signal } from "@preact/signals";
import { Connection } from "./parts/connection";
import { Mark } from "./parts/marks";
import { People } from "./parts/people";
import { Rooms } from "./parts/rooms";
import { Self } from "./parts/self";
import { SignIn } from "./parts/sign-in";
import { LiveStrip } from "./parts/strip";
import { Figures } from "./parts/figures";
import { Session } from "./session";
import { KEYS, storage } from "./storage";

const session = signal<Session | null>(null);

function signIn(user: string): void {
  storage.setItem(KEYS.user, user);
  session.value = new Session(user);
}

const remembered = storage.getItem(KEYS.user);
if (remembered !== null && remembered !== "") signIn(remembered);

effect(() => {
  const current = session.value;
  document.title = current === null ? "Stillhere demo" : `${current.user} · Stillhere demo`;
  if (current === null || !current.loggedOut.value) return;
  current.dispose();
  session.value = null;
});

export function App() {
  const current = session.value;
  return (
    <>
      <header class="bar">
        <span class="brand">
          <Mark />
          Stillhere
        </span>
        {current !== null && <Connection session={current} />}
        <a class="bar-link" href="/docs">
          API docs
        </a>
      </header>
      {current === null ? <SignIn onSignIn={signIn} /> : <Desk key={current.user} session={current} />}
    </>
  );
}

function Desk({ session }: { session: Session }) {
  return (
    <main class="desk">
      <h1 class="hidden">Who is here</h1>
      <p class="hidden" role="status" aria-live="polite">
        {session.announcement}
      </p>
      <Self session={session} />
      <People session={session} />
      <Rooms session={session} />
      <LiveStrip session={session} />
      <Figures session={session} />
    </main>
  );
}
