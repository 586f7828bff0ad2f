// The player of a card: waveform, log-mel spectrogram and timeline on one canvas, one playhead through all of them.
// Heights and margins of the picture, in CSS pixels.
const WAVE = 54, MEL = 150, STRIP = 22, AXIS = 22, LEFT = 46, GAP = 6;
const MOVED = 4; // a click whose pointer moved by fewer pixels is no drag
// Points of matplotlib's magma, quiet to loud.
const MAGMA = [[0, 0, 4], [28, 16, 68], [79, 18, 123], [129, 37, 129], [181, 54, 122], [229, 80, 100], [251, 135, 97], [254, 194, 135], [252, 253, 191]];
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120];

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

const magma = (share) => {
  const at = share * (MAGMA.length - 1), k = Math.min(MAGMA.length - 2, Math.floor(at));
  return MAGMA[k].map((from, c) => from + (at - k) * (MAGMA[k + 1][c] - from));
};

/** A picture with a pixel for each cell of rows, the lowest pitch at the bottom; `color` gives four numbers up to 255. */
const pixels = (values, rows, color) => {
  const columns = values.length / rows, canvas = element("canvas", { width: columns, height: rows });
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  const colors = Array.from({ length: 256 }, (_, value) => color(value / 255));
  values.forEach((value, k) => image.data.set(colors[value], 4 * ((rows - 1 - Math.floor(k / columns)) * columns + (k % columns))));
  context.putImageData(image, 0, 0);
  return canvas;
};

const isDark = (hex) => [1, 3, 5].reduce((sum, k, c) => sum + [0.3, 0.59, 0.11][c] * parseInt(hex.slice(k, k + 2), 16), 0) < 130;

/** What a card has to show, and how it is drawn `width` pixels wide. */
const picture = (card, page) => {
  const about = card.about, words = page.words.player, envelope = new Int8Array(bytes(card.envelope).slice().buffer);
  const rows = about.n_mels, n = envelope.length / 2;
  const mel = pixels(bytes(card.levels), rows, (share) => [...magma(share), 255]);
  const melTop = WAVE + GAP, stripTop = melTop + MEL + GAP;
  const height = () => stripTop + (card.timeline.length ? STRIP + GAP : 0) + AXIS;
  const x = (seconds, width) => LEFT + ((width - LEFT - 1) * seconds) / about.duration_s;
  let listened = null;

  const wave = (context, width, color) => {
    context.fillStyle = color;
    const each = (width - LEFT) / n;
    for (let k = 0; k < n; k++) {
      const top = (WAVE / 2) * (1 - envelope[n + k] / 127), bottom = (WAVE / 2) * (1 - envelope[k] / 127);
      context.fillRect(LEFT + k * each, top, Math.max(each, 0.8), Math.max(1, bottom - top));
    }
  };

  const spectrogram = (context, width, what) => {
    context.drawImage(what, LEFT, melTop, x(what.width * about.column_s, width) - LEFT, MEL);
  };

  const strip = (context, width) => {
    context.textAlign = "center";
    for (const [start, end, emotion] of card.timeline) {
      const left = x(start, width), wide = x(end, width) - left, color = page.colors[emotion];
      context.fillStyle = color ?? "#8884";
      context.fillRect(left, stripTop, wide - 1, STRIP);
      const name = page.emotions[emotion] ?? emotion;
      if (!color || context.measureText(name).width + 6 > wide) continue;
      context.fillStyle = isDark(color) ? "#fff" : "#000";
      context.fillText(name, left + wide / 2, stripTop + STRIP / 2);
    }
  };

  const axes = (context, width, ink) => {
    context.fillStyle = ink;
    context.textAlign = "right";
    for (const [hz, share] of about.marks) context.fillText(hz < 1000 ? hz : `${hz / 1000}k`, LEFT - 6, melTop + MEL * (1 - share));
    context.fillText(words.hz, LEFT - 6, melTop + 7);
    const step = STEPS_S.find((seconds) => about.duration_s / seconds <= width / 70) ?? 300;
    const number = new Intl.NumberFormat(page.words.page.lang, { maximumFractionDigits: 1 });
    for (let k = 0; k * step <= about.duration_s; k++) {
      const at = x(k * step, width), label = k ? number.format(k * step) : "0 s";
      context.fillRect(at, height() - AXIS, 1, 4);
      context.textAlign = k === 0 ? "left" : at > width - 12 ? "right" : "center";
      context.fillText(label, at, height() - AXIS / 2 + 3);
    }
  };

  return {
    height, x,
    seconds: (at, width) => Math.max(0, Math.min(about.duration_s, ((at - LEFT) / (width - LEFT - 1)) * about.duration_s)),
    draw(context, width, ink, color) {
      context.font = "12px system-ui, sans-serif";
      context.textBaseline = "middle";
      wave(context, width, color);
      spectrogram(context, width, mel);
      if (card.timeline.length) strip(context, width);
      axes(context, width, ink);
    },
    /** The layer of what the network listened to: the rest is dimmed, and a line runs around what spoke most. */
    glow(context, width) {
      const shares = bytes(card.shares), columns = mel.width;
      const level = Math.max(1, shares.slice().sort()[Math.floor(0.9 * shares.length)]);
      listened ??= pixels(shares, rows, (share) => (255 * share >= level ? [120, 230, 255, 110 * share] : [0, 0, 0, 140]));
      spectrogram(context, width, listened);
      const across = x(about.column_s, width) - LEFT, down = MEL / rows;
      const inside = (row, column) => row >= 0 && row < rows && column >= 0 && column < columns && shares[row * columns + column] >= level;
      context.beginPath();
      for (let row = 0; row <= rows; row++) {
        for (let column = 0; column <= columns; column++) {
          const left = LEFT + column * across, bottom = melTop + MEL - row * down;
          if (inside(row, column) !== inside(row, column - 1)) { context.moveTo(left, bottom); context.lineTo(left, bottom - down); }
          if (inside(row, column) !== inside(row - 1, column)) { context.moveTo(left, bottom); context.lineTo(left + across, bottom); }
        }
      }
      context.strokeStyle = "#fff";
      context.lineWidth = 1.2;
      context.stroke();
    },
  };
};

