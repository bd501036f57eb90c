// The web SDK with the OFREP web provider, as released, in node. Prints what it gets as one line of
// JSON, and another once the server has announced a change. Node 20 has neither EventSource nor
// localStorage, so the little of them that a browser would bring is written below.

import { OpenFeature, ProviderEvents } from "@openfeature/web-sdk";
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";

const [address, token, member] = process.argv.slice(2);

globalThis.EventSource ??= class extends EventTarget {
  constructor(url) {
    super();
    this.readyState = 0;
    this.ending = new AbortController();
    this.read(url).catch(() => {
      this.readyState = 2;
      this.dispatchEvent(new Event("error"));
    });
  }

  async read(url) {
    const answer = await fetch(url, { signal: this.ending.signal });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    this.readyState = 1;
    this.dispatchEvent(new Event("open"));
    let held = "";
    for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
      const parts = (held + piece).split("\n\n");
      held = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").filter((line) => line.startsWith("data: "));
        if (data.length > 0) {
          const text = data.map((line) => line.slice(6)).join("\n");
          this.dispatchEvent(new MessageEvent("message", { data: text }));
        }
      }
    }
  }

  close() {
    this.readyState = 2;
    this.ending.abort();
  }
};

const short = (found) => [found.value, found.errorCode ?? found.variant, found.reason];
const print = (found) => console.log(JSON.stringify(found));

await OpenFeature.setContext({ targetingKey: member, country: "SE" });
await OpenFeature.setProviderAndWait(
  new OFREPWebProvider({
    baseUrl: address,
    cacheMode: "disabled",
    headers: [["Authorization", `Bearer ${token}`]],
  }),
);
const client = OpenFeature.getClient();
print({
  bool: short(client.getBooleanDetails("bool", false)),
  text: short(client.getStringDetails("text", "none")),
  whole: short(client.getNumberDetails("whole", 0)),
  part: short(client.getNumberDetails("part", 0)),
  object: short(client.getObjectDetails("object", {})),
  mine: short(client.getBooleanDetails("mine", false)),
  off: short(client.getBooleanDetails("off", true)),
  missing: short(client.getStringDetails("missing", "own")),
});
client.addHandler(ProviderEvents.ConfigurationChanged, async (event) => {
  print({ changed: event.flagsChanged, bool: short(client.getBooleanDetails("bool", false)) });
  await OpenFeature.close();
  process.exit(0);
});
setTimeout(() => process.exit(1), 50_000);
