// What the pages of /ops can do with a script; each of them says everything without one.
"use strict";

// A look again keeps what the reader has opened, and where the reader is.
htmx.registerExtension("reading", {
  htmx_before_morph_attr: (element, { attrName }) => !(attrName === "open" && element.tagName === "DETAILS"),
  htmx_before_morph_node: (element, { newNode }) =>
    !element.classList.contains("plot") &&
    !(element.classList.contains("shell") && element.firstElementChild.textContent === newNode.textContent),
});

function tell(text) {
  const live = document.getElementById("live");
  if (live && live.textContent !== text) live.textContent = text;
}

// While rows are ticked, or a reason is written, the page stays as it is: what is ticked is what was looked at.
document.addEventListener("htmx:before:request", (event) => {
  if (event.target.id !== "main" || !document.querySelector("#main input[type=checkbox]:checked")) return;
  event.preventDefault();
  tell("Not live while rows are ticked");
});

document.addEventListener("htmx:sse:after:connection", () => tell("Live"));
document.addEventListener("htmx:sse:error", () => tell("Not live: no connection"));
document.addEventListener("htmx:sse:close", () => tell("Not live: reload to see newer figures"));
document.addEventListener("htmx:after:request", (event) => {
  const response = event.detail.ctx?.response;
  if (event.target.id !== "main" || !response) return;
  tell(response.status < 400 ? "Live" : `Not live: the server answers ${response.status}`);
});
document.addEventListener("htmx:error", () => tell("Not live: no answer"));

// Copying works where the browser allows it (https, or this machine); elsewhere a click selects the line.
function offerCopies() {
  if (!navigator.clipboard) return;
  for (const code of document.querySelectorAll(".shell > code:only-child")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${code.textContent}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    code.after(button);
  }
}

// A chart is drawn by the server, with its numbers in a table below; here it gets a cursor that reads them.
const plots = new Map();

function numbersOf(chart) {
  const rows = [...chart.querySelectorAll(".numbers tbody tr")].reverse();
  const columns = [rows.map((row) => Date.parse(row.querySelector("time").dateTime) / 1000)];
  for (const name of chart.querySelectorAll(".numbers thead th + th")) {
    const at = columns.length;
    columns.push(rows.map((row) => {
      const value = row.cells[at].querySelector("data")?.value;
      return value === undefined || value === "" ? null : Number(value);
    }));
    columns[at].label = name.textContent;
  }
  return columns;
}


function resolved(place, name) {
  const probe = place.appendChild(document.createElement("i"));
  probe.className = `ink-${name}`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// Lines where something was changed; what, is listed below the charts.
function drawMarks(plot, chart, ink) {
  const { left, top, width, height } = plot.bbox;
  plot.ctx.save();
  plot.ctx.strokeStyle = ink;
  plot.ctx.setLineDash([4, 4]);
  plot.ctx.beginPath();
  for (const mark of chart.dataset.marks.split(" ").filter(Boolean)) {
    const x = Math.round(left + (width * Number(mark)) / 600) + 0.5;
    plot.ctx.moveTo(x, top);
    plot.ctx.lineTo(x, top + height);
  }
  plot.ctx.stroke();
  plot.ctx.restore();
}

function drawPlot(chart) {
  const place = chart.querySelector(".plot");
  const columns = numbersOf(chart);
  if (columns.length < 2 || columns[0].length < 2) return;
  const inks = ["link", "doubt", "good", "bad", "text", "quiet"].map((name) => resolved(place, name));
  const quiet = resolved(place, "quiet");
  const axis = { stroke: quiet, grid: { stroke: resolved(place, "line"), width: 1 }, ticks: { show: false } };
  const long = columns[0].at(-1) - columns[0][0] > 3 * 86400;
  const label = (seconds) => new Date(seconds * 1000).toISOString().slice(long ? 5 : 11, long ? 10 : 16);
  const dash = (at) => (at % 2 ? [6, 3] : []);
  const plot = new uPlot({
    width: place.clientWidth, height: 180,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    scales: { y: { range: (self, least, most) => [0, most > 0 ? most * 1.1 : 1] } },
    cursor: { drag: { x: false, y: false } },
    series: [{ label: "From", value: "{YYYY}-{MM}-{DD} {HH}:{mm}Z" }, ...columns.slice(1).map((each, at) => ({
      label: each.label, stroke: inks[at % inks.length], width: 1.5, dash: dash(at), points: { show: false },
    }))],
    hooks: { draw: [(self) => drawMarks(self, chart, quiet)] },
    axes: [{ ...axis, values: (self, splits) => splits.map(label) }, { ...axis, size: 56 }],
  }, columns, place);
  plots.set(place, plot);
}

function drawPlots() {
  if (typeof uPlot === "undefined") return;
  for (const [place, plot] of plots) {
    const chart = place.isConnected && place.closest(".chart");
    const columns = chart ? numbersOf(chart) : [];
    if (columns.length !== plot.series.length) {
      plot.destroy();
      plots.delete(place);
    } else {
      plot.setData(columns);
    }
  }
  for (const chart of document.querySelectorAll(".chart")) if (!plots.has(chart.querySelector(".plot"))) drawPlot(chart);
}

function enhance() {
  offerCopies();
  drawPlots();
}

addEventListener("resize", () => { for (const [place, plot] of plots) plot.setSize({ width: place.clientWidth, height: 180 }); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const plot of plots.values()) plot.destroy();
  plots.clear();
  drawPlots();
});
document.addEventListener("htmx:after:swap", enhance);
document.addEventListener("DOMContentLoaded", enhance);
