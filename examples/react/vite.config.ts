import { spawn } from "node:child_process";
import { defineConfig, type Plugin } from "vite";

/** A presence server that runs already, such as http://127.0.0.1:7400; without it, `npm start` starts one. */
const running = process.env["STILLHERE_URL"];
const target = running ?? "http://127.0.0.1:7400";

/** `stillhere dev` beside the development server, from its start to its end. */
function presenceServer(): Plugin {
  return {
    name: "stillhere-dev",
    apply: "serve",
    configureServer({ config }) {
      if (running !== undefined) return;
      const server = spawn("stillhere", ["dev", "--port", new URL(target).port], { stdio: "inherit" });
      server.on("error", ({ message }) => {
        config.logger.error(`\`stillhere dev\` did not start: ${message}. Put it on the PATH, or set STILLHERE_URL.`);
      });
      process.on("exit", () => server.kill());
    },
  };
}

// To the browser, page and presence server are one origin, as behind any reverse proxy.
const proxy = { "/ws": { target, ws: true }, "/dev/token": { target } };

export default defineConfig({
  plugins: [presenceServer()],
  // The client is linked from this checkout and has a React of its own beside it, for its tests.
  resolve: { dedupe: ["react"] },
  server: { host: "127.0.0.1", proxy },
  preview: { host: "127.0.0.1", proxy },
});
