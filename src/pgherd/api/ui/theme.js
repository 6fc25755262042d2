// The theme that a person chose, before the first pixel; without a choice it is the system's.
"use strict";
try {
  const chosen = localStorage.getItem("pgherd.theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // storage may be forbidden: then it is the system's
}
