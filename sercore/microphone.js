// The microphone: sends samples, all of a recording at its end (16 kHz, 16 bit), or live what it heard in a second.
const RATE = 16_000;
const BLOCK = 2048;
// What waits for a busy kernel is bounded: older sound is skipped, and its length is told.
const MAX_WAITING_S = 5;

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
  const y = new Float32Array(blocks.length * BLOCK);
  blocks.forEach((block, k) => y.set(block, k * BLOCK));
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

/** Its `node`; what the kernel tells it: `heard`, `error`, `clear`; and `close`. */
const microphone = (page, send) => {
  const words = page.words.microphone;
  const record = button(words.record, "ser-primary", () => begin("record")), live = button(words.live, "", () => begin("live"));
  const stop = button("", "ser-stop", () => finish());
  stop.append(element("span", { textContent: "■ ", ariaHidden: "true" }), words.stop);
  const meter = element("meter", { min: -60, max: 0, low: -50, high: -3, optimum: -20, value: -60, ariaLabel: words.level });
  const time = element("span", { className: "ser-time" }), hearing = element("span", { className: "ser-small" });
  const level = element("div", { className: "ser-level", hidden: true }, time, meter, hearing);
  const status = element("p", { className: "ser-small", role: "status" }), alert = element("p", { className: "ser-alert", role: "alert" });
  const node = element("div", { className: "ser-mic", role: "group", ariaLabel: words.label }, element("div", {}, record, live, stop), level, status, alert);
  stop.hidden = true;

  const say = (text, hint = "") => { [status.textContent, status.className] = [text, `ser-small ${hint}`]; };
  const invite = () => say(fill(words.invite, { minutes: page.max_s / 60 }), "ser-hint");
  let source = null, mode = null, opening = false;
  let blocks = [], heard = 0, skipped = 0, waitingSince = null, first = true;
  invite();

  const show = (on) => {
    const focused = node.contains(document.activeElement);
    [record.hidden, live.hidden, stop.hidden, level.hidden] = [on, on, !on, !on];
    if (focused) (on ? stop : mode === "live" ? live : record).focus();
  };

  const sendLive = () => {
    const limit = Math.ceil((MAX_WAITING_S * source.sr) / BLOCK);
    for (; blocks.length > limit; skipped += BLOCK) blocks.shift();
    if (waitingSince) {
      if (Date.now() - waitingSince > LIVE_PATIENCE_MS) say(words.busy);
      return;
    }
    if (blocks.length * BLOCK < source.sr) return;
    waitingSince = Date.now();
    send("live", { sr: source.sr, skipped_s: skipped / source.sr, anew: first }, join(blocks).buffer);
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
    else if (heard >= page.max_s) finish(fill(words.longest, { time: clock(heard) }));
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
    if (!node.isConnected) return close();
    [mode, blocks, heard, skipped, waitingSince, first] = [wanted, [], 0, 0, null, true];
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
    const y = await resample(join(blocks), sr);
    blocks = [];
    record.textContent = words.again;
    say(text || fill(words.recorded, { seconds: heard.toFixed(1) }));
    send("recording", { sr: RATE }, Int16Array.from(y, (value) => 32767 * Math.max(-1, Math.min(1, value))).buffer);
  };

  return {
    node,
    heard() {
      waitingSince = null;
      if (mode === "live") say(words.is_live);
    },
    error({ text }) { alert.textContent = text; },
    clear() {
      record.textContent = words.record;
      alert.textContent = "";
      if (!source) invite();
    },
    close,
  };
};

