// Pictures that are pasted anywhere, or dropped beside the field, go where a click would put them.
function offer(event, data) {
    const input = document.querySelector("#pictures input[type=file]");
    if (event.defaultPrevented || !input || !data || !data.files.length) return;
    event.preventDefault();
    const files = new DataTransfer();
    for (const file of data.files) files.items.add(file);
    input.files = files.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
}
document.addEventListener("paste", event => offer(event, event.clipboardData));
document.addEventListener("drop", event => offer(event, event.dataTransfer));
document.addEventListener("dragover", event => event.preventDefault());
