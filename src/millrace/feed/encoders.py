"""The models that this process has loaded, by version; all wait in one line for their turns."""

from collections.abc import Collection

from msgspec.structs import replace

from millrace.feed.embeddings import Embeddings
from millrace.feed.encoder_versions import CURRENT, EncoderVersion, EncoderVersions, named
from millrace.feed.formed_encoder import in_form
from millrace.feed.parts import FeedParts
from millrace.feed.short_encoder import at_length
from millrace.kernel.errors import SetupError


class Encoders:
    """Loads models when they are asked for. A broken one is refused; those that are here stay."""

    def __init__(self, parts: FeedParts, first: Embeddings) -> None:
        self._parts = parts
        self._first = first
        self._loaded = {first.version: first}
        self._table = EncoderVersions(parts.router, parts.clock)

    async def called(self, version: str) -> Embeddings:
        """Return what makes the vectors of a version; an empty one means the first.

        Passes on:
            NotFoundError: there is no such version.
            SetupError: its model cannot be loaded.
        """
        found = self._loaded.get(version or self._first.version)
        if found is not None:
            return found
        known = await self._table.all()
        self.keep({one.version for one in known if one.state in CURRENT})
        return await self.of(named(known, version))

    async def of(self, row: EncoderVersion) -> Embeddings:
        """Return what makes the vectors of a version.

        Raises:
            SetupError: its model cannot be loaded, or is not the one that was added.
        """
        found = self._loaded.get(row.version)
        if found is not None:
            return found
        if self._parts.load is None:
            raise SetupError(
                f"this process loads no model, so it has none of encoder {row.name!r}",
                field="name",
                value=row.name,
            )
        encoder = at_length(in_form(await self._parts.load(row.directory), row.history), row.dims)
        if (encoder.version, encoder.dims) != (row.version, row.dims):
            raise SetupError(
                f"the model at {row.directory or 'the package'} is not what was added as "
                f"{row.name!r}: version {encoder.version} of {encoder.dims} dimensions",
                field="directory",
                value=row.directory,
                limit=f"version {row.version} of {row.dims} dimensions",
                next_step="put the files back, or add the directory under another name",
            )
        made = Embeddings(replace(self._parts, encoder=encoder), self._first.turns.line)
        return self._loaded.setdefault(row.version, made)

    def keep(self, versions: Collection[str]) -> None:
        """Forget models of other versions; the first one stays, as what can be fallen back to."""
        for version in self._loaded.keys() - set(versions) - {self._first.version}:
            del self._loaded[version]
