"use strict";
// What the page gains from a script: zoom, a filter, tips, and events and log lines that find each other.
// It makes no text of its own but by textContent: what is on the page came out of a guest.
(() => {
  const $ = (id) => document.getElementById(id);
  const svg = $("lanes"), table = $("rows"), tip = $("tip");

  // --- zoom and pan -------------------------------------------------------------------------------------------
  const zoom = svg && (() => {
    const slots = +svg.dataset.slots, width = +svg.dataset.width, gutter = +svg.dataset.gutter;
    const least = Math.min(slots, 8);
    const placed = [...svg.querySelectorAll("[data-x]")].map((node) => ({
      node, x: +node.dataset.x, x2: "x2" in node.dataset ? +node.dataset.x2 : null,
      y: /\s([\d.]+)\)/.exec(node.getAttribute("transform") || "")?.[1],
      label: node.tagName === "text" ? node : node.querySelector(".label"),
    }));
    // A label needs room beside those that are placed before it: violations first, then what is rarest.
    const lanes = new Map();
    for (const one of placed)
      if (one.node.matches(".ev")) {
        one.name = one.label ? one.label.textContent : "";
        one.print = one.node.matches(".print");
        one.failed = one.node.matches(".failed");
        const key = one.print ? "print" : one.y;
        if (!lanes.has(key)) lanes.set(key, []);
        if (one.label) lanes.get(key).push(one);
      }
    for (const lane of lanes.values()) {
      const counts = new Map();
      for (const one of lane) counts.set(one.name, (counts.get(one.name) || 0) + 1);
      for (const one of lane) one.often = one.print ? 0 : counts.get(one.name);
      lane.sort((a, b) => b.failed - a.failed || a.often - b.often || a.x - b.x);
    }
    const holds = placed.filter((one) => one.node.parentNode.matches(".holds") && one.node.tagName === "text");
    let from = 0, to = slots;

    function labels(scale, at) {
      for (const lane of lanes.values()) {
        const taken = lane.length && !lane[0].print
          ? holds.filter((hold) => Math.abs(+hold.node.getAttribute("y") - +lane[0].y - 13) < 3).map((hold) => [at(hold.x), at(hold.x) + 6 * (hold.label.textContent.length + 2)])
          : [];
        for (const one of lane) {
          const left = at(one.x), right = left + (one.failed ? 7.1 : 6.2) * one.name.length + 6;
          const room = left >= gutter && right <= gutter + width && taken.every(([a, b, other]) => (right <= a || left >= b) && (other !== one.name || Math.abs(left - a) > 150));
          if (room) taken.push([left, right, one.name]);
          one.label.setAttribute("visibility", room ? "visible" : "hidden");
        }
      }
    }
    function draw() {
      const scale = width / (to - from), at = (x) => gutter + (x - from) * scale;
      for (const one of placed) {
        const { node, x, x2 } = one;
        if (node.tagName === "rect") {
          node.setAttribute("x", at(x).toFixed(2));
          node.setAttribute("width", Math.max((x2 - x) * scale, 1).toFixed(2));
        } else if (node.tagName === "line") {
          node.setAttribute("x1", at(x).toFixed(2));
          node.setAttribute("x2", at(x2).toFixed(2));
        } else if (node.tagName === "text") {
          // The text of something that lasts stays in sight as long as the thing does.
          const left = x2 === null ? at(x) : Math.max(at(x), gutter);
          node.setAttribute("x", (left + 5).toFixed(2));
          if (x2 !== null) node.setAttribute("visibility", at(x2) - left < node.textContent.length * 6 ? "hidden" : "visible");
        } else node.setAttribute("transform", `translate(${at(x).toFixed(2)} ${one.y || 0})`);
      }
      labels(scale, at);
      svg.classList.toggle("zoomed", to - from < slots);
    }
    function show(first, last) {
      const span = Math.min(slots, Math.max(least, last - first));
      from = Math.min(Math.max(0, first), slots - span);
      to = from + span;
      draw();
    }
    const by = (factor, x = (from + to) / 2) => show(x - (x - from) * factor, x + (to - x) * factor);
    const pan = (part) => show(from + (to - from) * part, to + (to - from) * part);
    const slot = (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * (gutter + width);
      return from + ((x - gutter) / width) * (to - from);
    };
    const actions = { in: () => by(0.5), out: () => by(2), left: () => pan(-0.25), right: () => pan(0.25), all: () => show(0, slots) };
    const keys = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "all" };
    $("zoom").hidden = false;
    $("zoom").addEventListener("click", (event) => actions[event.target.dataset.zoom]?.());
    svg.addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      actions[keys[event.key]]();
    });
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      by(event.deltaY > 0 ? 1.25 : 0.8, slot(event));
    }, { passive: false });
    svg.addEventListener("dblclick", (event) => by(0.4, slot(event)));
    let drag = null;
    svg.addEventListener("pointerdown", (event) => {
      if (event.button === 0 && to - from < slots) drag = { x: event.clientX, from, to, moved: false };
    });
    window.addEventListener("pointermove", (event) => {
      if (!drag) return;
      const moved = event.clientX - drag.x;
      if (!drag.moved && Math.abs(moved) < 4) return;
      drag.moved = true;
      svg.classList.add("dragging");
      const shift = (moved / svg.getBoundingClientRect().width) * ((gutter + width) / width) * (drag.to - drag.from);
      show(drag.from - shift, drag.to - shift);
    });
    window.addEventListener("pointerup", () => {
      if (drag?.moved) svg.addEventListener("click", (event) => event.preventDefault(), { once: true, capture: true });
      drag = null;
      svg.classList.remove("dragging");
    });
    // What the kernel did before the first step is seldom what a reader came for.
    const least_x = (selector) => Math.min(...[...svg.querySelectorAll(selector)].map((node) => +node.dataset.x));
    const start = Math.min(least_x(".steps rect"), least_x(".violation"));
    if (Number.isFinite(start) && start > slots / 8) show(start - 1, slots);
    svg.addEventListener("dragstart", (event) => event.preventDefault());
    return { reveal(x) { if (x < from || x > to) show(x - (to - from) / 2, x + (to - from) / 2); } };
  })();

  // --- filter -------------------------------------------------------------------------------------------------
  const form = $("filter");
  const rows = table ? [...table.tBodies[0].rows].filter((row) => row.id) : [];
  const spots = new Map(svg ? [...svg.querySelectorAll("[data-e]")].map((node) => [node.dataset.e, node]) : []);
  if (form && rows.length) {
    form.hidden = false;
    const count = $("count"), all = count.textContent;
    const gaps = [...table.querySelectorAll(".gap:not(.boot)")];
    const apply = () => {
      const { name, cpu, task, evidence } = form.elements;
      const wanted = name.value.trim().toLowerCase();
      let left = 0;
      for (const row of rows) {
        const fits = (!wanted || row.querySelector(".name").textContent.toLowerCase().includes(wanted)) && (!cpu.value || row.dataset.cpu === cpu.value) &&
          (!task.value || row.dataset.task === task.value) && (!evidence.checked || row.classList.contains("evidence"));
        row.hidden = !fits;
        left += fits;
        spots.get(row.id.slice(1))?.classList.toggle("off", !fits);
      }
      const whole = left === rows.length;
      for (const gap of gaps) gap.hidden = !whole;
      count.textContent = whole ? all : `${left} of ${all}`;
    };
    form.addEventListener("input", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  // --- events and log lines find each other -------------------------------------------------------------------
  const pane = document.querySelector(".logpane");
  const lines = new Map(pane ? [...pane.querySelectorAll("li[data-e]")].map((line) => [+line.dataset.e, line]) : []);
  const printed = [...lines.keys()].sort((a, b) => a - b);
  function pick(position, fromLog) {
    document.querySelectorAll(".picked").forEach((node) => node.classList.remove("picked"));
    // An event that printed nothing shows what was printed last before it.
    const near = printed.findLast((one) => one <= position);
    const line = lines.get(near);
    line?.classList.add("picked");
    $(`e${position}`)?.classList.add("picked");
    if (line && !fromLog && pane.scrollHeight > pane.clientHeight) {
      const box = line.getBoundingClientRect(), frame = pane.getBoundingClientRect();
      pane.scrollTop += box.top - frame.top - pane.clientHeight / 2;
    }
    const spot = spots.get(String(position));
    if (spot) zoom.reveal(+spot.dataset.x);
  }
  const follow = () => {
    const event = /^#e(\d+)$/.exec(location.hash), line = /^#l(\d+)$/.exec(location.hash);
    if (event) pick(+event[1], false);
    else if (line && $(`l${line[1]}`)?.dataset.e) pick(+$(`l${line[1]}`).dataset.e, true);
    const target = event && $(`e${event[1]}`);
    if (target?.hidden) { form.reset(); setTimeout(() => target.scrollIntoView({ block: "center" }), 50); }
  };
  window.addEventListener("hashchange", follow);
  table?.addEventListener("click", (event) => {
    const row = event.target.closest("tr[id]");
    if (row && !event.target.closest("a") && getSelection().isCollapsed) pick(+row.id.slice(1), false);
  });
  follow();

  // --- tips ---------------------------------------------------------------------------------------------------
  if (svg && tip) {
    // The browser's own tip would cover ours; assistive software keeps the words.
    for (const title of svg.querySelectorAll(":scope g title")) {
      title.parentNode.setAttribute("aria-label", title.textContent);
      title.remove();
    }
    const text = (tag, words) => Object.assign(document.createElement(tag), { textContent: words });
    const fill = (node) => {
      const row = node.dataset.e && $(`e${node.dataset.e}`);
      if (!row) return tip.replaceChildren(text("b", node.getAttribute("aria-label")));
      const name = row.querySelector(".name").cloneNode(true);
      name.querySelectorAll(".sr, .clock, .turn, .why").forEach((part) => part.remove());
      const clock = row.querySelector(".clock"), extra = [...row.querySelectorAll(".turn, .why")].map((part) => text("span", part.textContent.trim()));
      const where = `#${row.querySelector(".seq").textContent}, CPU ${row.dataset.cpu}, ${row.dataset.task}${clock ? `, ${clock.textContent} s` : ""}`;
      tip.replaceChildren(text("b", name.textContent.trim()), text("span", where), ...extra);
    };
    const place = (x, y) => {
      tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 10 : y + 18}px`;
    };
    const hide = () => { tip.hidden = true; };
    svg.addEventListener("pointermove", (event) => {
      const node = event.target.closest("[data-e], [aria-label]:not(svg)");
      if (!node) return hide();
      fill(node);
      tip.hidden = false;
      place(event.clientX, event.clientY);
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("focusin", (event) => {
      const node = event.target.closest("[data-e]");
      if (!node) return hide();
      const box = node.getBoundingClientRect();
      fill(node);
      tip.hidden = false;
      place(box.left, box.bottom);
    });
    svg.addEventListener("focusout", hide);
    addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  }
})();
