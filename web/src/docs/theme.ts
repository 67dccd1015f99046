/** The pages of the documentation follow the system between light and dark. */
export function followTheSystem(): void {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const follow = (): void => void document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", follow);
  follow();
}
