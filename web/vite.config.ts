import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const server = { target: "http://127.0.0.1:7400" };

export default defineConfig({
  base: "/",
  // The SDK as it is in this checkout, from its source: the pages are built together with it.
  resolve: {
    alias: {
      "stillhere/feed": here("../clients/typescript/src/feed.ts"),
      stillhere: here("../clients/typescript/src/index.ts"),
    },
  },
  build: {
    outDir: here("../src/stillhere/pages"),
    emptyOutDir: true,
    assetsDir: "assets",
    // Every asset is a file of its own under /assets: the content security policy allows nothing inline.
    assetsInlineLimit: 0,
    // Swagger UI is one file of 1.4 MB; only docs.html loads it.
    chunkSizeWarningLimit: 1600,
    rolldownOptions: {
      input: {
        index: here("index.html"),
        docs: here("docs.html"),
        websocket: here("websocket.html"),
        admin: here("admin.html"),
      },
    },
  },
  server: {
    host: "127.0.0.1",
    proxy: {
      "/ws": { ...server, ws: true },
      "/v1": server,
      "/dev": server,
      "/openapi.json": server,
      "/asyncapi.json": server,
    },
  },
  test: { environment: "happy-dom", include: ["test/**/*.test.{ts,tsx}"], restoreMocks: true },
});
