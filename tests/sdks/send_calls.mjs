// Sends one call of each type with Segment's library for node: send_calls.mjs HOST WRITE_KEY, e.g. http://127.0.0.1:8080.
// Ends with 1 if the library reports an error. The library is the one installed in the working folder.
import { createRequire } from "node:module";
import { join } from "node:path";

const { Analytics } = createRequire(join(process.cwd(), "package.json"))("@segment/analytics-node");
const [host, writeKey] = process.argv.slice(2);
const analytics = new Analytics({ writeKey, host });

analytics.on("error", (error) => {
  console.error(error);
  process.exitCode = 1;
});

const userId = "node-user";
analytics.identify({ userId, traits: { email: "node@example.com", name: "Nöde" } });
analytics.track({ userId, event: "Order Completed", properties: { total: 9.5, currency: "EUR" } });
analytics.page({ userId, name: "Pricing", properties: { url: "https://acme.example/pricing" } });
analytics.screen({ userId, name: "Home" });
analytics.group({ userId, groupId: "node-account", traits: { plan: "pro" } });
analytics.alias({ userId, previousId: "node-user-before" });
await analytics.closeAndFlush();
