// The page: takes photographs one after the other, shows what the networks make of each, says it in words too.

import { fetched } from "./fetched.js";
import { cosine, exportedGallery } from "./gallery.js";
import { listenForFiles } from "./intake.js";
import { ink, paintAll, paintOne, rgb, shares, strongest } from "./masks.js";
import { networks } from "./networks.js";

const NEAREST = 6;
const SAMPLES = 8;
const FINE = 768; // pixels of a side of the layers of paint

const $ = (selector) => document.querySelector(selector);
const percent = (share) => `${Math.round(100 * share)} %`;
const milliseconds = (time) => `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`;

let model, gallery, running;
let shown = null; // what the networks gave of the photograph on the page, with its name and key
let queue = Promise.resolve();
let dropped = 0;

start().catch((error) => fail(`The networks could not be started: ${error.message}.`));

async function start() {
  say("Loading the networks.");
  if (typeof WebAssembly !== "object") throw new Error("this browser has no WebAssembly, or it is switched off");
  if (typeof OffscreenCanvas !== "function") throw new Error("this browser has no OffscreenCanvas; take a newer one");
  model = await (await fetched("model/model.json")).json();
  describe();
  listSlots();
  running = networks((share) => ($("#progress").value = share));
  $("#progress").hidden = false;
  const [{ threads }, exported] = await Promise.all([running.load(model), exportedGallery(model)]);
  gallery = exported;
  $("#progress").hidden = true;
  $("#runs-on").textContent = `ONNX Runtime ${model.runtime} in WebAssembly, ${threads === 1 ? "one thread" : `${threads} threads`}.`;
  offerSamples();
  listenForFiles($("#file"), take);
  $("#slots").addEventListener("change", draw);
  $("#opacity").addEventListener("input", fade);
  $("#file").disabled = false;
  say("Ready for a photograph.");
}

function describe() {
  document.title = `ADIOS masks, ${model.name}`;
  $("#model").textContent = model.name;
  const licence = `Licence of the weights: ${model.license.replace(/\.$/, "")}.`;
  $("#about").textContent = `${model.name}: ${model.summary} ${licence}`;
}

function say(text) {
  $("#status").textContent = text;
}

function fail(text) {
  $("#progress").hidden = true;
  say("");
  $("#error").textContent = text;
}

// Photographs in

function take(files, name) {
  for (const file of files) {
    dropped += 1;
    const key = `dropped ${dropped}`;
    show({ key, name: name ?? file.name, open: async () => file, mine: true });
  }
}

function offerSamples() {
  const { entries } = gallery;
  const step = Math.max(1, entries.length / SAMPLES); // from all over the gallery
  for (let i = 0; i < entries.length; i += step) $("#samples ul").append(thumbnail(entries[Math.floor(i)]));
  $("#samples").hidden = !entries.length;
}

function thumbnail(entry, text = "") {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  const picture = document.createElement("img");
  picture.src = entry.image;
  picture.alt = "";
  const words = document.createElement("span");
  words.className = "words";
  words.append(entry.name);
  if (text) {
    const small = document.createElement("small");
    small.textContent = text;
    words.append(" ", small);
  }
  button.append(picture, words);
  button.addEventListener("click", () => show(entry));
  item.append(button);
  return item;
}

/** Run the networks on a photograph after those that wait before it, then show what they gave. */
function show(photograph) {
  queue = queue.then(() => handle(photograph));
}

async function handle({ key, name, open, mine = false }) {
  $("#error").textContent = "";
  say(`Looking at ${name}.`);
  document.body.classList.add("busy");
  try {
    const result = await running.run(await open());
    shown = { ...result, key, name, shares: shares(result.masks, model.slots), kept: [] };
    present();
    if (mine) gallery.add({ key, name, features: shown.features, image: await pictureOf(shown.square), open });
    document.dispatchEvent(new CustomEvent("result", { detail: shown }));
  } catch (error) {
    fail(
      error.kind === "image"
        ? `${name} is not an image that this browser can read; take a JPEG, PNG, WebP, GIF or AVIF file.`
        : `${name} could not be looked at: ${error.message}.`,
    );
  } finally {
    document.body.classList.remove("busy");
  }
}

async function pictureOf(square) {
  const canvas = new OffscreenCanvas(192, 192);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(square, 0, 0, 192, 192);
  return URL.createObjectURL(await canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 }));
}

// Results out

function present() {
  const replaced = document.activeElement?.closest(".neighbours, #samples");
  $("#name").textContent = shown.name;
  $("#result").hidden = false;
  listShares();
  listNearest();
  listTimes();
  draw();
  fade();
  say(spoken());
  if (replaced) $("#name").focus(); // the button that had the focus is gone
  $("#samples").open = false; // makes room; it can be opened again
}

function spoken() {
  const parts = shown.shares.map((share, k) => `mask ${k + 1} covers ${percent(share)}`).join(", ");
  const [first] = gallery.nearest(shown.features, 1, shown.key);
  const nearest = first ? ` Nearest: ${first.name}, cosine ${first.cosine.toFixed(2)}.` : "";
  return `${shown.name}: ${parts}.${nearest} ${milliseconds(total())}.`;
}

const total = () => Object.values(shown.times).reduce((a, b) => a + b, 0);

