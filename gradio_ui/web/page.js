// Runs before Gradio's own scripts. `CSS_NAMES` and `TEST_IDS` in gradio_internals.py list the
// names of Gradio's page that this script and style.css use.
(() => {
  const { language, lost } = window.studentSuccess;
  document.documentElement.lang = language;
  // Gradio takes the language of its own texts from the browser; here they follow the page.
  for (const [name, value] of [["language", language], ["languages", [language]]]) {
    try {
      Object.defineProperty(navigator, name, { get: () => value, configurable: true });
    } catch (error) { /* An old browser shows Gradio's texts in its own language. */ }
  }
  // Number fields open the number keys on a phone. A decimal comma is accepted as well.
  const labelFields = () => {
    for (const input of document.querySelectorAll(".field.number input, .field.number textarea")) {
      if (input.inputMode !== "decimal") input.inputMode = "decimal";
    }
    for (const field of document.querySelectorAll(".field, fieldset")) {
      const label = field.querySelector("[data-testid='block-info']");
      const help = field.querySelector(".info-text");
      if (label && !label.id) label.id = `${field.id}-label`;
      if (help && !help.id) help.id = `${field.id}-help`;
      // With one name, a group of radio buttons is one stop for the Tab key.
      if (field.tagName === "FIELDSET" && label) field.setAttribute("aria-labelledby", label.id);
      const bad = field.classList.contains("bad");
      for (const input of field.querySelectorAll("input, textarea")) {
        if (input.type === "radio") input.name = field.id;
        // Gradio names them in English: "number input for …".
        if (["number", "range"].includes(input.type)) { input.removeAttribute("aria-label"); input.setAttribute("aria-labelledby", label?.id ?? ""); }
        if (help) input.setAttribute("aria-describedby", help.id);
        if (bad) input.setAttribute("aria-invalid", "true");
        else input.removeAttribute("aria-invalid");
      }
    }
  };
  const format = { dateStyle: "medium", timeStyle: "short" };
  const localiseTimes = () => {
    for (const time of document.querySelectorAll("time:not([data-local])")) {
      time.dataset.local = "";
      const at = new Date(time.dateTime);
      if (!Number.isNaN(at.valueOf())) time.textContent = at.toLocaleString(language === "en" ? "en-GB" : language, format);
    }
  };
  // What the server remembers of this tab of the browser has a random name. The browser forgets it
  // with the tab; nothing else is kept here.
  const random = () => btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(18))));
  const remembered = sessionStorage.getItem("visit");
  const code = remembered ?? random().replaceAll("+", "-").replaceAll("/", "_");
  sessionStorage.setItem("visit", code);
  // Whatever ends this page - a reload, the other language, Gradio's reload after a lost connection -
  // the server receives what stands in the form, and the next page shows it again.
  window.addEventListener("pagehide", () => {
    const form = {};
    for (const field of document.querySelectorAll("#form .field")) {
      const ticked = field.querySelector("input:checked");
      const typed = field.querySelector("textarea, input:not([type=radio])");
      form[field.id.replace("field-", "")] = (ticked ?? typed)?.value ?? "";
    }
    if (!Object.keys(form).length) return;
    const body = new Blob([JSON.stringify({ code, form })], { type: "application/json" });
    navigator.sendBeacon("keep", body);
  });
  // Each tab has an address, so that a reload, a bookmark and the Back key find it.
  const tabs = () => [...document.querySelectorAll("[role=tab][id^=tab-]")];
  const nameOf = (tab) => tab.id.replace(/^tab-|-button$/g, "");
  const address = () => location.hash.slice(1) || (tabs()[0] && nameOf(tabs()[0]));
  const showTab = () => {
    const tab = tabs().find((candidate) => nameOf(candidate) === address());
    if (tab && tab.getAttribute("aria-selected") !== "true") tab.click();
  };
  window.addEventListener("popstate", showTab);
  document.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab][id^=tab-]");
    if (tab && nameOf(tab) !== address()) history.pushState(null, "", `#${nameOf(tab)}`);
  });
  document.addEventListener("keydown", (event) => {
    // A list that is left with the Tab key would stay open over the form.
    if (event.key === "Tab" && event.target.closest(".field .wrap-inner")) {
      const list = event.target;
      setTimeout(() => list.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true })), 50);
    }
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const at = tabs().indexOf(event.target);
    if (!step || at < 0) return;
    const next = tabs().at((at + step) % tabs().length);
    next.focus();
    next.click();
  });
  const opened = () => ({ code, known: remembered !== null });
  const start = () => {
    showTab();
    document.documentElement.dataset.ready = "yes";
  };
  // An answer beside entries that have changed since is marked at once.
  const outdate = () => {
    const answer = document.getElementById("answer");
    const mark = answer?.querySelector(".outdated");
    if (!mark || !answer.querySelector(".answer:not(.empty)")) return;
    mark.textContent = mark.dataset.text;
  };
  // The fields that may stay unknown are shown on demand. They are on the page all the time, so
  // that what stands in them is kept.
  const unfold = (open) => {
    const more = document.getElementById("more");
    const shown = more?.classList.toggle("open", open);
    document.getElementById("more-button")?.setAttribute("aria-expanded", shown);
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest("#more-button")) unfold();
  });
  // What the server puts into the form would replace what is entered meanwhile. If its answer does
  // not come, the form can be used again.
  const hold = (held) => {
    for (const part of document.querySelectorAll("#form .group, #form .bar")) part.inert = held;
    if (held) setTimeout(hold, 5000, false);
  };
  // A screen reader reads out what appears in this line; the answer itself would be too long.
  const announcer = document.createElement("p");
  announcer.className = "announcer";
  announcer.setAttribute("role", "status");
  const announce = (text) => {
    announcer.textContent = "";
    setTimeout(() => { announcer.textContent = text; }, 100);
  };
  // The first invalid field, or the answer, is brought into the window.
  const reveal = (id) => {
    const bad = document.querySelector(".field.bad input, .field.bad textarea");
    const answer = document.getElementById(id);
    const mark = answer.querySelector(".outdated");
    if (mark) mark.textContent = "";
    announce(answer.querySelector("[data-announce]")?.dataset.announce ?? "");
    if (bad?.closest("#more")) unfold(true);
    if (id === "answer" && bad && bad.closest("#form")) { bad.focus(); bad.scrollIntoView({ block: "center" }); }
    else if (window.innerWidth <= 900 || !answer.matches(".side")) answer.scrollIntoView({ block: "start" });
    else answer.scrollTop = 0;
  };
  Object.assign(window.studentSuccess, { opened, start, outdate, hold, reveal });
  document.addEventListener("input", (event) => {
    if (event.target.closest("#form .field")) outdate();
  });
  // After a reload the server says that the entries have changed since. Gradio draws a tab when it
  // is first shown, so the answer may come later than the page.
  const markRestored = () => {
    const restored = document.querySelector("#answer [data-outdated]");
    if (!restored) return;
    delete restored.dataset.outdated;
    outdate();
  };
  // Gradio writes this message in English only.
  const translateToasts = () => {
    for (const text of document.querySelectorAll("[data-testid='toast-text']")) {
      if (!text.textContent.startsWith("Connection to the server was lost")) continue;
      text.textContent = lost.text;
      text.closest(".toast-body").querySelector(".toast-title").textContent = lost.title;
    }
  };
  let scheduled = false;
  const schedule = () => {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => { scheduled = false; labelFields(); localiseTimes(); translateToasts(); markRestored(); });
  };
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(schedule).observe(document.body, {
      childList: true, subtree: true, attributes: true, attributeFilter: ["class"],
    });
    document.body.append(announcer);
    labelFields();
  });
})();
