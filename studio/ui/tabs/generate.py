"""The first page: the same picture by the base model and with a stack of LoRAs, side by side."""

import random
from dataclasses import dataclass

import gradio as gr

from studio import families, library
from studio.config import fields
from studio.errors import StudioError, validated
from studio.recipe import Recipe, read_recipe
from studio.trigger_words import has_word, without_word
from studio.ui import drawing, files, history, loras
from studio.ui.html import drop_anywhere, lead, notice, panel, term
from studio.ui.studio import QUIET, Studio, in_words
from studio.ui.tabs.generate_stack import build_adding
from studio.workspace import Workspace

TITLE = "Generate"

LORA = term("LoRA", "A small file that teaches a picture model one new thing, a style, a character, a light, without changing the model itself.")
LEAD = f"A {LORA} is a small file that teaches a picture model one new thing. Left: the model alone. Right: the same words with the LoRAs below."
WEIGHT_MEANING = "How strongly a LoRA acts: 0 is the base alone, 1 what it learnt, above 1 more than that, below 0 the opposite."
WEIGHT = f'<div class="small">Each with a {term("weight", WEIGHT_MEANING)}; let go of a slider to redraw.</div>'
SEED_HELP = "The number all chance comes from: the same seed and words give the same picture."

RESTORE = "Restore settings from a picture"

INSERT_WORDS = """
(prompt) => {
  const plain = words => ` ${words.toLowerCase().replace(/[^\\p{L}\\p{N}_]+/gu, ' ').trim()} `;
  document.querySelectorAll('#words .chip').forEach(chip => chip.classList.toggle('missing', !plain(prompt).includes(plain(chip.dataset.word))));
}
"""

BUSY = """
(...args) => { const frame = document.querySelector('#stack-plate .frame');
  if (frame) { frame.dataset.busy = 'Drawing'; frame.parentElement.classList.add('busy'); } return args; }
"""

CALM = """
() => document.querySelectorAll('#stack-plate .busy').forEach(plate => plate.classList.remove('busy'))
"""


@dataclass(frozen=True)
class Generate:
    """What the frame keeps fresh: the strip of pictures and the list of LoRAs that can be added."""

    strip: gr.HTML
    choices: gr.Dropdown
    base: gr.Dropdown
    draw: dict
    """The drawing event: what `load` runs where no first picture ships."""


