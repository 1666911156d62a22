
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("timeline-data").textContent);
  const chart = document.getElementById("chart");
  const cursor = document.getElementById("cursor");
  const chosen = document.getElementById("chosen");
  const readout = document.getElementById("readout");
  const film = document.getElementById("film");
  const hint = readout.textContent;
  let row = 0;
  // The read-out replaces the browser's own tooltips.
  chart.querySelectorAll("rect > title").forEach((title) => title.remove());

  const nearest = (time) => {
    let low = 0, high = data.time.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (data.time[middle] <= time) low = middle; else high = middle - 1;
    }
    return low;
  };

  const place = (time) =>
    data.gutter + (time - data.start) / (data.end - data.start) * (data.width - data.gutter);

  const stageOf = (frame) => {
    let low = 0, high = data.stages.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (data.stages[middle][0] <= frame) low = middle; else high = middle - 1;
    }
    return low;
  };

  const show = (index) => {
    row = Math.min(Math.max(index, 0), data.time.length - 1);
    const frame = data.frame[row];
    const x = place(data.time[row]);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.style.display = "inline";
    const number = stageOf(frame);
    const parts = [`frame ${frame}`, `${data.time[row].toFixed(2)} s`];
    parts.push(`stage ${number + 1}: ${data.stages[number][2]}`);
    if (data.face[row] !== "tracked") parts.push(`face ${data.face[row].replace("_", " ")}`);
    for (const lane of data.lanes) {
      if (lane.presence[row] === null) continue;
      const run = lane.letters.find((item) => item[0] <= row && row <= item[1]);
      parts.push(`${lane.code}${run ? "_" + run[2] : ""} ${lane.presence[row]} %`);
    }
    readout.textContent = parts.join("  ·  ");
  };

  const hide = () => {
    cursor.style.display = "none";
    readout.textContent = hint;
  };

  const timeAt = (event) => {
    const box = chart.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * data.width;
    const share = (x - data.gutter) / (data.width - data.gutter);
    return share < 0 ? null : data.start + share * (data.end - data.start);
  };

  // A stage that was clicked: its time in the curves, and in the video.
  const choose = (number) => {
    const [first, last] = data.stages[number];
    const from = nearest(data.time[data.frame.indexOf(first)] ?? data.start);
    const next = data.stages[number + 1];
    const end = next ? data.time[data.frame.indexOf(next[0])] : data.end;
    document.querySelectorAll("[data-stage]").forEach((element) =>
      element.toggleAttribute("data-chosen", Number(element.dataset.stage) === number));
    chosen.setAttribute("x", place(data.time[from]));
    chosen.setAttribute("width", Math.max(2, place(end) - place(data.time[from])));
    chosen.style.display = "inline";
    show(from);
    document.dispatchEvent(new CustomEvent("stage", {
      detail: { number, from: data.time[from], to: end, last },
    }));
    if (film) film.currentTime = data.time[from] - data.start;
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-stage]");
    if (!button) return;
    choose(Number(button.dataset.stage));
    const goal = film && !film.hidden ? film : chart;
    goal.scrollIntoView({ block: "nearest", behavior: "instant" });
  });
  chart.addEventListener("click", (event) => {
    const time = timeAt(event);
    if (time !== null) choose(stageOf(data.frame[nearest(time)]));
  });
  chart.addEventListener("pointermove", (event) => {
    const time = timeAt(event);
    if (time === null) hide(); else show(nearest(time));
  });
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("blur", hide);
  chart.addEventListener("focus", () => show(row));
  chart.addEventListener("keydown", (event) => {
    if (event.key === "Enter") choose(stageOf(data.frame[row]));
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -25, PageDown: 25 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    show(row + step);
  });

  const canvas = document.getElementById("curves");
  if (canvas) {
    const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
    const gutter = 64;
    const curves = new Curves(canvas, {
      gutter,
      font: "system-ui, sans-serif",
      colours: () => ({ text: style("--ink"), quiet: style("--soft"), line: style("--line"),
        mark: style("--accent"), cursor: style("--ink") }),
    });
    const all = data.lanes.map((lane) => ({ weak: Boolean(lane.mark), series: seriesOfArrays(
      { name: lane.code, colour: lane.colour, low: 0, high: 100, ...(lane.on === null ? {} : { threshold: lane.on }) },
      data.time, lane.presence.map((value) => value ?? NaN)) }));
    const view = new TimeWindow({ from: data.start, to: data.end, first: data.start, last: data.end,
      least: Math.min(0.2, data.end - data.start) });
    const marks = data.changes.map((at) => ({ at, strong: true }));
    let pointed = null;
    const draw = () => {
      curves.draw({ from: view.from, to: view.to, marks, cursor: pointed });
      document.getElementById("span").textContent = `${view.from.toFixed(2)} to ${view.to.toFixed(2)} s`;
      canvas.dataset.span = `${view.from.toFixed(3)} ${view.to.toFixed(3)}`;
    };
    const chooseSeries = () => {
      curves.series = all.filter((one) => !one.weak || !document.body.classList.contains("no-weak"))
        .map((one) => one.series);
      canvas.style.setProperty("--rows", String(curves.series.length));
      draw();
    };
    followGestures(canvas, view, {
      gutter,
      changed: draw,
      hover: (time) => {
        pointed = time;
        if (time === null) hide(); else show(nearest(time));
        draw();
      },
      pick: (time) => choose(stageOf(data.frame[nearest(time)])),
    });
    document.addEventListener("stage", ({ detail: { from, to } }) => {
      const room = Math.max(0.5, to - from);
      view.set(from - room, to + room);
      pointed = from;
      draw();
    });
    document.addEventListener("weak", chooseSeries);
    new ResizeObserver(draw).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    chooseSeries();
  }

  if (film) {
    film.addEventListener("timeupdate", () => {
      if (!film.paused) show(nearest(film.currentTime + data.start));
    });
    // Whoever got the report alone has no video beside it.
    film.addEventListener("error", () => {
      film.hidden = true;
      document.getElementById("no-film").hidden = false;
    });
    // The first picture, instead of black.
    film.addEventListener("loadedmetadata", () => { film.currentTime ||= 1e-3; }, { once: true });
    film.load();
  }

  const weak = document.getElementById("hide-weak");
  if (weak) {
    weak.addEventListener("change", () => {
      document.body.classList.toggle("no-weak", weak.checked);
      const height = weak.checked ? data.strong : data.height;
      chart.setAttribute("viewBox", `0 0 ${data.width} ${height}`);
      document.dispatchEvent(new Event("weak"));
    });
  }
  // Paper has no triangles to click: what is folded is printed, too.
  addEventListener("beforeprint", () =>
    document.querySelectorAll("details").forEach((part) => (part.open = true)));
})();
