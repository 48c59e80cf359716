/* ---- separation: the page has the outcome by the run's rule for each step of the slider ---- */

const what = data.what, sliders = document.querySelectorAll(".slide");
const outcome = data.planned ? "what a run would do" : "the result";

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
  $("slide1").disabled = !!mic.m.f;
  $("diff1").textContent = mic.m.f ? `Only a window was sampled here: the picture shows ${outcome}.`
    : same ? `The picture shows ${outcome}.` : `${change} ${data.noun}s would be kept.`;
  $("line2").replaceChildren(
    element("b", {}, `At ${short(value)} Å, ${number(kept)} ${data.noun}s ${same && !data.planned ? "were" : "would be"} kept and ${number(what.total - kept)} rejected.`),
    ...(same ? [`${data.planned ? "" : " This is the result."} Move the slider, or press on a chart, to try another separation. The picture above shows its outcome.`]
      : [` That is ${change} than ${data.planned ? `at ${short(data.separations[data.at])} Å` : "now"}. To get it, run ${data.planned ? "" : "again "}with `, element("code", {}, `${what.flag} ${short(value)}`), "."]));
  const x = `${100 * value / what.limit}%`;
  for (const line of document.querySelectorAll(".plot .what")) {
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    line.toggleAttribute("hidden", same);
  }
  $("handle").setAttribute("cx", x);
  $("handle").setAttribute("cy", `${100 - 100 * kept / what.curveTop}%`);
  $("t-after").textContent = `${same ? "The " : `At ${short(value)} Å: the `}${number(kept)} ${data.noun}s ${data.planned ? "that would be " : ""}kept, by distance to the nearest other kept ${data.noun}`;
  $("d-after").setAttribute("d", steps(what.after[i]));
  $("viewer").classList.toggle("preview", !same && !mic.m.f);
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
