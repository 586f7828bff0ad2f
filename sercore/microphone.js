// The microphone: records to a 16 kHz mono 16-bit WAV, or sends what it hears once a second, as plain samples.
const RATE = 16_000;
const BLOCK = 2048;
// What waits for a busy kernel is bounded: older sound is skipped, and its length is told.
const MAX_WAITING_S = 5;
const PATIENCE_MS = 8_000;

const TAP = `registerProcessor("ser-tap", class extends AudioWorkletProcessor {
  block = new Float32Array(${BLOCK}); n = 0;
  process([[x]]) {
    for (const value of x ?? []) {
      this.block[this.n++] = value;
      if (this.n === ${BLOCK}) { this.port.postMessage(this.block.slice()); this.n = 0; }
    }
    return true;
  }
});`;

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

const join = (blocks) => {
  const y = new Float32Array(blocks.reduce((n, block) => n + block.length, 0));
  let n = 0;
  for (const block of blocks) { y.set(block, n); n += block.length; }
  return y;
};

const resample = async (y, sr) => {
  const offline = new OfflineAudioContext(1, Math.ceil((y.length * RATE) / sr), RATE);
  const buffer = offline.createBuffer(1, y.length, sr), source = offline.createBufferSource();
  buffer.copyToChannel(y, 0);
  source.buffer = buffer;
  source.connect(offline.destination);
  source.start();
  return (await offline.startRendering()).getChannelData(0);
};

const encodeWav = (y) => {
  const view = new DataView(new ArrayBuffer(44 + 2 * y.length));
  const text = (offset, letters) => [...letters].forEach((c, i) => view.setUint8(offset + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * y.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true); view.setUint32(28, 2 * RATE, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * y.length, true);
  y.forEach((value, i) => view.setInt16(44 + 2 * i, Math.round(32767 * Math.max(-1, Math.min(1, value))), true));
  return view;
};

async function open(words, onBlock, onLost) {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new Error(fill(words.insecure, { place: location.origin }));
  }
  // As it is: a browser's own gain and noise control would change the loudness, which carries emotion.
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...plain } });
  const context = new AudioContext(), module = URL.createObjectURL(new Blob([TAP], { type: "text/javascript" }));
  const close = () => {
    stream.getTracks().forEach((track) => { track.onended = null; track.stop(); });
    context.close();
  };
  try {
    await context.audioWorklet.addModule(module);
    await context.resume();
  } catch (error) {
    close();
    throw error;
  } finally {
    URL.revokeObjectURL(module);
  }
  const tap = new AudioWorkletNode(context, "ser-tap", { channelCount: 1, channelCountMode: "explicit" });
  tap.port.onmessage = ({ data }) => onBlock(data);
  context.createMediaStreamSource(stream).connect(tap).connect(context.destination); // which the tap leaves silent
  stream.getTracks().forEach((track) => { track.onended = onLost; });
  return { sr: context.sampleRate, close };
}