/** The whole card as a picture for slides, 1600 by 900, dark on white. */
const poster = (card, page, shown, overlay) => {
  const about = card.about, canvas = element("canvas", { width: 1600, height: 900 }), context = canvas.getContext("2d");
  const text = (said, left, top, font, color, width = 1480) => { // what is longer is squeezed
    context.font = `${font} system-ui, sans-serif`;
    context.fillStyle = color;
    context.fillText(said, left, top, width);
  };
  context.fillStyle = "#fff";
  context.fillRect(0, 0, 1600, 900);
  text(about.name, 60, 80, "28px", "#57606a");
  text(about.verdict, 92, 160, "700 54px", "#1f2328", 1448);
  context.fillStyle = page.colors[about.label];
  context.fillRect(60, 112, 14, 64);
  about.doubts.slice(0, 3).forEach((doubt, k) => text(`⚠ ${doubt}`, 60, 222 + 34 * k, "25px", "#5c4300"));
  const top = 290 + 20 * Math.max(0, about.doubts.length - 2);
  const shares = Object.entries(about.probabilities), pitch = (810 - top) / shares.length;
  shares.forEach(([emotion, share], k) => {
    const y = top + k * pitch, font = `${emotion === about.label ? 700 : 400} 26px`;
    text(page.emotions[emotion], 60, y + pitch / 2, font, "#1f2328", 180);
    context.fillStyle = "#eef0f2";
    context.fillRect(250, y + pitch / 2 - 24, 330, 28);
    context.fillStyle = page.colors[emotion];
    context.fillRect(250, y + pitch / 2 - 24, Math.max(3, 330 * share), 28);
    text(`${Math.round(100 * share)} %`, 600, y + pitch / 2, font, "#1f2328", 90);
  });
  const scale = Math.min(1.9, (810 - top) / shown.height()), width = 820 / scale;
  context.save();
  context.translate(720, top);
  context.scale(scale, scale);
  shown.draw(context, width, "#1f2328", "#00568a");
  if (overlay) shown.glow(context, width);
  context.restore();
  context.textBaseline = "alphabetic";
  context.textAlign = "left";
  text(fill(page.words.player.poster, about), 60, 866, "22px", "#57606a");
  return canvas;
};

