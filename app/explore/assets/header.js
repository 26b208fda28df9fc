// The head of the page: the choice of theme, and the tabs' tie to the address.

// The choice of theme is kept in the browser; without one, the system's is followed.
const button = element.querySelector("button");
const isDark = () => document.body.classList.contains("dark");
const label = () => {
  setText(button, isDark() ? "Light" : "Dark");
  button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
};
const themes = ["light", "dark"];
const chosen = [askedFor("__theme"), memory.get("theme")].find((name) => themes.includes(name));
if (chosen) document.body.classList.toggle("dark", chosen === "dark");
label();
new MutationObserver(label).observe(document.body, { attributes: true });
button.addEventListener("click", () => {
  const dark = !isDark();
  document.body.classList.toggle("dark", dark);
  memory.set("theme", dark ? "dark" : "light");
});

// The address's tab comes to the front, now and whenever somebody goes back or forward; whoever
// changes the tab makes a step.
function showAsked() {
  const asked = tabOf();
  window.solTab = PAGE.tabs.includes(asked) ? asked : PAGE.tabs[0];
  trigger("select", {});
}
addEventListener("popstate", showAsked);
window.solTabShown = (name) => {
  setAddress({ tab: name }, true);
  dispatchEvent(new CustomEvent("sol:tab-shown"));
};
if (tabOf() !== PAGE.tabs[0]) showAsked();
