// Everything is readable without this script: it adds copying and the prompt filter.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}
for (const filter of document.querySelectorAll(".filter")) {
  const section = filter.closest("section");
  const field = filter.querySelector("input");
  const count = filter.querySelector("output");
  filter.hidden = false;
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const example of section.querySelectorAll(".example")) {
      example.hidden = !words.every((word) => example.dataset.prompt.includes(word));
      shown += example.hidden ? 0 : 1;
    }
    count.textContent = field.value ? `${shown} shown` : "";
  });
}
