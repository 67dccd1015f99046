// @vitest-environment happy-dom
import { act, type ReactNode, StrictMode } from "react";
import { createRoot, hydrateRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PresenceProvider, useConnection, usePresence, usePresenceClient, useRoom, useSelf } from "../src/react";
import { member, presence, World } from "./world";

declare global {
  var IS_REACT_ACT_ENVIRONMENT: boolean;
}
globalThis.IS_REACT_ACT_ENVIRONMENT = true;

let world: World;
let root: Root;
let place: HTMLElement;
let renders = 0;

beforeEach(() => {
  world = new World();
  place = document.createElement("div");
  root = createRoot(place);
  renders = 0;
});

afterEach(() => act(() => root.unmount()));

const show = (what: ReactNode): Promise<void> =>
  act(async () =>
    root.render(
      <StrictMode>
        <PresenceProvider client={world.client}>{what}</PresenceProvider>
      </StrictMode>,
    ),
  );

const online = (): Promise<void> => act(async () => void (await world.welcome()));
const receive = (message: object): Promise<void> => act(async () => world.socket.receive(message));

function Badge({ user }: { user: string }): ReactNode {
  const { status, stale } = usePresence(user);
  renders += 1;
  return <b>{`${user}:${status}${stale ? "?" : ""} `}</b>;
}

function List({ users }: { users: string[] }): ReactNode {
  return <i>{usePresence(users).map(({ user, status }) => `${user}:${status} `)}</i>;
}

function Kitchen({ seat }: { seat: number }): ReactNode {
  const { members } = useRoom("kitchen", { seat });
  return <p>{members.map(({ user }) => user).join()}</p>;
}

function Me(): ReactNode {
  const { status } = useConnection();
  const { user = "nobody", availability } = useSelf();
  return <em>{`${status} ${user} ${availability}`}</em>;
}

describe("in StrictMode, which mounts everything twice", () => {
  test("one socket is opened, one watch is sent, and the badge follows", async () => {
    await show(
      <>
        <Badge user="bob" />
        <Badge user="carol" />
      </>,
    );
    expect(world.sockets).toHaveLength(1);
    await online();
    expect(world.socket.sent).toEqual([{ type: "watch", users: ["bob", "carol"], id: 1 }]);
    await act(async () => world.answer(presence("bob", "online", 1), presence("carol", "offline", 1)));
    expect(place.textContent).toBe("bob:online carol:offline ");
  });

  test("a reconnect is shown as stale and never as offline", async () => {
    await show(<Badge user="bob" />);
    await online();
    await act(async () => world.answer(presence("bob", "online", 1)));
    await act(async () => world.socket.end(1006));
    expect(place.textContent).toBe("bob:online? ");
    await act(async () => world.advance(1_000));
    await online();
    await act(async () => world.answer(presence("bob", "online", 1)));
    expect(place.textContent).toBe("bob:online ");
  });

  test("a component renders for its own users only", async () => {
    await show(
      <>
        <Badge user="bob" />
        <List users={["carol", "dan"]} />
      </>,
    );
    await online();
    await act(async () => world.answer(presence("bob", "online", 1), presence("carol", "away", 1)));
    renders = 0;
    await receive({ type: "presence", changes: [presence("carol", "busy", 2)] });
    expect(place.textContent).toBe("bob:online carol:busy dan:unknown ");
    expect(renders).toBe(0);
  });

  test("a new array with the same ids is no change; other ids are", async () => {
    await show(<List users={["bob"]} />);
    await online();
    await show(<List users={["bob"]} />);
    await show(<List users={["bob", "carol"]} />);
    await act(async () => world.settle());
    const sent = world.socket.sent.map(({ type, users }) => [type, users]);
    expect(sent).toEqual([
      ["watch", ["bob"]],
      ["watch", ["carol"]],
    ]);
  });

  test("a room is joined once, its meta changes in place, and unmounting leaves it", async () => {
    await show(<Kitchen seat={1} />);
    await online();
    await receive({ type: "room", room: "kitchen", id: 1, members: [member("alice", 1), member("bob", 1)] });
    expect(place.textContent).toBe("alice,bob");
    await show(<Kitchen seat={2} />);
    await show(null);
    await act(async () => world.settle());
    const sent = world.socket.sent.map(({ type, meta }) => [type, meta]);
    expect(sent).toEqual([
      ["join", { seat: 1 }],
      ["join", { seat: 2 }],
      ["leave", undefined],
    ]);
  });

  test("the connection and oneself are followed", async () => {
    await show(<Me />);
    expect(place.textContent).toBe("connecting nobody active");
    await online();
    await act(async () => world.client.setAvailability("busy"));
    expect(place.textContent).toBe("online alice busy");
  });

  test("unmounting the provider is no log-out", async () => {
    await show(<Badge user="bob" />);
    await online();
    await act(async () => root.render(null));
    expect(world.sent("bye")).toEqual([]);
    expect(world.client.status).toBe("online");
  });
});

describe("where pages are rendered on a server", () => {
  test("everybody is unknown, nothing connects, and the browser takes over without a difference", async () => {
    world.client.watch("bob");
    await act(async () => world.client.connect());
    await online();
    await act(async () => world.answer(presence("bob", "online", 1)));
    const page = (
      <PresenceProvider client={world.client} connect={false}>
        <Badge user="bob" />
        <Kitchen seat={1} />
        <Me />
      </PresenceProvider>
    );
    const html = renderToString(page);
    expect(html).toBe("<b>bob:unknown? </b><p></p><em>offline nobody active</em>");

    place.innerHTML = html;
    const errors: unknown[] = [];
    let hydrated: Root | undefined;
    await act(async () => {
      hydrated = hydrateRoot(place, page, { onRecoverableError: (error) => errors.push(error) });
    });
    expect(place.textContent).toBe("bob:online online alice active");
    expect(errors).toEqual([]);
    await act(async () => hydrated?.unmount());
  });
});

function Lost(): ReactNode {
  usePresenceClient();
  return null;
}

test("a hook without a provider says what is missing", () => {
  expect(() => renderToString(<Lost />)).toThrow("<PresenceProvider>");
});