def build(studio: Studio, rooms: gr.Tabs, wanted: gr.State) -> Generate:
    """Lay the tab out and wire it. `wanted` holds the LoRA that anyone wishes into the stack."""
    first = drawing.first_recipe()
    first_rows = loras.starter_rows({entry.adapter: entry.weight for entry in first.stack})
    base_html, stack_html = drawing.first_plates()
    rows = gr.State(first_rows)

    gr.HTML(lead("See what a LoRA does", LEAD))
    with gr.Row(elem_classes="promptline"):
        prompt = gr.Textbox(
            first.prompt,
            label="Prompt",
            show_label=False,
            placeholder="What should the picture show?",
            lines=1,
            max_lines=4,
            elem_id="prompt",
            elem_classes="prompt",
            scale=8,
            submit_btn=False,
        )
        go = gr.Button("Draw", variant="primary", size="lg", scale=1, min_width=132)
    words = panel(loras.chips(first_rows, first.prompt), ("insert",), elem_id="words")
    said = gr.HTML("", elem_id="said")

    with gr.Row(elem_classes="bench"):
        with gr.Column(scale=5, min_width=320):
            with gr.Column(elem_classes="pane"):
                gr.HTML('<h3 class="part">LoRAs in this picture</h3>' + WEIGHT)
                stack = panel(loras.show(first_rows), ("toggle", "weigh", "drop"), elem_id="stack")
                undo = gr.Button("Undo", size="sm", visible=False)
                choices = build_adding(studio, wanted)
            own = gr.Button("Make your own", variant="secondary", elem_id="make-your-own")
        with gr.Column(scale=9, min_width=320, elem_classes="first-on-phone"):
            with gr.Row(elem_classes="stage"):
                base = panel(base_html, script=drop_anywhere("Restore settings", only="image/png"), elem_id="base-plate")
                with_loras = panel(stack_html, elem_id="stack-plate")
            with gr.Accordion("More settings", open=False, elem_classes="fold"):
                with gr.Row():
                    least, most = limits("seed")
                    seed = gr.Number(first.seed, label="Seed", info=SEED_HELP, precision=0, minimum=least, maximum=most)
                    dice = gr.Button("\u2684 New seed", size="sm", min_width=90, scale=0, elem_classes="dice")
                    count = gr.Slider(1, 4, 1, step=1, label="Pictures", info="Each with the next seed.")
                base_model = gr.Dropdown(
                    [(offer.title, offer.id) for family in families.FAMILIES for offer in family.offers],
                    value=first.base_model,
                    label="Base model",
                    info="What draws. A LoRA works with the base it was trained on. Also a Hub id (owner/name), a folder or a .safetensors file.",
                    allow_custom_value=True,
                    elem_id="draw-base",
                )
                with gr.Row():
                    steps = gr.Slider(
                        *limits("num_inference_steps"), first.num_inference_steps, step=1, label="Drawing steps", info="More is finer and slower."
                    )
                    guidance = gr.Slider(
                        *limits("guidance_scale"),
                        first.guidance_scale,
                        step=0.5,
                        label="Obey the prompt (guidance)",
                        info="Higher follows the words more strictly; too high looks burnt.",
                    )
                negative = gr.Textbox(
                    first.negative_prompt, label="Keep out (negative prompt)", placeholder="What the picture should not show", lines=1
                )
            strip = panel("", ("pick",), elem_id="history")
            restore = gr.UploadButton(RESTORE, file_types=[".png"], size="sm", scale=0, min_width=230, elem_id="restore", type="binary")

    revision = gr.State(first.revision)
    form = [prompt, negative, base_model, revision, seed, steps, guidance, count]
    removed = gr.State(None)

    def recipe(workspace: Workspace, rows: list[dict], prompt: str, negative: str, base: tuple, seed: float, steps: int, guidance: float) -> Recipe:
        if not prompt.strip():
            raise StudioError("The prompt is empty; write what the picture should show, for example: a red boat by the sea.")
        wanted = {
            "prompt": prompt.strip(),
            "negative_prompt": negative.strip(),
            "base_model": base[0],
            "revision": base[1],
            "stack": [entry.model_dump() for entry in loras.stack(workspace, rows)],
            "seed": int(seed or 0),
            "num_inference_steps": int(steps),
            "guidance_scale": guidance,
        }
        return validated(Recipe, wanted)

    async def draw(rows, prompt, negative, base, revision, seed, steps, guidance, count, request: gr.Request):
        """The right plate first; each comes at once if it was drawn before, as the left one was while only weights move."""
        owner = studio.owner(request)
        try:
            wanted = recipe(studio.home.workspace(owner), rows, prompt, negative, (base, revision), seed, steps, guidance)
            if studio.jobs.list(owner, kinds=("train",), states=("running",), limit=1):
                yield gr.skip(), gr.skip(), gr.skip(), notice("Training pauses for a moment while this is drawn.")
            right = await drawing.draw(studio, owner, wanted, int(count), drawing.STACK_TITLE)
            yield gr.skip(), right.html, history.strip(studio.home.workspace(owner)), notice(" ".join(right.notes), "warn")
            left = await drawing.draw(studio, owner, wanted.without_stack(), int(count), drawing.BASE_TITLE)
            yield left.html, gr.skip(), history.strip(studio.home.workspace(owner)), gr.skip()
        except StudioError as error:
            yield gr.skip(), gr.skip(), gr.skip(), notice(str(error), "bad")

    async def draw_and_keep(words, request: gr.Request, *values):
        """What restoring or adding had to say stays, beside what drawing has to say."""
        async for *plates, news in draw(*values, request):
            yield *plates, words + news if isinstance(news, str) else news

    shown = [base, with_loras, strip, said]
    drawing_event = {"fn": draw, "inputs": [rows, *form], "outputs": shown, "js": BUSY, "trigger_mode": "always_last", **QUIET}

    calm = {"fn": None, "js": CALM, "api_visibility": "private"}

    keeping_event = drawing_event | {"fn": draw_and_keep, "inputs": [said, rows, *form]}

    def redraw(event, after=drawing_event):
        event.then(**after).then(**calm)

    def show_rows(rows, prompt):
        return rows, loras.show(rows), loras.chips(rows, prompt)

    def weigh(rows, event: gr.EventData):
        rows = [r | {"weight": round(float(event.value), 2)} if i == int(event.index) else r for i, r in enumerate(rows)]
        return rows, loras.show(rows)

    def toggle(rows, prompt, event: gr.EventData):
        return show_rows([r | {"on": bool(event.value)} if i == int(event.index) else r for i, r in enumerate(rows)], prompt)

    def drop(rows, prompt, event: gr.EventData):
        gone = int(event.index)
        name = rows[gone]["title"]
        return *show_rows(rows[:gone] + rows[gone + 1 :], prompt), (gone, rows[gone]), gr.update(visible=True, value=f"Put {name} back")

    def put_back(rows, prompt, removed):
        place, row = removed
        return *show_rows([*rows[:place], row, *rows[place:]], prompt), None, gr.update(visible=False)

    redraw(stack.weigh(weigh, rows, [rows, stack], **QUIET))
    redraw(stack.toggle(toggle, [rows, prompt], [rows, stack, words], **QUIET))
    redraw(stack.drop(drop, [rows, prompt], [rows, stack, words, removed, undo], **QUIET))
    redraw(undo.click(put_back, [rows, prompt, removed], [rows, stack, words, removed, undo], **QUIET))

    gr.on([go.click, prompt.submit], **drawing_event).then(**calm)
    redraw(dice.click(lambda: random.randrange(2**31), None, seed, **QUIET))

    def insert(prompt, event: gr.EventData):
        """A trigger word goes to the front, where models listen most; a second click takes it out again."""
        return without_word(prompt, event.word) if has_word(prompt, event.word) else f"{event.word} {prompt}".strip()

    words.insert(insert, prompt, prompt, **QUIET)
    prompt.change(None, prompt, None, js=INSERT_WORDS, api_visibility="private")

    def restored(workspace: Workspace, found: Recipe, present: tuple[str, str | None], image_id: str | None):
        rows, missing, changed = loras.rows_of(workspace, found.stack)
        base, strange = (found.base_model, found.revision), ""
        if not image_id:
            base, strange = loras.known_base(workspace, base, present)
        messages = [f"Not here any more: {', '.join(missing)}. The rest of the recipe is restored."] if missing else []
        messages += [f"{title} has changed since this picture." for title in changed]
        message = notice(" ".join([*messages, strange]).strip(), "warn")
        picture = drawing.plate(drawing.STACK_TITLE, [files.url("image", image_id)]) if image_id else gr.skip()
        return (
            *show_rows(rows, found.prompt),
            found.prompt,
            found.negative_prompt,
            *base,
            found.seed,
            found.num_inference_steps,
            found.guidance_scale,
            1,
            picture,
            message,
        )

    restores = [rows, stack, words, *form, with_loras, said]

    @in_words
    def pick(request: gr.Request, event: gr.EventData):
        """One of their own pictures: whatever drew it was chosen and fetched before."""
        workspace = studio.workspace(request)
        return restored(workspace, read_recipe(workspace.image_path(event.id).read_bytes()), ("", None), event.id)

    def from_file(data: bytes, base, revision, request: gr.Request):
        try:
            return restored(studio.workspace(request), read_recipe(data), (base, revision), None)
        except StudioError as error:
            return *[gr.skip()] * (len(restores) - 1), notice(str(error), "bad")

    redraw(strip.pick(pick, None, restores, **QUIET), keeping_event)
    redraw(restore.upload(from_file, [restore, base_model, revision], restores, **QUIET), keeping_event)

    @in_words
    def add(rows, prompt, base, revision, wanted, request: gr.Request):
        """The base follows the LoRA, since it works with no other, if it is a known one; what was made for another is switched off, in words."""
        present = (base, revision)
        if not wanted:
            return *show_rows(rows, prompt), *present, prompt, ""
        workspace = studio.workspace(request)
        cards = [library.find(workspace, ref) for ref in wanted.refs]
        new = [loras.row(card) for card in cards if card.ref not in [r["ref"] for r in rows]]
        if wanted.alone:
            rows = [r | {"on": r["ref"] in wanted.refs} for r in rows]
            prompt = loras.sample_prompt(cards[0]) or prompt
        elif not new:
            return *show_rows(rows, prompt), *present, prompt, ""
        rows = [*rows, *new]
        title, its_base = cards[0].title, loras.base_of(cards[0])
        drawn_by, other = loras.known_base(workspace, its_base, present)
        rows, strange = loras.fitting(rows, drawn_by[0])
        off = f"Switched off, made for another base: {', '.join(strange)}." if strange else ""
        changed = f"{title} was trained on {drawn_by[0]}, so that draws now." if drawn_by[0] != base else ""
        alone = f"Only {title} is on, with one of its sample prompts. Tick others to mix them in." if wanted.alone and len(rows) > 1 else ""
        problems = " ".join(filter(None, (changed, off, other)))
        return *show_rows(rows, prompt), *drawn_by, prompt, notice(problems, "warn") or notice(alone)

    after_adding = [rows, stack, words, base_model, revision, prompt, said]
    redraw(wanted.change(add, [rows, prompt, base_model, revision, wanted], after_adding, **QUIET), keeping_event)
    base_model.input(lambda: None, None, revision, **QUIET)
    own.click(lambda: gr.Tabs(selected="dataset"), None, rooms, **QUIET)
    return Generate(strip, choices, base_model, drawing_event)


def limits(name: str) -> tuple[float, float]:
    """Least and most of a recipe's number, so that every recipe can be restored."""
    bounds = fields.bounds(Recipe.model_fields[name])
    return bounds["ge"], bounds["le"]
