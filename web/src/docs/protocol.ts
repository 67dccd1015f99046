/** Draws an AsyncAPI document as a page. Everything from the document enters as text, never as markup. */

export interface Reference {
  $ref: string;
}

export interface Schema {
  $ref?: string;
  title?: string;
  description?: string;
  type?: string;
  enum?: readonly unknown[];
  anyOf?: readonly Schema[];
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: readonly string[];
}

export interface Message {
  name: string;
  summary: string;
  payload: Reference;
  examples: readonly { payload: unknown }[];
}

export interface Operation {
  action: "send" | "receive";
  summary: string;
  messages: readonly Reference[];
  reply?: { messages: readonly Reference[] };
}

export interface CloseCode {
  code: number;
  name: string;
  cause: string;
  client: string;
}

export interface AsyncApi {
  info: { title: string; version: string; description: string };
  servers: Record<string, { host: string; protocol: string; pathname?: string }>;
  channels: {
    connection: {
      address: string;
      description: string;
      messages: Record<string, Reference>;
      bindings: { ws: { query: Schema } };
      "x-close-codes": readonly CloseCode[];
    };
  };
  operations: Record<string, Operation>;
  components: { messages: Record<string, Message>; schemas: Record<string, Schema> };
}

type Child = Node | string;

function element(name: string, children: readonly Child[] = [], attributes: Record<string, string> = {}): HTMLElement {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const code = (text: string): HTMLElement => element("code", [text]);

/** Text in which `code` stands between backticks. */
function prose(text: string): Child[] {
  return text.split("`").map((part, index) => (index % 2 === 1 ? code(part) : part));
}

const last = (reference: string): string => reference.slice(reference.lastIndexOf("/") + 1);

function table(head: readonly string[], rows: readonly (readonly Child[])[]): HTMLElement {
  const cells = (name: string, row: readonly Child[]): HTMLElement =>
    element(
      "tr",
      row.map((cell) => element(name, [cell])),
    );
  return element("table", [
    element("thead", [cells("th", head)]),
    element(
      "tbody",
      rows.map((row) => cells("td", row)),
    ),
  ]);
}

/** A type in a few words; a link where it has a section of its own. */
function type(schema: Schema): Child[] {
  if (schema.$ref !== undefined) {
    const name = last(schema.$ref);
    return [element("a", [name], { href: `#schema-${name}` })];
  }
  if (schema.anyOf !== undefined) {
    const parts = schema.anyOf.filter((part) => part.type !== "null").map(type);
    return parts.flatMap((part, index) => (index === 0 ? part : [" or ", ...part]));
  }
  if (schema.enum !== undefined) return [schema.enum.map((value) => JSON.stringify(value)).join(", ")];
  if (schema.items !== undefined) return ["list of ", ...type(schema.items)];
  return [schema.type ?? "anything"];
}

function fields(schema: Schema): HTMLElement {
  const required = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]): Child[] => [
    code(name),
    element("span", type(field)),
    required.has(name) ? "always" : "optional",
    element("span", prose(field.description ?? "")),
  ]);
  return table(["field", "type", "", ""], rows);
}

function drawMessage(document: AsyncApi, key: string): HTMLElement {
  const message = document.components.messages[key];
  if (message === undefined) return element("p", [`There is no message ${key}.`]);
  const body: Child[] = [];
  const schema = document.components.schemas[last(message.payload.$ref)];
  if (schema !== undefined) body.push(fields(schema));
  for (const operation of Object.values(document.operations)) {
    if (!operation.messages.some((reference) => last(reference.$ref) === key)) continue;
    if (operation.action === "send") body.push(element("p", prose(operation.summary)));
    const answers = operation.reply?.messages.map((reference) => code(last(reference.$ref))) ?? [];
    if (answers.length > 0) {
      body.push(element("p", ["Answered by ", ...answers.flatMap((name, index) => (index === 0 ? [name] : [" or ", name]))]));
    }
  }
  for (const example of message.examples) body.push(element("pre", [code(JSON.stringify(example.payload, null, 2))]));
  return element(
    "details",
    [
      element("summary", [code(message.name), element("span", prose(message.summary), { class: "protocol-muted" })]),
      element("div", body, { class: "protocol-body" }),
    ],
    { id: `message-${key}` },
  );
}

/** Which messages go in which direction: replies are sent, too. */
export function directions(document: AsyncApi): { received: string[]; sent: string[] } {
  const received = new Set<string>();
  const sent = new Set<string>();
  for (const operation of Object.values(document.operations)) {
    for (const { $ref } of operation.messages) (operation.action === "send" ? sent : received).add(last($ref));
    for (const { $ref } of operation.reply?.messages ?? []) sent.add(last($ref));
  }
  const inOrder = Object.keys(document.channels.connection.messages);
  return { received: inOrder.filter((key) => received.has(key)), sent: inOrder.filter((key) => sent.has(key)) };
}

/** The whole page. */
export function drawProtocol(document: AsyncApi): HTMLElement[] {
  const { connection } = document.channels;
  const { received, sent } = directions(document);
  const payloads = new Set(Object.values(document.components.messages).map((message) => last(message.payload.$ref)));
  const addresses = Object.values(document.servers).map(
    (server) => `${server.protocol}://${server.host}${server.pathname ?? ""}${connection.address}`,
  );
  const shared = Object.entries(document.components.schemas).filter(([name]) => !payloads.has(name));
  return [
    element("h1", [document.info.title, " ", element("span", [document.info.version], { class: "protocol-muted" })]),
    element("p", prose(document.info.description)),
    ...addresses.map((address) => element("pre", [code(address)])),
    element("p", prose(connection.description)),
    fields(connection.bindings.ws.query),
    element("h2", ["Client to server"]),
    ...received.map((key) => drawMessage(document, key)),
    element("h2", ["Server to client"]),
    ...sent.map((key) => drawMessage(document, key)),
    element("h2", ["Types"]),
    ...shared.map(([name, schema]) =>
      element(
        "details",
        [
          element("summary", [code(name), element("span", prose(schema.description ?? ""), { class: "protocol-muted" })]),
          element("div", [schema.properties === undefined ? element("p", type(schema)) : fields(schema)], {
            class: "protocol-body",
          }),
        ],
        { id: `schema-${name}` },
      ),
    ),
    element("h2", ["Close codes"]),
    table(
      ["code", "name", "cause", "what a client does"],
      connection["x-close-codes"].map((close) => [String(close.code), close.name, code(close.cause), close.client]),
    ),
  ];
}

/** Open what a link within the page leads to. */
export function openTarget(hash: string): void {
  const target = hash === "" ? null : document.getElementById(decodeURIComponent(hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
  }
}
