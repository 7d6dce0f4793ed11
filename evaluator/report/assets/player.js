// Plays a clip: one that is in the page with waveform and spectrogram, another from its file.
"use strict";
window.report = window.report || {};

report.player = (function () {
  const HEIGHT = 80; // as WAVE_HEIGHT in page/document.py
  const SECOND = 1;
  let wave = null;
  let regions = null;
  let audio = null;
  let url = "";
  let stopAt = null;

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function close() {
    if (wave) wave.destroy();
    if (audio) audio.pause();
    if (url) URL.revokeObjectURL(url);
    wave = regions = audio = stopAt = null;
    url = "";
  }

  function open(box, row, status) {
    close();
    const packed = document.getElementById("clip-" + row.row);
    if (packed) openEmbedded(box, packed.textContent, status);
    else if (row.link.startsWith("file:")) openLinked(box, row.link, status);
    else status("This row names no file that could be played.");
  }

  function openEmbedded(box, packed, status) {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const shape = document.createElement("div");
    shape.className = "wave";
    shape.setAttribute("aria-hidden", "true");
    box.append(shape);
    regions = WaveSurfer.Regions.create();
    wave = WaveSurfer.create({
      container: shape,
      height: HEIGHT,
      waveColor: colour("--faint"),
      progressColor: colour("--mark"),
      cursorColor: colour("--ink"),
      plugins: [regions, WaveSurfer.Spectrogram.create({ labels: false, height: 120, fftSamples: 512 })],
    });
    wave.on("error", () => status("This browser cannot play the clip."));
    wave.on("timeupdate", (now) => {
      if (stopAt !== null && now >= stopAt) { stopAt = null; wave.pause(); }
    });
    wave.loadBlob(new Blob([bytes], { type: "audio/ogg" }));
    const button = document.createElement("button");
    button.type = "button";
    button.className = "play";
    button.textContent = "Play";
    button.addEventListener("click", () => { stopAt = null; wave.playPause(); });
    wave.on("play", () => { button.textContent = "Pause"; });
    wave.on("pause", () => { button.textContent = "Play"; });
    wave.on("ready", () => { box.dataset.ready = "yes"; });
    box.append(button);
  }

  function openLinked(box, link, status) {
    audio = document.createElement("audio");
    audio.controls = true;
    audio.preload = "none";
    audio.src = link;
    audio.addEventListener("error", () => status("The clip's file cannot be played: it is not there any more, or not on this machine."));
    audio.addEventListener("timeupdate", () => {
      if (stopAt !== null && audio.currentTime >= stopAt) { stopAt = null; audio.pause(); }
    });
    box.append(audio);
    status("Played from its file; waveform and spectrogram are drawn of clips that are in this page.");
  }

  // Where the clip is heard at all: silence at its ends is no place for a word.
  function heard() {
    const sound = wave && wave.getDecodedData();
    if (!sound) return null;
    const samples = sound.getChannelData(0);
    let loudest = 0;
    for (const each of samples) loudest = Math.max(loudest, Math.abs(each));
    const least = loudest / 20;
    const first = samples.findIndex((each) => Math.abs(each) >= least);
    let last = samples.length - 1;
    while (last > first && Math.abs(samples[last]) < least) last -= 1;
    return [first / sound.sampleRate, last / sound.sampleRate];
  }

  // Plays the second around a share of the text: an estimate, for no model here tells when it heard a word.
  function playShare(share, seconds) {
    const [begin, end] = heard() || [0, seconds];
    const middle = begin + share * (end - begin);
    const from = Math.max(0, middle - SECOND / 2);
    stopAt = from + SECOND;
    if (wave) {
      regions.clearRegions();
      regions.addRegion({ start: from, end: stopAt, drag: false, resize: false, color: colour("--region") });
      wave.setTime(from);
      wave.play();
    } else if (audio) {
      audio.currentTime = from;
      audio.play();
    }
    return from;
  }

  return { open, close, playShare };
})();
