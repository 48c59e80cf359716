/* ---- what is shown ---- */

const show = { kept: true, rejected: true, outvoted: true, votes: 1, lines: true, image: true, alone: -1,
  picker: data.pickers.map(() => true) };
const slab = { thickness: 0, middle: NaN };
let order = [], at = data.first, mic, sepAt = data.at, hover = -1, pin = -1;
let view = d3.zoomIdentity, colours, W = 0, H = 0, ratio = 1, awake = false;

/** The separation that is drawn. If only a window of the micrograph was sampled, only the run's separation was computed. */
const drawnAt = () => mic.m.f ? data.at : sepAt;
const keptAt = (p, i, s = drawnAt()) =>
  s === data.at ? (p.flags[i] & KEPT) !== 0 : (p.bits[i] >>> s & 1) === 1;
/** Whether a pick is rejected for its votes, not as a duplicate. */
const outvotedAt = (p, i, s = drawnAt()) => data.decided && !keptAt(p, i, s) && (p.before[i] >>> s & 1) === 1;
const kindAt = (p, i, s) => keptAt(p, i, s) ? "kept" : outvotedAt(p, i, s) ? "outvoted" : "rejected";
/** Votes of a pick in the result. A duplicate has the votes of its winner. */
const votesOf = (p, i) => p.votes[i] || (p.winner[i] === NONE ? 0 : p.votes[p.winner[i]]);
const separation = () => data.separations[drawnAt()];

/** Radius of a pick in the slab, as a share of its full radius: 1 if its centre is in the slab, 0 if it is outside. */
function cut(p, i) {
  if (!p.z || !slab.thickness) return 1;
  const beyond = Math.abs(p.z[i] - slab.middle) - slab.thickness / 2;
  if (beyond <= 0) return 1;
  const radius = separation() / 2;
  return beyond < radius ? Math.sqrt(1 - (beyond / radius) ** 2) : 0;
}
const visible = (p, i) => show.picker[p.picker[i]] && show[kindAt(p, i)] && cut(p, i) > 0
  && (show.votes < 2 || drawnAt() !== data.at || votesOf(p, i) >= show.votes);

function readColours() {
  const style = getComputedStyle(root), value = name => style.getPropertyValue(name).trim();
  colours = { ink: value("--ink"), soft: value("--soft"), halo: value("--halo"),
    stage: value("--stage"), paper: value("--bg"), alone: value("--p0"), other: value("--pg"),
    pickers: data.pickers.map((_, i) => value(i < data.colours ? `--p${i}` : "--pg")) };
}
const colour = s => show.alone < 0 ? colours.pickers[s] : s === show.alone ? colours.alone : colours.other;
/** The pickers in the order of drawing. The highlighted picker is last, so it is on top. */
const pickersInOrder = () => data.pickers.map((_, s) => s)
  .sort((a, b) => (a === show.alone) - (b === show.alone));

/* ---- drawing ---- */

const canvas = $("canvas"), context = canvas.getContext("2d"), stage = $("stage");
const LEAST = 3.2, MARGIN = .97;

const baseScale = () => Math.min(W / mic.m.w, H / mic.m.h) * MARGIN;
function layout() {
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
  const p = mic, { k, ox, oy } = layout(), R = radius(k), big = R > 6, w = p.m.w * k, h = p.m.h * k;
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
  // Kept picks are drawn last, so that they are visible over rejected picks at the same position.
  for (const kind of ["rejected", "outvoted", "kept"]) for (const s of pickersInOrder()) {
    const kept = kind === "kept";
    c.beginPath();
    for (const [i, X, Y] of picks) if (p.picker[i] === s && kindAt(p, i) === kind) {
      const q = Math.max((kept || big ? R : R + .8) * cut(p, i), 1.5);
      if (kind === "outvoted") {
        cross(c, X, Y, Math.max(q * .35, 3));
        continue;
      }
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
    stroke(c, colour(s), kept || kind === "outvoted" ? (big ? 2 : 1) : big ? 1.5 : 1.2, 1);
  }
  if (show.lines && drawnAt() === data.at && R > 4.2 && show.rejected) {
    c.beginPath();
    for (const [i, X, Y] of picks) {
      const winner = p.winner[i];
      if (winner === NONE || !visible(p, winner)) continue;
      c.moveTo(X, Y);
      c.lineTo(ox + p.x[winner] * k, oy + p.y[winner] * k);
    }
    stroke(c, colours.ink, big ? 1.4 : .8, .75);
  }
  markGroup(c, p, ox, oy, k, R);
  drawScale(c, k);
}

function cross(c, X, Y, arm) {
  for (const way of [-1, 1]) {
    c.moveTo(X - arm, Y - way * arm);
    c.lineTo(X + arm, Y + way * arm);
  }
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
  if (drawnAt() === data.at) {
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
  c.strokeStyle = colours.paper;
  c.lineWidth = 3;
  c.lineJoin = "round";
  c.strokeText(text, x, y - 9);
  c.strokeRect(x, y - 3, length * k, 4);
  c.fillStyle = colours.ink;
  c.fillText(text, x, y - 9);
  c.fillRect(x, y - 3, length * k, 4);
}
