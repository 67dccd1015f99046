/**
 * What the server said beside what the client shows: the versions of its reports, the node, and the tab.
 *
 * The client shows what a person may see of others. This page is also for whoever follows a change through the log, and
 * there a change is found by its version. So it reads along on the client's own socket, and changes nothing there.
 */

/** Which report it was: `version` counts within an `epoch` of the store. */
export interface Stamp {
  epoch: string;
  version: number;
}

interface Report extends Stamp {
  user: string;
  status: string;
}

/** The parts of a message that are read here; all of them may be missing. */
interface Message {
  type?: string;
  node?: string;
  room?: string;
  users?: Report[];
  changes?: Report[];
  members?: Report[];
  joins?: Report[];
  leaves?: Report[];
  updates?: Report[];
}

export class Tap {
  /** The node of the last connection; empty before the first. */
  node = "";
  /** The id under which this tab connects; empty before the first attempt. */
  tab = "";
  /** For the client's environment: the browser's own, with a second reader. */
  readonly WebSocket: new (url: string, protocols: string[]) => WebSocket;
  readonly #stamps = new Map<string, Stamp>();

  constructor() {
    const tap = this;
    this.WebSocket = class extends WebSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        tap.tab = new URL(url).searchParams.get("tab") ?? "";
        // The first listener of all: whoever hears of a change from the client finds its stamp here already.
        this.addEventListener("message", ({ data }) => tap.read(data as string));
      }
    };
  }

  /**
   * Which report of a user was the last.
   *
   * @param room the same for the user's place in a room
   */
  stamp(user: string, room = ""): Stamp | undefined {
    return this.#stamps.get(keyOf(user, room));
  }

  /** Read one text message of the server. */
  read(text: string): void {
    let message: Message;
    try {
      message = JSON.parse(text) as Message;
    } catch {
      return; // the client tells of it
    }
    const { type, node, room, users, changes, members, joins, leaves, updates } = message;
    if (type === "welcome") this.node = node ?? "";
    const reports = [users, changes, members, joins, leaves, updates].flatMap((list) => list ?? []);
    for (const { user, status, epoch, version } of reports) {
      const held = this.stamp(user, room);
      // As the client does: "unknown" replaces nothing, and neither does an older report.
      if (status === "unknown" || (held?.epoch === epoch && held.version >= version)) continue;
      this.#stamps.set(keyOf(user, room ?? ""), { epoch, version });
    }
  }
}

/** No id has a line break in it. */
const keyOf = (user: string, room: string): string => `${room}\n${user}`;
