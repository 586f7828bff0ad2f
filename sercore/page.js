// The whole demo: it draws what the kernel tells, each message by the function of its kind, and sends what a visitor does.
const render = ({ model, el }) => {
  const page = model.get("page"), words = page.words.page, cards = new Map();
  const send = (kind, values = {}, ...buffers) => model.send({ kind, ...values }, undefined, buffers);
  const text = (tag, textContent, className = "") => element(tag, { textContent, className });
  const zone = dropZone(page, send), mic = microphone(page, send);
  const [half, wrap] = ["ser-half", "ser-wrap"].map((className) => (...children) => element("div", { className }, ...children));

  const status = element("p", { className: "ser-small", role: "status", textContent: words.nothing }), clear = button(words.clear, "ser-slim");
  const save = element("a", { className: "ser-download", download: "emotions.csv", textContent: `⬇ ${words.csv}`, hidden: true });
  const live = element("div", { className: "ser-live", hidden: true }), results = element("div"), table = element("div");
  const examples = Object.entries(page.examples).map(([emotion, title]) =>
    Object.assign(button(page.emotions[emotion], "ser-slim", () => send("example", { emotion })), { title }));
  const choice = element("fieldset", { hidden: !Object.keys(page.choice).length }, text("legend", words.model));
  const group = `ser-network-${Math.random()}`;
  for (const [name, said] of Object.entries(page.choice)) {
    const input = element("input", { type: "radio", name: group, value: name, defaultChecked: !choice.querySelector("input"), onchange: () => send("network", { name }) });
    choice.append(element("label", { className: "ser-layer" }, input, said));
  }
  const explain = element("input", { type: "checkbox", defaultChecked: true, onchange: () => send("explain", { on: explain.checked }) });
  let state = "empty";
  Object.assign(clear, { hidden: true, onclick: () => send(state === "cleared" ? "undo" : "clear") });

  el.classList.add("ser-demo");
  el.lang = words.lang;
  el.dataset.lmSuppressShortcuts = "true"; // JupyterLab takes Space and Enter for itself
  const top = wrap(half(mic.node), half(zone.node));
  top.classList.add("ser-top");
  el.replaceChildren(
    element("div", { className: "ser-intro" }, text("h1", words.title), text("p", words.intro), text("p", words.promise, "ser-small")),
    top,
    element("div", { className: "ser-examples" }, text("p", page.real ? words.examples_real : words.examples_synthetic, "ser-small"), ...examples),
    element("div", { className: "ser-controls" }, status, clear, save),
    live, results, table,
    element("div", { className: "ser-options" }, choice, element("label", { className: "ser-layer" }, explain, words.explain)),
  );

  const on = {
    status({ html }) { status.innerHTML = html; },
    table({ html, csv, state: now }) {
      state = now;
      table.innerHTML = html;
      save.href = csv;
      save.hidden = state !== "answered";
      clear.hidden = state === "empty";
      clear.textContent = state === "cleared" ? words.undo : words.clear;
      el.classList.toggle("ser-answered", state === "answered");
    },
    live({ html }) { [live.innerHTML, live.hidden] = [html, !html]; },
    options({ network, explains }) {
      explain.checked = explains;
      choice.querySelectorAll("input").forEach((input) => { input.checked = input.value === network; });
    },
    card(card, [sound, envelope, levels, shares]) {
      if (cards.has(card.card)) return;
      const [head, other, part] = [card.head, card.other ?? "", card.part ?? ""].map((innerHTML) => element("div", { innerHTML }));
      const remove = button(page.words.card.remove, "ser-slim", () => send("remove", { card: card.card }));
      remove.title = fill(page.words.card.remove_it, card);
      const ask = button(fill(page.words.card.ask, { network: card.ask }), "ser-slim", () => send("other", { card: card.card }));
      ask.hidden = !card.ask || card.other;
      const shown = { number: card.card, other, part, ask, player: card.about && player(Object.assign(card, { sound, envelope, levels, shares }), page, send) };
      shown.node = element("div", { className: "ser-card" }, head, other, part);
      if (shown.player) shown.node.append(wrap(half(element("div", { innerHTML: card.bars })), half(shown.player.node)));
      shown.node.append(element("div", { className: "ser-actions" }, ask, remove));
      const older = [...cards.values()].filter(({ number }) => number < card.card).sort((a, b) => b.number - a.number)[0];
      results.insertBefore(shown.node, older?.node ?? null); // the newest first
      cards.set(card.card, shown);
    },
    more(message, buffers) { cards.get(message.card)?.player.more(message, buffers); },
    part({ card, html }) {
      cards.get(card).part.innerHTML = html;
      cards.get(card).player.answered();
    },
    other({ card, html }) {
      cards.get(card).other.innerHTML = html;
      cards.get(card).ask.hidden = true;
    },
    close({ card }) {
      cards.get(card)?.player?.close();
      cards.get(card)?.node.remove();
      cards.delete(card);
    },
    clear() {
      for (const card of [...cards.keys()]) on.close({ card });
      on.live({ html: "" });
      zone.clear();
      mic.clear();
    },
    arrived: zone.arrived, heard: mic.heard, error: mic.error,
  };
  const receive = (message, buffers) => on[message.kind]?.(message, buffers);
  model.on("msg:custom", receive);
  send("hello");

  // On a page of its own, a file that misses the frame is taken as well: the browser would leave the page for it.
  const beside = (event) => {
    if (!el.isConnected || !document.body.classList.contains("ser-page")) return;
    event.preventDefault();
    if (event.type === "drop" && event.dataTransfer?.files.length) zone.take([...event.dataTransfer.files]);
  };
  for (const event of ["dragover", "drop"]) document.addEventListener(event, beside);
  return () => {
    for (const event of ["dragover", "drop"]) document.removeEventListener(event, beside);
    model.off("msg:custom", receive);
    for (const { player } of cards.values()) player?.close();
    mic.close();
  };
};

export default { render };
