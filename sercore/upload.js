// The drop zone. A file travels in parts, each below the message limit of any server, the next one after the kernel
// has the last: nothing is lost without a word, and nothing piles up while the kernel is busy.
const PART_BYTES = 4 * 1024 * 1024;
const PATIENCE_MS = 20_000;

export default () => {
  const queue = [];
  let busy = false, arrived = () => {};

  const send = async (model, file, say) => {
    const head = { name: file.name, size: file.size, waiting: queue.length };
    // One too large is announced, not sent: the kernel answers with its card.
    const size = file.size > model.get("max_mb") * 1e6 ? 0 : file.size;
    let offset = 0;
    do {
      const part = await file.slice(offset, Math.min(offset + PART_BYTES, size)).arrayBuffer();
      const wait = setTimeout(() => say("waiting"), PATIENCE_MS);
      await new Promise((resolve) => {
        arrived = resolve;
        model.send({ ...head, offset }, undefined, [part]);
        offset += part.byteLength;
        say(offset < size ? "sending" : "listening", Math.round((100 * offset) / size));
      });
      clearTimeout(wait);
    } while (offset < size);
  };

  return {
    initialize({ model }) {
      model.on("msg:custom", (message) => {
        if (message.kind === "clear") queue.length = 0;
        else arrived();
      });
    },

    render({ model, el }) {
      const words = model.get("words");
      const input = element("input", { type: "file", accept: model.get("accept"), multiple: true, hidden: true });
      const button = element("button", { type: "button", className: "ser-button ser-primary", textContent: words.choose });
      const status = element("p", { className: "ser-small" });
      const alert = element("p", { className: "ser-alert" });
      const hint = element("p", { className: "ser-small ser-hint", textContent: model.get("hint") });
      const zone = element("div", { className: "ser-drop" }, element("div", {}, button, element("span", { textContent: words.drop })), input, hint, status, alert);
      for (const [node, role] of [[zone, "group"], [status, "status"], [alert, "alert"]]) node.setAttribute("role", role);
      zone.setAttribute("aria-label", words.label);
      el.append(zone);
      // JupyterLab takes Space and Enter for itself wherever this is not set, on the demo's other buttons too.
      setTimeout(() => {
        const demo = el.closest(".ser-demo") ?? el;
        demo.setAttribute("data-lm-suppress-shortcuts", "true");
        demo.lang = words.lang;
      });

      const take = async (files) => {
        alert.textContent = files.length ? "" : words.nothing;
        queue.push(...files);
        if (busy) return;
        busy = true;
        while (queue.length) {
          const file = queue.shift();
          try {
            await send(model, file, (key, percent) => { status.textContent = fill(words[key], { name: file.name, percent }); });
          } catch (error) {
            alert.textContent = fill(words.unreadable, { name: file.name, reason: error.message });
          }
        }
        status.textContent = "";
        busy = false;
      };

      button.onclick = () => input.click();
      input.onchange = () => {
        take([...input.files]);
        input.value = ""; // so that the same file can be chosen again
      };
      let depth = 0; // entering a child counts as leaving its parent
      const over = (event, change) => {
        event.preventDefault();
        event.stopPropagation(); // JupyterLab would open the file
        depth = Math.max(0, depth + change);
        zone.classList.toggle("ser-over", depth > 0);
      };
      zone.ondragenter = (event) => over(event, 1);
      zone.ondragleave = (event) => over(event, -1);
      zone.ondragover = (event) => over(event, 0);
      zone.ondrop = (event) => {
        over(event, -depth);
        take([...event.dataTransfer.files]);
      };
      // On a page of its own, a file that misses the frame is taken as well: the browser would leave the page for it.
      const beside = (event) => {
        if (!el.isConnected || !document.body.classList.contains("ser-page")) return;
        event.preventDefault();
        if (event.type === "drop" && event.dataTransfer?.files.length) take([...event.dataTransfer.files]);
      };
      document.addEventListener("dragover", beside);
      document.addEventListener("drop", beside);
      return () => {
        document.removeEventListener("dragover", beside);
        document.removeEventListener("drop", beside);
      };
    },
  };
};
