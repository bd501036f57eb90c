"""What members like beyond what an encoder finds near: a turn of their vectors. Pure.

An encoder that was never trained on a community puts some posts near to everybody, and does not
know that people who write one thing of themselves engage with another. A lens takes the average
member away, and turns what is left by a matrix W that is learned from engagement:

    learned_similarity(post, member) = (post - mean post) . (I + W)(member - mean member)

W is a ridge regression, drawn towards zero. For every engagement its target is what still lies
between the member and the post, beside the posts that were passed over in the same moment. So
without engagement a lens only takes the averages away (hubness: Dinu, Lazaridou and Baroni,
arXiv 1412.6568), and it moves as far as engagement carries it. W is kept as two thin matrices.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

RIDGE = 30.0  # engagements that the zero of W counts like
RANK = 32
BLOCKS = 5  # of the past; each is read with a lens of those before it
Vectors = NDArray[np.float32]
Numbers = NDArray[np.floating]


class Lens(Struct, frozen=True, kw_only=True):
    """A learned turn of member vectors, for the vectors of one encoder.

    encoder: its version. post, member: the averages, float32. Shape: (dims,).
    left, right: W = left @ right, float32. Shapes: (dims, rank), (rank, dims).
    """

    encoder: str
    post: bytes
    member: bytes
    left: bytes
    right: bytes

    def near(self, posts: Vectors, member: Vectors) -> NDArray[np.float64]:
        """Return the learned similarity of posts to a member. Shape: (n, dims) to (n,)."""
        mean, own = _vector(self.post), member - _vector(self.member)
        left = _vector(self.left).reshape(len(mean), -1)
        right = _vector(self.right).reshape(-1, len(mean))
        turned = own + left @ (right @ own)
        return np.clip((posts @ turned).astype(np.float64) - float(mean @ turned), -1.0, 1.0)


class Meetings(Struct, frozen=True, kw_only=True):
    """Moments at which members met posts, in the order of time.

    members: one row a moment. Shape: (moments, dims).
    posts: one row for each post that was met. Shape: (n, dims).
    moment: at which moment, rising. engaged: whether the member liked to do something. Shape: (n,).
    """

    members: Vectors
    posts: Vectors
    moment: NDArray[np.int64]
    engaged: NDArray[np.bool_]


def learned(meetings: Meetings, encoder: str) -> tuple[Lens, NDArray[np.float64]]:
    """Return a lens of all meetings, and the learned similarity of each by what was known before.

    A scorer that were fitted on similarities from a lens that knows their outcome would trust it
    too much. So the meetings are parted by time, and each part is read with a lens of the earlier
    ones.
    """
    edges = np.linspace(0, len(meetings.members), BLOCKS + 1).astype(np.int64)
    found = np.zeros(len(meetings.posts))
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        lens = _fitted(meetings, start, encoder)
        for moment in range(start, end):
            rows = slice(*np.searchsorted(meetings.moment, [moment, moment + 1]).tolist())
            found[rows] = lens.near(meetings.posts[rows], meetings.members[moment])
    return _fitted(meetings, len(meetings.members), encoder), found


def _fitted(meetings: Meetings, until: int, encoder: str) -> Lens:
    """Return the lens of the moments before `until`; averages are of all, they tell no outcome."""
    post, member = meetings.posts.mean(axis=0), meetings.members.mean(axis=0)
    hits = np.flatnonzero(meetings.engaged & (meetings.moment < until))
    own = meetings.members[meetings.moment[hits]] - member
    aims = meetings.posts[hits] - _passed(meetings, post)[meetings.moment[hits]] - own
    left, right = _thin(_ridge(own.astype(np.float64), aims.astype(np.float64)))
    return Lens(
        encoder=encoder,
        post=_packed(post),
        member=_packed(member),
        left=_packed(left),
        right=_packed(right),
    )


def _passed(meetings: Meetings, otherwise: Vectors) -> Vectors:
    """Return the mean of what was passed over at each moment, and `otherwise` where nothing was."""
    found = np.zeros_like(meetings.members)
    rows = ~meetings.engaged
    np.add.at(found, meetings.moment[rows], meetings.posts[rows])
    counts = np.bincount(meetings.moment[rows], minlength=len(found))
    found[counts == 0] = otherwise
    return found / np.maximum(counts, 1)[:, None].astype(np.float32)


def _ridge(own: Numbers, aims: Numbers) -> Numbers:
    """Return W with W @ own near to aims; by the smaller of the two equal forms."""
    count, dims = own.shape
    if count < dims:
        gram = own @ own.T + RIDGE * np.eye(count)
        return aims.T @ np.linalg.solve(gram, own)
    gram = own.T @ own + RIDGE * np.eye(dims)
    return np.linalg.solve(gram, own.T @ aims).T


def _thin(matrix: Numbers) -> tuple[Numbers, Numbers]:
    """Return the two factors of the nearest matrix of low rank."""
    left, strengths, right = np.linalg.svd(matrix)
    rank = min(RANK, len(strengths))
    return left[:, :rank] * strengths[:rank], right[:rank]


def _packed(values: NDArray[np.floating]) -> bytes:
    return values.astype("<f4").tobytes()


def _vector(content: bytes) -> Vectors:
    return np.frombuffer(content, dtype="<f4")
