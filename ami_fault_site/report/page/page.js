"use strict";
/* Draws the charts, filters the timeline, lists the tasks. Everything foreign is put in as text, never as markup. */
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const byId = (id) => document.getElementById(id);
  const MOST_SPANS = 2000, MOST_MARKS = 2000, ROWS = 50, LONGEST = 160;
  const SPAN = {task: 0, delivery: 1, lane: 2, row: 3, began: 4, ended: 5, how: 6, cause: 7};
  const MARK = {effect: 0, kind: 1, where: 2, lane: 3, at: 4, job: 5, tasks: 6};
  const TASK = {job: 0, sequence: 1, image: 2, deliveries: 3, fate: 4, whose: 5, marks: 6};
  const SYMBOLS = {crash: "x", "transient-error": "cross", "network-error": "diamond", "image-404": "square", "corrupt-image": "star",
    slow: "hourglass", withhold: "triangle-left"};
  const ENDS = {refused: "triangle-down", indeterminate: "circle-open", dropped: "x-thin", expired: "square-open",
    abandoned: "diamond-open", unseen: "circle", stopped: "line-ns", held: "triangle-right-open"};

  const clean = (text) => String(text).replace(/(?!\n)[\p{C}\p{Zl}\p{Zp}]/gu, "\uFFFD");
  const brief = (text) => { const one = clean(text).replace(/\s+/g, " "); return one.length > LONGEST ? one.slice(0, LONGEST) + "…" : one; };
  // Plotly reads a few tags in its texts.
  const plain = (text) => brief(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const palette = new Map(); // to ask for a colour is slow, and to make a format is slower
  const colour = (name) => {
    if (!palette.has(name)) palette.set(name, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
    return palette.get(name);
  };
  const format = new Intl.NumberFormat("en", {maximumFractionDigits: 3});
  const number = (value) => format.format(value);
  const count = (value, one, many) => number(value) + " " + (value === 1 ? one : many);
  const seconds = (at) => number(at) + " s";
  const nameOf = (task) => task[TASK.job] + "/" + task[TASK.sequence];
  const titleOf = (task) => nameOf(task) + (task[TASK.image] ? " (" + task[TASK.image] + ")" : "");

  /* ---- what is drawn of much: all that weighs, and of the rest as many as there is room for, at equal distances */
  function thinned(items, most, weighs) {
    if (items.length <= most) return items;
    const spread = (some, room) => some.length <= room ? some
      : Array.from({length: room}, (_, n) => some[Math.floor(n * some.length / room)]);
    const heavy = spread(items.filter(weighs), most);
    const light = spread(items.filter((item) => !weighs(item)), most - heavy.length);
    const kept = new Set([...heavy, ...light]);
    return items.filter((item) => kept.has(item));
  }

  /* ---- layout */
  const laneRows = data.lanes.map(() => 0);
  for (const span of data.spans) laneRows[span[SPAN.lane]] = Math.max(laneRows[span[SPAN.lane]], span[SPAN.row]);
  const BAR = 4, GAP = 3;
  const tops = [];
  let height = 0;
  laneRows.forEach((rows) => { tops.push(height); height += BAR + rows + GAP; });
  const barY = (lane) => tops[lane] + BAR / 2;
  const spanY = (span) => tops[span[SPAN.lane]] + BAR + span[SPAN.row];

  function layout(more) {
    const ink = colour("ink"), line = colour("line");
    const axis = {gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true};
    const base = {
      paper_bgcolor: colour("ground"), plot_bgcolor: colour("ground"), font: {color: ink, family: "system-ui, sans-serif", size: 13},
      margin: {l: 60, r: 16, t: 12, b: 44}, hoverlabel: {bgcolor: colour("raised"), bordercolor: colour("soft"), font: {color: ink}, align: "left"},
      legend: {orientation: "h", y: -0.16, font: {color: ink}}, bargap: 0.04, dragmode: "zoom",
    };
    return {...base, ...more, xaxis: {...axis, ...more.xaxis}, yaxis: {...axis, ...more.yaxis}};
  }
  // Room for names and legend by our own measure: to find it out itself, Plotly draws everything twice.
  const rule = document.createElement("canvas").getContext("2d");
  function widest(texts, size) {
    rule.font = size + "px system-ui, sans-serif";
    return Math.ceil(Math.max(0, ...texts.map((text) => rule.measureText(text).width)));
  }
  function room(id, tall, names, entries) {
    const left = widest(names, 13) + 12, entry = widest(entries, 12) + 2, symbol = 40;
    const across = Math.max(1, Math.floor((byId(id).clientWidth - left - 16) / (entry + symbol)));
    const below = 52 + 30 * Math.ceil(entries.length / across);
    return {
      height: tall + below, margin: {l: left, r: 16, t: 12, b: below, autoexpand: false},
      legend: {orientation: "h", x: 0, y: -34 / tall, yanchor: "top", entrywidth: entry, font: {color: colour("ink"), size: 12}},
    };
  }
  const CONFIG = {responsive: true, displaylogo: false, displayModeBar: false, doubleClick: "reset"};

  /* ---- timeline */
  const wanted = {job: "", task: "", worker: "", fault: ""};
  const isWanted = (task) => {
    if (wanted.job && String(task[TASK.job]) !== wanted.job) return false;
    return !wanted.task || nameOf(task) === wanted.task || task[TASK.image].includes(wanted.task);
  };
  const isMarkWanted = (mark) => {
    if (wanted.worker && String(mark[MARK.lane]) !== wanted.worker) return false;
    if (wanted.fault && mark[MARK.effect] + ": " + mark[MARK.kind] !== wanted.fault) return false;
    if (wanted.task) return mark[MARK.tasks].some((place) => isWanted(data.tasks[place]));
    if (!wanted.job) return true;
    return String(mark[MARK.job]) === wanted.job || mark[MARK.tasks].some((place) => isWanted(data.tasks[place]));
  };

  function selection() {
    const marks = data.marks.filter(isMarkWanted);
    const struck = wanted.fault ? new Set(marks.flatMap((mark) => mark[MARK.tasks])) : null;
    const places = data.spans.map((_, place) => place).filter((place) => {
      const span = data.spans[place];
      if (wanted.worker && String(span[SPAN.lane]) !== wanted.worker) return false;
      return (!struck || struck.has(span[SPAN.task])) && isWanted(data.tasks[span[SPAN.task]]);
    });
    return {marks, places};
  }

  const hasNext = new Set(data.links.map((link) => link[0]));
  const isGrave = (place) => hasNext.has(place) || data.hows[data.spans[place][SPAN.how]] !== "accepted" || data.spans[place][SPAN.delivery] > 1;

  function spanText(span) {
    const task = data.tasks[span[SPAN.task]];
    return plain("task " + titleOf(task)) + "<br>delivery " + span[SPAN.delivery] + ", " + seconds(span[SPAN.began]) + " to " + seconds(span[SPAN.ended])
      + "<br>" + plain(data.hows[span[SPAN.how]] + ": " + data.causes[span[SPAN.cause]]) + "<br>became " + plain(task[TASK.fate]);
  }

  // Lines that hovering tells of, and one symbol at the end of each: a symbol at both ends is twice the work.
  function leaseTraces(places) {
    return data.hows.flatMap((how, place) => {
      const own = places.map((place) => data.spans[place]).filter((span) => span[SPAN.how] === place);
      if (!own.length) return [];
      const base = {name: how, legendgroup: how, type: "scatter", line: {color: colour(how), width: 3}};
      const told = own.map(spanText), isPlain = how === "accepted";
      const lines = {
        ...base, meta: "leases", mode: "lines", hoverinfo: "text", showlegend: isPlain, hovertext: told.flatMap((text) => [text, text, null]),
        x: own.flatMap((span) => [span[SPAN.began], span[SPAN.ended], null]), y: own.flatMap((span) => [spanY(span), spanY(span), null]),
      };
      return isPlain ? [lines] : [lines, {
        ...base, meta: "ends", mode: "lines+markers", hoverinfo: "skip", x: own.flatMap((span) => [span[SPAN.ended], null]), y: own.flatMap((span) => [spanY(span), null]),
        marker: {symbol: ENDS[how] || "circle", size: 8, color: colour(how), line: {color: colour(how), width: 2}},
      }];
    });
  }

  function linkTrace(places) {
    const drawn = new Set(places), x = [], y = [];
    for (const [before, after] of data.links) {
      if (!drawn.has(before) || !drawn.has(after)) continue;
      const from = data.spans[before], to = data.spans[after];
      x.push(from[SPAN.ended], to[SPAN.began], null); y.push(spanY(from), spanY(to), null);
    }
    return {meta: "redeliveries", name: "came back", x, y, mode: "lines", type: "scatter", hoverinfo: "skip", line: {color: colour("soft"), width: 1, dash: "dot"}, opacity: 0.7};
  }

  function barTrace() {
    const bars = data.bars.filter((bar) => !wanted.worker || String(bar[1]) === wanted.worker);
    return {
      meta: "incarnations", name: "life", type: "bar", orientation: "h", width: 2.6, y: bars.map((bar) => barY(bar[1])),
      base: bars.map((bar) => bar[2]), x: bars.map((bar) => Math.max(bar[3] - bar[2], data.end / 2000)), hoverinfo: "text", hovertemplate: "%{hovertext}<extra></extra>",
      hovertext: bars.map((bar) => plain(bar[0]) + "<br>" + seconds(bar[2]) + " to " + seconds(bar[3]) + "<br>ended by " + plain(bar[4])),
      textposition: "none", marker: {color: bars.map((bar) => colour(bar[5] ? "struck" : "life")), pattern: {shape: bars.map((bar) => bar[5] ? "/" : "")}},
    };
  }

  const effects = [...new Set(data.marks.map((mark) => mark[MARK.effect]))].sort();
  function markTraces(marks) {
    return effects.map((effect) => {
      const own = marks.filter((mark) => mark[MARK.effect] === effect);
      const tasks = (mark) => mark[MARK.tasks].length ? "<br>" + count(mark[MARK.tasks].length, "task: ", "tasks: ")
        + mark[MARK.tasks].slice(0, 3).map((place) => plain(titleOf(data.tasks[place]))).join(", ") + (mark[MARK.tasks].length > 3 ? " …" : "") : "";
      return {
        meta: "faults", name: effect, type: "scatter", mode: "markers", x: own.map((mark) => mark[MARK.at]), y: own.map((mark) => barY(mark[MARK.lane])),
        hoverinfo: "text", hovertext: own.map((mark) => plain(mark[MARK.effect] + ": " + mark[MARK.kind]) + "<br>" + plain(mark[MARK.where]) + ", at " + seconds(mark[MARK.at]) + tasks(mark)),
        marker: {symbol: SYMBOLS[effect] || "circle", size: 9, color: colour("mark"), line: {color: colour("ground"), width: 1}},
      };
    }).filter((trace) => trace.x.length);
  }

  function noteTrace() {
    return {
      meta: "notes", name: "note", type: "scatter", mode: "markers", x: data.notes.map((note) => note[0]), y: data.notes.map(() => -2),
      hoverinfo: "text", hovertext: data.notes.map((note) => plain(note[1])), marker: {symbol: "triangle-down", size: 12, color: colour("ink")},
    };
  }

  function shownText(drawn, chosen, marks, drawnMarks) {
    const isFiltered = Object.values(wanted).some(Boolean);
    const what = isFiltered ? " match, of " + count(data.spans.length, "delivery", "deliveries") + " and " + count(data.marks.length, "fault", "faults") + "." : " are drawn.";
    if (drawn === chosen && drawnMarks === marks) return (isFiltered ? "" : "All ") + count(chosen, "delivery", "deliveries") + " and " + count(marks, "fault", "faults") + what;
    return number(drawn) + " of " + count(chosen, "delivery", "deliveries") + " and " + number(drawnMarks) + " of " + count(marks, "fault", "faults")
      + " are drawn: those that came back or went wrong first, of the others some at equal distances. The numbers on this page count all.";
  }

  function drawTimeline() {
    const {marks, places} = selection();
    const drawn = thinned(places, MOST_SPANS, isGrave), drawnMarks = thinned(marks, MOST_MARKS, (mark) => mark[MARK.effect] === "crash");
    const traces = [barTrace(), linkTrace(drawn), ...leaseTraces(drawn), ...markTraces(drawnMarks)];
    if (data.notes.length) traces.push(noteTrace());
    const shown = byId("timeline-shown");
    shown.textContent = shownText(drawn.length, places.length, marks.length, drawnMarks.length);
    Object.assign(shown.dataset, {drawn: drawn.length, total: places.length, marks: drawnMarks.length, marksTotal: marks.length});
    const lines = data.notes.map((note) => ({type: "line", x0: note[0], x1: note[0], yref: "paper", y0: 0, y1: 1, line: {color: colour("soft"), width: 1, dash: "dash"}}));
    const entries = traces.filter((trace) => trace.showlegend !== false).map((trace) => trace.name);
    Plotly.react(byId("timeline-plot"), traces, layout({
      ...room("timeline-plot", Math.min(960, Math.max(200, 40 + height * 6)), data.lanes.map(brief), entries), shapes: lines, barmode: "overlay",
      xaxis: {ticksuffix: " s"},
      yaxis: {tickvals: tops.map((_, lane) => barY(lane)), ticktext: data.lanes.map(plain), range: [height, data.notes.length ? -4 : -1], showgrid: false, zeroline: false},
    }), CONFIG);
  }

  /* ---- the other charts */
  function bars(id, [width, counts], title, more) {
    if (!byId(id)) return;
    Plotly.react(byId(id), [{
      type: "bar", x: counts.map((_, n) => (n + 0.5) * width), y: counts.map((times) => more.perSecond ? times / width : times), width: counts.map(() => width * 0.94),
      marker: {color: colour("accepted")}, name: title.name, hovertemplate: "%{customdata}<extra></extra>",
      customdata: counts.map((times, n) => seconds(n * width) + " to " + seconds((n + 1) * width) + ": " + number(times)),
    }, ...(more.traces || [])], layout({height: 300, showlegend: Boolean(more.traces), xaxis: {title: {text: title.x}, rangemode: "tozero", ticksuffix: " s"}, yaxis: {title: {text: title.y}, rangemode: "tozero"}, ...more.layout}), CONFIG);
  }

  function drawRecovery() {
    const line = data.ackWait === null ? {} : {
      shapes: [{type: "line", x0: data.ackWait, x1: data.ackWait, yref: "paper", y0: 0, y1: 1, line: {color: colour("fail"), width: 2, dash: "dash"}}],
      annotations: [{x: data.ackWait, yref: "paper", y: 1, yanchor: "bottom", text: "ack_wait", showarrow: false, font: {color: colour("fail")}}], margin: {l: 60, r: 16, t: 26, b: 44},
    };
    bars("recovery-plot", data.recovery, {x: "from receipt to receipt", y: "deliveries", name: "came back"}, {layout: line});
  }

  function drawThroughput() {
    const marks = thinned(data.marks, MOST_MARKS / 4, () => false);
    const faults = {
      type: "scatter", mode: "markers", name: "fault", x: marks.map((mark) => mark[MARK.at]), y: marks.map(() => 0), hoverinfo: "text", cliponaxis: false,
      hovertext: marks.map((mark) => plain(mark[MARK.effect] + ": " + mark[MARK.kind]) + ", at " + seconds(mark[MARK.at])),
      marker: {symbol: "triangle-up", size: 8, color: colour("mark"), line: {color: colour("ground"), width: 1}},
    };
    bars("throughput-plot", data.answered, {x: "", y: "tasks answered a second", name: "answered"}, {perSecond: true, traces: [faults], layout: {legend: {orientation: "h", y: -0.14, yanchor: "top", font: {color: colour("ink")}}}});
  }

  function drawPaces() {
    if (!byId("paces-plot")) return;
    Plotly.react(byId("paces-plot"), [{
      type: "scatter", mode: "markers+text", x: data.paces.map((one) => one[2]), y: data.paces.map((one) => one[1]), text: data.paces.map((one) => plain(one[0])),
      textposition: "top center", hoverinfo: "text", marker: {size: 11, color: colour("held")},
    }], layout({height: 320, xaxis: {title: {text: "faults for each 100 tasks"}, rangemode: "tozero"}, yaxis: {title: {text: "answered a second"}, rangemode: "tozero"}}), CONFIG);
  }

  function drawChances() {
    const shown = data.chances.filter((one) => one[2] !== null);
    if (!byId("chances-plot") || !shown.length) { if (byId("chances-plot")) byId("chances-plot").hidden = true; return; }
    const set = shown.flatMap((one) => one[1].map((rate) => [rate, one[0]]));
    Plotly.react(byId("chances-plot"), [
      {type: "scatter", mode: "markers", name: "observed, with 95 %", x: shown.map((one) => one[2]), y: shown.map((one) => one[0]),
        error_x: {type: "data", symmetric: false, array: shown.map((one) => one[4] - one[2]), arrayminus: shown.map((one) => one[2] - one[3]), color: colour("held")}, marker: {size: 9, color: colour("held")}},
      {type: "scatter", mode: "markers", name: "set", x: set.map((one) => one[0]), y: set.map((one) => one[1]), marker: {symbol: "line-ns", size: 18, line: {width: 3, color: colour("mark")}}},
    ], layout({height: 120 + 44 * shown.length, xaxis: {title: {text: "share that was struck"}, rangemode: "tozero"}, yaxis: {type: "category", autorange: "reversed"}, legend: {orientation: "h", y: 1.02, yanchor: "bottom", font: {color: colour("ink")}}}), CONFIG);
  }

  function draw() { palette.clear(); drawTimeline(); drawRecovery(); drawThroughput(); drawPaces(); drawChances(); }

  /* ---- filters */
  function fill(id, choices) {
    for (const [value, text] of choices) { const one = document.createElement("option"); one.value = value; one.textContent = brief(text); byId(id).append(one); }
  }
  const jobs = [...new Set(data.tasks.map((task) => task[TASK.job]))].sort((a, b) => a - b);
  fill("filter-job", jobs.map((job) => [String(job), "job " + job]));
  fill("filter-worker", data.lanes.map((name, lane) => [String(lane), name]));
  fill("filter-fault", [...new Set(data.marks.map((mark) => mark[MARK.effect] + ": " + mark[MARK.kind]))].sort().map((one) => [one, one]));
  for (const name of Object.keys(wanted)) byId("filter-" + name).addEventListener("input", (event) => { wanted[name] = event.target.value.trim(); drawTimeline(); });
  document.querySelector("form.filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filter-clear").addEventListener("click", () => {
    for (const name of Object.keys(wanted)) { wanted[name] = ""; byId("filter-" + name).value = ""; }
    drawTimeline();
  });

  /* ---- tasks */
  let matching = data.tasks.map((_, place) => place), page = 0;
  function cell(row, text, name) { const one = document.createElement(name || "td"); if (name) one.scope = "row"; one.textContent = clean(text); row.append(one); return one; }
  function listTasks() {
    const pages = Math.max(1, Math.ceil(matching.length / ROWS));
    page = Math.min(page, pages - 1);
    const body = byId("task-table").tBodies[0];
    body.replaceChildren(...matching.slice(page * ROWS, (page + 1) * ROWS).map((place) => {
      const task = data.tasks[place], row = document.createElement("tr"), button = document.createElement("button");
      row.dataset.task = nameOf(task);
      button.type = "button"; button.className = "link"; button.textContent = nameOf(task);
      button.setAttribute("aria-label", "Story of task " + nameOf(task));
      button.addEventListener("click", () => tell(place));
      cell(row, "", "th").append(button);
      for (const key of ["image", "deliveries", "fate", "whose", "marks"]) cell(row, task[TASK[key]]).classList.toggle("foreign", key === "image");
      return row;
    }));
    byId("task-count").textContent = count(matching.length, "task", "tasks") + (matching.length === data.tasks.length ? "" : " of " + number(data.tasks.length));
    byId("task-page").textContent = "page " + (page + 1) + " of " + pages;
    byId("task-page-previous").disabled = page === 0;
    byId("task-page-next").disabled = page >= pages - 1;
  }
  byId("task-search").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    matching = data.tasks.map((_, place) => place).filter((place) => {
      const task = data.tasks[place], text = [nameOf(task), ...task.slice(TASK.image)].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    page = 0; listTasks();
  });
  byId("task-page-previous").addEventListener("click", () => { page -= 1; listTasks(); });
  byId("task-page-next").addEventListener("click", () => { page += 1; listTasks(); });

  /* ---- stories */
  let stories = null;
  async function unpacked() {
    const packed = Uint8Array.from(atob(byId("story-data").textContent.trim()), (one) => one.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }
  async function tell(place) {
    stories = stories || await unpacked();
    const [title, ...lines] = stories[place];
    byId("story-title").textContent = clean(title);
    byId("story-text").textContent = lines.map(clean).join("\n");
    byId("story").showModal();
  }
  byId("story-close").addEventListener("click", () => byId("story").close());
  for (const button of document.querySelectorAll("[data-story]")) button.addEventListener("click", () => tell(Number(button.dataset.story)));

  /* ---- paper and light */
  // Before it prints, a browser has not put the colours of paper on yet.
  let opened = [];
  function prepare(isPaper) {
    if (isPaper) opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((one) => { one.open = isPaper; });
    document.documentElement.classList.toggle("paper", isPaper);
    draw();
  }
  window.addEventListener("beforeprint", () => prepare(true));
  window.addEventListener("afterprint", () => prepare(false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  document.documentElement.dataset.ready = "true";
  listTasks();
  draw();
})();
