-- The change stream has taken the place of notices. Processes of the release before still listen to
-- them, so they go when the last of those has ended.
drop function announce() cascade;
