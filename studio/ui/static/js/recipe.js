/* The recipe inside of a PNG, read without decoding the image: a tEXt chunk with the key lora_studio, written by studio/config/recipe.py. */

const KEY = "lora_studio";
const SIGNATURE_BYTES = 8;

/** The recipe in the bytes of a PNG; null if there is none. */
export function parse(buffer) {
  const bytes = new DataView(buffer);
  const text = (from, length) => String.fromCharCode(...new Uint8Array(buffer, from, length));
  for (let at = SIGNATURE_BYTES; at + 12 <= buffer.byteLength; ) {
    const length = bytes.getUint32(at);
    const kind = text(at + 4, 4);
    if (kind === "IDAT" || at + 12 + length > buffer.byteLength) return null;
    if (kind === "tEXt" && text(at + 8, KEY.length + 1) === `${KEY}\0`) {
      return JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, at + 9 + KEY.length, length - KEY.length - 1)));
    }
    at += length + 12;
  }
  return null;
}

/** The recipe of the image at this address; null if it has none or cannot be read. */
export async function recipeOf(address) {
  try {
    return parse(await (await fetch(address)).arrayBuffer());
  } catch {
    return null;
  }
}

/** [name, value] of what made an image, most important first. */
export function describe(recipe) {
  const loras = recipe.stack.filter((each) => each.on).map((each) => `${each.title || each.adapter} ${each.weight.toFixed(2)}`);
  return [
    ["Negative prompt", recipe.negative_prompt],
    ["LoRAs", loras.join(", ") || "none"],
    ["Init image", recipe.init_image && `strength ${recipe.strength.toFixed(2)}`],
    ["Seed", String(recipe.seed)],
    ["Steps", String(recipe.num_inference_steps)],
    ["Guidance scale", String(recipe.guidance_scale)],
    ["Base model", recipe.base_model],
  ].filter(([, value]) => value);
}
