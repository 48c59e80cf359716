/* ---- choosing a micrograph ---- */

const list = $("list"), pick = $("pick");
const share = m => m.r / m.c;
const percent = m => `${(100 * share(m)).toFixed(m.r && share(m) < .01 ? 1 : 0)}%`;
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
  if (data.what) setSeparation(sepAt);
  draw();
  showTip();
}

function title() {
  const { m, n } = mic, all = n === m.c, of = { kept: 0, rejected: 0, outvoted: 0 };
  for (let i = 0; i < n; i++) of[kindAt(mic, i)]++;
  const rejected = data.decided ? `${number(of.rejected)} duplicates, ${number(of.outvoted)} rejected for votes`
    : `${number(of.rejected)} rejected`;
  const counts = `${all ? "" : "window with "}${number(n)}${all ? "" : ` of ${number(m.c)}`} ${data.noun}s: ${number(of.kept)} kept, ${rejected}`;
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
  const choice = element("select", {}, element("option", { value: -1 }, "no picker highlighted"),
    ...data.pickers.map((name, s) => element("option", { value: s }, `highlight ${name}`)));
  choice.setAttribute("aria-label", "Highlight a picker");
  choice.onchange = () => { show.alone = +choice.value; draw(); showTip(); };
  chips.append(choice);
}
chips.append(chip("kept", on => { show.kept = on; }, "cx"));
if (data.rejected) chips.append(chip(data.decided ? "duplicates" : "rejected", on => { show.rejected = on; }, "r cx"));
if (data.decided) chips.append(chip("rejected for their votes", on => { show.outvoted = on; }, "v cx"));
if (data.most_votes > 1) {
  const counts = Array.from({ length: data.most_votes - 1 }, (_, k) => k + 2).filter(k => k <= 10 || k % 10 === 0 || k === data.voters);
  const choice = element("select", {}, element("option", { value: 1 }, "found by any picker"),
    ...counts.map(k => element("option", { value: k }, k < data.voters ? `found by ${k} pickers or more` : `found by all ${k} pickers`)));
  choice.setAttribute("aria-label", "Pickers that found a particle");
  choice.onchange = () => { show.votes = +choice.value; draw(); showTip(); };
  chips.append(choice);
}
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
