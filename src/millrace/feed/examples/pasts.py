"""What a member was shown and did until now, as examples show it: the newest of it. Pure."""

from array import array

from millrace.feed.examples.types import Instant


class Past:
    """One member's past: impressions with whether they were answered, and what was engaged with."""

    __slots__ = ("_answered", "_engaged", "_posts", "_states", "met", "until")

    def __init__(self) -> None:
        self._states = array("i")
        self._posts = array("i")
        self._answered = bytearray()
        self._engaged: dict[int, tuple[Instant, int]] = {}  # by post: when, and in which state
        self.met: set[int] = set()  # posts that were engaged with, however long ago
        self.until: Instant = 0

    def shown(self, at: Instant, post: int, state: int, most: int) -> None:
        """Hear of an impression; the newest `most` are remembered."""
        self._states.append(state)
        self._posts.append(post)
        self._answered.append(post in self.met)
        self.until = at
        if len(self._states) >= 2 * most:
            del self._states[:-most], self._posts[:-most], self._answered[:-most]

    def engaged(self, at: Instant, post: int, state: int, most: int) -> None:
        """Hear of an engagement; the newest `most` posts are remembered with their states."""
        self._engaged.pop(post, None)
        self._engaged[post] = (at, state)
        self.until = at
        if post not in self.met:
            self.met.add(post)
            for place, one in enumerate(self._posts):
                if one == post:
                    self._answered[place] = True
        if len(self._engaged) >= 2 * most:
            for old in list(self._engaged)[:-most]:
                del self._engaged[old]

    def impressions(self, most: int) -> tuple[list[int], list[bool]]:
        """Return the newest impressions, oldest first, and whether each was answered by now."""
        return list(self._states[-most:]), [bool(one) for one in self._answered[-most:]]

    def positives(self, most: int) -> tuple[list[int], list[Instant]]:
        """Return states of the posts engaged with last, oldest first, and when."""
        newest = list(self._engaged.values())[-most:]
        return [state for _, state in newest], [at for at, _ in newest]

    def engaged_at(self, post: int) -> Instant | None:
        """Return when a post was engaged with last, as far as that is remembered."""
        found = self._engaged.get(post)
        return None if found is None else found[0]
