"""The first page: the same picture by the base model and with a stack of LoRAs, side by side."""

import random
from dataclasses import dataclass

import gradio as gr

from studio.config.recipe import Recipe, read_recipe
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.trigger_words import has_word, remove_word
from studio.families import bases
from studio.runs import library
from studio.ui import files
from studio.ui.components import generation, history, lora_list
from studio.ui.components.html import drop_anywhere, lead, notice, panel, term
from studio.ui.studio import QUIET, Studio, in_words
from studio.ui.tabs.generate_base import build_base, limits, numbers, recipe_of, shape_of, shapes
from studio.ui.tabs.generate_stack import build_adding

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
    first = generation.first_recipe()
    first_rows = lora_list.starter_rows({entry.adapter: entry.weight for entry in first.stack})
    base_html, stack_html = generation.first_plates()
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
    words = panel(lora_list.chips(first_rows, first.prompt), ("insert",), elem_id="words")
    said = gr.HTML("", elem_id="said")

    with gr.Row(elem_classes="bench"):
        with gr.Column(scale=5, min_width=320):
            with gr.Column(elem_classes="pane"):
                gr.HTML('<h3 class="part">LoRAs in this picture</h3>' + WEIGHT)
                stack = panel(lora_list.show(first_rows), ("toggle", "weigh", "drop", "switch"), elem_id="stack")
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
                drawer = build_base(studio, first)
            strip = panel("", ("pick",), elem_id="history")
            restore = gr.UploadButton(RESTORE, file_types=[".png"], size="sm", scale=0, min_width=230, elem_id="restore", type="binary")

    base_model, revision, shape, steps, guidance, negative = (
        *(drawer.base, drawer.revision, drawer.shape),
        *(drawer.steps, drawer.guidance, drawer.negative),
    )
    form = [prompt, negative, base_model, revision, seed, shape, steps, guidance, count]
    removed = gr.State(None)

    async def drawn(request: gr.Request, fetch: bool, rows, *values):
        """The right plate first; each comes at once if it was drawn before, as the left one was while only weights move."""
        owner = studio.owner(request)
        *settings, count = values
        try:
            wanted = recipe_of(studio.home.workspace(owner), rows, *settings)
            if studio.jobs.list(owner, kinds=("train",), states=("running",), limit=1):
                yield gr.skip(), gr.skip(), gr.skip(), notice("Training pauses for a moment while this is drawn.")
            right = await generation.draw(studio, owner, wanted, int(count), generation.STACK_TITLE, fetch)
            yield gr.skip(), right.html, history.strip(studio.home.workspace(owner)), notice(" ".join(right.notes), "warn")
            left = await generation.draw(studio, owner, wanted.without_stack(), int(count), generation.BASE_TITLE, fetch)
            yield left.html, gr.skip(), history.strip(studio.home.workspace(owner)), gr.skip()
        except generation.ToBeFetched as error:
            yield gr.skip(), gr.skip(), gr.skip(), notice(str(error))
        except StudioError as error:
            yield gr.skip(), gr.skip(), gr.skip(), notice(str(error), "bad")

    async def draw(request: gr.Request, *values):
        """Asked for, so a base that is not here yet is fetched."""
        async for each in drawn(request, True, *values):
            yield each

    async def draw_again(request: gr.Request, *values):
        async for each in drawn(request, False, *values):
            yield each

    async def draw_and_keep(words, request: gr.Request, *values):
        """What restoring or adding had to say stays, beside what drawing has to say."""
        async for *plates, news in drawn(request, False, *values):
            yield *plates, words + news if isinstance(news, str) else news

    shown = [base, with_loras, strip, said]
    drawing_event = {"fn": draw, "inputs": [rows, *form], "outputs": shown, "js": BUSY, "trigger_mode": "always_last", **QUIET}

    calm = {"fn": None, "js": CALM, "api_visibility": "private"}

    keeping_event = drawing_event | {"fn": draw_and_keep, "inputs": [said, rows, *form]}

    def redraw(event, after=drawing_event | {"fn": draw_again}):
        event.then(**after).then(**calm)

    def show_rows(rows, prompt):
        return rows, lora_list.show(rows), lora_list.chips(rows, prompt)

    def weigh(rows, event: gr.EventData):
        rows = [r | {"weight": round(float(event.value), 2)} if i == int(event.index) else r for i, r in enumerate(rows)]
        return rows, lora_list.show(rows)

    def toggle(rows, prompt, event: gr.EventData):
        return show_rows([r | {"on": bool(event.value)} if i == int(event.index) else r for i, r in enumerate(rows)], prompt)

    def drop(rows, prompt, event: gr.EventData):
        gone = int(event.index)
        name = rows[gone]["title"]
        return *show_rows(rows[:gone] + rows[gone + 1 :], prompt), (gone, rows[gone]), gr.update(visible=True, value=f"Put {name} back")

    def put_back(rows, prompt, removed, base, revision, request: gr.Request):
        place, row = removed
        rows = lora_list.fitted(studio.workspace(request), [*rows[:place], row, *rows[place:]], base, revision)
        return *show_rows(rows, prompt), None, gr.update(visible=False)

    redraw(stack.weigh(weigh, rows, [rows, stack], **QUIET))
    redraw(stack.toggle(toggle, [rows, prompt], [rows, stack, words], **QUIET))
    redraw(stack.drop(drop, [rows, prompt], [rows, stack, words, removed, undo], **QUIET))
    redraw(undo.click(put_back, [rows, prompt, removed, base_model, revision], [rows, stack, words, removed, undo], **QUIET))

    gr.on([go.click, prompt.submit], **drawing_event).then(**calm)
    redraw(dice.click(lambda: random.randrange(2**31), None, seed, **QUIET))

    def insert(prompt, event: gr.EventData):
        """A trigger word goes to the front, where models listen most; a second click takes it out again."""
        return remove_word(prompt, event.word) if has_word(prompt, event.word) else f"{event.word} {prompt}".strip()

    words.insert(insert, prompt, prompt, **QUIET)
    prompt.change(None, prompt, None, js=INSERT_WORDS, api_visibility="private")

    def restored(workspace: Workspace, found: Recipe, present: tuple[str, str | None], image_id: str | None):
        rows, missing, changed = lora_list.rows_of(workspace, found.stack)
        base, strange = (found.base_model, found.revision), ""
        if not image_id:
            base, strange = lora_list.known_base(workspace, base, present)
        rows = lora_list.fitted(workspace, rows, *base)
        usual = bases.get_base(*base).sampling
        touched = (found.num_inference_steps, found.guidance_scale) != (usual.num_inference_steps, usual.guidance_scale)
        messages = [f"Not here any more: {', '.join(missing)}. The rest of the recipe is restored."] if missing else []
        messages += [f"{title} has changed since this picture." for title in changed]
        message = notice(" ".join([*messages, strange]).strip(), "warn")
        picture = generation.plate(generation.STACK_TITLE, [files.url("image", image_id)]) if image_id else gr.skip()
        return (
            *show_rows(rows, found.prompt),
            found.prompt,
            found.negative_prompt,
            *base,
            found.seed,
            gr.update(value=shape_of(found), choices=shapes(base[0], shape_of(found))),
            found.num_inference_steps,
            found.guidance_scale,
            1,
            touched,
            picture,
            message,
        )

    restores = [rows, stack, words, *form, drawer.touched, with_loras, said]

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
    def add(rows, prompt, base, revision, touched, wanted, request: gr.Request):
        """A LoRA that does nothing on the base that draws brings its own, if that is known and need not be fetched; what does not fit that one
        stays out, in words. To be tried alone, it is drawn with the very base that it was trained on."""
        present = (base, revision)
        as_they_are = *present, gr.skip(), gr.skip(), prompt
        if not wanted:
            return *show_rows(rows, prompt), *as_they_are, ""
        workspace = studio.workspace(request)
        cards = [library.find(workspace, ref) for ref in wanted.refs]
        new = [lora_list.row(card) for card in cards if card.ref not in [r["ref"] for r in rows]]
        if wanted.alone:
            rows = [r | {"on": r["ref"] in wanted.refs} for r in rows]
            prompt = lora_list.sample_prompt(cards[0]) or prompt
        elif not new:
            return *show_rows(rows, prompt), *as_they_are, ""
        rows = lora_list.fitted(workspace, [*rows, *new], *present)
        title, drawn_by, other = cards[0].title, present, ""
        if wanted.alone or not next(r["fits"] for r in rows if r["ref"] == cards[0].ref):
            its_own, other = lora_list.known_base(workspace, lora_list.base_of(cards[0]), present)
            if wanted.alone or bases.get_base(*its_own).is_local:
                drawn_by, rows = its_own, lora_list.fitted(workspace, rows, *its_own)
        changed = f"{title} was made for {bases.get_base(*drawn_by).title}, so that draws now." if drawn_by[0] != base else ""
        strange = [r["title"] for r in rows if r["on"] and not r["fits"]]
        off = f"Left out, made for another base: {', '.join(strange)}." if strange else ""
        alone = f"Only {title} is on, with one of its sample prompts. Tick others to mix them in." if wanted.alone and len(rows) > 1 else ""
        problems = " ".join(filter(None, (changed, off, other)))
        its_numbers = numbers(*drawn_by, touched) if drawn_by[0] != base else (gr.skip(), gr.skip())
        return *show_rows(rows, prompt), *drawn_by, *its_numbers, prompt, notice(problems, "warn") or notice(alone)

    after_adding = [rows, stack, words, base_model, revision, steps, guidance, prompt, said]
    redraw(wanted.change(add, [rows, prompt, base_model, revision, drawer.touched, wanted], after_adding, **QUIET), keeping_event)

    def draw_with(base, rows, prompt, touched, request: gr.Request):
        """Another base by hand: its newest version, its numbers, and the LoRAs that it takes. Nothing is fetched or drawn before Draw is pressed."""
        known, rows = bases.get_base(base), lora_list.fitted(studio.workspace(request), rows, base)
        told = f"{known.title} draws from now on. Press Draw{'' if known.is_local else ' to fetch it'}." if known.base_model else ""
        return *show_rows(rows, prompt), None, *numbers(base, None, touched), notice(told)

    after_base = [rows, stack, words, revision, steps, guidance, said]
    base_model.input(draw_with, [base_model, rows, prompt, drawer.touched], after_base, **QUIET)

    def switch(rows, prompt, touched, request: gr.Request, event: gr.EventData):
        """From a LoRA that does not fit to a base that it does."""
        return *draw_with(event.base, rows, prompt, touched, request), event.base

    stack.switch(switch, [rows, prompt, drawer.touched], [*after_base, base_model], **QUIET)
    own.click(lambda: gr.Tabs(selected="dataset"), None, rooms, **QUIET)
    return Generate(strip, choices, base_model, drawing_event)
