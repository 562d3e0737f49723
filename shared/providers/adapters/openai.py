"""OpenAI itself."""

from shared.providers.dialects.openai_embeddings import base64_too
from shared.providers.dialects.openai_models import OPENAI
from shared.providers.dialects.passed import IMAGES, MODERATIONS, SPEECH, TRANSCRIPTIONS
from shared.providers.relay import WITH_RESPONSES, RelayAdapter, Vendor

VENDOR = Vendor(
    kind="openai",
    base_url="https://api.openai.com/v1",
    endpoints=WITH_RESPONSES | {MODERATIONS, IMAGES, SPEECH, TRANSCRIPTIONS},
    vectors=(base64_too,),
    steps=OPENAI,
    tidy=True,
)

ADAPTERS = (RelayAdapter(VENDOR),)
