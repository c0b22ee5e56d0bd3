"use strict";
(() => {
  // Each log is a script element after this one, gzip in base64, unpacked when it is first shown.
  const CHUNK = 200, MOST_HITS = 500, CONTEXT = 120, SHORTEST = 2;
  const LINK = /^#(boot-[a-z0-9_-]+?)(?:-L(\d+))?$/;
  const get = (id) => document.getElementById(id);
  const viewer = get("viewer");
  if (!viewer) return;
  const [pane, picker, query, found, hits] = ["pane", "log", "query", "found", "hits"].map(get);
  const guilty = new Map(
    [...picker.options].map((option) => [option.value, option.dataset.guilty.split(" ").filter(Boolean).map(Number)]),
  );
  const isParsed = new Promise((resolve) => {
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve, { once: true });
    else resolve();
  });
  const texts = new Map();
  let shown = "", lines = [], asked = 0, searched = 0;

  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  const textOf = (log) => {
    if (!texts.has(log)) texts.set(log, unpack(log));
    return texts.get(log);
  };

  async function unpack(log) {
    await isParsed;
    const raw = atob(get(`packed-${log}`).textContent);
    const bytes = new Uint8Array(raw.length);
    for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  // A chunk is plain text, which is fast to lay out and search, until it is almost visible.
  const near = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => dress(entry.target)),
    { root: pane, rootMargin: "400px" },
  );

  function dress(chunk) {
    if (chunk.firstElementChild) return;
    near.unobserve(chunk);
    const first = Number(chunk.dataset.first), marked = new Set(guilty.get(shown));
    chunk.replaceChildren(...lines.slice(first, first + CHUNK).map((text, at) => {
      const number = first + at + 1;
      const link = make("a", { href: `#${shown}-L${number}`, tabIndex: -1, ariaLabel: `line ${number}` });
      link.dataset.number = number;
      return make("div", { className: marked.has(number) ? "line guilty" : "line" }, link, text);
    }));
  }

  async function show(log, number) {
    const mine = ++asked, isNew = shown !== log;
    picker.value = log;
    if (isNew) {
      pane.ariaBusy = "true";
      const text = await textOf(log);
      if (mine !== asked) return;
      [shown, lines] = [log, text.split("\n")];
      pane.replaceChildren(...chunks());
      pane.scrollTop = 0;
      pane.ariaBusy = "false";
      pane.ariaLabel = `Console log of ${picker.selectedOptions[0].textContent}`;
      get("previous").disabled = get("next").disabled = !guilty.get(log).length;
    }
    if (number) point(Math.min(number, lines.length));
    else if (isNew && guilty.get(log).length) bring(lineAt(guilty.get(log)[0]));
  }

  function* chunks() {
    for (let first = 0; first < lines.length; first += CHUNK) {
      const chunk = make("div", { className: "chunk" }, lines.slice(first, first + CHUNK).join("\n"));
      chunk.dataset.first = first;
      chunk.style.containIntrinsicSize = `auto calc(var(--line) * ${Math.min(CHUNK, lines.length - first)})`;
      near.observe(chunk);
      yield chunk;
    }
  }

  function lineAt(number) {
    const chunk = pane.children[Math.floor((number - 1) / CHUNK)];
    dress(chunk);
    return chunk.children[(number - 1) % CHUNK];
  }

  function point(number) {
    const line = lineAt(number);
    pane.querySelector(".target")?.classList.remove("target");
    line.classList.add("target");
    line.tabIndex = -1;
    line.focus({ preventScroll: true });
    pane.scrollIntoView({ block: "nearest" });
    bring(line);
  }

  // Repeated, because a chunk drawn for the first time may be higher than estimated.
  function bring(line, times = 3) {
    const wanted = pane.getBoundingClientRect().top + pane.clientHeight / 3;
    pane.scrollTop += line.getBoundingClientRect().top - wanted;
    if (times) requestAnimationFrame(() => bring(line, times - 1));
  }

  function follow() {
    const [, log, number] = LINK.exec(location.hash) ?? [];
    if (!guilty.has(log)) return;
    if (!number) get("console").scrollIntoView();
    show(log, Number(number));
  }

  function step(by) {
    const marked = guilty.get(shown) ?? [];
    const from = Number(pane.querySelector(".target a")?.dataset.number ?? 0);
    const next = by > 0 ? marked.find((number) => number > from) : marked.findLast((number) => number < from);
    const number = next ?? marked.at(by > 0 ? 0 : -1);
    if (number) location.hash = `#${shown}-L${number}`;
  }

  // Lines of `text` that match `pattern`: all are counted, the first `most` are shown.
  function find(text, pattern, most) {
    const listed = [];
    let count = 0, number = 1, counted = 0, match;
    pattern.lastIndex = 0;
    while ((match = pattern.exec(text))) {
      const begin = text.lastIndexOf("\n", match.index - 1) + 1;
      const end = text.indexOf("\n", match.index);
      if (listed.length < most) {
        for (; (counted = text.indexOf("\n", counted) + 1) && counted <= begin; ) number++;
        counted = begin;
        listed.push({ number, before: text.slice(begin, match.index), match: match[0],
          after: text.slice(match.index + match[0].length, end < 0 ? undefined : end) });
      }
      count++;
      if (end < 0) break;
      pattern.lastIndex = end + 1;
    }
    return { listed, count };
  }

  function hit(log, { number, before, match, after }) {
    const text = make("span", {}, before.slice(-CONTEXT), make("mark", {}, match), after.slice(0, CONTEXT));
    return make("li", {}, make("a", { href: `#${log}-L${number}` }, make("b", {}, String(number)), text));
  }

  async function search() {
    const mine = ++searched, wanted = query.value;
    hits.replaceChildren();
    hits.hidden = true;
    found.textContent = "";
    if (wanted.length < SHORTEST) return;
    const pattern = new RegExp(wanted.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "gi");
    let total = 0, listed = 0;
    for (const [place, { value: log, textContent: title }] of [...picker.options].entries()) {
      found.textContent = `${total} lines, searching log ${place + 1} of ${picker.options.length} …`;
      const text = await textOf(log);
      if (mine !== searched) return;
      const here = find(text, pattern, MOST_HITS - listed);
      total += here.count;
      listed += here.listed.length;
      if (here.listed.length) {
        hits.append(make("h3", {}, title), make("ul", {}, ...here.listed.map((one) => hit(log, one))));
        hits.hidden = false;
      }
    }
    found.textContent = `${total} line${total === 1 ? "" : "s"}${listed < total ? `, the first ${listed} are shown` : ""}`;
  }

  viewer.hidden = false;
  let pause;
  query.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(search, 200);
  });
  get("search").addEventListener("submit", (event) => {
    event.preventDefault();
    hits.querySelector("a")?.click();
  });
  picker.addEventListener("change", () => show(picker.value));
  get("previous").addEventListener("click", () => step(-1));
  get("next").addEventListener("click", () => step(1));
  addEventListener("hashchange", follow);
  addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#boot-']");
    if (link && link.hash === location.hash) follow();
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
    event.preventDefault();
    query.focus();
  });
  follow();
  new IntersectionObserver((entries, seen) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    if (!asked) show([...guilty].find(([, marked]) => marked.length)?.[0] ?? picker.value);
  }, { rootMargin: "300px" }).observe(pane);
})();
