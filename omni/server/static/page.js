// The page of a served model. It asks nobody but its server; conversations stay in the browser.

const $ = (id) => document.getElementById(id);
const make = (tag, fields = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), fields);
  element.append(...children);
  return element;
};

// --- the server ------------------------------------------------------------------------------------------------------

const key = $("key");
key.value = sessionStorage.getItem("key") ?? "";
key.addEventListener("change", () => { sessionStorage.setItem("key", key.value.trim()); describe(); });

async function ask(path, body, signal) {
  const headers = key.value.trim() ? { Authorization: `Bearer ${key.value.trim()}` } : {};
  const options = { headers, signal };
  if (body instanceof FormData) Object.assign(options, { method: "POST", body });
  else if (body) {
    headers["Content-Type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  const answer = await fetch(path, options);
  if (answer.ok) return answer;
  if (answer.status === 401) $("key-label").hidden = false;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.error?.message ?? `The server answered ${answer.status}.`);
}

function tell(text, isError = false) {
  $("status").hidden = !text;
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

async function describe() {
  try {
    const [model] = (await (await ask("v1/models")).json()).data;
    $("model").textContent = model.id;
    $("tab-chat").hidden = !model.chat;
    $("tab-transcribe").hidden = !model.transcribes;
    $("attach").disabled = model.media.length === 0;
    $("record").disabled = !model.media.includes("audio") || !navigator.mediaDevices;
    tell("");
    if ($("tab-" + panel).hidden) show(model.transcribes ? "transcribe" : "compare");
  } catch (error) {
    tell(error.message, true);
    if (!key.value && $("key-label").hidden) setTimeout(describe, 2000); // it is being loaded
  }
}

// --- tabs ------------------------------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll("[role=tab]")];
let panel = "chat";

function show(name) {
  panel = name;
  for (const tab of tabs) {
    const isChosen = tab.getAttribute("aria-controls") === name;
    tab.setAttribute("aria-selected", isChosen);
    tab.tabIndex = isChosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !isChosen;
  }
}

for (const tab of tabs) {
  tab.addEventListener("click", () => show(tab.getAttribute("aria-controls")));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const shown = tabs.filter((one) => !one.hidden);
    const next = shown[(shown.indexOf(tab) + step + shown.length) % shown.length];
    show(next.getAttribute("aria-controls"));
    next.focus();
  });
}

// --- media -----------------------------------------------------------------------------------------------------------

const asDataUri = (blob) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => failed(reader.error);
  reader.readAsDataURL(blob);
});

async function readMedium(file) {
  const kind = file.type.split("/")[0];
  if (!["image", "audio", "video"].includes(kind)) throw new Error(`${file.name} is no picture, recording or clip.`);
  return { kind, name: file.name, uri: await asDataUri(file) };
}

function asPart({ kind, uri }) {
  if (kind === "audio") return { type: "input_audio", input_audio: { data: uri, format: "wav" } };
  return { type: `${kind}_url`, [`${kind}_url`]: { url: uri } };
}

function drawMedium(medium, remove) {
  const box = make("div", { className: "medium" });
  if (!medium.uri) {
    box.append(make("span", { className: "note", textContent: `${medium.name ?? medium.kind} (not kept)` }));
    return box;
  }
  if (medium.kind === "image") box.append(make("img", { src: medium.uri, alt: medium.name || "a picture" }));
  else box.append(make(medium.kind, { src: medium.uri, controls: true, title: medium.name || medium.kind }));
  const row = make("div", { className: "row" });
  if (remove) row.append(make("button", { type: "button", textContent: "Remove", onclick: remove }));
  else {
    const seen = make("div", { className: "seen", hidden: true });
    const button = make("button", { type: "button", textContent: "What the model sees" });
    button.setAttribute("aria-expanded", "false");
    button.onclick = async () => {
      seen.hidden = !seen.hidden;
      button.setAttribute("aria-expanded", String(!seen.hidden));
      if (!seen.hidden && !seen.children.length) await inspect(medium, seen);
    };
    row.append(button);
    box.append(row, seen);
    return box;
  }
  box.append(row);
  return box;
}

async function inspect(medium, seen) {
  seen.textContent = "…";
  try {
    const answer = await ask("omni/inspect", { messages: [{ role: "user", content: [asPart(medium)] }] });
    const { pictures } = await answer.json();
    seen.replaceChildren(...pictures.map(({ title, image }) =>
      make("figure", {}, make("figcaption", { className: "note", textContent: title }), make("img", { src: image, alt: title }))));
  } catch (error) {
    seen.replaceChildren(make("p", { className: "error", textContent: error.message }));
  }
}

