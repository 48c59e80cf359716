/* The data of the page, and the picks of each micrograph. The files of this folder are one function. */

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
    before: data.decided ? take(Uint32Array) : null,
    x: Float32Array.from(take(Uint16Array), v => v / STEPS * m.w),
    y: Float32Array.from(take(Uint16Array), v => v / STEPS * m.h),
    winner: take(Uint16Array), flags: take(Uint16Array),
  };
  p.votes = data.voters ? take(Uint16Array) : null;
  if (m.z) p.z = Float32Array.from(take(Uint16Array), v => m.z[0] + v / STEPS * (m.z[1] - m.z[0]));
  if (data.filaments) p.filament = take(Uint16Array);
  p.picker = Uint16Array.from(p.flags, v => v & ~KEPT);
  p.rejectedBy = new Uint16Array(n);
  for (const w of p.winner) if (w !== NONE) p.rejectedBy[w]++;
  if (m.i) {
    p.image = new Image();
    p.image.onload = () => draw();
    p.image.src = m.i;
  }
  unpacked.set(i, p);
  return p;
}
