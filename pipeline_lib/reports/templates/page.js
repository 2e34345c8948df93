// Everything is readable without this script: it adds copying, and controls over the examples and over long lists.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {  // without permission, or an old browser on a page that is no secure context
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: press Ctrl or ⌘ and C";
    }
  });
}
for (const filter of document.querySelectorAll(".filter")) {
  const list = filter.closest("section").querySelector(".examples");
  const examples = [...list.querySelectorAll(".example")];
  const field = filter.querySelector("input");
  const category = filter.querySelector("select");
  const buttons = [...filter.querySelectorAll("[data-view]")];
  const count = filter.querySelector("output");
  let view = buttons[0]?.dataset.view;
  const gain = (example) => Number(example.dataset.gain);
  const orders = { worst: (a, b) => gain(a) - gain(b), best: (a, b) => gain(b) - gain(a) };
  const update = () => {
    const words = field.value.toLowerCase().split(/\s+/);
    const inView = examples.filter((example) => !view || example.dataset.views.split(" ").includes(view));
    const shown = inView.filter(
      (example) =>
        words.every((word) => example.dataset.prompt.includes(word)) &&
        (!category?.value || example.dataset.category === category.value),
    );
    for (const example of examples) example.hidden = !shown.includes(example);
    list.append(...(orders[view] ? [...examples].sort(orders[view]) : examples));
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.view === view));
    count.textContent = shown.length === inView.length ? `${shown.length} pairs` : `${shown.length} of ${inView.length} pairs`;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      view = button.dataset.view;
      update();
    });
  }
  field.addEventListener("input", update);
  category?.addEventListener("change", update);
  filter.hidden = false;
  update();
}
for (const choice of document.querySelectorAll(".choice")) {
  const buttons = [...choice.querySelectorAll("[data-shows]")];
  const show = (chosen) => {
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button === chosen));
      document.getElementById(button.dataset.shows).hidden = button !== chosen;
    }
  };
  for (const button of buttons) button.addEventListener("click", () => show(button));
  choice.hidden = false;
  show(buttons.find((button) => button.getAttribute("aria-pressed") === "true"));
}
