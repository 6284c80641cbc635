"""Licences of bases and of LoRAs, each with a plain summary, taken from the licence texts."""

from studio.families.facts import Licence

APACHE = Licence(
    "apache-2.0",
    "Apache 2.0",
    "https://www.apache.org/licenses/LICENSE-2.0",
    commercial=True,
    summary="Commercial use is allowed; the notice must be kept.",
)
MIT = Licence(
    "mit",
    "MIT",
    "https://opensource.org/license/mit",
    commercial=True,
    summary="Commercial use is allowed; the notice must be kept.",
)
CC0 = Licence(
    "cc0-1.0",
    "CC0 1.0",
    "https://creativecommons.org/publicdomain/zero/1.0/",
    commercial=True,
    summary="Any use is allowed, without conditions.",
)
CC_BY = Licence(
    "cc-by-4.0",
    "CC BY 4.0",
    "https://creativecommons.org/licenses/by/4.0/",
    commercial=True,
    summary="Commercial use is allowed; attribution is required.",
)
CC_BY_SA = Licence(
    "cc-by-sa-4.0",
    "CC BY-SA 4.0",
    "https://creativecommons.org/licenses/by-sa/4.0/",
    commercial=True,
    summary="Commercial use is allowed; attribution and share-alike are required.",
)
CC_BY_NC = Licence(
    "cc-by-nc-4.0",
    "CC BY-NC 4.0",
    "https://creativecommons.org/licenses/by-nc/4.0/",
    commercial=False,
    summary="Non-commercial use only; attribution is required.",
)
OPENRAIL = Licence(
    "creativeml-openrail-m",
    "CreativeML Open RAIL-M",
    "https://huggingface.co/spaces/CompVis/stable-diffusion-license",
    commercial=True,
    summary="Commercial use is allowed; a list of harmful uses is forbidden, and redistribution must keep that list.",
    inherits="uses",
)
OPENRAIL_PLUS = Licence(
    "openrail++",
    "CreativeML Open RAIL++-M",
    "https://huggingface.co/stabilityai/stable-diffusion-2/blob/main/LICENSE-MODEL",
    commercial=True,
    summary="Commercial use is allowed; a list of harmful uses is forbidden, and redistribution must keep that list.",
    inherits="uses",
)

OPENRAIL_XL = Licence(
    "openrail++",
    "CreativeML Open RAIL++-M",
    "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
    commercial=True,
    summary="Commercial use is allowed; a list of harmful uses is forbidden, and redistribution must keep that list.",
    inherits="uses",
)
FLUX_DEV = Licence(
    "other",
    "FLUX.1 [dev] Non-Commercial License",
    "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
    commercial=False,
    summary="The model and LoRAs made from it are for non-commercial use; the licence text says what outputs may be used for.",
    name="flux-1-dev-non-commercial-license",
    inherits="all",
)
STABILITY_COMMUNITY = Licence(
    "other",
    "Stability AI Community License",
    "https://huggingface.co/stabilityai/stable-diffusion-3.5-large/blob/main/LICENSE.md",
    commercial=True,
    summary="Commercial use is free up to one million US dollars of yearly revenue, after registering with Stability AI; "
    "redistribution must include the licence text and “Powered by Stability AI”.",
    name="stabilityai-ai-community",
    inherits="all",
    capped=True,
    notice="Powered by Stability AI",
)
KREA_COMMUNITY = Licence(
    "other",
    "Krea 2 Community License",
    "https://www.krea.ai/krea-2-licensing",
    commercial=True,
    summary="Commercial use is free below one million US dollars of yearly revenue; redistribution must include the licence text, begin the "
    "name with “Krea” and prevent harmful images.",
    name="krea-2-community-license",
    inherits="all",
    capped=True,
    name_prefix="Krea",
)
FLUX_2 = Licence(
    "other",
    "FLUX Non-Commercial License",
    "https://huggingface.co/black-forest-labs/FLUX.2-dev/blob/main/LICENSE.md",
    commercial=False,
    summary="The model and LoRAs made from it are for non-commercial use; the licence text says what outputs may be used for.",
    name="flux-non-commercial-license",
    inherits="all",
)
