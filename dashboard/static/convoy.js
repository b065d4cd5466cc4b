// What HTML cannot do by itself. Every page works without this file, but for copying, sifting and the selection bar.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const said = new Map();

  // Said once by screen readers when it changes: <div data-say="words" data-say-key="run">.
  const say = (within) => {
    for (const element of within.querySelectorAll("[data-say]")) {
      const key = element.dataset.sayKey || element.id, words = element.dataset.say;
      if (words && said.get(key) !== words) {
        if (said.has(key)) document.getElementById("live").textContent = words;
        said.set(key, words);
      }
    }
  };

  // A table that is drawn as cards has lost its roles in some browsers.
  const ROLES = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };
  const roles = (within) => {
    for (const table of within.querySelectorAll("table.cards:not([role])")) {
      for (const element of [table, ...table.querySelectorAll("thead, tbody, tr, td, th")]) {
        element.setAttribute("role", ROLES[element.tagName] || (element.scope === "row" ? "rowheader" : "columnheader"));
      }
    }
  };

  // Two runs to compare, remembered from page to page of the list.
  const CHOSEN = "convoy-compare";
  const chosen = () => { try { return JSON.parse(sessionStorage.getItem(CHOSEN)) || []; } catch { return []; } };
  const choose = (runs) => { sessionStorage.setItem(CHOSEN, JSON.stringify(runs)); showChosen(); };
  const showChosen = () => {
    const form = document.querySelector("form[data-compare]");
    const old = document.getElementById("selection");
    const runs = chosen();
    for (const box of document.querySelectorAll("form[data-compare] input[name=run]")) {
      box.checked = runs.includes(box.value);
      box.closest("tr").classList.toggle("is-chosen", box.checked);
    }
    if (!form || !runs.length) { if (old) old.remove(); return; }
    const bar = document.createElement("div");
    bar.id = "selection";
    bar.className = "selection";
    bar.setAttribute("role", "status");
    const words = document.createElement("span");
    words.textContent = runs.map((run) => run.slice(0, 8)).join(" and ") + (runs.length < 2 ? ": tick another one to compare" : "");
    bar.append(words);
    if (runs.length === 2) {
      const link = document.createElement("a");
      link.className = "button primary";
      link.href = "/compare?" + new URLSearchParams(runs.map((run) => ["run", run]));
      link.textContent = "Compare";
      bar.append(link);
    }
    const clear = document.createElement("button");
    clear.type = "button";
    clear.className = "quiet";
    clear.textContent = "Clear";
    clear.addEventListener("click", () => choose([]));
    bar.append(clear);
    if (old) old.replaceWith(bar); else form.after(bar);
  };

  // Rows that do not hold what is typed are hidden: <input data-sift="#rows">.
  const sift = (input) => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of document.querySelectorAll(input.dataset.sift + " > *")) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      left += !row.hidden;
    }
    const count = document.querySelector(input.dataset.sift + "-count");
    if (count) count.textContent = left + (left === 1 ? " row" : " rows");
  };

  // A log stays at its end while that is in sight.
  const tails = new Map();
  const keepTails = () => {
    for (const log of document.querySelectorAll("[data-tail]")) {
      tails.set(log.id, log.scrollHeight - log.scrollTop - log.clientHeight < 40);
    }
  };
  const showTails = () => {
    for (const log of document.querySelectorAll("[data-tail]")) {
      if (tails.get(log.id) !== false) log.scrollTop = log.scrollHeight;
    }
  };

  // <details> that are open stay open when htmx brings their part of the page anew.
  let open = [];

  const fresh = (within) => { roles(within); say(within); showChosen(); };

  document.addEventListener("DOMContentLoaded", () => {
    fresh(document);
    showTails();
    const tab = document.querySelector(".tabs a[aria-current]");  // on a phone it may lie outside
    if (tab) tab.closest(".tabs").scrollLeft = tab.offsetLeft - 24;
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    keepTails();
    open = [...event.detail.target.querySelectorAll("details[open][id]")].map((one) => one.id);
  });
  document.addEventListener("htmx:afterSettle", () => {
    for (const id of open) { const one = document.getElementById(id); if (one) one.open = true; }
    fresh(document);
    showTails();
  });
  document.addEventListener("htmx:configRequest", (event) => {  // addresses without empty fields
    if (event.detail.verb !== "get") return;
    const values = event.detail.parameters;
    for (const name of [...new Set(values.keys ? values.keys() : Object.keys(values))]) if (values[name] === "") delete values[name];
  });

  document.addEventListener("change", (event) => {
    const box = event.target;
    if (!box.matches("form[data-compare] input[name=run]")) return;
    const others = chosen().filter((run) => run !== box.value);
    choose(box.checked ? [...others.slice(-1), box.value] : others);
  });
  document.addEventListener("input", (event) => { if (event.target.dataset.sift) sift(event.target); });
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    try { await navigator.clipboard.writeText(button.dataset.copy); } catch { return; }
    document.getElementById("live").textContent = "Copied";
    button.classList.add("good-text");
    setTimeout(() => button.classList.remove("good-text"), 1200);
  });
  document.addEventListener("submit", (event) => {  // twice is once: a second click would spend a token that is spent
    if (event.target.method !== "post") return;
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "yes";
  });
  window.addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const search = document.querySelector("[data-slash]");
    if (search) { event.preventDefault(); search.focus(); search.select(); }
  });
})();
