"""Which model a process begins with: the one whose vectors serve, where it can be loaded."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from millrace.feed.encoder_versions import EncoderVersion, State
from millrace.feed.formed_encoder import in_form
from millrace.feed.ports import Encoder
from millrace.feed.short_encoder import at_length
from millrace.kernel.errors import SetupError

logger = logging.getLogger(__name__)


async def first_encoder(
    known: Sequence[EncoderVersion], model_dir: str, load: Callable[[str], Awaitable[Encoder]]
) -> Encoder:
    """Load the model whose vectors serve; that of the settings where there is none, or it is broken.

    What is broken is told by whoever embeds, in the table (`millrace models list`).

    Args:
        known: every encoder of the installation.
        model_dir: of the settings.
        load: loads the model of a directory.

    Raises:
        SetupError: that of the settings is the one that serves, and it cannot be loaded.
    """
    serving = next((one for one in known if one.state is State.SERVING), None)
    if serving is not None:
        try:
            found = in_form(await load(serving.directory), serving.history)
            found = at_length(found, serving.dims)
        except SetupError as exc:
            if serving.directory == model_dir:
                raise SetupError(
                    f"encoder {serving.name!r} serves, and {exc.message}",
                    field="model_dir",
                    value=model_dir,
                    next_step=_way_out(known),
                ) from exc
            logger.warning("encoder %r serves, and cannot be loaded: %s", serving.name, exc)
        else:
            if found.version == serving.version:
                return found
            logger.warning(
                "encoder %r serves, and the model at %s is another by now",
                serving.name,
                serving.directory or "the package",
            )
    return await load(model_dir)


def _way_out(known: Sequence[EncoderVersion]) -> str:
    """Return what to do where the encoder that serves is that of the settings, and broken."""
    ready = next((one.name for one in known if one.state is State.READY), None)
    other = "" if ready is None else f", or let another one serve: millrace models promote {ready}"
    return (
        f"put its files back{other}, or set feed.model_dir to another model, or to none for the "
        "packaged one: the vectors that there are serve until that one has its own"
    )
