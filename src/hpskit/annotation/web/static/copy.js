/** Copy what a field holds; where the clipboard is closed, at least select it. */
const button = document.getElementById("copy");
button.addEventListener("click", async () => {
  const field = document.getElementById(button.dataset.copies);
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    document.getElementById("copied").textContent = "Copied";
  } catch {
    document.getElementById("copied").textContent = "Selected: press Ctrl+C";
  }
});
