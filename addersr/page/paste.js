// Pictures that are dropped or pasted anywhere go where a click would put them, but for those that are too large: gradio
// would refuse all for one. MOST is the largest size of a file in bytes.
function tell(refused) {
    let line = document.querySelector("#left-out");
    if (!line) {
        line = document.createElement("div");
        line.id = "left-out";
        line.setAttribute("role", "alert");
        document.querySelector("#pictures").after(line);
    }
    const names = refused.map(file => `${file.name} (${(file.size / 1e6).toFixed(1)} MB)`);
    line.textContent = names.length ? `Too large, at most ${MOST / 1e6} MB are taken: ${names.join(", ")}` : "";
}
function take(event, data) {
    const input = document.querySelector("#pictures input[type=file]");
    if (!input || !data || !data.files.length) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    input.files = data.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
}
function sift(event) {
    if (!event.target.matches("#pictures input[type=file]")) return;
    const all = [...event.target.files], refused = all.filter(file => file.size > MOST);
    tell(refused);
    if (!refused.length) return;
    const kept = new DataTransfer();
    for (const file of all) if (file.size <= MOST) kept.items.add(file);
    event.target.files = kept.files;
    if (!kept.files.length) event.stopImmediatePropagation();
}
// On their way down to the field, which has ways of its own.
document.addEventListener("change", sift, {capture: true});
document.addEventListener("paste", event => take(event, event.clipboardData), {capture: true});
document.addEventListener("drop", event => take(event, event.dataTransfer), {capture: true});
document.addEventListener("dragover", event => event.preventDefault());
// In a narrow window what is told lies below the buttons.
document.addEventListener("click", event => {
    if (event.target.closest("#start")) document.querySelector("#status").scrollIntoView({block: "nearest"});
});
