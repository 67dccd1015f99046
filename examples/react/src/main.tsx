/**
 * Who is here, with React: badges of some people, and a room of those who have this page open.
 *
 *     make sdk && cd examples/react && npm install && npm start
 *
 * It needs `stillhere` on the PATH, which it starts as `stillhere dev`; or a server that runs already, named by the
 * variable STILLHERE_URL. Open the page in two windows, as two people, and reload one of them: the other shows nothing.
 */

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import "./style.css";

const root = document.getElementById("root");
if (root !== null) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