/** Its `node`; `more` of what there is to show, and that a part was `answered`; and `close`. */
const player = (card, page, send) => {
  const words = page.words.player, about = card.about, duration = about.duration_s, shown = picture(card, page);
  const one = new Intl.NumberFormat(page.words.page.lang, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const slim = (text, kind = "") => button(text, `ser-slim ${kind}`);
  const url = URL.createObjectURL(new Blob([card.sound], { type: "audio/flac" }));
  const audio = element("audio", { src: url, preload: "auto" }), canvas = element("canvas", { tabIndex: 0, role: "slider", ariaLabel: words.label, ariaValueMin: 0, ariaValueMax: duration.toFixed(1) });
  const play = slim("", "ser-primary ser-play"), time = element("span", { className: "ser-time" }), ask = slim(words.ask);
  const hint = element("p", { className: "ser-small", textContent: words.hint, id: `ser-hint-${card.card}-${Math.random()}` });
  const alert = element("p", { className: "ser-small", role: "alert" }), legend = element("div", { className: "ser-legend", role: "img", hidden: true });
  const overlay = element("input", { type: "checkbox" }), listened = element("p", { className: "ser-small", hidden: true });
  const layer = element("label", { className: "ser-layer", hidden: true }, overlay, words.overlay);
  const save = slim(words.save), yes = slim(fill(words.yes, { emotion: page.emotions[about.label] })), no = element("select", { className: "ser-button ser-slim", ariaLabel: words.no });
  const told = element("div", { className: "ser-row", role: "group", ariaLabel: words.right }, element("span", { textContent: words.right }), yes, no);
  const box = element("div", { className: "ser-player" }, audio, canvas, legend, element("div", { className: "ser-row" }, play, time, ask, save), hint, alert,
    layer, listened, told);
  canvas.setAttribute("aria-describedby", hint.id);
  const others = Object.keys(page.colors).filter((emotion) => emotion !== about.label);
  no.append(element("option", { value: "" }, words.no), ...others.map((emotion) => element("option", { value: emotion }, page.emotions[emotion])));

  const calm = matchMedia("(prefers-reduced-motion: reduce)"), base = element("canvas");
  let part = null, width = 0, frame = 0, at = 0;

  const renew = () => {
    const scale = window.devicePixelRatio || 1, style = getComputedStyle(box);
    width = canvas.clientWidth;
    if (!width) return;
    canvas.style.height = `${shown.height()}px`;
    for (const each of [canvas, base]) [each.width, each.height] = [width * scale, shown.height() * scale];
    const context = base.getContext("2d");
    context.scale(scale, scale);
    shown.draw(context, width, style.color, style.getPropertyValue("--ser-wave").trim() || style.color);
    if (overlay.checked) shown.glow(context, width);
    show();
  };

  /** The playhead and the chosen part, over what does not change. */
  const show = () => {
    const context = canvas.getContext("2d"), scale = canvas.width / width, bottom = shown.height() - AXIS;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(base, 0, 0);
    context.scale(scale, scale);
    if (part) {
      const [left, right] = part.map((seconds) => shown.x(seconds, width));
      context.fillStyle = "rgb(128 128 128 / 0.5)";
      context.fillRect(LEFT, 0, left - LEFT, bottom);
      context.fillRect(right, 0, width - right, bottom);
      for (const [color, wide] of [["#000", 4], ["#ffd166", 2]]) {
        [context.strokeStyle, context.lineWidth] = [color, wide];
        context.strokeRect(left, 1, right - left, bottom - 2);
      }
    }
    const x = shown.x(at, width);
    for (const [color, wide] of [["#000", 4], ["#fff", 2]]) {
      context.fillStyle = color;
      context.fillRect(x - wide / 2, 0, wide, bottom);
    }
    const now = one.format(at), all = one.format(duration);
    time.textContent = `${now} / ${all} s`;
    ask.disabled = !part;
    if (!audio.paused) return; // a screen reader would read a number for each frame
    canvas.ariaValueNow = at.toFixed(1);
    const spoken = card.timeline.find(([, end]) => at < end), ends = part?.map((seconds) => one.format(seconds));
    const place = fill(part ? words.chosen : words.place, { now, all, start: ends?.[0], end: ends?.[1] });
    canvas.ariaValueText = spoken ? `${place}, ${page.emotions[spoken[2]]}` : place;
  };

  const label = () => {
    play.replaceChildren(element("span", { textContent: audio.paused ? "▶" : "❚❚", ariaHidden: "true" }), ` ${audio.paused ? words.play : words.pause}`);
  };

  const seek = (seconds) => {
    at = Math.max(0, Math.min(duration, seconds));
    audio.currentTime = at;
    show();
  };

  const choose = (from, to) => {
    part = from === to ? null : [Math.min(from, to), Math.max(from, to)];
    show();
  };

  const follow = () => {
    if (audio.paused) return;
    at = audio.currentTime;
    if (part && at >= part[1]) { // a chosen part is played alone
      audio.pause();
      seek(part[0]);
    } else show();
  };

  const run = () => {
    follow();
    if (!audio.paused && !calm.matches) frame = requestAnimationFrame(run);
  };

  const toggle = () => {
    if (!audio.paused) return audio.pause();
    document.querySelectorAll(".ser-demo audio").forEach((other) => other !== audio && other.pause());
    if (part && !(at >= part[0] && at < part[1])) seek(part[0]);
    if (at >= duration - 0.02) seek(0);
    audio.play().catch(() => { alert.textContent = words.unplayable; });
  };

  audio.onplay = () => { label(); run(); };
  audio.onpause = () => { // a busy machine may not have drawn since
    at = audio.currentTime;
    label();
    cancelAnimationFrame(frame);
    show();
  };
  audio.ontimeupdate = follow; // with less motion, four times a second
  audio.onended = () => { at = duration; label(); show(); };

  let down = null;
  const where = (event) => shown.seconds(event.clientX - canvas.getBoundingClientRect().left, width);
  canvas.onpointerdown = (event) => {
    if (event.button) return;
    down = { x: event.clientX, seconds: where(event), dragged: false };
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = (event) => {
    if (!down) return;
    down.dragged ||= Math.abs(event.clientX - down.x) > MOVED;
    if (down.dragged) choose(down.seconds, where(event));
  };
  canvas.onpointerup = (event) => {
    if (!down) return;
    if (!down.dragged) choose(0, 0);
    seek(down.dragged && part ? part[0] : where(event));
    down = null;
  };
  canvas.onpointercancel = () => { down = null; };

  let anchor = null;
  canvas.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = Math.max(0.05, duration / 60);
    const to = { ArrowLeft: at - step, ArrowDown: at - step, ArrowRight: at + step, ArrowUp: at + step, Home: 0, End: duration, PageUp: at + 6 * step, PageDown: at - 6 * step }[event.key];
    if (to !== undefined) {
      if (event.shiftKey) anchor ??= at;
      else anchor = null;
      seek(to);
      choose(anchor ?? 0, anchor === null ? 0 : at);
    } else if (event.key === " " || event.key === "Enter") toggle();
    else if (event.key === "Escape") choose((anchor = null), null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  play.onclick = toggle;
  ask.onclick = () => {
    if (!part) return;
    ask.textContent = words.asking;
    send("part", { card: card.card, start: part[0], end: part[1] });
  };
  save.onclick = () => poster(card, page, shown, overlay.checked).toBlob((blob) => {
    const link = element("a", { href: URL.createObjectURL(blob), download: `${about.name}.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
  overlay.onchange = () => {
    listened.hidden = !overlay.checked;
    renew();
  };
  const tell = (emotion) => {
    send("told", { card: card.card, emotion });
    showTold(emotion);
  };
  yes.onclick = () => tell(card.told === about.label ? "" : about.label);
  no.onchange = () => tell(no.value);
  const showTold = (emotion) => {
    card.told = emotion;
    yes.ariaPressed = emotion === about.label;
    no.value = emotion === about.label ? "" : emotion;
    no.classList.toggle("ser-chosen", no.value !== "");
  };
  const showMore = () => {
    layer.hidden = !card.shares.byteLength;
    listened.textContent = fill(words.listened, { emotion: page.emotions[about.label] });
    const met = [...new Set(card.timeline.map(([, , emotion]) => emotion))];
    legend.hidden = !met.length;
    legend.ariaLabel = card.spoken;
    legend.replaceChildren(...met.map((emotion) =>
      element("span", {}, element("i", { style: `background: ${page.colors[emotion] ?? "#8884"}` }), page.emotions[emotion])));
    renew();
  };
  const themes = new MutationObserver(renew), sizes = new ResizeObserver(renew);
  themes.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  sizes.observe(canvas);
  const schemes = ["(prefers-color-scheme: dark)", "(forced-colors: active)"].map((query) => matchMedia(query));
  for (const scheme of schemes) scheme.addEventListener("change", renew);
  label();
  showTold(card.told);
  showMore();
  return {
    node: box,
    more({ timeline, spoken }, [shares]) {
      Object.assign(card, { timeline, spoken, shares });
      showMore();
    },
    answered() { ask.textContent = words.ask; },
    close() {
      for (const scheme of schemes) scheme.removeEventListener("change", renew);
      themes.disconnect();
      sizes.disconnect();
      audio.pause();
      URL.revokeObjectURL(url);
    },
  };
};

