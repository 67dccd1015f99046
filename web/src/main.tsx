import { render } from "preact";
import { App } from "./demo/app";
import "./demo/styles/base.css";
import "./demo/styles/frame.css";
import "./demo/styles/cards.css";

const root = document.getElementById("app");
if (root !== null) render(<App />, root);
