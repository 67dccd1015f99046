/** Server-sent events over `fetch`: an `EventSource` cannot send credentials in a header. */

/** https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation */
export interface ServerEvent {
  id: string | null;
  event: string;
  data: string;
}

/** Takes the text of a stream in whatever pieces it comes, and gives whole events. */
export class EventParser {
  #rest = "";
  #id: string | null = null;

  /** Where the stream is: to be sent back as Last-Event-ID. */
  get id(): string | null {
    return this.#id;
  }

  push(text: string): ServerEvent[] {
    const found: ServerEvent[] = [];
    const blocks = (this.#rest + text).replaceAll("\r\n", "\n").split("\n\n");
    this.#rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const event = this.#read(block);
      if (event !== null) found.push(event);
    }
    return found;
  }

  /** One block; null for one without data, of which only the id counts. */
  #read(block: string): ServerEvent | null {
    let name = "message";
    const data: string[] = [];
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "id") this.#id = value;
      else if (field === "event") name = value;
      else if (field === "data") data.push(value);
    }
    return data.length === 0 ? null : { id: this.#id, event: name, data: data.join("\n") };
  }
}
