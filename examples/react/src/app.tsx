/** The page: a log-in, then oneself, some people and a room. */

import { type FormEvent, useState } from "react";
import type { Availability, Presence, UserView } from "stillhere";
import { PresenceProvider, useConnection, usePresence, usePresenceClient, useRoom, useSelf } from "stillhere/react";
import { presenceOf } from "./presence";

const PEOPLE = ["alice", "bob", "carol"];
const CHOICES: readonly Availability[] = ["active", "away", "busy", "invisible"];
const KEY = "example.user";

/** Whoever was logged in before this tab was reloaded. */
function remembered(): Presence | null {
  const user = sessionStorage.getItem(KEY);
  return user === null ? null : presenceOf(user);
}

export function App() {
  const [client, setClient] = useState(remembered);
  if (client === null) {
    const logIn = (user: string): void => {
      sessionStorage.setItem(KEY, user);
      setClient(presenceOf(user));
    };
    return <LogIn onLogIn={logIn} />;
  }
  const logOut = (): void => {
    client.disconnect(); // others see it at once; just leaving the page would keep the place for a while
    sessionStorage.removeItem(KEY);
    setClient(null);
  };
  return (
    <PresenceProvider client={client}>
      <Me onLogOut={logOut} />
      <People />
      <Kitchen />
    </PresenceProvider>
  );
}

function LogIn({ onLogIn }: { onLogIn: (user: string) => void }) {
  const submit = (event: FormEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const user = String(new FormData(event.currentTarget).get("user")).trim();
    if (user !== "") onLogIn(user);
  };
  return (
    <form onSubmit={submit}>
      <label>
        Your name <input name="user" placeholder={PEOPLE.join(", ")} autoComplete="off" required />
      </label>
      <button type="submit">Log in</button>
    </form>
  );
}

function Me({ onLogOut }: { onLogOut: () => void }) {
  const client = usePresenceClient();
  const { status, error } = useConnection();
  const { user, availability, idle } = useSelf();
  return (
    <header>
      <h1>{user ?? "…"}</h1>
      <p data-testid="connection" data-status={status}>
        {status} {status === "refused" && <button onClick={() => client.connect()}>Connect again</button>}
        {status === "refused" && error?.message}
      </p>
      <p>
        {CHOICES.map((choice) => (
          <button
            key={choice}
            aria-pressed={choice === (idle ? "active" : availability)}
            onClick={() => client.setAvailability(choice)}
          >
            {choice}
          </button>
        ))}
        <button onClick={onLogOut}>Log out</button>
      </p>
    </header>
  );
}

function People() {
  const people = usePresence(PEOPLE);
  return (
    <section>
      <h2>People</h2>
      <ul>
        {people.map((person) => (
          <Badge key={person.user} person={person} />
        ))}
      </ul>
    </section>
  );
}

/** While this page is not connected the last known status stays, dimmed: nobody goes offline because we are. */
function Badge({ person: { user, status, stale, lastSeenAt } }: { person: UserView }) {
  const seen = status === "offline" && lastSeenAt ? ` since ${new Date(lastSeenAt).toLocaleTimeString()}` : "";
  return (
    <li className={status} data-testid={`person-${user}`} data-status={status} data-stale={stale}>
      {user} <small>{status + seen}</small>
    </li>
  );
}

function Kitchen() {
  const { members, stale } = useRoom("kitchen", { page: "react" });
  return (
    <section>
      <h2>In the kitchen</h2>
      <ul data-testid="kitchen" data-stale={stale}>
        {members.map(({ user, status, metas }) => (
          <li key={user} className={status} data-testid={`member-${user}`} data-stale={stale}>
            {user} <small>{metas.length === 1 ? "1 tab" : `${metas.length} tabs`}</small>
          </li>
        ))}
      </ul>
    </section>
  );
}
