import { defineConfig } from "tsdown";

export default defineConfig({
  entry: ["src/index.ts", "src/react.ts"],
  format: ["esm", "cjs"],
  platform: "browser",
  target: "es2022",
  dts: true,
  minify: true,
  fixedExtension: false,
});
