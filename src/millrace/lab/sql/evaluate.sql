-- name: member_vectors
-- Every stored vector of a member; an evaluation has one model only.
select community_id, member_id as id, vector from member_embedding

-- name: post_vectors
-- Every stored vector of a post.
select community_id, post_id as id, vector from post_embedding