function takesFiles(element, take) {
  const all = (files) => { for (const file of files) take(file); };
  element.addEventListener("dragover", (event) => { event.preventDefault(); element.classList.add("dropping"); });
  element.addEventListener("dragleave", () => element.classList.remove("dropping"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("dropping");
    all(event.dataTransfer.files);
  });
  element.addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    all(event.clipboardData.files);
  });
}

// Browsers record in forms of their own; 16 kHz WAV is what every server reads.
async function asWav(blob) {
  const context = new AudioContext();
  const heard = await context.decodeAudioData(await blob.arrayBuffer());
  await context.close();
  const rate = 16000, frames = Math.max(1, Math.ceil(heard.duration * rate));
  const offline = new OfflineAudioContext(1, frames, rate);
  const source = new AudioBufferSourceNode(offline, { buffer: heard });
  source.connect(offline.destination);
  source.start();
  const samples = (await offline.startRendering()).getChannelData(0);
  const view = new DataView(new ArrayBuffer(44 + 2 * frames));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * frames, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * frames, true);
  samples.forEach((sample, i) => view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new Blob([view], { type: "audio/wav" });
}

// --- chat ------------------------------------------------------------------------------------------------------------

let messages = JSON.parse(localStorage.getItem("messages") ?? "[]");
let waiting = [];
let running = null;

function keep() {
  try {
    localStorage.setItem("messages", JSON.stringify(messages));
  } catch { // media can be larger than what a browser keeps: then texts are kept alone
    const texts = messages.map((one) => ({ ...one, media: one.media?.map(({ kind, name }) => ({ kind, name })) }));
    localStorage.setItem("messages", JSON.stringify(texts));
  }
}

function drawMessage({ role, text, media = [], note }) {
  const item = make("li", { className: role });
  const shown = make("div", { className: "media" }, ...media.map((one) => drawMedium(one)));
  const said = make("div", { textContent: text });
  item.append(shown, said, make("div", { className: "note", textContent: note ?? "" }));
  $("messages").append(item);
  item.scrollIntoView({ block: "end" });
  return { item, said, note: item.lastChild };
}

function drawWaiting() {
  $("waiting").replaceChildren(...waiting.map((medium) =>
    make("li", {}, drawMedium(medium, () => { waiting = waiting.filter((one) => one !== medium); drawWaiting(); $("text").focus(); }))));
}

async function add(file) {
  try {
    waiting.push(await readMedium(file));
    tell("");
  } catch (error) { tell(error.message, true); }
  drawWaiting();
}

const asContent = ({ text, media = [] }) => {
  const parts = media.filter((one) => one.uri).map(asPart);
  return parts.length ? [...parts, ...(text ? [{ type: "text", text }] : [])] : text;
};

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value;
    const whole = held.split("\n\n");
    held = whole.pop();
    for (const one of whole) if (one.startsWith("data: ") && one !== "data: [DONE]") yield JSON.parse(one.slice(6));
  }
}

async function send() {
  const text = $("text").value.trim();
  if (running || (!text && !waiting.length)) return;
  const mine = { role: "user", text, media: waiting };
  messages.push(mine);
  drawMessage(mine);
  $("text").value = "";
  waiting = [];
  drawWaiting();
  keep();
  running = new AbortController();
  $("stop").hidden = false;
  $("send").disabled = true;
  const reply = { role: "assistant", text: "" }, drawn = drawMessage(reply), began = performance.now();
  drawn.note.textContent = "…";
  try {
    const asked = { stream: true, stream_options: { include_usage: true } };
    asked.messages = messages.map((one) => ({ role: one.role, content: asContent(one) }));
    let first = null, usage = null;
    for await (const event of events(await ask("v1/chat/completions", asked, running.signal))) {
      if (event.error) throw new Error(event.error.message);
      usage = event.usage ?? usage;
      const piece = event.choices[0]?.delta.content;
      if (!piece) continue;
      first ??= performance.now();
      reply.text += piece;
      drawn.said.textContent = reply.text;
      drawn.item.scrollIntoView({ block: "end" });
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    drawn.note.textContent = usage ? `${usage.completion_tokens} tokens in ${seconds} s, ${usage.prompt_tokens} read` : "";
  } catch (error) {
    const isStopped = error.name === "AbortError";
    drawn.note.textContent = isStopped ? "stopped" : error.message;
    if (!isStopped) drawn.item.classList.add("error");
    if (!reply.text) { // nothing was said: the message may be mended and sent again
      messages.pop();
      $("text").value ||= text;
      waiting = waiting.length ? waiting : mine.media;
      drawWaiting();
    }
  }
  if (reply.text) messages.push(reply);
  keep();
  running = null;
  $("stop").hidden = true;
  $("send").disabled = false;
  $("text").focus();
}

$("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
$("stop").addEventListener("click", () => running?.abort());
$("new").addEventListener("click", () => {
  running?.abort();
  messages = [];
  keep();
  $("messages").replaceChildren();
  $("text").focus();
});
$("attach").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => { [...$("files").files].forEach(add); $("files").value = ""; });
takesFiles($("chat"), add);

let recorder = null;
$("record").addEventListener("click", async () => {
  if (recorder) return recorder.stop();
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const pieces = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => pieces.push(event.data);
    recorder.onstop = async () => {
      stream.getTracks().forEach((track) => track.stop());
      recorder = null;
      $("record").setAttribute("aria-pressed", "false");
      $("record").textContent = "Record";
      const wav = await asWav(new Blob(pieces));
      add(new File([wav], "recording.wav", { type: "audio/wav" }));
    };
    recorder.start();
    $("record").setAttribute("aria-pressed", "true");
    $("record").textContent = "Stop recording";
  } catch (error) { recorder = null; tell(`The microphone cannot be used: ${error.message}`, true); }
});

