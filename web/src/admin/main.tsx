import { render } from "preact";
import { App } from "./app";
import "../demo/styles/base.css";
import "uplot/dist/uPlot.min.css";
import "./styles/frame.css";
import "./styles/pages.css";
import "./styles/picture.css";
import "./styles/settings.css";

const root = document.getElementById("admin");
if (root !== null) render(<App />, root);
