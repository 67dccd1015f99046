/** The HTTP API's documentation, browsable and with "Try it out". */

import SwaggerUIBundle from "swagger-ui-dist/swagger-ui-bundle.js";
import "swagger-ui-dist/swagger-ui.css";
import "./docs.css";
import { Api } from "../demo/api";
import { KEYS, storage } from "../demo/storage";
import { followTheSystem } from "./theme";

followTheSystem();

const user = storage.getItem(KEYS.user);
const api = user === null ? null : new Api(user);

/** Whoever is signed in on the demo page in this tab can try the calls without pasting a token. */
async function authorize(request: { url: string; headers: Record<string, string> }): Promise<typeof request> {
  const target = new URL(request.url, window.location.href);
  if (api === null || target.origin !== window.location.origin || !target.pathname.startsWith("/v1/")) return request;
  if ("Authorization" in request.headers || "X-API-Key" in request.headers) return request;
  try {
    request.headers["Authorization"] = `Bearer ${(await api.token(false)).token}`;
  } catch {
    // Not a development server: the call goes out without a token and its answer says what is missing.
  }
  return request;
}

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  // The badge would send the document's address to somebody else's server.
  validatorUrl: null,
  requestInterceptor: authorize,
});
