"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);

  /* Theme: the system's until it is chosen here. */
  const root = document.documentElement;
  const dark = () =>
    (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const theme = $("theme");
  const showTheme = () => theme.setAttribute("aria-pressed", String(dark()));
  try {
    const kept = localStorage.getItem("ssft-bench-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch { /* a browser that keeps nothing for files */ }
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("ssft-bench-theme", root.dataset.theme); } catch { /* as above */ }
    showTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
  theme.hidden = false;
  showTheme();

  /* Table: filters and sorting. */
  const table = $("table");
  if (table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const form = $("filters");
    const selects = [...form.querySelectorAll("[data-filter]")];
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const filter = () => {
      const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const fits = selects.every((s) => !s.value || row.dataset[s.dataset.filter] === s.value)
          && words.every((word) => texts.get(row).includes(word));
        row.hidden = !fits;
        shown += fits;
      }
      $("count").textContent = `${shown} of ${rows.length} runs`;
    };
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(filter));
    form.hidden = false;
    filter(); /* a browser may remember what was typed */

    const headings = [...table.tHead.rows[0].cells];
    const number = (cell) => (cell.dataset.value === "" ? NaN : Number(cell.dataset.value));
    headings.forEach((heading, place) => {
      const button = heading.firstElementChild;
      button.addEventListener("click", () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        for (const other of headings) other.setAttribute("aria-sort", "none");
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        const sign = up ? 1 : -1;
        const compare = button.dataset.kind === "number"
          ? (a, b) => {
            const [x, y] = [number(a), number(b)];
            if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
            return sign * (x - y);
          }
          : (a, b) => sign * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
        body.append(...[...body.rows].sort((a, b) => compare(a.cells[place], b.cells[place])));
      });
    });
  }

  /* Details of a run, or of a comparison of runs. */
  const dialog = $("details");
  const made = (name, text, className) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const pairs = (list) => {
    const found = made("dl", undefined, "facts");
    for (const [name, value] of list) {
      if (value === null || value === undefined || value === "") continue;
      found.append(made("dt", name), made("dd", String(value)));
    }
    return found;
  };
  const record = (run, key) => data.shared[run.record[key]];
  const folded = (name, value, open) => {
    const found = made("details");
    found.append(made("summary", name), made("pre", JSON.stringify(value, null, 2)));
    found.open = Boolean(open);
    return found;
  };
  const shownMetric = (m) => {
    const interval = m.ci95 ? ` [${m.ci95.map((x) => x.toFixed(2)).join(", ")}]` : "";
    return `${m.value.toFixed(2)} ${m.unit}${interval}, ${m.n} items`;
  };
  const ofRun = (run) => {
    const found = document.createDocumentFragment();
    const metrics = record(run, "metrics");
    const code = record(run, "code");
    const time = record(run, "time");
    found.append(
      made("h3", "Scores"),
      pairs(metrics.map((m) => [`${m.name.toUpperCase()}, ${m.split}`, shownMetric(m)])),
      made("p", metrics.length ? `Intervals: ${metrics[0].ci_method}.` : "", "note"),
      made("h3", "Command that makes it again"),
      made("pre", run.command, "command"),
    );
    if (run.remark) found.append(made("p", run.remark, "note"));
    const tuning = run.tuning.hours === null ? "not known" : run.tuning.hours.toFixed(2);
    found.append(
      made("h3", "Where it is"),
      pairs([
        ["Signature", record(run, "signature")],
        ["File", run.path],
        ["Also in", run.copies.join(", ")],
        ["Code", `${code.version || ""} ${code.commit || ""}${code.dirty ? " with uncommitted changes" : ""}`],
        ["Finished", time.finished],
        ["Tuning hours", `${tuning} (${run.tuning.from})`],
        ["Tuned from", run.tuning.base],
      ]),
      made("h3", "Record"),
    );
    const names = {
      spec: "Specification", content: "Digests of weights, recordings, plug-ins", data: "Data",
      selection: "Selection", trials: "Trials", interface_state: "Interface", finetuning: "Fine-tuning",
      cost: "Cost", events: "Events", env: "Environment", predictions: "Predictions",
      args_passed: "Arguments as passed",
    };
    for (const [key, name] of Object.entries(names)) {
      const value = record(run, key);
      if (value && Object.keys(value).length) found.append(folded(name, value));
    }
    return found;
  };
  const show = (title, ...parts) => {
    $("details-title").textContent = title;
    $("details-body").replaceChildren(...parts);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    $("details-title").focus();
  };
  const showRun = (place) => {
    const run = data.runs[place];
    show(run.title, ofRun(run));
  };
  const showComparison = (button) => {
    const lines = button.dataset.told.split("\n").map((line) => line.trim()).filter(Boolean);
    const list = made("ul", undefined, "runs");
    for (const place of button.dataset.runs.split(",")) {
      const item = made("li");
      const opens = made("button", data.runs[place].title, "number");
      opens.type = "button";
      opens.dataset.run = place;
      item.append(opens);
      list.append(item);
    }
    show(button.dataset.title, ...lines.map((line) => made("p", line)), made("h3", "Runs"), list);
  };
  document.addEventListener("click", (event) => {
    const compared = event.target.closest("[data-runs]");
    if (compared) { showComparison(compared); return; }
    const asked = event.target.closest("[data-run]");
    if (asked && !getSelection().toString()) showRun(Number(asked.dataset.run));
  });
  $("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
})();
