(() => {
"use strict";

const $ = id => document.getElementById(id);
const root = document.documentElement;
const data = JSON.parse($("data").textContent);
const number = n => n.toLocaleString("en-US");
const short = v => +v.toPrecision(4);
const calm = matchMedia("(prefers-reduced-motion:reduce)").matches ? 0 : 260;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/* ---- buttons that copy ---- */

for (const button of document.querySelectorAll("[data-copy]")) button.onclick = async () => {
  const source = $(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
};
root.classList.add("js");
if (!data.micrographs.length) return;

/* ---- picks of one micrograph: arrays one after another, the widest first ---- */

const NONE = 0xffff, KEPT = 0x8000, STEPS = 65535;
const unpacked = new Map();

function unpack(i) {
  if (unpacked.has(i)) return unpacked.get(i);
  const m = data.micrographs[i], text = atob(m.d), bytes = new Uint8Array(text.length), n = m.p;
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  let offset = 0;
  const take = Type => {
    const array = new Type(bytes.buffer, offset, n);
    offset += array.byteLength;
    return array;
  };
  const p = {
    m, n,
    id: take(data.uid ? BigUint64Array : Uint32Array),
    score: take(Float32Array), distance: take(Float32Array), bits: take(Uint32Array),
    x: Float32Array.from(take(Uint16Array), v => v / STEPS * m.w),
    y: Float32Array.from(take(Uint16Array), v => v / STEPS * m.h),
    winner: take(Uint16Array), flags: take(Uint16Array),
  };
  if (m.z) p.z = Float32Array.from(take(Uint16Array), v => m.z[0] + v / STEPS * (m.z[1] - m.z[0]));
  if (data.filaments) p.filament = take(Uint16Array);
  p.picker = Uint16Array.from(p.flags, v => v & ~KEPT);
  p.beaten = new Uint16Array(n);
  for (const w of p.winner) if (w !== NONE) p.beaten[w]++;
  if (m.i) {
    p.image = new Image();
    p.image.onload = () => draw();
    p.image.src = m.i;
  }
  unpacked.set(i, p);
  return p;
}

/* ---- what is shown ---- */

const show = { kept: true, rejected: true, lines: true, image: true, alone: -1,
  picker: data.pickers.map(() => true) };
const slab = { thickness: 0, middle: NaN };
let order = [], at = data.first, mic, sepAt = data.at, hover = -1, pin = -1;
let view = d3.zoomIdentity, colours, W = 0, H = 0, ratio = 1, awake = false;

const keptAt = (p, i, s = sepAt) =>
  s === data.at ? (p.flags[i] & KEPT) !== 0 : (p.bits[i] >>> s & 1) === 1;
const separation = () => data.separations[sepAt];

/** Radius of a pick as a share of the whole sphere: 1 within the slab, 0 beyond its reach. */
function cut(p, i) {
  if (!p.z || !slab.thickness) return 1;
  const beyond = Math.abs(p.z[i] - slab.middle) - slab.thickness / 2;
  if (beyond <= 0) return 1;
  const radius = separation() / 2;
  return beyond < radius ? Math.sqrt(1 - (beyond / radius) ** 2) : 0;
}
const visible = (p, i) => show.picker[p.picker[i]] && (keptAt(p, i) ? show.kept : show.rejected)
  && cut(p, i) > 0;

function readColours() {
  const style = getComputedStyle(root), value = name => style.getPropertyValue(name).trim();
  colours = { ink: value("--ink"), soft: value("--soft"), halo: value("--halo"),
    stage: value("--stage"), paper: value("--bg"), alone: value("--p0"), other: value("--pg"),
    pickers: data.pickers.map((_, i) => value(i < data.colours ? `--p${i}` : "--pg")) };
}
const colour = s => show.alone < 0 ? colours.pickers[s] : s === show.alone ? colours.alone : colours.other;
/** Drawn last, so that the picker that is shown alone is on top. */
const pickersInOrder = () => data.pickers.map((_, s) => s)
  .sort((a, b) => (a === show.alone) - (b === show.alone));

/* ---- drawing ---- */

const canvas = $("canvas"), context = canvas.getContext("2d"), stage = $("stage");
const LEAST = 3.2, MARGIN = .97;

const baseScale = () => Math.min(W / mic.m.w, H / mic.m.h) * MARGIN;
function placing() {
  const base = baseScale(), k = base * view.k;
  return { k, ox: view.x + view.k * (W - base * mic.m.w) / 2,
    oy: view.y + view.k * (H - base * mic.m.h) / 2 };
}
const radius = k => Math.max(data.circles ? separation() / 2 * k : 4, LEAST);

function resize() {
  W = stage.clientWidth;
  H = stage.clientHeight;
  ratio = Math.min(window.devicePixelRatio || 1, 2.5);
  canvas.width = W * ratio;
  canvas.height = H * ratio;
  zoom.extent([[0, 0], [W, H]]).translateExtent([[-W * .25, -H * .25], [W * 1.25, H * 1.25]]);
  draw();
}

function draw(c = context, r = ratio) {
  if (!mic || !W) return;
  const p = mic, { k, ox, oy } = placing(), R = radius(k), big = R > 6, w = p.m.w * k, h = p.m.h * k;
  c.setTransform(r, 0, 0, r, 0, 0);
  c.fillStyle = colours.stage;
  c.fillRect(0, 0, W, H);
  c.fillStyle = colours.paper;
  c.fillRect(ox, oy, w, h);
  const halo = p.image && p.image.complete && p.image.naturalWidth && show.image;
  if (halo) {
    c.globalAlpha = .8;
    c.drawImage(p.image, ox, oy, w, h);
    c.globalAlpha = 1;
  }
  c.strokeStyle = colours.soft;
  c.lineWidth = 1;
  c.strokeRect(ox - .5, oy - .5, w + 1, h + 1);
  const picks = [];
  for (let i = 0; i < p.n; i++) if (visible(p, i)) {
    const X = ox + p.x[i] * k, Y = oy + p.y[i] * k;
    if (X > -R && Y > -R && X < W + R && Y < H + R) picks.push([i, X, Y]);
  }
  if (p.filament && show.lines) drawFilaments(c, p, ox, oy, k);
  // Rejected ones beneath, kept ones above: what survived must be plain to see where both are on one spot.
  for (const kept of [false, true]) for (const s of pickersInOrder()) {
    c.beginPath();
    for (const [i, X, Y] of picks) if (p.picker[i] === s && keptAt(p, i) === kept) {
      const q = Math.max((kept || big ? R : R + .8) * cut(p, i), 1.5);
      c.moveTo(X + q, Y);
      c.arc(X, Y, q, 0, 7);
    }
    if (halo) stroke(c, colours.halo, big ? 4 : 3, .75);
    if (kept) {
      c.fillStyle = colour(s);
      c.globalAlpha = halo ? .3 : big ? .4 : .8;
      c.fill();
      c.globalAlpha = 1;
    }
    stroke(c, colour(s), kept ? (big ? 2 : 1) : big ? 1.5 : 1.2, 1);
  }
  if (show.lines && sepAt === data.at && R > 4.2 && show.kept && show.rejected) {
    c.beginPath();
    for (const [i, X, Y] of picks) {
      const winner = p.winner[i];
      if (winner === NONE || keptAt(p, i) || !visible(p, winner)) continue;
      c.moveTo(X, Y);
      c.lineTo(ox + p.x[winner] * k, oy + p.y[winner] * k);
    }
    stroke(c, colours.ink, big ? 1.4 : .8, .75);
  }
  markGroup(c, p, ox, oy, k, R);
  drawScale(c, k);
}

function stroke(c, style, width, alpha) {
  c.strokeStyle = style;
  c.lineWidth = width;
  c.globalAlpha = alpha;
  c.stroke();
  c.globalAlpha = 1;
}

function drawFilaments(c, p, ox, oy, k) {
  const last = new Map();
  c.beginPath();
  for (let i = 0; i < p.n; i++) {
    const f = p.filament[i];
    if (f === NONE || !visible(p, i)) continue;
    const before = last.get(f);
    if (before !== undefined) {
      c.moveTo(ox + p.x[before] * k, oy + p.y[before] * k);
      c.lineTo(ox + p.x[i] * k, oy + p.y[i] * k);
    }
    last.set(f, i);
  }
  stroke(c, colours.soft, 1.5, .8);
}

function markGroup(c, p, ox, oy, k, R) {
  const marked = pin >= 0 ? pin : hover;
  if (marked < 0 || !visible(p, marked)) return;
  const group = new Set([marked]);
  if (sepAt === data.at) {
    const lead = p.winner[marked] !== NONE && !keptAt(p, marked) ? p.winner[marked] : marked;
    group.add(lead);
    for (let i = 0; i < p.n; i++) if (p.winner[i] === lead) group.add(i);
  }
  for (const i of group) {
    c.beginPath();
    c.arc(ox + p.x[i] * k, oy + p.y[i] * k, R + (i === marked ? 4 : 2), 0, 7);
    stroke(c, colours.ink, i === marked ? 2.4 : 1, 1);
  }
}

function drawScale(c, k) {
  if (c === context) {
    const how = awake ? "scroll" : "click, then scroll";
    const small = data.circles && separation() && separation() / 2 * k < LEAST;
    $("hint").textContent = small ? `drawn larger than ${short(separation())} Å; ${how} to zoom`
      : view.k > 1 ? "" : `${how} to zoom`;
    $("hint").hidden = !$("hint").textContent;
  }
  if (!data.unit) return;
  let length = 0;
  for (let e = -1; e < 7; e++) for (const a of [1, 2, 5]) if (a * 10 ** e * k <= W * .22) length = a * 10 ** e;
  const text = data.unit !== "Å" ? `${length} px` : length >= 10 ? `${short(length / 10)} nm` : `${length} Å`;
  const x = 14, y = H - 16;
  c.font = "600 12px system-ui,sans-serif";
  c.textAlign = "left";
  c.fillStyle = colours.paper;
  c.globalAlpha = .82;
  c.fillRect(x - 6, y - 24, Math.max(length * k, c.measureText(text).width) + 12, 32);
  c.globalAlpha = 1;
  c.fillStyle = colours.ink;
  c.fillText(text, x, y - 9);
  c.fillRect(x, y - 3, length * k, 4);
}

/* ---- zoom: d3-zoom has wheel, drag, pinch and double click ---- */

const zoom = d3.zoom().scaleExtent([1, 60])
  .filter(e => e.type === "wheel" ? awake || e.ctrlKey
    : e.type === "touchstart" ? e.touches.length > 1 || view.k > 1 : !e.button)
  .on("zoom", e => {
    view = e.transform;
    canvas.style.touchAction = view.k > 1 ? "none" : "pan-y";
    draw();
    showTip();
  });
const zoomed = d3.select(canvas).call(zoom);
const zoomBy = factor => zoomed.transition().duration(calm).call(zoom.scaleBy, factor);
const fit = () => zoomed.transition().duration(calm).call(zoom.transform, d3.zoomIdentity);
canvas.addEventListener("pointerdown", () => { awake = true; draw(); });
canvas.addEventListener("blur", () => { awake = false; draw(); });

function busiest() {
  const p = mic, cells = new Map();
  const span = Math.min(p.m.w, p.m.h, Math.max(separation() * 16, Math.sqrt(p.m.w * p.m.h * 25 / p.n)));
  let best = 0, cx = p.m.w / 2, cy = p.m.h / 2;
  for (let i = 0; i < p.n; i++) if (!keptAt(p, i)) {
    const a = Math.floor(p.x[i] / span * 2), b = Math.floor(p.y[i] / span * 2), key = `${a} ${b}`;
    cells.set(key, (cells.get(key) || 0) + 1);
    if (cells.get(key) > best) {
      best = cells.get(key);
      cx = (a + .5) * span / 2;
      cy = (b + .5) * span / 2;
    }
  }
  const base = baseScale(), k = Math.min(W, H) / span / base;
  const x = (W - base * p.m.w) / 2 + cx * base, y = (H - base * p.m.h) / 2 + cy * base;
  const target = d3.zoomIdentity.translate(W / 2 - k * x, H / 2 - k * y).scale(k);
  zoomed.transition().duration(calm * 1.5).call(zoom.transform, target);
}

/* ---- pointing at picks ---- */

function nearest(px, py, reach = 14) {
  const p = mic, { k, ox, oy } = placing();
  let best = -1, least = Math.max(reach, Math.min(radius(k), 40)) ** 2;
  for (let i = 0; i < p.n; i++) if (visible(p, i)) {
    const d = (ox + p.x[i] * k - px) ** 2 + (oy + p.y[i] * k - py) ** 2;
    if (d < least) { least = d; best = i; }
  }
  return best;
}
const identity = i => data.uid ? `uid ${mic.id[i]}` : `row ${number(mic.id[i])} of ${data.tables[mic.picker[i]]}`;
const score = v => Number.isFinite(v) ? `score ${+v.toPrecision(4)}` : "no score";

function describe(i) {
  const p = mic, kept = keptAt(p, i), lines = [`${data.pickers[p.picker[i]]} ${data.noun}, ${kept ? "kept" : "rejected"}`];
  lines.push(`${score(p.score[i])} · ${identity(i)}`);
  if (sepAt !== data.at) {
    const was = keptAt(p, i, data.at);
    lines.push(was === kept ? "the same as in this result" : `in this result: ${was ? "kept" : "rejected"}`);
  } else if (!kept && p.winner[i] !== NONE) {
    const w = p.winner[i], unit = data.unit ? ` ${data.unit}` : "";
    lines.push(`kept instead: ${data.pickers[p.picker[w]]} ${data.noun}, ${+p.distance[i].toPrecision(3)}${unit} away`);
    lines.push(`${score(p.score[w])} · ${identity(w)}`);
  } else if (kept && data.winners) {
    const n = p.beaten[i];
    lines.push(n ? `kept instead of ${n} other ${data.noun}${n > 1 ? "s" : ""}` : "no duplicate");
  }
  return lines;
}

const tip = $("tip");
function showTip() {
  const i = pin >= 0 ? pin : hover;
  if (i < 0 || !visible(mic, i)) { tip.style.display = "none"; return; }
  tip.replaceChildren(...describe(i).map((text, line) => {
    if (line) return element("div", {}, text);
    const swatch = element("i", { className: `sw ${swatchOf(mic.picker[i])}${keptAt(mic, i) ? "" : " r"}` });
    return element("div", {}, swatch, element("b", {}, text));
  }));
  tip.style.display = "block";
  const { k, ox, oy } = placing(), X = ox + mic.x[i] * k, Y = oy + mic.y[i] * k, gap = radius(k) + 10;
  const w = tip.offsetWidth, h = tip.offsetHeight, left = X + gap + w < W ? X + gap : X - gap - w;
  tip.style.left = `${Math.max(6, Math.min(W - w - 6, left))}px`;
  tip.style.top = `${Math.max(6, Math.min(H - h - 6, Y - h / 2))}px`;
}
const swatchOf = s => show.alone >= 0 ? (s === show.alone ? "c0" : "cg") : s < data.colours ? `c${s}` : "cg";

canvas.addEventListener("pointermove", e => {
  if (e.pointerType === "touch") return;
  const i = nearest(e.offsetX, e.offsetY);
  if (i === hover) return;
  hover = i;
  canvas.style.cursor = i >= 0 ? "pointer" : "";
  if (pin < 0) { draw(); showTip(); }
});
canvas.addEventListener("pointerleave", () => { hover = -1; draw(); showTip(); });
canvas.addEventListener("click", e => {
  const i = nearest(e.offsetX, e.offsetY, 18);
  pin = i === pin ? -1 : i;
  draw();
  showTip();
});

function unpin() { pin = -1; draw(); showTip(); }

/** Pin the next or previous pick in the picture, row by row. */
function step(by) {
  const p = mic, { k, ox, oy } = placing(), all = [];
  for (let i = 0; i < p.n; i++) {
    const X = ox + p.x[i] * k, Y = oy + p.y[i] * k;
    if (visible(p, i) && X > 0 && X < W && Y > 0 && Y < H) all.push(i);
  }
  const line = i => Math.floor(p.y[i] / p.m.h * 24);
  all.sort((a, b) => line(a) - line(b) || p.x[a] - p.x[b]);
  if (!all.length) return;
  const now = all.indexOf(pin);
  pin = all[now < 0 ? (by > 0 ? 0 : all.length - 1) : (now + by + all.length) % all.length];
  $("say").textContent = describe(pin).join(". ");
  draw();
  showTip();
}

/* ---- choosing a micrograph ---- */

const list = $("list"), pick = $("pick");
const share = m => m.r / m.c;
const percent = m => `${(100 * share(m)).toFixed(0)}%`;
const SORTS = {
  share: (a, b) => share(b) - share(a), few: (a, b) => share(a) - share(b), picks: (a, b) => b.c - a.c,
  name: (a, b) => a.n.localeCompare(b.n, "en", { numeric: true }),
};

function fillList() {
  const text = $("find").value.trim().toLowerCase(), all = data.micrographs, sort = SORTS[$("sort").value];
  order = all.map((_, i) => i).filter(i => all[i].n.toLowerCase().includes(text));
  order.sort((a, b) => sort(all[a], all[b]));
  list.replaceChildren(...order.map(i => {
    const m = all[i], counts = element("small", {}, `${number(m.c)} · ${percent(m)}`);
    const item = element("li", { id: `m${i}`, title: m.n, onclick: () => open(i) }, element("span", {}, m.s), counts);
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", i === at);
    item.setAttribute("aria-label", `${m.s}, ${number(m.c)} ${data.noun}s, ${percent(m)} rejected`);
    return item;
  }));
  $("none").hidden = order.length > 0;
  pick.replaceChildren(...order.map(i => element("option", { value: i, selected: i === at },
    `${all[i].s} · ${number(all[i].c)} ${data.noun}s, ${percent(all[i])} rejected`)));
}

function open(i) {
  at = i;
  mic = unpack(i);
  pin = hover = -1;
  if (mic.z) fitSlab();
  zoomed.call(zoom.transform, d3.zoomIdentity);
  title();
  for (const item of list.children) {
    const chosen = item.id === `m${i}`;
    item.setAttribute("aria-selected", chosen);
    if (!chosen) continue;
    list.setAttribute("aria-activedescendant", item.id);
    const top = item.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + item.offsetHeight > list.scrollTop + list.clientHeight)
      list.scrollTop = top - list.clientHeight / 2;
  }
  pick.value = i;
  draw();
  showTip();
}

function title() {
  let kept = 0;
  for (let i = 0; i < mic.n; i++) kept += keptAt(mic, i);
  const { m, n } = mic, all = n === m.c;
  let counts = `${number(n)} ${data.noun}s: ${number(kept)} kept, ${number(n - kept)} rejected`;
  if (!all) counts = `window with ${number(n)} of ${number(m.c)} ${data.noun}s: ${number(kept)} kept, ${number(n - kept)} rejected`;
  $("name").replaceChildren(m.s, element("small", {}, counts));
  $("name").title = m.n;
  canvas.setAttribute("aria-label", `${m.s}: ${counts}`);
}
const move = by => {
  if (order.length) open(order[(Math.max(0, order.indexOf(at)) + by + order.length) % order.length]);
};
list.onkeydown = e => {
  const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[e.key];
  if (by) { e.preventDefault(); move(by); }
};
canvas.onkeydown = e => {
  const does = { ArrowRight: () => move(1), ArrowLeft: () => move(-1), "+": () => zoomBy(1.5),
    "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: fit, b: busiest, n: () => step(1), p: () => step(-1),
    Escape: unpin }[e.key.length === 1 ? e.key.toLowerCase() : e.key];
  if (does && !e.ctrlKey && !e.metaKey && !e.altKey) { e.preventDefault(); does(); }
};
$("find").oninput = fillList;
$("sort").onchange = fillList;
pick.onchange = () => open(+pick.value);
$("prev").onclick = () => move(-1);
$("next").onclick = () => move(1);
$("in").onclick = () => zoomBy(1.6);
$("out").onclick = () => zoomBy(1 / 1.6);
$("fit").onclick = fit;
$("busiest").onclick = busiest;
$("busiest").hidden = !data.rejected;
$("save").onclick = () => {
  const copy = document.createElement("canvas"), r = Math.max(2, 1600 / W);
  copy.width = W * r;
  copy.height = H * r;
  draw(copy.getContext("2d"), r);
  copy.toBlob(blob => {
    const link = element("a", { href: URL.createObjectURL(blob), download: `${mic.m.s.replace(/[^\w.-]+/g, "_")}.png` });
    link.click();
    URL.revokeObjectURL(link.href);
  });
};

/* ---- toggles ---- */

function chip(text, set, swatch) {
  const box = element("input", { type: "checkbox", checked: true });
  box.onchange = () => { set(box.checked); draw(); showTip(); };
  return element("label", { className: "chip" }, box,
    ...(swatch ? [element("i", { className: `sw ${swatch}` })] : []), text);
}
const chips = $("chips");
if (data.pickers.length > 1 && data.pickers.length <= 8) data.pickers.forEach((name, s) =>
  chips.append(chip(name, on => { show.picker[s] = on; }, s < data.colours ? `c${s}` : "cg")));
if (data.pickers.length > data.colours) {
  const choice = element("select", {}, element("option", { value: -1 }, "all pickers alike"),
    ...data.pickers.map((name, s) => element("option", { value: s }, `highlight ${name}`)));
  choice.setAttribute("aria-label", "Highlight a picker");
  choice.onchange = () => { show.alone = +choice.value; draw(); showTip(); };
  chips.append(choice);
}
chips.append(chip("kept", on => { show.kept = on; }, "cx"));
if (data.rejected) chips.append(chip("rejected", on => { show.rejected = on; }, "r cx"));
if (data.winners && data.rejected || data.filaments) chips.append(chip("lines", on => { show.lines = on; }));
if (data.micrographs.some(m => m.i)) chips.append(chip("image", on => { show.image = on; }));

/* ---- slab of a tomogram ---- */

function fitSlab() {
  const [low, high] = mic.m.z, slider = $("slab");
  slider.min = low;
  slider.max = high;
  slider.step = (high - low) / 200 || 1;
  if (!(slab.middle > low && slab.middle < high)) slab.middle = (low + high) / 2;
  slider.value = slab.middle;
  showSlab();
}
function showSlab() {
  $("slab").disabled = !slab.thickness;
  const half = slab.thickness / 2, unit = data.unit ? ` ${data.unit}` : "";
  $("slabtext").textContent = slab.thickness
    ? `z from ${Math.round(slab.middle - half)} to ${Math.round(slab.middle + half)}${unit}` : "the whole depth";
  draw();
  showTip();
}
if ($("slab")) {
  $("slab").oninput = () => { slab.middle = +$("slab").value; showSlab(); };
  $("thickness").onchange = () => { slab.thickness = +$("thickness").value; showSlab(); };
}

/* ---- separation: decided beforehand, by the run's own rule, for each step of the slider ---- */

const what = data.what, sliders = document.querySelectorAll(".slide");

function setSeparation(i) {
  sepAt = i;
  pin = hover = -1;
  const value = data.separations[i], kept = what.kept[i], same = i === data.at, now = what.kept[data.at];
  const change = `${number(Math.abs(kept - now))} ${kept < now ? "fewer" : "more"}`;
  for (const slider of sliders) {
    slider.value = value;
    slider.setAttribute("aria-valuetext", `${value} Å: ${number(kept)} kept`);
  }
  $("val1").textContent = `${short(value)} Å`;
  $("diff1").textContent = same ? "The picture shows the result." : `${change} ${data.noun}s would be kept.`;
  $("line2").replaceChildren(
    element("b", {}, `At ${short(value)} Å, ${number(kept)} ${data.noun}s ${same ? "were" : "would be"} kept and ${number(what.total - kept)} rejected.`),
    ...(same ? [" This is the result. Move the slider, or press on a chart, to see what another separation would do; the picture above follows."]
      : [` That is ${change} than now. To get it, run again with `, element("code", {}, `${what.flag} ${short(value)}`), "."]));
  const x = `${100 * value / what.limit}%`;
  for (const line of document.querySelectorAll(".plot .what")) {
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    line.toggleAttribute("hidden", same);
  }
  $("handle").setAttribute("cx", x);
  $("handle").setAttribute("cy", `${100 - 100 * kept / what.curveTop}%`);
  $("t-after").textContent = `${same ? "The " : `At ${short(value)} Å: the `}${number(kept)} ${data.noun}s kept, by distance to the nearest other kept ${data.noun}`;
  $("d-after").setAttribute("d", steps(what.after[i]));
  $("viewer").classList.toggle("preview", !same);
  for (const button of document.querySelectorAll(".reset")) button.hidden = same;
  title();
  draw();
  showTip();
}
function steps(counts) {
  let d = "M0 1000";
  counts.forEach((c, i) => {
    d += `V${Math.max(0, 1000 - 1000 * c / what.afterTop).toFixed(1)}H${(1000 * (i + 1) / counts.length).toFixed(1)}`;
  });
  return `${d}V1000`;
}
const closest = v => data.separations.reduce((best, each, i) =>
  Math.abs(each - v) < Math.abs(data.separations[best] - v) ? i : best, 0);

function listenToChart(id, counts) {
  const chart = $(id), width = what.limit / what.before.length;
  const value = e => {
    const box = chart.getBoundingClientRect();
    return Math.max(0, Math.min(what.limit, (e.clientX - box.left) / box.width * what.limit));
  };
  chart.addEventListener("pointermove", e => {
    const v = value(e);
    if (e.buttons) setSeparation(closest(v));
    if (counts) {
      const bin = Math.min(what.before.length - 1, Math.floor(v / width));
      $("read").textContent = `${short(bin * width)} to ${short((bin + 1) * width)} Å: ${number(counts()[bin])} ${data.noun}s`;
    } else {
      const i = closest(v);
      $("read").textContent = `${short(data.separations[i])} Å: ${number(what.kept[i])} ${data.noun}s kept`;
    }
  });
  chart.addEventListener("pointerdown", e => {
    chart.setPointerCapture(e.pointerId);
    setSeparation(closest(value(e)));
  });
  chart.addEventListener("pointerleave", () => { $("read").textContent = ""; });
}
if (what) {
  listenToChart("p-before", () => what.before);
  listenToChart("p-after", () => what.after[sepAt]);
  listenToChart("p-curve");
  for (const slider of sliders) {
    slider.max = what.limit;
    slider.oninput = () => setSeparation(closest(+slider.value));
    slider.onkeydown = e => {
      const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[e.key];
      if (!by) return;
      e.preventDefault();
      setSeparation(Math.max(0, Math.min(data.separations.length - 1, sepAt + by)));
    };
  }
  for (const button of document.querySelectorAll(".reset")) button.onclick = () => setSeparation(data.at);
  addEventListener("beforeprint", () => setSeparation(data.at));
}

/* ---- theme, and the beginning ---- */

matchMedia("(prefers-color-scheme:dark)").addEventListener("change", () => { readColours(); draw(); });
addEventListener("keydown", e => { if (e.key === "Escape" && pin >= 0) unpin(); });
if (data.micrographs.length === 1) $("viewer").classList.add("single");
readColours();
mic = unpack(at);
fillList();
resize();
open(at);
if (what) setSeparation(data.at);
new ResizeObserver(resize).observe(stage);
})();
