"""What an encoder reads whose recipe writes prompts in another way than the feed does.

Training makes the same from a folder of examples (feed/examples/prompted.py); a test compares them.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from millrace.feed.examples.prompted import with_raw_numbers
from millrace.feed.prompts import v2
from millrace.feed.prompts.types import Prompt
from millrace.feed.recipe import EncoderRecipe, Numbers
from millrace.lab.pools import pools_at
from millrace.lab.prompt_facts import PromptFacts
from millrace.lab.vectors import Prompts, Reader


def prompts_by(
    recipe: EncoderRecipe,
    facts: PromptFacts,
    at: datetime,
    asked: tuple[Sequence[int], Sequence[int]],
    encoder: Reader,
) -> Prompts:
    """Return what an encoder of a recipe reads at a moment.

    Args:
        recipe: how posts say their numbers, and what a history shows.
        facts: the data set.
        at: nothing later is in any prompt.
        asked: members and posts, by their numbers.
        encoder: whose tokens and budget decide how much of a history is shown.
    """
    members, posts = asked
    pools = pools_at(facts, at, members, encoder.history) if encoder.history else None
    if pools is not None:
        members, posts = pools.widened(members, posts)
    told = facts.members(members, at, shown=recipe.history == "all")
    if pools is not None:
        told = [replace(one, history=[]) for one in told]
    return Prompts(
        members=list(members),
        posts=list(posts),
        member_prompts=[v2.member_prompt(one, encoder.tokens_max, encoder.count) for one in told],
        post_prompts=_posts(recipe.numbers, facts, at, posts),
        pools=pools,
    )


def _posts(
    written: Numbers, facts: PromptFacts, at: datetime, posts: Sequence[int]
) -> list[Prompt]:
    if written == "percentiles":
        return [v2.post_prompt(one) for one in facts.posts(posts, at)]
    bare = [v2.post_prompt(one) for one in facts.words(posts, at)]
    if written == "none":
        return bare
    return [
        with_raw_numbers(prompt, numbers)
        for prompt, numbers in zip(bare, facts.numbers(posts, at), strict=True)
    ]
