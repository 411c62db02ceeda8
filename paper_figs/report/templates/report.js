// What the page does beyond HTML: filters, sources on hover, and places inside closed details. Sorting is sortable's.
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

// A mouse that rests on a number opens its source; a click then keeps it open.
let waiting = 0;
let hovered = null;
document.addEventListener("pointerover", (event) => {
  const button = event.target.closest?.(".number > button");
  if (!button || event.pointerType !== "mouse") return;
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const note = button.popoverTargetElement;
    if (note.matches(":popover-open")) return;
    note.showPopover({ source: button });
    hovered = note;
  }, 250);
});
document.addEventListener("pointerout", (event) => {
  if (!event.target.closest?.(".number")) return;
  clearTimeout(waiting);
  const next = event.relatedTarget;
  if (hovered && !hovered.parentElement.contains(next)) {
    hovered.hidePopover();
    hovered = null;
  }
});
document.addEventListener("click", (event) => {
  const button = event.target.closest?.(".number > button");
  clearTimeout(waiting);
  if (button && hovered === button.popoverTargetElement) {
    event.preventDefault();
    hovered = null;
  }
});

// A link to something inside closed details, or to the details themselves, opens them; print shows all claims.
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
  for (const details of document.querySelectorAll("details.claim")) details.open = true;
});
