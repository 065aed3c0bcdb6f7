// What makes the pages livelier. Every page works without it.
"use strict";

(() => {
  // The server's own pages are the only markup that is ever put into a page.
  const policy = window.trustedTypes?.createPolicy("tillwire", { createHTML: (text) => text }) ?? { createHTML: (text) => text };

  // ---- parts that are fetched again and again: data-refresh (address), data-every (s) or data-stream (address of events)

  async function refresh(part) {
    if (document.hidden || part.dataset.busy || part.contains(document.activeElement?.closest("input, select, textarea"))) return;
    part.dataset.busy = "1";
    try {
      const answer = await fetch(part.dataset.refresh, { headers: { "x-part": "1" }, cache: "no-store" });
      if (answer.status === 401) return void location.reload();
      part.classList.toggle("stale", !answer.ok);
      if (answer.ok) replace(part, await answer.text());
    } catch {
      part.classList.add("stale");
    } finally {
      delete part.dataset.busy;
    }
  }

  // Only what is different changes, so nothing flickers, and what is open, scrolled or focused stays so.
  function replace(part, text) {
    if (part.lastText === text) return;
    part.lastText = text;
    const made = document.createElement("template");
    made.innerHTML = policy.createHTML(text);
    morph(part, made.content);
  }

  function morph(here, there) {
    let mine = here.firstChild;
    for (const node of [...there.childNodes]) {
      // What has an id stays the same element, whatever comes or goes before it.
      const same = node.id && [...here.children].find((child) => child.id === node.id);
      if (same) {
        while (mine && mine !== same && mine.compareDocumentPosition(same) & Node.DOCUMENT_POSITION_FOLLOWING) mine = dropped(mine);
      }
      // White space between elements is not the same everywhere.
      while (mine?.nodeType === Node.TEXT_NODE && node.nodeType === Node.ELEMENT_NODE) mine = dropped(mine);
      if (!mine) here.append(node);
      else if (mine.nodeType === Node.ELEMENT_NODE && node.nodeType === Node.TEXT_NODE) here.insertBefore(node, mine);
      else if (mine.id && mine.id !== node.id) here.insertBefore(node, mine);
      else {
        const next = mine.nextSibling;
        update(mine, node);
        mine = next;
      }
    }
    while (mine) mine = dropped(mine);
  }

  function dropped(node) {
    const next = node.nextSibling;
    node.remove();
    return next;
  }

  function update(mine, node) {
    if (mine.isEqualNode(node)) return;
    if (mine.nodeType === Node.TEXT_NODE && node.nodeType === Node.TEXT_NODE) mine.data = node.data;
    else if (mine.nodeType !== Node.ELEMENT_NODE || mine.nodeName !== node.nodeName) mine.replaceWith(node);
    else {
      for (const { name } of [...mine.attributes]) {
        const opened = name === "open" && mine.nodeName === "DETAILS";
        if (!opened && !node.hasAttribute(name)) mine.removeAttribute(name);
      }
      for (const { name, value } of [...node.attributes]) if (mine.getAttribute(name) !== value) mine.setAttribute(name, value);
      morph(mine, node);
    }
  }

  for (const part of document.querySelectorAll("[data-refresh]")) {
    if (part.dataset.stream) new EventSource(part.dataset.stream).addEventListener("message", () => refresh(part));
    else setInterval(refresh, Number(part.dataset.every) * 1000, part);
    document.addEventListener("visibilitychange", () => refresh(part));
  }

  // ---- forms: a choice that sends itself, and a question before what matters

  for (const form of document.querySelectorAll("form[data-autosubmit]")) {
    form.classList.add("scripted");
    form.addEventListener("change", (event) => {
      // Another network has other stores.
      if (event.target.name === "network" && form.elements.store) form.elements.store.value = "";
      form.requestSubmit();
    });
  }

  const dialog = document.getElementById("confirm");
  document.addEventListener("submit", (event) => {
    const form = event.target;
    const question = event.submitter?.dataset.confirm ?? form.dataset.confirm;
    if (!question || form.dataset.confirmed) return;
    event.preventDefault();
    dialog.querySelector("p").textContent = question;
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => {
      if (dialog.returnValue !== "yes") return;
      form.dataset.confirmed = "1";
      form.requestSubmit(event.submitter);
      delete form.dataset.confirmed;
    }, { once: true });
    dialog.showModal();
  });

  for (const opener of document.querySelectorAll("[data-open]")) {
    opener.addEventListener("click", () => document.getElementById(opener.dataset.open)?.showModal());
  }

  // ---- what is shown once: copied, printed. Without scripts these buttons are not there.

  for (const button of document.querySelectorAll("[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  }
  if (navigator.clipboard) {
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
        button.textContent = button.dataset.copied;
      });
    }
  }

  // ---- the menu closes when something else is wanted

  document.addEventListener("click", (event) => {
    if (event.target.closest("dialog")) return;
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });

  // ---- keys

  function move(by) {
    const rows = [...document.querySelectorAll("table.rows tbody tr")];
    if (!rows.length) return false;
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    const row = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
    const target = row.querySelector("a, button") ?? row;
    if (target === row) row.tabIndex = -1;
    target.focus();
    return true;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) {
      if (event.key === "Escape" && event.target.id === "find") event.target.blur();
      return;
    }
    if (event.key === "Escape") {
      for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
    } else if (event.key === "/" && document.getElementById("find")) {
      document.getElementById("find").focus();
      event.preventDefault();
    } else if (event.key === "?") {
      document.getElementById("keys").showModal();
      event.preventDefault();
    } else if ((event.key === "j" && move(1)) || (event.key === "k" && move(-1))) event.preventDefault();
  });
})();
