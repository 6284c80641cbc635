/* Immediate updates of the Generate tab: the number beside a slider, and the trigger words that the prompt lacks. */

const plain = (words) => ` ${words.toLowerCase().replace(/[^\p{L}\p{N}_]+/gu, " ").trim()} `;

function markMissing(prompt) {
  for (const chip of document.querySelectorAll("#trigger-words .chip")) chip.classList.toggle("missing", !plain(prompt).includes(plain(chip.dataset.word)));
}

document.addEventListener("input", ({ target }) => {
  if (target.closest("#prompt")) markMissing(target.value);
  const weight = target.closest(".weigh");
  if (!weight) return;
  weight.querySelector("output").textContent = Number(target.value).toFixed(2);
  weight.classList.toggle("hot", Number(target.value) > 1);
});
