"use strict";
// What a browser adds to the page: tables that sort, a choice of light and dark, charts. Without it all texts and
// tables are there. Nothing is fetched, and no text is evaluated: the Content-Security-Policy names this script and the
// library of charts by their hashes.
(async () => {
  const $ = (selector, place = document) => [...place.querySelectorAll(selector)];
  const make = (tag, options = {}, ...inside) => {
    const made = Object.assign(document.createElement(tag), options);
    made.append(...inside);
    return made;
  };
  const button = (text, label, click) => {
    const made = make("button", { type: "button", className: "plain", textContent: text, onclick: click });
    if (label) made.setAttribute("aria-label", label);
    return made;
  };
  const checkbox = (text, change, checked = false) => {
    const box = make("input", { type: "checkbox", checked });
    box.onchange = () => change(box.checked, box);
    return make("label", {}, box, text);
  };

  // light and dark
  const root = document.documentElement, theme = document.getElementById("theme");
  const isDark = () => getComputedStyle(root).colorScheme === "dark"
    || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const nameTheme = () => { theme.textContent = isDark() ? "Light colours" : "Dark colours"; };
  theme.hidden = false;
  theme.onclick = () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
  nameTheme();

  // tables that sort
  const UNITS = { ns: 1e-9, us: 1e-6, ms: 1e-3, kB: 1e3, MB: 1e6, GB: 1e9 };
  const number = (text) => {
    const found = /([-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?)\s*([a-zA-Z]*)/.exec(text.replace("\u2212", "-"));
    return found ? parseFloat(found[1].replaceAll(",", "")) * (UNITS[found[2]] || 1) : NaN;
  };
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (isNaN(x) || isNaN(y)) return isNaN(x) && isNaN(y) ? a.localeCompare(b) : isNaN(x) ? 1 : -1;
    return x - y;
  };
  const sortable = (table) => {
    const body = table.tBodies[0], first = [...body.rows];
    $("thead th", table).forEach((head, column) => {
      const words = !head.classList.contains("right") && !head.dataset.number;
      const text = (row) => row.cells[column].textContent.trim();
      const sort = () => {
        const next = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] || "ascending";
        $("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        const order = words ? (a, b) => text(a).localeCompare(text(b)) : (a, b) => compare(text(a), text(b));
        const rows = next === "none" ? first : [...first].sort(order);
        if (next !== "none") head.setAttribute("aria-sort", next);
        body.append(...(next === "descending" ? rows.reverse() : rows));
      };
      head.replaceChildren(make("button", { type: "button", textContent: head.textContent, onclick: sort }));
    });
  };
  $("table.sortable").forEach(sortable);

  // commands that can be copied; everything open on paper
  if (navigator.clipboard) $("pre.command").forEach((text) => {
    const copy = button("Copy", "", async () => {
      await navigator.clipboard.writeText(text.textContent);
      copy.textContent = "Copied";
    });
    text.after(copy);
  });
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = $("section > details:not([open])");
    closed.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));

  // charts
  const inflate = async (id) => {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const walk = (spec, visit) => {
    if (spec.encoding || spec.mark) visit(spec);
    for (const key of ["layer", "hconcat", "vconcat", "concat"]) (spec[key] || []).forEach((part) => walk(part, visit));
    if (spec.spec) walk(spec.spec, visit);
  };
  const isNumber = (channel) => channel && channel.field && channel.type === "quantitative" && !channel.bin;
  const rowsOf = (spec) => (spec.data && spec.data.values) || [];
  const fieldsOn = (spec, axis) => {
    const fields = new Set();
    walk(spec, ({ encoding = {} }) => [encoding[axis], encoding[axis + "2"]].forEach((channel) => {
      if (channel && channel.field && (axis + "2" in encoding || isNumber(channel))) fields.add(channel.field);
    }));
    return [...fields];
  };
  const isContinuous = (spec, axis) => {
    const kinds = new Set();
    walk(spec, ({ encoding = {} }) => { if (encoding[axis] && encoding[axis].field) kinds.add(isNumber(encoding[axis])); });
    return kinds.size === 1 && kinds.has(true);
  };
  const valuesOn = (spec, axis) => fieldsOn(spec, axis).flatMap((field) => rowsOf(spec).flatMap((row) => row[field] ?? []))
    .filter((value) => typeof value === "number");
  const isLog = (spec, axis) => {
    let found = false;
    walk(spec, ({ encoding = {} }) => { found ||= ((encoding[axis] || {}).scale || {}).type === "log"; });
    return found;
  };
  const hasParam = (spec, name) => (spec.params || []).some((param) => param.name === name);

  // Panels within the room there is: as many side by side as stay readable, the others below.
  const fit = (spec, room) => {
    if (spec.hconcat && room < 560) {
      spec.vconcat = spec.hconcat;
      delete spec.hconcat;
    }
    const columns = Math.max(1, Math.min(spec.columns || 1, Math.floor((room - 56) / 180)));
    if (spec.columns) spec.columns = columns;
    if (spec.facet && spec.spec && typeof spec.spec.width === "number") {
      const own = Math.floor((room - 56) / columns) - (spec.resolve ? 64 : 24), inner = spec.spec;
      inner.width = Math.max(120, Math.min(columns <= 2 ? 600 : 420, own));
      if (typeof inner.height === "number") inner.height = Math.round(Math.min(240, Math.max(130, 0.62 * inner.width)));
    } else if (spec.vconcat) spec.vconcat.forEach((part) => fit(part, room - 64));
    else if (spec.hconcat) spec.hconcat.forEach((part) => fit(part, room / spec.hconcat.length - 64));
    else if (spec.concat) spec.concat.forEach((part) => fit(part, room / columns - 40));
    else if ((spec.mark || spec.layer) && typeof spec.width !== "object") spec.width = Math.max(120, Math.floor(room));
  };
  const adapt = (original, chart, width) => {
    const spec = structuredClone(original);
    delete spec.title;
    for (const axis of ["x", "y"]) if (chart.log[axis]) {
      const fields = fieldsOn(spec, axis);
      walk(spec, (unit) => {
        const channel = (unit.encoding || {})[axis];
        if (!isNumber(channel)) return;
        channel.scale = { ...channel.scale, type: "log", zero: false, nice: false };
        const own = fields.filter((field) => [channel, unit.encoding[axis + "2"] || {}].some((c) => c.field === field));
        unit.transform = [...(unit.transform || []), ...own.map((field) => ({ filter: `datum["${field}"] > 0` }))];
      });
    }
    if (chart.zooms) {
      let first = null;
      walk(spec, (unit) => { if (!first && unit.mark && unit.encoding && isNumber(unit.encoding.x) && isNumber(unit.encoding.y)) first = unit; });
      if (first) first.params = [...(first.params || []), { name: "zoom", bind: "scales", select: { type: "interval", zoom: "wheel![event.ctrlKey || event.metaKey]" } }];
    }
    fit(spec, width);
    if (spec.mark || spec.layer) {
      spec.height ??= Math.round(Math.max(220, Math.min(360, 0.5 * width)));
      spec.autosize = { type: "fit-x", contains: "padding" };
    }
    const longest = Math.max(...variants.map((variant) => variant.length), 4);
    const columns = Math.max(1, Math.floor((width - 60) / (44 + 6.5 * longest)));
    spec.config = { ...themes, legend: { ...themes.legend, columns } };
    return spec;
  };

  // What the pointer would be told at every mark; where some are there for that alone, at those.
  const readings = (view) => {
    const found = new Map(), hovered = new Map();
    const visit = (item, name) => {
      if (item.tooltip && typeof item.tooltip === "object") (/hover/.test(name) ? hovered : found).set(JSON.stringify(item.tooltip), item.tooltip);
      (item.items || []).forEach((inner) => visit(inner, item.marktype ? item.name || "" : name));
    };
    visit(view.scenegraph().root, "");
    return [...(hovered.size ? hovered : found).values()];
  };
  const said = (reading) => Object.entries(reading).filter(([, value]) => value !== "NaN").map(([key, value]) => `${key}: ${value}`).join(" · ");

  const fillTable = (chart) => {
    const rows = readings(chart.view), keys = [...new Set(rows.flatMap(Object.keys))];
    const cells = (row) => keys.map((key) => make("td", { textContent: row[key] === "NaN" ? "n/a" : row[key] ?? "" }));
    const heads = keys.map((key) => {
      const numbers = rows.every((row) => !row[key] || !isNaN(number(row[key])));
      return make("th", { scope: "col", textContent: key, className: numbers ? "right" : "" });
    });
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row)))));
    $("tbody tr", table).forEach((row) => heads.forEach((head, i) => row.cells[i].classList.toggle("right", head.className === "right")));
    sortable(table);
    $(".scroll", chart.figure)[0].replaceChildren(table);
  };

  const drawChart = async (chart) => {
    const width = chart.place.clientWidth;
    chart.width = width;
    const spec = adapt(chart.spec, chart, width);
    for (const param of spec.params || []) {
      if (param.name === "hidden") param.value = [...hidden];
      if (param.name === "seeds") param.value = chart.seeds;
    }
    if (chart.view) chart.view.finalize();
    const inner = make("div");
    const result = await vegaEmbed(inner, spec, {
      mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false, logLevel: 1,
      tooltip: { theme: "custom", disableDefaultStyle: true },
    });
    chart.view = result.view;
    chart.place.replaceChildren(inner);
    const drawn = $("svg", inner)[0];
    drawn.setAttribute("aria-hidden", "true");
    if ($("details[open]", chart.figure).length) fillTable(chart);
  };
  const setSignal = async (chart, name, value) => {
    if (!chart.view || !hasParam(chart.spec, name)) return;
    await chart.view.signal(name, value).runAsync();
    if ($("details[open]", chart.figure).length) fillTable(chart);
  };

  const zoom = async (chart, factor) => {
    const signals = chart.view.getState({ signals: (name) => name.startsWith("zoom_"), data: () => false }).signals;
    const fields = {};
    walk(adapt(chart.spec, chart, chart.width), (unit) => {
      if ((unit.params || []).some((param) => param.name === "zoom")) ["x", "y"].forEach((axis) => { fields[axis] = unit.encoding[axis].field; });
    });
    for (const [axis, field] of Object.entries(fields)) {
      const name = `zoom_${field.replace(/\W/g, "_")}`;
      if (!(name in signals)) continue;
      if (!factor) { chart.view.signal(name, null); continue; }
      const logs = chart.log[axis] || isLog(chart.spec, axis), domain = (signals[name] || chart.view.scale(axis).domain()).map(Number);
      const [low, high] = logs ? domain.map(Math.log) : domain, middle = (low + high) / 2, half = (high - low) / 2 / factor;
      const ends = [middle - half, middle + half];
      chart.view.signal(name, logs ? ends.map(Math.exp) : ends);
    }
    await chart.view.runAsync();
  };

  const readByKeys = (chart) => {
    let at = -1;
    chart.place.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const rows = readings(chart.view), last = rows.length - 1;
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last }[event.key];
      if (to !== undefined && rows.length) {
        at = Math.max(0, Math.min(last, to));
        chart.reading.textContent = `${at + 1} of ${rows.length}: ${said(rows[at])}`;
      } else if (event.key === "+" || event.key === "=") zoom(chart, 1.5);
      else if (event.key === "-") zoom(chart, 1 / 1.5);
      else if (event.key === "0") zoom(chart, 0);
      else return;
      event.preventDefault();
    });
  };

  const tools = (chart) => {
    const bar = $(".tools", chart.figure)[0], redraw = () => drawChart(chart);
    if (hasParam(chart.spec, "seeds")) bar.append(checkbox("single seeds", (on) => { chart.seeds = on; setSignal(chart, "seeds", on); }));
    for (const axis of ["x", "y"]) {
      const values = valuesOn(chart.spec, axis);
      const positive = values.filter((value) => value > 0);
      if (!isContinuous(chart.spec, axis) || isLog(chart.spec, axis) || positive.length < 2 || values.some((value) => value < 0)) continue;
      if (Math.max(...positive) < 5 * Math.min(...positive)) continue;
      bar.append(checkbox(`log ${axis}`, (on) => { chart.log[axis] = on; redraw(); }));
    }
    if (chart.zooms) bar.append(make("span", {},
      button("+", `Zoom in: ${chart.title}`, () => zoom(chart, 1.5)), button("−", `Zoom out: ${chart.title}`, () => zoom(chart, 1 / 1.5)),
      button("Reset", `Reset the zoom: ${chart.title}`, () => zoom(chart, 0))));
    bar.hidden = !bar.childElementCount;
  };

  let themes = {}, variants = [];
  const hidden = new Set();
  const reach = (stage) => { root.dataset.ready = stage; performance.mark(stage); };
  reach("tables");
  const holder = document.getElementById("figures");
  if (holder && !("DecompressionStream" in window)) {
    $(".waits").forEach((note) => { note.textContent = "This browser is too old for the charts: it has no DecompressionStream."; });
    return;
  }
  if (holder) {
    const library = make("script", { textContent: await inflate("library") });
    document.head.append(library);
    const { theme: config, figures } = JSON.parse(await inflate("figures"));
    themes = config;
    const charts = figures.map(({ name, title, spec }) => {
      const figure = document.getElementById(`figure-${name}`), place = $(".chart", figure)[0];
      const chart = { name, title, spec, figure, place, reading: $(".reading", figure)[0], log: {}, seeds: false, view: null };
      chart.zooms = isContinuous(spec, "x") && isContinuous(spec, "y");
      return chart;
    });
    const belong = charts.filter((chart) => hasParam(chart.spec, "hidden"));
    variants = [...new Set(belong.flatMap((chart) => rowsOf(chart.spec).map((row) => row.variant)))].filter(Boolean);
    const board = document.getElementById("variants");
    if (variants.length > 1) {
      board.hidden = false;
      variants.forEach((variant) => board.append(checkbox(variant, (on) => {
        hidden[on ? "delete" : "add"](variant);
        charts.forEach((chart) => setSignal(chart, "hidden", [...hidden]));
      }, true)));
    }
    const away = (chart) => Math.abs(chart.figure.getBoundingClientRect().top - innerHeight / 2);
    const waiting = new Set(charts);
    while (waiting.size) { // what is looked at first, and the page stays quick meanwhile
      const chart = [...waiting].reduce((a, b) => (away(b) < away(a) ? b : a));
      waiting.delete(chart);
      try {
        await drawChart(chart);
      } catch (error) { // the others can be drawn all the same
        chart.place.textContent = `This chart could not be drawn: ${error.message}`;
        console.error(error);
        continue;
      }
      tools(chart);
      readByKeys(chart);
      $("details", chart.figure)[0].addEventListener("toggle", (event) => { if (event.target.open) fillTable(chart); });
      await new Promise((resume) => setTimeout(resume));
    }
    let timer = 0;
    addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        for (const chart of charts) if (chart.view && Math.abs(chart.place.clientWidth - chart.width) > 8) await drawChart(chart);
        root.dataset.width = innerWidth;
      }, 150);
    });
  }
  reach("charts");
})();
