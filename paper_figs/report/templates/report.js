// What the page does beyond HTML: filters, the key in a source's note, and places inside closed details. Sorting is sortable's.
"use strict";

// A filter shows the rows and claims of one verdict in its section.
for (const fieldset of document.querySelectorAll("fieldset[data-filters]")) {
  const section = document.getElementById(fieldset.dataset.filters);
  fieldset.hidden = false;
  fieldset.addEventListener("change", (event) => {
    for (const item of section.querySelectorAll("[data-verdict]")) {
      item.hidden = event.target.value !== "" && item.dataset.verdict !== event.target.value;
    }
  });
}

// Numbers of one file share a note: the one that opens it puts its key there. It opens on click alone.
document.addEventListener("click", (event) => {
  const button = event.target.closest?.(".number > button");
  if (button) button.popoverTargetElement.querySelector(".key").textContent = button.title;
}, true);

// A link to something inside closed details, or to the details themselves, opens them; print shows all claims and findings.
function reveal() {
  const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!place) return;
  for (let around = place.closest("details"); around; around = around.parentElement.closest("details")) {
    around.open = true;
  }
  if (place.hidden) {
    const all = place.closest("section").querySelector("fieldset input[value='']");
    all?.click();
  }
  place.scrollIntoView();
}
window.addEventListener("hashchange", reveal);
reveal();
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("#claims, details.claim, details.picture, details.story")) details.open = true;
});
