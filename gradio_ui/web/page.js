// Runs before Gradio's own scripts. `CSS_NAMES` and `TEST_IDS` in gradio_internals.py list the
// names of Gradio's page that this script and style.css use.
(() => {
  const { language } = window.studentSuccess;
  document.documentElement.lang = language;
  // Gradio takes the language of its own texts from the browser; here they follow the page.
  for (const [name, value] of [["language", language], ["languages", [language]]]) {
    try {
      Object.defineProperty(navigator, name, { get: () => value, configurable: true });
    } catch (error) { /* An old browser shows Gradio's texts in its own language. */ }
  }
  // Number fields open the number keys on a phone. A decimal comma is accepted as well.
  const numeric = ["age", "failures", "absences", "G1", "G2"];
  const labelFields = () => {
    for (const name of numeric) {
      const input = document.querySelector(`#field-${name} input, #field-${name} textarea`);
      if (input && input.inputMode !== "decimal") input.inputMode = "decimal";
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
      if (!Number.isNaN(at.valueOf())) time.textContent = at.toLocaleString(language, format);
    }
  };
  // An answer beside entries that have changed since is marked at once.
  const outdate = () => {
    const answer = document.getElementById("answer");
    const mark = answer?.querySelector(".outdated");
    if (!mark || !answer.querySelector(".answer:not(.empty)")) return;
    mark.textContent = mark.dataset.text;
    answer.classList.add("stale");
  };
  // The first invalid field, or the answer, is brought into the window.
  const reveal = (id) => {
    const bad = document.querySelector(".field.bad input, .field.bad textarea");
    const answer = document.getElementById(id);
    answer.classList.remove("stale");
    answer.querySelector(".outdated").textContent = "";
    if (bad && bad.closest("#form")) { bad.focus(); bad.scrollIntoView({ block: "center" }); }
    else if (window.innerWidth <= 900) answer.scrollIntoView({ block: "start" });
    else answer.scrollTop = 0;
  };
  Object.assign(window.studentSuccess, { outdate, reveal });
  document.addEventListener("input", (event) => {
    if (event.target.closest("#form .field")) outdate();
  });
  let scheduled = false;
  const schedule = () => {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => { scheduled = false; labelFields(); localiseTimes(); });
  };
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(schedule).observe(document.body, {
      childList: true, subtree: true, attributes: true, attributeFilter: ["class"],
    });
    labelFields();
  });
})();
