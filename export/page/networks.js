// The worker as the page sees it: promises of results.

/** Start the worker. It answers `load(model)`, `run(blob)` and `encode(pixels)`; `progress` hears the share that is loaded. */
export function networks(progress) {
  // Made from a blob, it inherits the page's security policy: this thread, too, reaches no other place.
  const script = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const worker = new Worker(address, { type: "module" });
  const waiting = new Map();
  let calls = 0;

  worker.onmessage = ({ data }) => {
    if ("progress" in data) {
      progress(data.progress);
      return;
    }
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.error) reject(Object.assign(new Error(data.error.message), { kind: data.error.kind }));
    else resolve(data.result);
  };
  worker.onerror = (event) => {
    const reason = new Error(event.message || "a file of the runtime is missing");
    for (const { reject } of waiting.values()) reject(reason);
    waiting.clear();
  };
  const call = (name) => (argument) =>
    new Promise((resolve, reject) => {
      waiting.set(++calls, { resolve, reject });
      worker.postMessage({ id: calls, call: name, argument });
    });
  return { load: call("load"), run: call("run"), encode: call("encode") };
}
