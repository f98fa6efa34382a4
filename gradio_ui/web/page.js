// Runs before Gradio's own scripts.
(() => {
  const { language } = window.studentSuccess;
  document.documentElement.lang = language;
  // Gradio's own few words ("drop a file here") follow the page, not the browser.
  for (const [name, value] of [["language", language], ["languages", [language]]]) {
    try {
      Object.defineProperty(navigator, name, { get: () => value, configurable: true });
    } catch (error) { /* An older browser keeps its own words. */ }
  }
  // Number fields open the number keys on a phone; decimals may be written either way.
  const numeric = ["age", "failures", "absences", "G1", "G2"];
  const dress = () => {
    for (const name of numeric) {
      const input = document.querySelector(`#field-${name} input, #field-${name} textarea`);
      if (input && input.inputMode !== "decimal") input.inputMode = "decimal";
    }
    for (const field of document.querySelectorAll(".field, fieldset")) {
      const label = field.querySelector("[data-testid='block-info']");
      const help = field.querySelector(".info-text");
      if (label && !label.id) label.id = `${field.id}-label`;
      if (help && !help.id) help.id = `${field.id}-help`;
      // A group of radio buttons is one stop for the keyboard, with one name.
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
  const told = { dateStyle: "medium", timeStyle: "short" };
  const clocks = () => {
    for (const time of document.querySelectorAll("time:not([data-local])")) {
      time.dataset.local = "";
      const at = new Date(time.dateTime);
      if (!Number.isNaN(at.valueOf())) time.textContent = at.toLocaleString(language, told);
    }
  };
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; dress(); clocks(); });
  };
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(soon).observe(document.body, {
      childList: true, subtree: true, attributes: true, attributeFilter: ["class"],
    });
    dress();
  });
})();
