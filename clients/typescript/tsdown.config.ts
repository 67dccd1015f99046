import { minifySync } from "rolldown/experimental";
import { defineConfig, type Rolldown } from "tsdown";

/** The bundler keeps top-level constants of CommonJS that were inlined everywhere; a second pass drops them. */
const dropUnused: Rolldown.Plugin = {
  name: "drop-unused",
  generateBundle: (_, bundle) => {
    for (const chunk of Object.values(bundle)) {
      if (chunk.type !== "chunk" || !chunk.fileName.endsWith(".cjs")) continue;
      const options = { module: true, compress: { target: "es2022" }, mangle: { toplevel: true } };
      chunk.code = minifySync(chunk.fileName, chunk.code, options).code;
    }
  },
};

export default defineConfig({
  entry: ["src/index.ts", "src/react.ts"],
  format: ["esm", "cjs"],
  platform: "browser",
  target: "es2022",
  dts: true,
  minify: true,
  plugins: [dropUnused],
  fixedExtension: false,
});
