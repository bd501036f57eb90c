-- Which variants of which flags decided something of a served feed, so that what members did can be
-- counted by them.
alter table served_feed add column variants jsonb;
