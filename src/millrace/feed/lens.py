"""What members like beyond what an encoder finds near: a turn of their vectors. Pure.

An encoder that was never trained on a community puts some posts near to everybody, and does not
know that people who write one thing of themselves engage with another. A lens takes the average
member away, and turns what is left by a matrix W that is learned from engagement:

    learned_similarity(post, member) = (post - mean post) . (I + W)(member - mean member)

W is a ridge regression, drawn towards zero. For every engagement its target is what still lies
between the member and the post, beside the posts that were passed over in the same moment. So
without engagement a lens only takes the averages away (hubness: Dinu, Lazaridou and Baroni,
arXiv 1412.6568), and it moves as far as engagement carries it. W is kept as two thin matrices.

One post says little of what it is about, and its vector has much that is chance. What stands
around it says the same with less chance, so there is a second number:

    learned_similarity_around(post, member) = mean learned_similarity of the ten posts most like it,
                                              among the 400 that are nearest to the member

Candidates of a feed are such posts already. A replay takes the 400 out of what there was then.
"""

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

RIDGE = 30.0  # engagements that the zero of W counts like
RANK = 32
NEIGHBOURS = 10
POOL = 400
AXES = 64  # with all 384 directions likeness costs twice as much and finds no more
NORM_MIN = 1e-6
BLOCKS = 5  # of the past; each is read with a lens of those before it
Vectors = NDArray[np.float32]
Numbers = NDArray[np.floating]
Rows = NDArray[np.int64]


class Lens(Struct, frozen=True, kw_only=True):
    """A learned turn of member vectors, for the vectors of one encoder.

    encoder: its version. post, member: the averages, float32. Shape: (dims,).
    left, right: W = left @ right, float32. Shapes: (dims, rank), (rank, dims).
    axes: the directions in which posts differ most, to tell which are alike. Shape: (dims, few).
        A lens of an earlier release has none, and is not served any more.
    """

    encoder: str
    post: bytes
    member: bytes
    left: bytes
    right: bytes
    axes: bytes = b""

    def near(self, posts: Vectors, member: Vectors) -> NDArray[np.float64]:
        """Return the learned similarity of posts to a member. Shape: (n, dims) to (n,)."""
        mean, own = _vector(self.post), member - _vector(self.member)
        left = _vector(self.left).reshape(len(mean), -1)
        right = _vector(self.right).reshape(-1, len(mean))
        turned = own + left @ (right @ own)
        return np.clip((posts @ turned).astype(np.float64) - float(mean @ turned), -1.0, 1.0)

    def around(self, posts: Vectors, near: NDArray[np.float64], pool: Rows) -> NDArray[np.float64]:
        """Return the learned similarity of what is around each post. Shape: (n, dims) to (n,).

        A post that is in the pool stands among its own neighbours. Of posts that are equally alike
        all count.

        Args:
            posts: their vectors.
            near: the learned similarity of each.
            pool: the rows of those that may be neighbours.
        """
        if not len(pool):
            return np.zeros(len(posts))
        mean = _vector(self.post)
        axes = _vector(self.axes).reshape(len(mean), -1)
        seen = posts @ axes - mean @ axes
        others = seen[pool]
        others /= np.maximum(np.linalg.norm(others, axis=1, keepdims=True), NORM_MIN)
        alike = seen @ others.T  # the length of a row's own vector does not change its order
        last = max(len(pool) - NEIGHBOURS, 0)
        # Values are parted in a third of the time that places take.
        edge = np.partition(alike, last, axis=1)[:, last, None]
        among = (alike >= edge).astype(np.float32)
        return (among @ near[pool].astype(np.float32) / among.sum(axis=1)).astype(np.float64)


class Meetings(Struct, frozen=True, kw_only=True):
    """Moments at which members met posts, in the order of time.

    members: one row a moment. Shape: (moments, dims).
    posts: one row for each post that was met. Shape: (n, dims).
    moment: at which moment, rising. engaged: whether the member liked to do something. Shape: (n,).
    known: posts among which neighbours are looked for, in the order of their age. Shape: (m, dims).
    there: how many of them there were at each moment. Shape: (moments,).
    """

    members: Vectors
    posts: Vectors
    moment: NDArray[np.int64]
    engaged: NDArray[np.bool_]
    known: Vectors
    there: Rows


def pooled(similarity: Numbers) -> Rows:
    """Return the rows among which neighbours are looked for: the nearest to the member."""
    if len(similarity) <= POOL:
        return np.arange(len(similarity))
    return np.argpartition(-similarity, POOL)[:POOL].astype(np.int64)


def learned(meetings: Meetings, encoder: str) -> tuple[Lens, NDArray[np.float64]]:
    """Return a lens of all meetings, and what earlier ones say of each post that was met.

    That is its learned similarity, and that of what is around it. Shape: (n, 2).

    A scorer that were fitted on similarities from a lens that knows their outcome would trust it
    too much. So the meetings are parted by time, and each part is read with a lens of the earlier
    ones.
    """
    edges = np.linspace(0, len(meetings.members), BLOCKS + 1).astype(np.int64)
    found = np.zeros((len(meetings.posts), 2))
    plain = _plain(meetings, encoder)
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        lens = _fitted(meetings, start, plain)
        for moment in range(start, end):
            rows = slice(*np.searchsorted(meetings.moment, [moment, moment + 1]).tolist())
            found[rows] = _read(lens, meetings, moment, meetings.posts[rows])
    return _fitted(meetings, len(meetings.members), plain), found


def _read(lens: Lens, meetings: Meetings, moment: int, posts: Vectors) -> NDArray[np.float64]:
    """Return what a lens says of the posts of one moment, beside what could be shown then."""
    member, known = meetings.members[moment], meetings.known[: meetings.there[moment]]
    others = known[pooled(known @ member)]
    near = lens.near(np.concatenate([others, posts]), member)
    around = lens.around(np.concatenate([others, posts]), near, np.arange(len(others)))
    return np.column_stack([near, around])[len(others) :]


def _plain(meetings: Meetings, encoder: str) -> Lens:
    """Return a lens without a turn. Averages and axes are of all posts; they tell no outcome."""
    post = meetings.posts.mean(axis=0)
    apart = meetings.posts - post
    _, axes = np.linalg.eigh((apart.T @ apart).astype(np.float64))  # the largest come last
    return Lens(
        encoder=encoder,
        post=_packed(post),
        member=_packed(meetings.members.mean(axis=0)),
        left=b"",
        right=b"",
        axes=_packed(np.ascontiguousarray(axes[:, -AXES:])),
    )


def _fitted(meetings: Meetings, until: int, plain: Lens) -> Lens:
    """Return a lens with the turn of the moments before `until`."""
    post, member = _vector(plain.post), _vector(plain.member)
    hits = np.flatnonzero(meetings.engaged & (meetings.moment < until))
    own = meetings.members[meetings.moment[hits]] - member
    aims = meetings.posts[hits] - _passed(meetings, post)[meetings.moment[hits]] - own
    left, right = _thin(_ridge(own.astype(np.float64), aims.astype(np.float64)))
    return replace(plain, left=_packed(left), right=_packed(right))


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
