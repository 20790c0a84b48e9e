// Puts a button beside what is to be copied. Without it, or without https, people select the text themselves.
if (navigator.clipboard) {
  for (const text of document.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet small copy";
    const name = text.getAttribute("aria-label");
    const say = (word) => {
      button.textContent = word;
      button.setAttribute("aria-label", `${word}: ${name}`);
    };
    say("Copy");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text.textContent);
        say("Copied");
      } catch {
        say("Select it");
      }
      setTimeout(() => say("Copy"), 3000);
    });
    let heading = text.previousElementSibling;
    while (!heading.matches(".copied")) heading = heading.previousElementSibling;
    heading.append(button);
  }
}
