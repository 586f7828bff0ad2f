// What all of the demo's scripts use; they are read as one.
const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const button = (textContent, kind = "", onclick = null) => element("button", { type: "button", className: `ser-button ${kind}`, textContent, onclick });
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const PATIENCE_MS = 20_000, LIVE_PATIENCE_MS = 8_000;

// The drop zone. A file travels in parts, each below the message limit of any server, the next one after the kernel
// has the last: nothing is lost without a word, and nothing piles up while the kernel is busy.
const PART_BYTES = 4 * 1024 * 1024;

/** Its `node`; what the kernel tells it: `arrived`, `clear`; `take` files that were dropped elsewhere. */
const dropZone = (page, send) => {
  const words = page.words.upload, queue = [];
  let busy = false, arrived = () => {};
  const input = element("input", { type: "file", accept: page.accept, multiple: true, hidden: true });
  const choose = button(words.choose, "ser-primary", () => input.click());
  const status = element("p", { className: "ser-small", role: "status" }), alert = element("p", { className: "ser-alert", role: "alert" });
  const hint = element("p", { className: "ser-small ser-hint", textContent: page.hint });
  const node = element("div", { className: "ser-drop", role: "group", ariaLabel: words.label }, element("div", {}, choose, element("span", { textContent: words.drop })), input, hint, status, alert);

  const pass = async (file) => {
    const say = (key, percent) => { status.textContent = fill(words[key], { name: file.name, percent }); };
    const head = { name: file.name, size: file.size, waiting: queue.length };
    // One too large is announced, not sent: the kernel answers with its card.
    const size = file.size > page.max_mb * 1e6 ? 0 : file.size;
    let offset = 0;
    do {
      const part = await file.slice(offset, Math.min(offset + PART_BYTES, size)).arrayBuffer();
      const wait = setTimeout(() => say("waiting"), PATIENCE_MS);
      await new Promise((resolve) => {
        arrived = resolve;
        send("file", { ...head, offset }, part);
        offset += part.byteLength;
        say(offset < size ? "sending" : "listening", Math.round((100 * offset) / size));
      });
      clearTimeout(wait);
    } while (offset < size);
  };

  const take = async (files) => {
    alert.textContent = files.length ? "" : words.nothing;
    queue.push(...files);
    if (busy) return;
    busy = true;
    while (queue.length) {
      const file = queue.shift();
      await pass(file).catch((error) => { alert.textContent = fill(words.unreadable, { name: file.name, reason: error.message }); });
    }
    status.textContent = "";
    busy = false;
  };

  input.onchange = () => {
    take([...input.files]);
    input.value = ""; // so that the same file can be chosen again
  };
  let depth = 0; // entering a child counts as leaving its parent
  const over = (event, change) => {
    event.preventDefault();
    event.stopPropagation(); // JupyterLab would open the file
    depth = Math.max(0, depth + change);
    node.classList.toggle("ser-over", depth > 0);
  };
  node.ondragenter = (event) => over(event, 1);
  node.ondragleave = (event) => over(event, -1);
  node.ondragover = (event) => over(event, 0);
  node.ondrop = (event) => {
    over(event, -depth);
    take([...event.dataTransfer.files]);
  };
  return { node, take, arrived: () => arrived(), clear: () => { queue.length = 0; } };
};

