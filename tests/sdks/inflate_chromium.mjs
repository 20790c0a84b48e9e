// Inflates npm's Chromium, and the libraries and fonts it brings, into the folder that TMPDIR names.
// The packages are those installed in the working folder.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const { default: chromium, inflate } = require("@sparticuz/chromium");

await chromium.executablePath();
// Without Amazon's own variables in the environment the package leaves this one alone.
await inflate(join(dirname(require.resolve("@sparticuz/chromium")), "..", "bin", "al2023.tar.br"));
