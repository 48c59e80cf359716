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
  const p = mic, { k, ox, oy } = layout();
  let best = -1, least = Math.max(reach, Math.min(radius(k), 40)) ** 2;
  for (let i = 0; i < p.n; i++) if (visible(p, i)) {
    const d = (ox + p.x[i] * k - px) ** 2 + (oy + p.y[i] * k - py) ** 2;
    if (d < least) { least = d; best = i; }
  }
  return best;
}
const identity = i => data.uid ? `uid ${mic.id[i]}` : `row ${number(mic.id[i])} of ${data.tables[mic.picker[i]]}`;
const score = v => Number.isFinite(v) ? `score ${+v.toPrecision(4)}` : "no score";

const NAMES = { kept: "kept", rejected: data.decided ? "duplicate" : "rejected", outvoted: "rejected for its votes" };
const foundBy = i => `found by ${mic.votes[i]} of ${data.voters} pickers`;

function describe(i) {
  const p = mic, kept = keptAt(p, i), lines = [`${data.pickers[p.picker[i]]} ${data.noun}, ${NAMES[kindAt(p, i)]}`];
  lines.push(`${score(p.score[i])} · ${identity(i)}`);
  if (drawnAt() !== data.at) {
    const was = kindAt(p, i, data.at);
    const before = data.planned ? `at ${short(data.separations[data.at])} Å` : "in this result";
    lines.push(was === kindAt(p, i) ? `the same as ${before}` : `${before}: ${NAMES[was]}`);
  } else if (!kept && p.winner[i] !== NONE) {
    const w = p.winner[i], unit = data.unit ? ` ${data.unit}` : "";
    lines.push(`${keptAt(p, w) ? "kept instead" : "winner"}: ${data.pickers[p.picker[w]]} ${data.noun}, ${+p.distance[i].toPrecision(3)}${unit} away`);
    lines.push(`${score(p.score[w])} · ${identity(w)}`);
    if (data.voters && p.votes[w]) lines.push(`the winner was ${foundBy(w)}${keptAt(p, w) ? "" : " and rejected for its votes"}`);
  } else if (data.winners) {
    const n = p.rejectedBy[i], others = `${n} other ${data.noun}${n > 1 ? "s" : ""}`;
    if (kept) lines.push(n ? `kept instead of ${others}` : "no duplicate");
    else if (n) lines.push(`${others} rejected in favour of it`);
    if (data.voters && p.votes[i]) lines.push(foundBy(i));
  }
  return lines;
}

const tip = $("tip");
function showTip() {
  const i = pin >= 0 ? pin : hover;
  if (i < 0 || !visible(mic, i)) { tip.style.display = "none"; return; }
  tip.replaceChildren(...describe(i).map((text, line) => {
    if (line) return element("div", {}, text);
    const swatch = element("i", { className: `sw ${swatchOf(mic.picker[i])}${{ kept: "", rejected: " r", outvoted: " v" }[kindAt(mic, i)]}` });
    return element("div", {}, swatch, element("b", {}, text));
  }));
  tip.style.display = "block";
  const { k, ox, oy } = layout(), X = ox + mic.x[i] * k, Y = oy + mic.y[i] * k, gap = radius(k) + 10;
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
  const p = mic, { k, ox, oy } = layout(), all = [];
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
