// Records or reads a sound and turns it into 16 kHz mono in the browser, so that little travels to the kernel and the
// kernel needs to read one format only: 32 kB a second, whatever the file was.
const RATE = 16000;

function wav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const write = (place, text) => [...text].forEach((letter, i) => view.setUint8(place + i, letter.charCodeAt(0)));
  write(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); write(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true); view.setUint32(28, 2 * RATE, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  write(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, i) => view.setInt16(44 + 2 * i, Math.round(32767 * Math.max(-1, Math.min(1, value))), true));
  return view;
}

async function shrink(bytes) {
  // decodeAudioData resamples to the context's rate; the channels are averaged by hand, as the course's loader does.
  const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
  const mono = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++)
    decoded.getChannelData(channel).forEach((value, i) => { mono[i] += value / decoded.numberOfChannels; });
  return wav(mono);
}

function render({ model, el }) {
  const make = (tag, words) => { const node = document.createElement(tag); node.textContent = words; return node; };
  const record = make("button", "Record");
  const label = make("label", "or upload a file: ");
  const file = document.createElement("input");
  const status = make("p", "");
  record.className = "jupyter-button widget-button";  // as the widgets around it look, in either theme
  file.type = "file"; file.accept = "audio/*,video/mp4,video/webm";
  status.setAttribute("role", "status");
  label.append(file);
  el.append(record, " ", label, status);

  async function send(blob, name) {
    const limit = model.get("limit");
    model.set("name", ""); model.set("data", new DataView(new ArrayBuffer(0)));
    model.set("beginning", model.get("beginning") + 1);  // the old answer goes at once
    model.save_changes();
    status.textContent = `Reading ${name} …`;
    let data;
    try {
      data = await shrink(await blob.arrayBuffer());
    } catch (error) {
      // The browser cannot play it. Python may be able to, if it is small enough to travel.
      if (blob.size <= limit) data = new DataView(await blob.arrayBuffer());
    }
    const size = data ? data.byteLength : blob.size;
    if (!data || size > limit) {
      status.textContent = `${name} is too large to send from here (${(size / 1e6).toFixed(1)} MB of at most ` +
        `${(limit / 1e6).toFixed(0)} MB, about ${Math.floor(limit / 2 / RATE / 60)} minutes of sound): cut it, or give the ` +
        "path of the file to caption(model, processor, path).";
      return;
    }
    status.textContent = `${name}: ${(data.byteLength / 1e6).toFixed(2)} MB sent.`;
    model.set("name", name); model.set("data", data);
    model.set("count", model.get("count") + 1);
    model.save_changes();
  }

  file.onclick = () => { file.value = ""; };  // the same file twice is a choice too
  file.onchange = () => { if (file.files.length) send(file.files[0], file.files[0].name); };

  let recorder = null;
  record.onclick = async () => {
    if (recorder) { recorder.stop(); return; }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch (error) {
      status.textContent = `The microphone cannot be used (${error.name ?? "no secure page"}): allow it in the browser, or upload a file.`;
      return;
    }
    const pieces = [];
    file.value = "";  // its name would stand beside what is recorded now
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => pieces.push(event.data);
    recorder.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      const type = recorder.mimeType;
      recorder = null; record.textContent = "Record";
      send(new Blob(pieces, { type }), `your recording.${type.includes("mp4") ? "m4a" : "webm"}`);
    };
    recorder.start();
    record.textContent = "Stop";
    status.textContent = "Recording …";
  };
}

export default { render };
