/** The WebSocket protocol's documentation: the server's own document, drawn. */

import "./docs.css";
import "./websocket.css";
import { drawProtocol, openTarget, type AsyncApi } from "./protocol";
import { followTheSystem } from "./theme";

followTheSystem();

const main = document.querySelector<HTMLElement>("#protocol");

async function show(into: HTMLElement): Promise<void> {
  try {
    const answer = await fetch("/asyncapi.json");
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    into.replaceChildren(...drawProtocol((await answer.json()) as AsyncApi));
    openTarget(window.location.hash);
  } catch (error) {
    into.textContent = `The document cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
  } finally {
    into.removeAttribute("aria-busy");
  }
}

window.addEventListener("hashchange", () => openTarget(window.location.hash));
if (main !== null) void show(main);
