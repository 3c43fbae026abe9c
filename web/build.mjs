// Bundle web/explorer into a folder: index.html, assets/NAME-HASH.{js,css,txt} and manifest.json.
//
//   node build.mjs FOLDER
//
// Called by scripts/build-web, in web/. Names of assets have a hash of their content, so that browsers may keep them
// for ever. `manifest.json` has the name of each asset by its plain name. Licences of all packages of which code is in
// the assets are an asset too: a package without a licence file is an error.
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { build } from "esbuild";

// Packages of which code is inside the bundle of another one.
const INSIDE = { "3dmol": ["iobuffer", "netcdfjs", "pako", "upng-js"] };

const folder = process.argv[2];
const assets = join(folder, "assets");
mkdirSync(assets, { recursive: true });

const result = await build({
  entryPoints: { main: "explorer/main.ts", style: "explorer/style.css" },
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["chrome111", "firefox115", "safari16.4"],
  minify: true,
  legalComments: "none", // in the licences
  outdir: assets,
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  alias: { "3dmol": "./node_modules/3dmol/build/3Dmol.es6-min.js" },
  metafile: true,
  logLevel: "warning",
});

const manifest = {};
for (const [path, output] of Object.entries(result.metafile.outputs)) {
  const name = basename(path);
  const entry = output.entryPoint ? basename(output.entryPoint).replace(/\.ts$/, ".js") : name;
  manifest[entry] = name;
}

const licences = packages(Object.keys(result.metafile.inputs)).map(licence).join("\n");
const hash = createHash("sha256").update(licences).digest("hex").slice(0, 8).toUpperCase();
manifest["licences.txt"] = `licences-${hash}.txt`;
writeFileSync(join(assets, manifest["licences.txt"]), licences);

const page = readFileSync("explorer/index.html", "utf8").replace(/assets\/([\w.]+)/g, (_, name) => {
  if (!manifest[name]) throw new Error(`index.html names assets/${name}, which is not built`);
  return `assets/${manifest[name]}`;
});
writeFileSync(join(folder, "index.html"), page);
writeFileSync(join(folder, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);

/** Return the packages of which the bundle has code, sorted. */
function packages(inputs) {
  const found = new Set();
  for (const path of inputs) {
    const name = path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1];
    if (name) for (const each of [name, ...(INSIDE[name] ?? [])]) found.add(each);
  }
  return [...found].sort();
}

/** Return the name, version and licence of a package. */
function licence(name) {
  const place = join("node_modules", name);
  const { version } = JSON.parse(readFileSync(join(place, "package.json"), "utf8"));
  const file = readdirSync(place).find((each) => /^licen[cs]e(\.|$)/i.test(each));
  if (!file) throw new Error(`${name} has no licence file`);
  return `==== ${name} ${version}\n\n${readFileSync(join(place, file), "utf8")}\n`;
}