function render({ model, el }) {
  const words = model.get("words");
  const button = (text, kind = "") => element("button", { type: "button", className: `ser-button ${kind}`, textContent: text });
  const record = button(words.record, "ser-primary"), live = button(words.live), stop = button("", "ser-stop");
  stop.append(element("span", { textContent: "■ ", ariaHidden: "true" }), words.stop);
  const meter = element("meter", { min: -60, max: 0, low: -50, high: -3, optimum: -20, value: -60 });
  const time = element("span", { className: "ser-time" }), hearing = element("span", { className: "ser-small" });
  const level = element("div", { className: "ser-level", hidden: true }, time, meter, hearing);
  const player = element("audio", { controls: true, hidden: true });
  const status = element("p", { className: "ser-small" }), alert = element("p", { className: "ser-alert" });
  const panel = element("div", { className: "ser-mic" }, element("div", {}, record, live, stop), level, player, status, alert);
  for (const [node, role] of [[panel, "group"], [status, "status"], [alert, "alert"]]) node.setAttribute("role", role);
  for (const [node, label] of [[panel, words.label], [meter, words.level], [player, words.recording]]) {
    node.setAttribute("aria-label", label);
  }
  stop.hidden = true;
  el.append(panel);

  const say = (text, hint = "") => { [status.textContent, status.className] = [text, `ser-small ${hint}`]; };
  const invite = () => say(fill(words.invite, { minutes: model.get("max_s") / 60 }), "ser-hint");
  let source = null, mode = null, opening = false;
  let blocks = [], heard = 0, skipped = 0, waitingSince = null, first = true;
  invite();

  const show = (on) => {
    const focused = panel.contains(document.activeElement);
    [record.hidden, live.hidden, stop.hidden, level.hidden] = [on, on, !on, !on];
    if (focused) (on ? stop : mode === "live" ? live : record).focus();
  };

  const sendLive = () => {
    const limit = Math.ceil((MAX_WAITING_S * source.sr) / BLOCK);
    for (; blocks.length > limit; skipped += BLOCK) blocks.shift();
    if (waitingSince) {
      if (Date.now() - waitingSince > PATIENCE_MS) say(words.busy);
      return;
    }
    if (blocks.length * BLOCK < source.sr) return;
    waitingSince = Date.now();
    model.send({ sr: source.sr, skipped_s: skipped / source.sr, anew: first }, undefined, [join(blocks).buffer]);
    [blocks, skipped, first] = [[], 0, false];
  };

  const onBlock = (block) => {
    if (!source || !mode) return;
    blocks.push(block);
    heard += BLOCK / source.sr;
    const power = block.reduce((sum, value) => sum + value * value, 0) / BLOCK;
    meter.value = Math.max(-60, 10 * Math.log10(power + 1e-12));
    const heardAs = meter.value > -3 ? words.loud : meter.value < -50 ? words.quiet : words.good;
    if (hearing.textContent !== heardAs) hearing.textContent = heardAs;
    time.textContent = clock(heard);
    if (mode === "live") sendLive();
    else if (heard >= model.get("max_s")) finish(fill(words.longest, { time: clock(heard) }));
  };

  const begin = async (wanted) => {
    if (source || opening) return;
    opening = true;
    alert.textContent = "";
    say(words.allow);
    try {
      source = await open(words, onBlock, () => {
        finish();
        alert.textContent = words.lost;
      });
    } catch (error) {
      alert.textContent = words[error.name] ?? fill(words.failed, { reason: error.message });
      invite();
      return;
    } finally {
      opening = false;
    }
    if (!el.isConnected) return close();
    [mode, blocks, heard, skipped, waitingSince, first] = [wanted, [], 0, 0, null, true];
    player.hidden = true;
    player.pause();
    show(true);
    say(wanted === "live" ? words.is_live : words.is_recording);
  };

  const close = () => {
    source?.close();
    source = null;
  };

  const finish = async (text = "") => {
    if (!source) return;
    const sr = source.sr, done = mode;
    close();
    show(false);
    mode = null;
    if (done === "live") return say(words.live_stopped);
    if (!blocks.length) return say(words.empty);
    const wav = encodeWav(await resample(join(blocks), sr));
    blocks = [];
    URL.revokeObjectURL(player.src);
    player.src = URL.createObjectURL(new Blob([wav], { type: "audio/wav" }));
    player.hidden = false;
    record.textContent = words.again;
    say(text || fill(words.recorded, { seconds: heard.toFixed(1) }));
    model.set("recording", wav);
    model.save_changes();
  };

  const onMessage = (message) => {
    if (message.kind === "heard") {
      waitingSince = null;
      if (mode === "live") say(words.is_live);
    }
    if (message.kind === "error") alert.textContent = message.text;
    if (message.kind === "clear") {
      URL.revokeObjectURL(player.src);
      player.removeAttribute("src");
      player.hidden = true;
      record.textContent = words.record;
      alert.textContent = "";
      if (!source) invite();
    }
  };

  record.onclick = () => begin("record");
  live.onclick = () => begin("live");
  stop.onclick = () => finish();
  model.on("msg:custom", onMessage);
  return () => {
    model.off("msg:custom", onMessage);
    close();
    URL.revokeObjectURL(player.src);
  };
}

export default { render };