// --- embeddings ------------------------------------------------------------------------------------------------------

const slots = [...document.querySelectorAll(".slot")].map((element, i) => {
  const text = make("textarea", { rows: 3, placeholder: "Text, or drop a medium here" });
  text.setAttribute("aria-label", `Text of thing ${i + 1}`);
  const file = make("input", { type: "file", accept: "image/*,audio/*,video/*" });
  file.setAttribute("aria-label", `Medium of thing ${i + 1}`);
  const shown = make("div", { className: "media" });
  const slot = { medium: null, text };
  const put = (medium) => {
    slot.medium = medium;
    shown.replaceChildren(...(medium ? [drawMedium(medium, () => { put(null); text.focus(); })] : []));
    text.hidden = file.hidden = medium !== null;
  };
  const take = (one) => readMedium(one).then(put, (error) => tell(error.message, true));
  file.addEventListener("change", () => { if (file.files[0]) take(file.files[0]); file.value = ""; });
  takesFiles(element, take);
  element.append(shown, text, file);
  return slot;
});

async function vector({ medium, text }) {
  const content = medium ? [asPart(medium)] : text.value.trim();
  if (!content.length) throw new Error("Give two things to compare.");
  return (await (await ask("v1/embeddings", { messages: [{ role: "user", content }] })).json()).data[0].embedding;
}

$("measure").addEventListener("click", async () => {
  $("measure").disabled = true;
  $("similarity").textContent = "…";
  try {
    const [one, other] = await Promise.all(slots.map(vector));
    const cosine = one.reduce((sum, x, i) => sum + x * other[i], 0);
    $("similarity").textContent = `Cosine similarity ${cosine.toFixed(3)}`;
    $("meter").value = cosine;
    $("meter").hidden = false;
  } catch (error) {
    $("similarity").textContent = error.message;
    $("meter").hidden = true;
  }
  $("measure").disabled = false;
});

// --- transcripts -----------------------------------------------------------------------------------------------------

const clock = (seconds, mark = ".") => {
  const whole = Math.round(seconds * 1000), two = (n) => String(Math.floor(n)).padStart(2, "0");
  return `${two(whole / 3600000)}:${two(whole / 60000 % 60)}:${two(whole / 1000 % 60)}${mark}${String(whole % 1000).padStart(3, "0")}`;
};

async function transcribe(file) {
  $("segments").replaceChildren();
  $("srt").hidden = true;
  $("progress").textContent = "Listening…";
  const form = new FormData();
  form.append("file", file, file.name);
  form.append("response_format", "verbose_json");
  if ($("language").value.trim()) form.append("language", $("language").value.trim());
  try {
    const found = await (await ask("v1/audio/transcriptions", form)).json();
    const spoken = found.segments.filter((one) => one.text.trim());
    $("progress").textContent = `${found.language ?? "no speech"}, ${found.duration.toFixed(1)} s`;
    $("segments").append(...spoken.map((one) =>
      make("li", {}, make("time", { textContent: clock(one.start) }), make("span", { textContent: one.text }))));
    const srt = spoken.map((one, i) => `${i + 1}\n${clock(one.start, ",")} --> ${clock(one.end, ",")}\n${one.text}\n`);
    URL.revokeObjectURL($("srt").href);
    $("srt").href = URL.createObjectURL(new Blob([srt.join("\n")], { type: "text/plain" }));
    $("srt").hidden = false;
  } catch (error) { $("progress").textContent = error.message; }
}

$("recording").addEventListener("submit", (event) => { event.preventDefault(); transcribe($("speech").files[0]); });
takesFiles($("transcribe"), transcribe);

messages.forEach(drawMessage);
describe();