function listSlots() {
  const row = (value, words, colour) => {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "slot", value, checked: !colour });
    const badge = document.createElement("span");
    badge.className = "badge";
    badge.ariaHidden = "true";
    if (colour) paintBadge(badge, Number(value));
    const text = document.createElement("span");
    text.textContent = words;
    label.append(radio, badge, text);
    if (colour) {
      const figure = document.createElement("span");
      figure.className = "share";
      const bar = document.createElement("span");
      bar.className = "bar";
      bar.ariaHidden = "true";
      bar.style.setProperty("--colour", colour);
      label.append(figure, bar);
    }
    $("#slots").append(label);
  };
  row("all", "All masks");
  model.colours.forEach((colour, k) => row(String(k), `Mask ${k + 1}`, colour));
}

function listShares() {
  document.querySelectorAll(".share").forEach((figure, k) => {
    figure.textContent = percent(shown.shares[k]);
    figure.nextSibling.style.setProperty("--share", shown.shares[k]);
  });
}

function paintBadge(badge, k) {
  badge.textContent = k + 1;
  badge.style.background = model.colours[k];
  badge.style.color = ink(model.colours[k]);
}

/** The chosen mask's number from 0, as text, or "all". */
const slot = () => $("#slots input:checked").value;

const maskOf = (k) => shown.masks.subarray(k * model.pixels ** 2, (k + 1) * model.pixels ** 2);

function draw() {
  const chosen = slot();
  for (const canvas of document.querySelectorAll(".photograph")) {
    canvas.width = shown.square.width;
    canvas.height = shown.square.height;
    canvas.getContext("2d").drawImage(shown.square, 0, 0);
  }
  for (const canvas of document.querySelectorAll(".paint, .hidden")) canvas.width = canvas.height = FINE;
  const words = chosen === "all" ? drawAll() : drawSlot(Number(chosen));
  for (const [stage, [picture, caption]] of Object.entries(words)) {
    $(`#${stage}`).ariaLabel = picture;
    $(`#${stage} + figcaption`).textContent = caption;
  }
}

function drawAll() {
  paintAll($(".paint"), shown.masks, model.colours);
  number(shown.shares.map((_, k) => k).filter((k) => shown.shares[k] >= 0.02)); // an empty mask has no place
  return {
    masked: [`${shown.name} with all ${model.slots} masks in colour, numbered where they are strongest`, "All masks, each with its number"],
    seen: [`${shown.name}, the square that the networks see`, `What the networks see, at ${model.pixels} × ${model.pixels} pixels`],
  };
}

function drawSlot(k) {
  paintOne($(".paint"), maskOf(k), rgb(model.colours[k]));
  // What is hidden reaches the encoder as zero, which is the mean colour of its training images.
  paintOne($(".hidden"), maskOf(k), model.mean.map((value) => 255 * value));
  number([k]);
  compare(k);
  return {
    masked: [`${shown.name} with mask ${k + 1} alone, which covers ${percent(shown.shares[k])}`, `Mask ${k + 1} alone`],
    seen: [`${shown.name} without what mask ${k + 1} hides`, `What the encoder sees without mask ${k + 1}`],
  };
}

/** Say how much of the features is left without what a mask hides. */
async function compare(k) {
  const photograph = shown;
  const mask = maskOf(k);
  const without = photograph.pixels.map((value, i) => value * (1 - mask[i % mask.length]));
  photograph.kept[k] ??= cosine(photograph.features, await running.encode(without));
  if (shown !== photograph || slot() !== String(k)) return;
  const words = `Its features keep a cosine of ${photograph.kept[k].toFixed(2)} to those of the whole photograph.`;
  $("#seen + figcaption").textContent += `. ${words}`;
  say(`The encoder sees ${shown.name} without mask ${k + 1}. ${words}`);
}

function number(slots) {
  const badges = slots.map((k) => {
    const badge = document.createElement("span");
    badge.className = "badge";
    paintBadge(badge, k);
    const [x, y] = strongest(maskOf(k));
    badge.style.left = `${100 * x}%`;
    badge.style.top = `${100 * y}%`;
    return badge;
  });
  $(".numbers").replaceChildren(...badges);
}

function fade() {
  const opacity = $("#opacity").value;
  $("output").textContent = `${opacity} %`;
  $("#opacity").ariaValueText = `${opacity} per cent`;
  $("#masked").style.setProperty("--opacity", opacity / 100);
}

function listNearest() {
  const nearest = gallery.nearest(shown.features, NEAREST, shown.key);
  const items = nearest.map((entry) => thumbnail(entry, `cosine ${entry.cosine.toFixed(2)}`));
  $(".neighbours").replaceChildren(...items);
  $("#nearest-note").textContent = nearest.length
    ? `By the cosine of their features, among ${gallery.entries.filter(({ key }) => key !== shown.key).length}. Choose one to look at it.`
    : "There is no other photograph yet: add a second one and they are compared.";
}

function listTimes() {
  const names = { decode: "Decode", prepare: "Resize and crop", encoder: "Encoder", masker: "Masker" };
  const rows = [...Object.entries(shown.times).map(([name, time]) => [names[name], time]), ["Together", total()]];
  $(".timing dl").replaceChildren(
    ...rows.map(([name, time]) => {
      const row = document.createElement("div");
      const [term, value] = ["dt", "dd"].map((tag) => document.createElement(tag));
      term.textContent = name;
      value.textContent = milliseconds(time);
      row.append(term, value);
      return row;
    }),
  );
}
